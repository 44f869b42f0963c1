"""Read files that an operator brings: rated replies, preference pairs, and prompts for the rating rooms.

Checks every line and names the first wrong one; keeps nothing (`Store.add_import` does, all or nothing). The formats
are TRL's, documented in docs/import.md: unpaired {prompt, completion, label} and paired {prompt, chosen, rejected},
each text or a list of {role, content}.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from bot.errors import ImportRefused
from models.errors import PromptTooLong
from models.prompt import PromptBuilder
from models.tokenizer import ModelTokenizer
from models.types import Role, Turn

PROMPT_LIMIT = 2000  # characters; what Discord shows in one message
_KEYS = {"prompt", "completion", "label", "chosen", "rejected", "rater", "created_at"}
_ROLES = {role.value: role for role in Role}
_RATER_BITS = 48
_HH_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_HH_ROLES = {"Human": Role.USER.value, "Assistant": Role.ASSISTANT.value}


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


@dataclass(frozen=True, slots=True)
class _Judged:
    """One completion of a line with what is said of it."""

    completion: str
    good: bool


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
            fields = _object(text)
            ignored |= dict.fromkeys(fields.keys() - _KEYS)
            turns, judged = _line(fields)
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
                fields = _object(text)
                prompt, language = _text(fields.get("prompt"), "prompt"), str(fields.get("language") or "")
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


def _object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImportRefused(f"it is no JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ImportRefused("it is no JSON object")
    return fields


def _line(fields: Mapping[str, Any]) -> tuple[list[Turn], list[_Judged]]:
    if "label" in fields:
        if not isinstance(fields["label"], bool):
            raise ImportRefused("`label` must be true or false")
        return _prompt(fields), [_Judged(_completion(fields, "completion"), fields["label"])]
    if "chosen" in fields and "rejected" in fields:
        if "prompt" not in fields:
            fields = _with_prompt(fields)
        chosen, rejected = _completion(fields, "chosen"), _completion(fields, "rejected")
        if chosen == rejected:
            raise ImportRefused("`chosen` and `rejected` are the same")
        return _prompt(fields), [_Judged(chosen, True), _Judged(rejected, False)]
    raise ImportRefused("it needs `prompt`, `completion` and `label`, or `prompt`, `chosen` and `rejected`")


def _with_prompt(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Take what both replies begin with for the prompt, as TRL's extract_prompt does: messages, or whole words."""
    chosen, rejected = fields["chosen"], fields["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        dialogues = _dialogue(chosen), _dialogue(rejected)
        if not all(dialogues):
            shared = _shared_words(chosen, rejected)
            return {
                **fields,
                "prompt": chosen[:shared].strip(),
                "chosen": chosen[shared:],
                "rejected": rejected[shared:],
            }
        chosen, rejected = dialogues
        if chosen[:-1] != rejected[:-1]:
            raise ImportRefused("`chosen` and `rejected` differ before their last `Assistant:`")
    if not (isinstance(chosen, list) and isinstance(rejected, list)):
        raise ImportRefused("`prompt` is missing; only two texts or two lists of messages may share it")
    shared = _alike(chosen, rejected)
    return {**fields, "prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _dialogue(text: str) -> list[dict[str, str]]:
    """Return the messages of a text in the form of Anthropic's HH, "\n\nHuman: Hi\n\nAssistant: Hello"; else []."""
    before, *parts = _HH_SPEAKER.split(text)
    if before.strip() or not parts:
        return []
    return [
        {"role": _HH_ROLES[who], "content": said.strip()} for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _alike(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many items two sequences begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _shared_words(chosen: str, rejected: str) -> int:
    """Return the length of the whole words that both texts begin with. Raises ImportRefused where there are none."""
    shared = chosen[: _alike(chosen, rejected)]
    # A word that goes on in either text is no part of the prompt: TRL would leave "Gre" of "Green" and "Grey" in it.
    ends = [space.start() for space in re.finditer(r"\s", shared) if shared[: space.start()].strip()]
    if not ends:
        raise ImportRefused("`prompt` is missing, and `chosen` and `rejected` begin with no word that could be it")
    return ends[-1]


def _prompt(fields: Mapping[str, Any]) -> list[Turn]:
    told = fields.get("prompt")
    if isinstance(told, str):
        return [Turn(Role.USER, _text(told, "prompt"))]
    if not isinstance(told, list) or not told:
        raise ImportRefused("`prompt` must be a text or a list of messages")
    turns = [_message(message, "prompt") for message in told]
    if any(turn.role is Role.SYSTEM for turn in turns[1:]):
        raise ImportRefused("in `prompt`, only the first message may be the system's")
    return turns


def _completion(fields: Mapping[str, Any], key: str) -> str:
    told = fields.get(key)
    if isinstance(told, str):
        return _text(told, key).strip()  # after a plain prompt, TRL's completions begin with a space
    if not isinstance(told, list) or len(told) != 1:
        raise ImportRefused(f"`{key}` must be a text or a list of one message")
    turn = _message(told[0], key)
    if turn.role is not Role.ASSISTANT:
        raise ImportRefused(f"the message of `{key}` must be the assistant's")
    return turn.content


def _message(message: Any, key: str) -> Turn:
    role = _ROLES.get(str(message.get("role"))) if isinstance(message, dict) else None
    if role is None:
        raise ImportRefused(f"each message of `{key}` needs a role (system, user or assistant) and a content")
    return Turn(role, _text(message.get("content"), key))


def _text(told: Any, key: str) -> str:
    if not isinstance(told, str) or not told.strip():
        raise ImportRefused(f"`{key}` must be a text that isn't empty")
    try:
        told.encode()
    except UnicodeEncodeError:
        raise ImportRefused(f"`{key}` holds half of a character (a lone surrogate)") from None
    return told


def _named_rater(fields: Mapping[str, Any]) -> int | None:
    told = fields.get("rater")
    return None if told is None else _rater(f"name:{_text(told, 'rater')}")


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
