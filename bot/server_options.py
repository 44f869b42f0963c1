"""What moderators can set for their server by name: each option's help, check, and how its value reads.

Text in, a value for `Store.change_server_settings` out; knows neither Discord's objects nor the store.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bot import text
from bot.records import ServerSettings
from models.types import Sampling

DEFAULT = "default"  # the value that takes an option back to its default
PROMPT_LIMIT = 2000  # characters
EMOJI_LIMIT = 40  # rows of the emoji table: what fits one field of an embed
WEIGHT_LIMIT = 5.0
CHANNELS = frozenset({"unprompted_channel", "moderators_channel"})  # options that name a channel

_CHANNEL = re.compile(r"<#(\d{1,20})>|(\d{15,20})")
_CUSTOM_EMOJI = re.compile(r"<a?:(\w{2,32}):(\d{15,20})>")
_SKIN_TONES = {chr(code) for code in range(0x1F3FB, 0x1F400)}
_PUNCTUATION = frozenset("\u203c\u2049\u2139\u3030\u303d")  # the emoji that Unicode takes for letters or punctuation
_FLAG_LETTERS = {chr(code) for code in range(0x1F1E6, 0x1F200)}
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


class OptionError(ValueError):
    """A value that can't be used; `str()` is a clause that says what to use instead."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `parse` raises OptionError; `examples` are what the picker offers."""

    name: str
    help: str
    parse: Callable[[str], Any]
    examples: tuple[str, ...] = ()

    @property
    def of_sampling(self) -> bool:
        return self.name in Sampling.__dataclass_fields__

    @property
    def field(self) -> str:
        """The field of ServerSettings or Sampling that keeps it."""
        return f"{self.name}_id" if self.name in CHANNELS else self.name

    def value(self, settings: ServerSettings) -> Any:
        return getattr(settings.sampling if self.of_sampling else settings, self.field)

    def change(self, given: str) -> dict[str, Any]:
        """Return what to hand `change_server_settings`; raises OptionError."""
        given = given.strip()
        value = self.value(ServerSettings()) if given.lower() == DEFAULT else self.parse(given)
        return {self.field: value}

    def changed(self, settings: ServerSettings, change: dict[str, Any]) -> ServerSettings:
        """Return the settings as they would be after a change."""
        if self.of_sampling:
            return replace(settings, sampling=replace(settings.sampling, **change))
        return replace(settings, **change)

    def show(self, settings: ServerSettings) -> str:
        """Return the option's value as a person reads it."""
        value = self.value(settings)
        if self.name in CHANNELS:
            return f"<#{value}>" if value else "none"
        if self.name == "system_prompt":
            return value or "the operator's"
        if self.name == "seed" and value is None:
            return "random"
        if isinstance(value, bool):
            return "yes" if value else "no"
        return f"{value:g}" if isinstance(value, float) else str(value)

    def offers(self, settings: ServerSettings) -> dict[str, str]:
        """Return values for the picker with how each reads: the present one, the examples and the default."""
        now, usual = self.show(settings), self.show(ServerSettings())
        free_text = self.name in {"system_prompt", *CHANNELS}
        offered = {} if free_text else {now: f"{now} (now)"}
        return {**{example: example for example in self.examples}, **offered, DEFAULT: f"{DEFAULT} ({usual})"}


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(given: str) -> float:
        try:
            value = float(given.replace(",", "."))
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise OptionError(f"use a number from {low:g} to {high:g}")
        return value

    return parse


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(given: str) -> int:
        value = int(given) if re.fullmatch(r"[+-]?[0-9]{1,12}", given) else low - 1
        if not low <= value <= high:
            raise OptionError(f"use a whole number from {low} to {high}")
        return value

    return parse


def _boolean(given: str) -> bool:
    if given.lower() not in _TRUE | _FALSE:
        raise OptionError("use yes or no")
    return given.lower() in _TRUE


