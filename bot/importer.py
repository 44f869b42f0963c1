"""Read files that an operator brings: rated replies, preference pairs, and prompts for the rating rooms.

Checks every line and names the first wrong one; keeps nothing (`Store.add_import` does, all or nothing). The formats
are TRL's, documented in docs/import.md: unpaired {prompt, completion, label} and paired {prompt, chosen, rejected},
each text or a list of {role, content}.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from bot.errors import ImportRefused
from bot.import_lines import read_line, read_object, text_of
from models.errors import PromptTooLong
from models.prompt import PromptBuilder
from models.tokenizer import ModelTokenizer
from models.types import Role

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


@dataclass(slots=True)
class _Gathered:
    """A reply while its file is read: one prompt and completion may be on several lines, by several raters.

    The vote of a rater who chose it in one pair and rejected it in another is None; `labelled` are those who gave it a
    label, so may not.
    """

    line: int
    group: int
    prompt_ids: tuple[int, ...]
    system_sha256: str
    completion: str
    completion_ids: tuple[int, ...]
    votes: dict[int, bool | None]
    labelled: set[int]
    created_at: float | None

    def rate(self, rater: int, good: bool, *, of_pair: bool) -> None:
        """Note what a rater says of it. Raises ImportRefused where they label it and say the opposite as well."""
        if not of_pair:
            self.labelled.add(rater)
        if self.votes.setdefault(rater, good) is not good:
            if rater in self.labelled:
                raise ImportRefused(f"it says the opposite of line {self.line} of the same reply")
            self.votes[rater] = None


_Key: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]  # of prompt and completion


def read_import(
    path: Path, tokenizer: ModelTokenizer, prompts: PromptBuilder, *, system: str, context_tokens: int
) -> Imported:
    """Read a JSONL file of rated replies or pairs, its prompts as the model would be served them; blocks.

    `system` is the instruction where a line has none. Raises ImportRefused with the number of the first wrong line.
    """
    data = _data(path)
    sha256 = hashlib.sha256(data).hexdigest()
    gathered: dict[_Key, _Gathered] = {}
    preferred: dict[tuple[int, _Key, _Key], tuple[int, float | None]] = {}  # by rater, the chosen reply first
    groups: dict[tuple[int, ...], int] = {}
    ignored: dict[str, None] = {}
    lines = pairs = 0
    for number, text in _lines(path, data):
        with _named(path, number):
            fields = read_object(text)
            ignored |= dict.fromkeys(fields.keys() - _KEYS)
            turns, judged = read_line(fields)
            rater = _named_rater(fields)
            created_at = _time(fields)
            told = system
            if turns[0].role is Role.SYSTEM:
                told, turns = turns[0].content, turns[1:]
            if not turns or turns[-1].role is not Role.USER:
                raise ImportRefused("the prompt must end with a user's message")
            longest = max(len(tokenizer.encode_text(one.completion)) for one in judged)
            budget = context_tokens - longest - 1
            if budget < context_tokens // 4:
                raise ImportRefused(f"the reply has {longest} tokens of a context of {context_tokens}; it is too long")
            prompt = prompts.build(told, turns, budget=budget, refit=budget).token_ids
            group = groups.setdefault(prompt, len(groups))
            who = _unnamed(sha256, group) if rater is None else rater
            keys = [(prompt, tuple(tokenizer.encode_text(one.completion))) for one in judged]
            if len(keys) > 1:
                if turned := preferred.get((who, keys[1], keys[0])):
                    raise ImportRefused(f"it says the opposite of line {turned[0]} of the same pair")
                preferred.setdefault((who, keys[0], keys[1]), (number, created_at))
            for one, key in zip(judged, keys, strict=True):
                new = _Gathered(number, group, prompt, _sha256(told), one.completion, key[1], {}, set(), created_at)
                gathered.setdefault(key, new).rate(who, one.good, of_pair=len(keys) > 1)
        lines += 1
        pairs += len(judged) - 1
    if not gathered:
        raise ImportRefused(f"{path} holds no lines; see docs/import.md for the format.")
    unnamed_of = {group: _unnamed(sha256, group) for group in groups.values()}
    voted = {rater for reply in gathered.values() for rater in reply.votes}  # or compared
    trusted = tuple(rater for rater in unnamed_of.values() if rater in voted)
    replies = tuple(
        ImportedReply(
            group=reply.group,
            conversation_id=f"import:{hashlib.sha256(repr(reply.prompt_ids).encode()).hexdigest()[:16]}",
            prompt_token_ids=reply.prompt_ids,
            system_sha256=reply.system_sha256,
            completion=reply.completion,
            completion_token_ids=reply.completion_ids,
            gold=reply.votes.get(unnamed_of[reply.group]),
            votes=tuple((rater, good) for rater, good in reply.votes.items() if good is not None),
            created_at=reply.created_at,
        )
        for reply in gathered.values()
    )
    place = {key: number for number, key in enumerate(gathered)}
    comparisons = tuple(
        ImportedPair(place[chosen], place[rejected], rater, at)
        for (rater, chosen, rejected), (_, at) in preferred.items()
        if gathered[chosen].votes[rater] is None or gathered[rejected].votes[rater] is None
    )
    keys_ignored = tuple(sorted(ignored))
    return Imported(sha256, _rater(f"file:{sha256}"), trusted, replies, comparisons, lines, pairs, keys_ignored)


def read_prompts(path: Path) -> list[tuple[str, str]]:
    """Read (prompt, language) from a text file, a prompt a line, or from JSONL with {prompt, language}; blocks.

    Raises ImportRefused with the number of the first wrong line.
    """
    prompts: dict[str, str] = {}
    for number, text in _lines(path, _data(path)):
        with _named(path, number):
            prompt, language = text.strip(), ""
            if path.suffix.lower() in (".jsonl", ".json"):
                fields = read_object(text)
                prompt, language = text_of(fields.get("prompt"), "prompt"), str(fields.get("language") or "")
            if len(prompt) > PROMPT_LIMIT:
                raise ImportRefused(f"the prompt has {len(prompt)} characters, at most {PROMPT_LIMIT} fit a message")
            prompts.setdefault(prompt.strip(), language)
    if not prompts:
        raise ImportRefused(f"{path} holds no prompts; put one on each line.")
    return list(prompts.items())


class _named:
    """Put the file and the line's number before what was wrong with it."""

    def __init__(self, path: Path, number: int) -> None:
        self._where = f"{path}, line {number}"

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ImportRefused | PromptTooLong):
            raise ImportRefused(f"{self._where}: {str(error).rstrip('.')}; nothing was imported.") from error


def _data(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImportRefused(f"{path} can't be read ({error.strerror}).") from error


def _lines(path: Path, data: bytes) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            try:
                yield number, line.decode()
            except UnicodeDecodeError:
                raise ImportRefused(f"{path}, line {number}: it is no UTF-8; nothing was imported.") from None


def _named_rater(fields: Mapping[str, Any]) -> int | None:
    told = fields.get("rater")
    return None if told is None else _rater(f"name:{text_of(told, 'rater')}")


def _unnamed(sha256: str, group: int) -> int:
    """Return who stands for the labels of a prompt that name no rater.

    Somebody of its own for each prompt: the labels are as independent as the prompts, and no single rater can be proven
    right or wrong by a file.
    """
    return _rater(f"file:{sha256}:{group}")


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


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
