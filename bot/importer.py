"""Read files that an operator brings: rated replies, preference pairs, and prompts for the rating rooms.

Checks every line and names the first wrong one; keeps nothing (`Store.add_import` does, all or nothing). The formats
are TRL's, documented in docs/import.md: unpaired {prompt, completion, label} and paired {prompt, chosen, rejected},
each text or a list of {role, content}.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from bot.errors import ImportRefused
from bot.import_lines import read_line, read_object, text_of
from models.errors import PromptTooLong
from models.prompt import PromptBuilder
from models.tokenizer import ModelTokenizer
from models.types import Role, Turn

PROMPT_LIMIT = 2000  # characters; what Discord shows in one message
_KEYS = {"prompt", "completion", "label", "chosen", "rejected", "rater", "created_at"}
_RATER_BITS = 48


@dataclass(frozen=True, slots=True)
class ImportedReply:
    """A reply of a file. `group` numbers the prompts; `gold` is its label where no rater is named.

    Who chose it in one pair and rejected it in another, as a ranking does, gives it no label and no vote.
    `votes` are (rater id, whether it was a vote for the reply), in the order of the file. Ids of raters are negative:
    no member's.
    """

    group: int
    conversation_id: str
    prompt_token_ids: tuple[int, ...]
    system_sha256: str
    completion: str
    completion_token_ids: tuple[int, ...]
    gold: bool | None
    votes: tuple[tuple[int, bool], ...]
    created_at: float | None


@dataclass(frozen=True, slots=True)
class ImportedPair:
    """Which of two replies, by their places in the file's, a rater prefers: what no votes on the two say."""

    chosen: int
    rejected: int
    rater_id: int
    created_at: float | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A line that could not be taken, and why."""

    line: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file holds. `sha256` names the file; `rater_id` stands for who brought it.

    `comparisons` are its pairs with a reply that their rater chooses here and rejects there.
    `trusted` are the ids of those who stand for labels without a rater.
    """

    sha256: str
    rater_id: int
    trusted: tuple[int, ...]
    replies: tuple[ImportedReply, ...]
    comparisons: tuple[ImportedPair, ...]
    lines: int
    pairs: int
    ignored_keys: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


_Key: TypeAlias = tuple[str, tuple[int, ...]]  # what was asked, and the completion


@dataclass(slots=True)
class _Gathered:
    """A reply while its file is read: one prompt and completion may be on several lines, by several raters.

    The vote of a rater who chose it in one pair and rejected it in another is None; `labelled` are those who gave it a
    label, so may not.
    """

    line: int
    group: int
    prompt_token_ids: tuple[int, ...]
    system_sha256: str
    completion: str
    created_at: float | None
    votes: dict[int, bool | None] = field(default_factory=dict)
    labelled: set[int] = field(default_factory=set)

    def require_agreement(self, rater: int, good: bool, *, of_pair: bool) -> None:
        """Raise ImportRefused where this rater labels it and says the opposite as well."""
        if self.votes.get(rater, good) is not good and (not of_pair or rater in self.labelled):
            raise ImportRefused(f"it says the opposite of line {self.line} of the same reply")

    def rate(self, rater: int, good: bool, *, of_pair: bool) -> None:
        if not of_pair:
            self.labelled.add(rater)
        if self.votes.setdefault(rater, good) is not good:
            self.votes[rater] = None


def read_import(
    path: Path,
    tokenizer: ModelTokenizer,
    prompts: PromptBuilder,
    *,
    system: str,
    context_tokens: int,
    skip_bad: bool = False,
) -> Imported:
    """Read a JSONL file of rated replies or pairs, its prompts as the model would be served them; blocks.

    `system` is the instruction where a line has none. Raises ImportRefused with the number of the first wrong line, or
    leaves wrong lines out with `skip_bad`.
    """
    data = _data(path)
    reading = _Reading(tokenizer, prompts, system, context_tokens)
    left_out = []
    for number, line in _lines(data):
        try:
            reading.add(number, _decoded(line))
        except (ImportRefused, PromptTooLong) as error:
            if not skip_bad:
                raise _refused(path, number, error, ", or leave such lines out with --skip-bad") from error
            left_out.append(LeftOut(number, str(error)))
    if not reading.lines:
        raise ImportRefused(f"{path} holds no line that can be taken; see docs/import.md for the format.")
    return reading.imported(hashlib.sha256(data).hexdigest(), left_out)


