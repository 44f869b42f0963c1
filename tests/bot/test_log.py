"""What reaches the log never contains a token."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from bot import log

# Made up; put together here so that no scanner takes it for a real one.
TOKEN = ".".join(["MTE0NTA2NzM2OTk5ODQ5NTc0NQ", "GhX3aQ", "k" * 38])
HUB_TOKEN = "hf_" + "a1B2" * 9


@pytest.fixture(autouse=True)
def untouched_loggers() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = ("discord", "aiohttp.access", "asyncio", "huggingface_hub", "urllib3", "httpx")
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def logged(text: str, *arguments: object, secrets: tuple[str, ...] = (), error: Exception | None = None) -> str:
    stream = io.StringIO()
    log.configure("INFO", secrets=secrets, stream=stream)
    logging.getLogger("bot.anything").error(text, *arguments, exc_info=error)
    return stream.getvalue()


def test_anything_shaped_like_a_token_is_masked() -> None:
    line = logged("login failed with %s and %s", TOKEN, HUB_TOKEN)
    assert TOKEN not in line
    assert HUB_TOKEN not in line
    assert line.count(log.MASK) == 2


def test_given_secret_is_masked_whatever_its_shape() -> None:
    line = logged("header: Bot hunter2", secrets=("hunter2", ""))
    assert "hunter2" not in line
    assert log.MASK in line


def test_tokens_in_tracebacks_and_addresses_are_masked() -> None:
    interaction = "aW50ZXJhY3Rpb246" + "x" * 60
    try:
        raise ValueError(f"https://discord.com/api/v10/webhooks/123456789/{interaction}/messages/@original {TOKEN}")
    except ValueError as error:
        line = logged("request failed", error=error)
    assert interaction not in line
    assert TOKEN not in line
    assert "ValueError" in line
    assert "/webhooks/123456789/" in line


def test_ordinary_text_is_left_alone() -> None:
    text = "今天天气怎么样？ sha256 b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 v1.2.3"
    assert log.mask(text) == text


def test_libraries_speak_from_warnings_up_and_the_bot_at_its_level() -> None:
    stream = io.StringIO()
    log.configure("DEBUG", stream=stream)
    logging.getLogger("discord.gateway").info("connected")
    logging.getLogger("discord.http").warning("rate limited")
    logging.getLogger("bot.responder").debug("a detail")
    assert "connected" not in stream.getvalue()
    assert "rate limited" in stream.getvalue()
    assert "a detail" in stream.getvalue()


def test_configuring_twice_writes_each_line_once() -> None:
    stream = io.StringIO()
    log.configure("INFO", stream=io.StringIO())
    log.configure("ERROR", stream=stream)
    logging.getLogger("bot").error("once")
    logging.getLogger("bot").info("not at this level")
    assert stream.getvalue().count("once") == 1
    assert "not at this level" not in stream.getvalue()


def test_an_empty_token_masks_nothing() -> None:
    assert log.mask("Encore broke.", "") == "Encore broke."
