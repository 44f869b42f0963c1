"""Lay a conversation out by the model's own chat template without showing the template a word that anyone wrote.

Knows no tokens: models/tokenizer encodes what comes out. What a template can do is bounded by jinja2's sandbox (no
unsafe attributes, ranges up to 100,000) and a cap on its output; its time is not: the operator vouches for the model.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models.errors import ModelUnavailable
from models.types import Turn

_MAX_CHARACTERS = 1_000_000


class TemplateRejected(ModelUnavailable):
    """The chat template can't express these turns (no system role, a wrong order) or loses what they say."""


@dataclass(frozen=True, slots=True)
class Said:
    """The place of the content of turn `index` in a layout."""

    index: int


class _Generation(Extension):
    """`{% generation %}` marks what training learns from; serving takes its body as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """A compiled chat template. Raises ModelUnavailable if it is no template."""

    def __init__(
        self, source: str, *, bos_token: str, eos_token: str, now: Callable[[], datetime] = datetime.now
    ) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        self._special = {"bos_token": bos_token, "eos_token": eos_token}
        self._nonce = secrets.token_hex(8)  # no template can write a placeholder of its own
        self._place = re.compile(f"\ue000{self._nonce}:([0-9]+)\ue001")
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelUnavailable(
                f"The model's chat template can't be used ({error}); choose another MODEL."
            ) from None

    def layout(self, turns: Sequence[Turn], add_generation_prompt: bool) -> list[str | Said]:
        """Return the template's words and the places of the contents, in order.

        Raises TemplateRejected if the template refuses these turns or does not show each of them exactly once.
        """
        messages = [
            {"role": turn.role.value, "content": f"\ue000{self._nonce}:{index}\ue001"}
            for index, turn in enumerate(turns)
        ]
        parts: list[str | Said] = []
        for position, words in enumerate(self._place.split(self._rendered(messages, add_generation_prompt))):
            parts.append(Said(int(words)) if position % 2 else words)
        if sorted(part.index for part in parts if isinstance(part, Said)) != list(range(len(turns))):
            raise TemplateRejected(
                "The model's chat template can't be used (it does not show every turn once); choose another MODEL."
            )
        return parts

    def _rendered(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        context: dict[str, Any] = {
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
            "tools": None,
            "documents": None,
            **self._special,
        }
        pieces, length = [], 0
        try:
            for piece in self._template.generate(context):
                pieces.append(piece)
                length += len(piece)
                if length > _MAX_CHARACTERS:
                    raise ValueError("it has no end")
        except Exception as error:
            # A template is a program that came with the model: it may raise anything.
            raise TemplateRejected(
                f"The model's chat template can't be used ({error}); choose another MODEL."
            ) from None
        return "".join(pieces)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """jinja2's own filter escapes HTML; models were trained on plain JSON."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)
