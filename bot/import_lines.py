"""One line of a file of ratings: its prompt, and the replies with what is said of them.

Owns TRL's formats: which keys, shapes and roles there may be, and where a pair that names no prompt parts from it.
Everything raises ImportRefused, in words that follow a line's number. Doesn't know of files, tokens or raters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.errors import ImportRefused
from models.types import Role, Turn

_ROLES = {role.value: role for role in Role} | {"developer": Role.SYSTEM}  # OpenAI's newer word for it
_HH_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_HH_ROLES = {"Human": Role.USER.value, "Assistant": Role.ASSISTANT.value}


@dataclass(frozen=True, slots=True)
class Judged:
    """One completion of a line with what is said of it."""

    completion: str
    good: bool


def read_object(text: str) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImportRefused(f"it is no JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ImportRefused("it is no JSON object")
    return fields


def read_line(fields: Mapping[str, Any]) -> tuple[list[Turn], list[Judged]]:
    """Return the prompt and the replies of a line: one with a label, or the chosen one and the rejected."""
    if "label" in fields:
        if not isinstance(fields["label"], bool):
            raise ImportRefused("`label` must be true or false")
        return _prompt(fields), [Judged(_completion(fields, "completion"), fields["label"])]
    if "chosen" in fields and "rejected" in fields:
        if "prompt" not in fields or _are_dialogues(fields["chosen"], fields["rejected"]):
            fields = _with_prompt(fields)
        chosen, rejected = _completion(fields, "chosen"), _completion(fields, "rejected")
        if chosen == rejected:
            raise ImportRefused("`chosen` and `rejected` are the same")
        return _prompt(fields), [Judged(chosen, True), Judged(rejected, False)]
    raise ImportRefused("it needs `prompt`, `completion` and `label`, or `prompt`, `chosen` and `rejected`")


def _are_dialogues(*sides: Any) -> bool:
    """Tell whether both sides are whole conversations, whose beginning is the prompt whatever `prompt` has of it."""
    return all(isinstance(side, list) and len(side) > 1 for side in sides)


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
        return [Turn(Role.USER, text_of(told, "prompt"))]
    if not isinstance(told, list) or not told:
        raise ImportRefused("`prompt` must be a text or a list of messages")
    turns = [_message(message, "prompt") for message in told]
    if any(turn.role is Role.SYSTEM for turn in turns[1:]):
        raise ImportRefused("in `prompt`, only the first message may be the system's")
    return turns


def _completion(fields: Mapping[str, Any], key: str) -> str:
    told = fields.get(key)
    if isinstance(told, str):
        return text_of(told, key).strip()  # after a plain prompt, TRL's completions begin with a space
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
    return Turn(role, text_of(message.get("content"), key))


def text_of(told: Any, key: str) -> str:
    """Return what a key holds, a text that says something."""
    if not isinstance(told, str) or not told.strip():
        raise ImportRefused(f"`{key}` must be a text that isn't empty")
    try:
        told.encode()
    except UnicodeEncodeError:
        raise ImportRefused(f"`{key}` holds half of a character (a lone surrogate)") from None
    return told