class _Reading:
    """What the lines so far come to."""

    def __init__(self, tokenizer: ModelTokenizer, prompts: PromptBuilder, system: str, context_tokens: int) -> None:
        self.lines = 0
        self._pairs = 0
        self._tokenizer, self._prompts = tokenizer, prompts
        self._system, self._context_tokens = system, context_tokens
        self._gathered: dict[_Key, _Gathered] = {}
        self._preferred: dict[tuple[int, _Key, _Key], tuple[int, float | None]] = {}  # by rater, the chosen reply first
        self._groups: dict[str, int] = {}
        self._ignored: set[str] = set()

    def add(self, number: int, text: str) -> None:
        """Take a line, the whole of it or nothing. Raises ImportRefused, PromptTooLong."""
        fields = read_object(text)
        turns, judged = read_line(fields)
        named, created_at = _named_rater(fields), _time(fields)
        asked, told = _asked(turns), self._system
        if turns[0].role is Role.SYSTEM:
            told, turns = turns[0].content, turns[1:]
        if not turns or turns[-1].role is not Role.USER:
            raise ImportRefused("the prompt must end with a user's message")
        completions = [tuple(self._tokenizer.encode_text(one.completion)) for one in judged]
        prompt = self._prompt(told, turns, max(map(len, completions)))
        rater = _unnamed(asked) if named is None else named
        keys, of_pair = [(asked, completion) for completion in completions], len(judged) > 1
        if of_pair and (turned := self._preferred.get((rater, keys[1], keys[0]))):
            raise ImportRefused(f"it says the opposite of line {turned[0]} of the same pair")
        for one, key in zip(judged, keys, strict=True):
            if found := self._gathered.get(key):
                found.require_agreement(rater, one.good, of_pair=of_pair)

        group = self._groups.setdefault(asked, len(self._groups))
        for one, key in zip(judged, keys, strict=True):
            new = _Gathered(number, group, prompt, _sha256(told), one.completion, created_at)
            self._gathered.setdefault(key, new).rate(rater, one.good, of_pair=of_pair)
        if of_pair:
            self._preferred.setdefault((rater, keys[0], keys[1]), (number, created_at))
        self._ignored |= fields.keys() - _KEYS
        self._pairs += of_pair
        self.lines += 1

    def imported(self, sha256: str, left_out: Sequence[LeftOut]) -> Imported:
        """Return all lines as one import."""
        gathered = self._gathered
        voted = {rater for reply in gathered.values() for rater in reply.votes}  # or compared
        trusted = tuple(rater for asked in self._groups if (rater := _unnamed(asked)) in voted)
        replies = tuple(
            ImportedReply(
                group=reply.group,
                conversation_id=f"import:{asked}",
                prompt_token_ids=reply.prompt_token_ids,
                system_sha256=reply.system_sha256,
                completion=reply.completion,
                completion_token_ids=completion,
                gold=reply.votes.get(_unnamed(asked)),
                votes=tuple((rater, good) for rater, good in reply.votes.items() if good is not None),
                created_at=reply.created_at,
            )
            for (asked, completion), reply in gathered.items()
        )
        place = {key: number for number, key in enumerate(gathered)}
        comparisons = tuple(
            ImportedPair(place[chosen], place[rejected], rater, at)
            for (rater, chosen, rejected), (_, at) in self._preferred.items()
            if gathered[chosen].votes[rater] is None or gathered[rejected].votes[rater] is None
        )
        return Imported(
            sha256=sha256,
            rater_id=_rater(f"file:{sha256}"),
            trusted=trusted,
            replies=replies,
            comparisons=comparisons,
            lines=self.lines,
            pairs=self._pairs,
            ignored_keys=tuple(sorted(map(_printable, self._ignored))),
            left_out=tuple(left_out),
        )

    def _prompt(self, system: str, turns: Sequence[Turn], longest: int) -> tuple[int, ...]:
        """Return the prompt as it would be served before a reply of so many tokens."""
        context = self._context_tokens
        budget = context - longest - 1
        if budget < context // 4:
            raise ImportRefused(f"the reply has {longest} tokens of a context of {context}; it is too long")
        return self._prompts.build(system, turns, budget=budget, refit=budget).token_ids


