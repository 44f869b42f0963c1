"""Logging: one line an event to stderr, with every token masked.

Owns the root logger's handler; says nothing about what is logged.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TextIO

# A Discord bot token: the account's id in base64, a time stamp, a signature.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{23,28}\.[A-Za-z0-9_-]{6,7}\.[A-Za-z0-9_-]{27,}")
# An interaction's or a webhook's token stands in the address of a failed request and is good for 15 minutes or more.
_ADDRESS = re.compile(r"(/(?:webhooks|interactions)/\d+/)[A-Za-z0-9_-]{20,}")
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
MASK = "[masked]"


class MaskingFormatter(logging.Formatter):
    """Formats a record, its traceback included, and masks the secrets in the result."""

    def __init__(self, *secrets: str) -> None:
        super().__init__("{asctime} {levelname:<7} {name}: {message}", style="{")
        self._secrets = tuple(secret for secret in secrets if secret)

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record), *self._secrets)


def mask(text: str, *secrets: str) -> str:
    """Return text without the given secrets and without anything that has the form of a token."""
    for secret in filter(None, secrets):  # without a token it is empty
        text = text.replace(secret, MASK)
    text = _ADDRESS.sub(rf"\g<1>{MASK}", text)
    return _HUB_TOKEN.sub(MASK, _TOKEN.sub(MASK, text))


def configure(level: str, *, secrets: tuple[str, ...] = (), stream: TextIO | None = None) -> None:
    """Send every log record to stderr (or `stream`); discord.py's own from WARNING up, whatever `level` says."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(MaskingFormatter(*secrets))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in ("discord", "aiohttp.access", "asyncio", "huggingface_hub", "urllib3", "httpx"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