def _seed(given: str) -> int | None:
    if given.lower() == "random":
        return None
    try:
        return _integer(0, 2**31 - 1)(given)
    except OptionError as error:
        raise OptionError(f"{error}, or random") from None


def _channel(given: str) -> int | None:
    if given.lower() == "none":
        return None
    found = _CHANNEL.fullmatch(given)
    if found is None:
        raise OptionError("use a channel such as #general, or none")
    return int(found[1] or found[2])


def _prompt(given: str) -> str:
    prompt = text.normalise(given)
    if not 1 <= len(prompt) <= PROMPT_LIMIT:
        raise OptionError(f"use a text of 1 to {PROMPT_LIMIT} characters")
    return prompt


OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        Option("temperature", "how freely words are chosen; 0 is always the likeliest", _number(0, 2), ("0.5", "1")),
        Option("top_p", "share of the likeliest words to choose from", _number(0.01, 1), ("0.9", "1")),
        Option("min_p", "how likely a word must be beside the likeliest", _number(0, 1), ("0", "0.1")),
        Option("repeat_penalty", "how much repeating is held back; 1 is not at all", _number(1, 2), ("1", "1.2")),
        Option("repeat_last_n", "tokens looked back at for repeats", _integer(0, 4096), ("64", "512")),
        Option("max_new_tokens", "longest answer in tokens", _integer(16, 4096), ("128", "512")),
        Option("seed", "fixes the draw, so that the same question gets the same answer", _seed, ("random", "0")),
        Option("answer_bots", "answer other bots too", _boolean, ("yes", "no")),
        Option("unprompted_chance", "chance to join in unasked, a message", _number(0, 1), ("0", "0.05")),
        Option("unprompted_channel", "the one channel where I may join in unasked", _channel, ("none",)),
        Option("moderators_channel", "where I report nights, and cases for moderators", _channel, ("none",)),
        Option("explain_refusals", "say in a sentence why I don't answer a message", _boolean, ("yes", "no")),
        Option("system_prompt", f"who I am here, up to {PROMPT_LIMIT} characters", _prompt),
    )
}


def emoji_of(given: str) -> str:
    """Return an emoji as the table names it, without its skin tone; raises OptionError for anything else."""
    given = given.strip()
    custom = _CUSTOM_EMOJI.fullmatch(given)
    if custom is not None:
        return f"{custom[1]}:{custom[2]}"
    plain = "".join(character for character in given if character not in _SKIN_TONES)
    flags = sum(character in _FLAG_LETTERS for character in plain)
    symbols = sum(c in _PUNCTUATION or unicodedata.category(c) in {"So", "Sm"} for c in plain) - flags
    is_flag = (flags, symbols) == (2, 0)
    is_symbol = flags == 0 and symbols - plain.count("\u200d") == 1  # a joiner makes two symbols one
    is_keycap = re.fullmatch("[0-9#*]\ufe0f?\u20e3", plain) is not None
    if not is_keycap and (not (is_flag or is_symbol) or len(plain) > 16 or any(map(_is_word, plain))):
        raise OptionError("use one emoji, such as 👍 or one of this server's own")
    return plain


def with_weight(table: dict[str, float], emoji: str, weight: float) -> dict[str, float]:
    """Return the table with an emoji's weight set, or with the emoji taken out for 0; raises OptionError."""
    changed = {listed: value for listed, value in table.items() if _bare(listed) != _bare(emoji)}
    if weight:
        changed[emoji] = weight
    if len(changed) > EMOJI_LIMIT:
        raise OptionError(f"at most {EMOJI_LIMIT} emoji can count; take one out first")
    return changed


def _is_word(character: str) -> bool:
    return character.isspace() or (character.isascii() and character.isprintable())


def _bare(emoji: str) -> str:
    """Return what makes two spellings the same emoji: the id of a custom one, the symbol without its text form."""
    return emoji.rpartition(":")[2] if ":" in emoji else emoji.replace("\ufe0f", "")