def read_prompts(path: Path) -> list[tuple[str, str]]:
    """Read (prompt, language) from a text file, a prompt a line, or from JSONL with {prompt, language}; blocks.

    Raises ImportRefused with the number of the first wrong line.
    """
    prompts: dict[str, str] = {}
    is_json = path.suffix.lower() in (".jsonl", ".json")
    for number, line in _lines(_data(path)):
        try:
            prompt, language = _operator_prompt(_decoded(line), is_json=is_json)
        except ImportRefused as error:
            raise _refused(path, number, error) from error
        prompts.setdefault(prompt, language)
    if not prompts:
        raise ImportRefused(f"{path} holds no prompts; put one on each line.")
    return list(prompts.items())


def _operator_prompt(text: str, *, is_json: bool) -> tuple[str, str]:
    prompt, language = text, ""
    if is_json:
        fields = read_object(text)
        prompt, language = text_of(fields.get("prompt"), "prompt"), str(fields.get("language") or "")
    if len(prompt) > PROMPT_LIMIT:
        raise ImportRefused(f"the prompt has {len(prompt)} characters, at most {PROMPT_LIMIT} fit a message")
    return prompt.strip(), language


def _refused(path: Path, number: int, error: Exception, way_out: str = "") -> ImportRefused:
    """Put the file and the line's number before what was wrong with it."""
    return ImportRefused(f"{path}, line {number}: {str(error).rstrip('.')}; nothing was imported. Mend it{way_out}.")


def _data(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImportRefused(f"{path} can't be read ({error.strerror}).") from error


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ImportRefused("it is no UTF-8") from None


def _named_rater(fields: Mapping[str, Any]) -> int | None:
    told = fields.get("rater")
    return None if told is None else _rater(f"name:{text_of(told, 'rater')}")


def _asked(turns: Sequence[Turn]) -> str:
    """Name what is asked by the file's words alone: SYSTEM_PROMPT and how prompts are built may change later."""
    return _sha256(json.dumps([(turn.role.value, turn.content) for turn in turns]))[:16]


def _unnamed(asked: str) -> int:
    """Return who stands for the labels of a prompt that name no rater, in every file.

    Somebody of its own for each prompt: the labels are as independent as the prompts, and no single rater can be proven
    right or wrong by a file.
    """
    return _rater(f"prompt:{asked}")


def _rater(name: str) -> int:
    return -1 - int.from_bytes(hashlib.sha256(name.encode()).digest()[: _RATER_BITS // 8], "big")


def _time(fields: Mapping[str, Any]) -> float | None:
    told = fields.get("created_at")
    if told is None:
        return None
    read: Callable[[Any], float] = float if isinstance(told, int | float) else _iso
    try:
        at = read(told)
    except (ValueError, TypeError, OverflowError):
        at = -1.0
    if isinstance(told, bool) or not 0 <= at < 1e11:
        raise ImportRefused("`created_at` must be seconds since 1970 or a time such as 2026-05-01T12:00:00Z")
    return at


def _iso(told: Any) -> float:
    return datetime.fromisoformat(told).timestamp()


def _printable(key: str) -> str:
    """Return what a terminal may show: no halves of characters, which UTF-8 can't hold, and no escape sequences."""
    return "".join(character if character.isprintable() else "�" for character in key)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
