"""What a start opens: the adapter that the pointer names, something older where it is damaged, and nights to be run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bot.composition import NIGHTS, Learning, NightOptions, Services, learning, services
from bot.privacy.journal import JOURNAL, Journal
from bot.privacy.members import note_members
from bot.records import Ask, Message, Provenance, ServerSettings
from bot.responder import Responder
from bot.settings import Settings
from bot.store import Store
from models.adapters import Adapters
from models.fetch import sha256_of
from models.manifest import FILES, GGUF, seal
from models.types import Sampling
from tests.bot.screen import Screen
from tests.models.adapter_files import manifest_of
from tests.models.tiny_gguf import WIDTH, cache_tiny_tokenizer, write_tiny_gguf, write_tiny_lora


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    model = write_tiny_gguf(tmp_path / "tiny.gguf")
    found = Settings(
        data_dir=tmp_path / "data", model=str(model), context_tokens=512, parallel_streams=1, threads=1,
        edit_interval_seconds=0.0,
    )  # fmt: skip
    cache_tiny_tokenizer(model, found.models_dir)
    return found


def adapters_of(settings: Settings) -> Adapters:
    return Adapters(settings.data_dir / "adapters", sha256_of(Path(settings.model)))


def install(settings: Settings, name: str, *, seed: int = 1, width: int = WIDTH, share: float | None = None) -> None:
    """Serve an adapter that llama.cpp can load; one of another `width` it can't."""
    adapters = adapters_of(settings)
    staged = settings.data_dir / f"staged-{name}"
    staged.mkdir(parents=True)
    for file_name in FILES:
        (staged / file_name).write_bytes(b"{}")
    write_tiny_lora(staged / GGUF, seed=seed, width=width)
    seal(staged, manifest_of(name, base_sha256=sha256_of(Path(settings.model))))
    adapters.promote(adapters.install(staged), share=share, since=1.0)


def opened(settings: Settings):  # type: ignore[no-untyped-def]
    return services(settings, database=settings.database, progress=lambda *_: None)


async def answer(opened: Services, settings: Settings, message_id: int = 100) -> tuple[str | None, str | None]:
    """Return the adapter that is kept with an answer, and that of its canary."""
    store, model, built, _ = opened
    responder = Responder(store, model, settings=settings, arms=built.arms)
    message = Message(message_id, 70, 1, "Mei", "hello")
    ask = Ask(message_id, 70, 7, 1, Provenance.DEMO)
    server = ServerSettings(sampling=Sampling(max_new_tokens=4))
    reply = await responder.respond(ask, [message], Screen(), server)
    assert reply is not None and reply.generation is not None and reply.placement is not None
    await responder.aclose()
    return reply.generation.adapter, reply.placement.canary


async def test_what_is_served_answers_after_a_start_and_a_rollback_while_it_runs(settings: Settings) -> None:
    install(settings, "a")
    install(settings, "b", seed=2)
    async with opened(settings) as services_:
        assert services_.model.engine.adapters == ("b",)
        assert await answer(services_, settings) == ("b", None)
        await services_.learning.nightly.rollback("a", 9)
        assert await answer(services_, settings, 101) == ("a", None)
        await services_.learning.nightly.rollback("base", 9)
        assert await answer(services_, settings, 102) == (None, None)


async def test_start_serves_no_adapter_of_who_had_their_data_deleted(settings: Settings) -> None:
    install(settings, "monday-kto")
    install(settings, "tuesday-kto", seed=2)
    for night, members in (("monday", {302}), ("tuesday", {301, 302})):
        note_members(settings.data_dir / NIGHTS / night, members)
    # As in a folder that was put back from a copy, or where the last process was killed.
    Journal(settings.data_dir / JOURNAL).add(301, now=1.0)
    async with opened(settings) as services_:
        assert services_.model.engine.adapters == ("monday-kto",)
        assert await answer(services_, settings) == ("monday-kto", None)
        assert adapters_of(settings).names() == ("monday-kto",)
        assert not (settings.data_dir / NIGHTS / "tuesday").exists()


async def test_canary_is_loaded_beside_what_is_served(settings: Settings) -> None:
    install(settings, "a")
    install(settings, "b", seed=2, share=0.5)
    async with opened(settings) as services_:
        assert set(services_.model.engine.adapters) == {"a", "b"}
        assert (await answer(services_, settings))[1] == "b"


async def test_damaged_adapter_is_passed_over_at_the_start_with_a_sentence(settings: Settings) -> None:
    install(settings, "a")
    install(settings, "b", seed=2)
    (settings.data_dir / "adapters" / "b" / GGUF).write_bytes(b"damaged")
    async with opened(settings) as services_:
        assert await answer(services_, settings) == ("a", None)
        (warning,) = (await services_.learning.nightly.status()).warnings
        assert "The adapter a answers instead" in warning


async def test_adapter_that_llama_cpp_refuses_does_not_keep_encore_from_starting(settings: Settings) -> None:
    install(settings, "wide", width=2 * WIDTH)
    async with opened(settings) as services_:
        assert await answer(services_, settings) == (None, None)
        (warning,) = (await services_.learning.nightly.status()).warnings
        assert "The base model answers." in warning
    assert adapters_of(settings).serving().adapter is None


async def test_a_model_that_has_no_weights_leaves_what_another_serves(settings: Settings) -> None:
    install(settings, "a")
    async with opened(replace(settings, model="echo")) as services_:
        assert services_.learning.nightly.adapters() == ()
    assert adapters_of(settings).serving().adapter == "a"


async def test_folder_of_adapters_that_is_a_file_does_not_keep_encore_from_starting(settings: Settings) -> None:
    settings.data_dir.mkdir(exist_ok=True)
    (settings.data_dir / "adapters").write_text("")
    async with opened(settings) as services_:
        (warning,) = (await services_.learning.nightly.status()).warnings
        assert "can't be read" in warning


async def test_command_learns_without_loading_the_model_to_serve(settings: Settings) -> None:
    install(settings, "a")
    async with await Store.open(settings.database) as store:
        built = await learning(settings, store, database=settings.database, progress=lambda *_: None)
        assert isinstance(built, Learning)
        assert (await built.nightly.rollback("base", 0)).adapter is None
    assert adapters_of(settings).serving().adapter is None


async def test_the_demo_has_adapters_and_nights_of_its_own(settings: Settings) -> None:
    install(settings, "a")
    database = settings.data_dir / "demo" / "encore.sqlite3"
    demo = services(settings, database=database, progress=lambda *_: None, nights=NightOptions(snowflakes=False))
    async with demo as services_:
        assert services_.model.engine.adapters == ()
        assert services_.learning.nightly.adapters() == ()
