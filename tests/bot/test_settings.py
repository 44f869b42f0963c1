"""Settings: the environment over .env, one sentence for what is wrong, secrets never shown."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from bot.conversation import prompt_budget
from bot.errors import SettingsError
from bot.settings import DEFAULT_SYSTEM_PROMPT, LEAST_CONTEXT_TOKENS, Settings, load, variable
from models.prompt import PromptBuilder
from models.spec import resolve
from models.tokenizer import prepare
from models.types import Role, Sampling, Turn

_NONE = Path("no-such.env")


def test_nothing_set_gives_the_defaults() -> None:
    assert load({}, env_file=_NONE) == Settings()


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("MODEL=from-file.gguf\nTHREADS=3\n")
    settings = load({"MODEL": "from-environment.gguf"}, env_file=file)
    assert (settings.model, settings.threads) == ("from-environment.gguf", 3)


def test_empty_or_blank_value_means_the_default(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("THREADS=\nMODEL='  '\nDATA_DIR\n")
    assert load({"QUEUE_LIMIT": ""}, env_file=file) == Settings()


def test_empty_variable_of_the_environment_hides_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("THREADS=3\n")
    assert load({"THREADS": ""}, env_file=file).threads == Settings().threads


def test_chinese_and_quoted_text_come_through(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text('SYSTEM_PROMPT="你是“安可”；用中文回答。 # 不是注释"\n', "utf-8")
    assert load({}, env_file=file).system_prompt == "你是“安可”；用中文回答。 # 不是注释"


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("DATA_DIR", "/srv/encore", Path("/srv/encore")),
        ("CONTEXT_TOKENS", "512", 512),
        ("PARALLEL_STREAMS", "64", 64),
        ("EDIT_INTERVAL_SECONDS", "0", 0.0),
        ("EDIT_INTERVAL_SECONDS", "1.5", 1.5),
        ("MESSAGE_CONTENT_INTENT", "Yes", True),
        ("MESSAGE_CONTENT_INTENT", "off", False),
        ("KV_CACHE", "f16", "f16"),
        ("BANNED_MEMBERS", "300000000000000001, 300000000000000002,", {300000000000000001, 300000000000000002}),
        ("DISCORD_API_BASE", "http://127.0.0.1:80/api/v10/", "http://127.0.0.1:80/api/v10"),
        ("DISCORD_GATEWAY", "wss://gateway.example", "wss://gateway.example"),
    ],
)
def test_good_values_are_read(name: str, given: str, expected: object) -> None:
    assert getattr(load({name: f" {given} "}, env_file=_NONE), name.lower()) == expected


@pytest.mark.parametrize(
    ("name", "given", "remedy"),
    [
        ("CONTEXT_TOKENS", "511", "a whole number from 512 to 131072"),
        ("CONTEXT_TOKENS", "2048.0", "a whole number from 512 to 131072"),
        ("PARALLEL_STREAMS", "0", "a whole number from 1 to 64"),
        ("THREADS", "-1", "a whole number from 0 to 512"),
        ("EDIT_INTERVAL_SECONDS", "nan", "a number from 0 to 60"),
        ("EDIT_INTERVAL_SECONDS", "inf", "a number from 0 to 60"),
        ("EDIT_INTERVAL_SECONDS", "fast", "a number from 0 to 60"),
        ("MESSAGE_CONTENT_INTENT", "maybe", "true or false"),
        ("KV_CACHE", "q4_0", "q8_0 or f16"),
        ("BANNED_MEMBERS", "@kim", "ids such as 300000000000000001, parted by commas"),
        ("LOG_LEVEL", "info", "DEBUG, INFO, WARNING or ERROR"),
        ("DISCORD_API_BASE", "discord.com/api", "http://HOST or https://HOST"),
        ("DISCORD_API_BASE", "http://", "http://HOST or https://HOST"),
        ("DISCORD_API_BASE", "http://[::bad", "http://HOST or https://HOST"),
        ("DISCORD_GATEWAY", "https://gateway.example", "ws://HOST or wss://HOST"),
        ("DISCORD_GATEWAY", "ws://", "ws://HOST or wss://HOST"),
        ("DISCORD_GATEWAY", "ws://:8080", "ws://HOST or wss://HOST"),
        ("DISCORD_GATEWAY", "ws://gateway.example:70000", "ws://HOST or wss://HOST"),
    ],
)
def test_wrong_value_names_variable_value_and_remedy(name: str, given: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: given}, env_file=_NONE)
    sentence = str(caught.value)
    assert sentence.startswith(f"{name}: {given!r} can't be used; ")
    assert remedy in sentence
    assert sentence.count("\n") == 0


def test_token_is_never_shown() -> None:
    settings = load({"DISCORD_TOKEN": "top-secret"}, env_file=_NONE)
    assert settings.discord_token == "top-secret"
    assert "top-secret" not in repr(settings)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().model = "other"  # type: ignore[misc]


def test_every_setting_has_help_and_a_variable_of_its_own() -> None:
    assert all(field.metadata["help"] for field in fields(Settings))
    names = [variable(field.name) for field in fields(Settings)]
    assert len(set(names)) == len(names)
    assert all(name == name.upper() for name in names)


def test_everything_on_disk_lies_in_the_data_folder() -> None:
    settings = Settings(data_dir=Path("elsewhere"))
    assert settings.database.parent == Path("elsewhere")
    assert settings.models_dir.parent == Path("elsewhere")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_file_that_is_no_utf8_is_told_in_one_sentence(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / ".env"
    file.write_bytes("SYSTEM_PROMPT=café\n".encode(encoding))
    with pytest.raises(SettingsError, match="save it again with the encoding UTF-8"):
        load({}, env_file=file)


def test_file_that_cannot_be_read_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text("THREADS=3\n")

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(SettingsError, match="Permission denied.*let this account read it"):
        load({}, env_file=file)


def test_home_in_the_data_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load({"DATA_DIR": "~/encore"}, env_file=_NONE).data_dir == tmp_path / "encore"
    with pytest.raises(SettingsError, match="DATA_DIR"):
        load({"DATA_DIR": "~no-such-account/encore"}, env_file=_NONE)


def test_data_folder_that_is_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for given in ("link", "link/data"):
        with pytest.raises(SettingsError, match="DATA_DIR: .*link is a link to nothing"):
            load({"DATA_DIR": str(tmp_path / given)}, env_file=_NONE)


def test_shortest_context_leaves_room_for_what_is_said(embedded_cache: Path) -> None:
    prompts = PromptBuilder(prepare(resolve("embedded", embedded_cache), embedded_cache))
    budget = prompt_budget(LEAST_CONTEXT_TOKENS, Sampling())
    said = Turn(Role.USER, "Mei: " + "and what is the weather like in Shanghai today? " * 15)
    prompt = prompts.build(DEFAULT_SYSTEM_PROMPT, [said], budget=budget, refit=budget)
    assert len(prompt.token_ids) <= budget
