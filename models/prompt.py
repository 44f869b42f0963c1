"""Turns to the token ids of a prompt, within a budget; the same code serves and trains.

Decides which turns a model sees and in what order; models/tokenizer and the model's own template decide how they look.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import takewhile

from models.chat_template import TemplateRejected
from models.errors import PromptTooLong
from models.tokenizer import ModelTokenizer
from models.types import Role, Turn

PROMPT_VERSION = 1  # stored with every reply: raise it when the same turns would give other ids

LEFT_OUT = "(Earlier messages are left out.)"
_YOU_BEGAN = "(You spoke first.)"
_GO_ON = "(Please continue.)"
_AFTER_SYSTEM = "\n\n"  # where it goes into the first turn
_PINNED_SHARE = 0.3  # of the budget, for pinned turns from before the cut
_SHORTEST_PIN = 48  # tokens; less of a pinned turn says nothing
_SHORTENED = " …"
_REASONING_TAIL = 8  # tokens in which a prompt's last `<think>` and newline fit
_CACHED_COUNTS = 8192
_CONTROL = re.compile("[\ud800-\udfff]+")  # as the tokenizer spells control tokens
_NO_SYSTEM = hashlib.sha256(b"").hexdigest()
_EXCHANGE = (Turn(Role.USER, "x"), Turn(Role.ASSISTANT, "x"))


@dataclass(frozen=True, slots=True)
class Prompt:
    """`kept` are the places of the turns in it, oldest first: all from `start` on, and pinned ones before it."""

    token_ids: tuple[int, ...]
    kept: tuple[int, ...]
    start: int


class PromptBuilder:
    """Builds prompts for one model. Raises ModelUnavailable if its chat template can't show a plain conversation."""

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        self._tokenizer = tokenizer
        self._count = lru_cache(maxsize=_CACHED_COUNTS)(lambda text: len(tokenizer.encode_text(text)))
        pair, pair_and_user, two_pairs = (
            len(tokenizer.render(turns)) for turns in (_EXCHANGE, (*_EXCHANGE, _EXCHANGE[0]), _EXCHANGE * 2)
        )
        self._turn_tokens = {Role.USER: pair_and_user - pair, Role.ASSISTANT: two_pairs - pair_and_user}
        try:
            tokenizer.render([Turn(Role.SYSTEM, "x"), Turn(Role.USER, "x")])
            self._has_system_role = True
        except TemplateRejected:
            self._has_system_role = False

    def build(
        self,
        system: str,
        turns: Sequence[Turn],
        *,
        budget: int,
        refit: int,
        pinned: Sequence[int] = (),
        start: int = 0,
        earlier_left_out: bool = False,
    ) -> Prompt:
        """Lay out `turns` (one per message, oldest first, the newest last) in at most `budget` tokens.

        If they don't all fit, the oldest are left out and the first turn that stays says so. The cut moves only when
        `budget` overflows, and then far enough to fit into `refit`: in between, prompts grow at their end alone and
        the prefix cache hits. Of the turns before the cut, those at the places `pinned` stay, the most important
        first, as far as their share of the budget goes; the last is shortened to it. `start` is where an earlier
        prompt cut, and `earlier_left_out` says that turns before these were left out by the caller. Adjacent turns of
        one role become one. Raises PromptTooLong if the newest turn alone does not fit.
        """
        if not turns:
            raise ValueError("a prompt needs at least one turn")
        if not start:
            ids = self._render(system, turns, left_out=earlier_left_out)
            if len(ids) <= budget:
                return Prompt(tuple(ids), tuple(range(len(turns))), 0)
        fixed = len(self._render(system, [Turn(Role.USER, "")], left_out=True))
        room = min(int(budget * _PINNED_SHARE), budget - fixed - self._cost(turns[-1]))
        prompt = self._from(start, system, turns, pinned, room, earlier_left_out)
        if len(prompt.token_ids) > budget:
            reserved = min(max(room, 0), sum(self._cost(turns[place]) for place in pinned))
            start = self._cut(turns, start, fixed=fixed + reserved, budget=budget, refit=refit)
            prompt = self._from(start, system, turns, pinned, room, earlier_left_out)
        while len(prompt.token_ids) > budget:  # the cut goes by counts of single turns, which are a token or so off
            if start < len(turns) - 1:
                start = _next_start(turns, start)
            elif len(prompt.kept) > 1:
                room -= len(prompt.token_ids) - budget
            else:
                raise PromptTooLong(
                    f"The newest message and the instructions take {len(prompt.token_ids)} tokens and {budget} fit; "
                    "shorten the message or raise CONTEXT_TOKENS."
                )
            prompt = self._from(start, system, turns, pinned, room, earlier_left_out)
        return prompt

    def continuation(self, prompt_ids: Sequence[int], completion_ids: Sequence[int], ended: bool) -> tuple[int, ...]:
        """Return the prompt that carries a reply on: where it broke off, or if it `ended`, after a request to go on."""
        said = self._without_ends(completion_ids)
        return (*prompt_ids, *said, *(self._after_reply() if ended else ()))

    def user_turns(self, prompt_ids: Sequence[int], system_sha256: str) -> list[str]:
        """Return what users say in a prompt that was built with the system prompt of that sha256, oldest first.

        Empty where the template doesn't mark users' turns. Text may end early, and turns be missed, where a template
        marks turns by plain words that a user wrote, too.
        """
        opened, closed = self._around_users
        if not opened or not closed:
            return []
        said = [after.partition(closed)[0] for after in self._tokenizer.spell(prompt_ids).split(opened)[1:]]
        turns = [_CONTROL.sub("", turn).strip() for turn in said]
        if self._around_folded_system is not None and system_sha256 != _NO_SYSTEM:
            users = [_without_system(turn, *self._around_folded_system, system_sha256) for turn in turns]
            if users == turns:
                return []  # one of them holds what no user said
            turns = users
        turns = [turn.removeprefix(LEFT_OUT).strip() for turn in turns]
        return [turn for turn in turns if turn not in ("", _YOU_BEGAN, _GO_ON)]

    def system_text(self, prompt_ids: Sequence[int], system_sha256: str) -> str:
        """Return the system prompt of that sha256 in a prompt that was built with it, among the template's own words.

        More than it, users' words too, where the template doesn't show where it ends; empty where there was none.
        """
        opened, closed = self._around_users
        spelled = self._tokenizer.spell(prompt_ids)
        if system_sha256 == _NO_SYSTEM:
            return ""
        if not opened or not closed:
            return _CONTROL.sub("\n", spelled)
        before, *said = spelled.split(opened)
        if self._around_folded_system is None:
            return _CONTROL.sub("\n", before)
        turns = [_CONTROL.sub("", after.partition(closed)[0]).strip() for after in said]
        users = [_without_system(turn, *self._around_folded_system, system_sha256) for turn in turns]
        folded = [turn.removesuffix(user) for turn, user in zip(turns, users, strict=True) if turn != user]
        return "\n".join(folded or turns)

    @cached_property
    def _around_users(self) -> tuple[str, str]:
        """Return what stands before and after every user's turn."""
        first, answered = [Turn(Role.USER, "x")], [*_EXCHANGE, Turn(Role.USER, "x")]
        before = [self._tokenizer.spelled_around(first, 0)[0], self._tokenizer.spelled_around(answered, 2)[0]]
        after = [self._tokenizer.spelled_around(first, 0)[1], self._tokenizer.spelled_around(answered, 0)[1]]
        return _common([words[::-1] for words in before])[::-1].strip(), _common(after).strip()

    @cached_property
    def _around_folded_system(self) -> tuple[str, str] | None:
        """Return what stands before and after the system prompt inside a user's turn; None: it has its own."""
        if not self._has_system_role:
            return "", _AFTER_SYSTEM
        before, after = self._tokenizer.spelled_around([Turn(Role.SYSTEM, "x"), Turn(Role.USER, "x")], 0)
        _, opened, inside = before.rpartition(self._around_users[0])
        return (inside.strip(), after) if opened else None

    def opens_reasoning(self, prompt_ids: Sequence[int]) -> bool:
        """Return whether the template itself opened `<think>` at the prompt's end: the reply then begins inside it."""
        tail = list(prompt_ids[-_REASONING_TAIL:])
        control = self._tokenizer.control_id("<think>")
        if control is not None and control in tail:
            rest = self._tokenizer.decode(tail[len(tail) - tail[::-1].index(control) :])
            return not rest.strip()
        return self._tokenizer.decode(tail).rstrip().endswith("<think>")

    def training_example(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], *, cut: bool = False
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return ids and a mask of the same length: 1 on the completion and the token that ends its turn.

        One that was `cut` at the limit of its length has no end: learned, it would teach to break off.
        """
        learned = (*self._without_ends(completion_ids), *(() if cut else (self._end_of_turn(),)))
        return (*prompt_ids, *learned), (0,) * len(prompt_ids) + (1,) * len(learned)

    def _render(self, system: str, turns: Sequence[Turn], *, left_out: bool) -> list[int]:
        merged = _merged(turns)
        if merged[0].role is Role.ASSISTANT:
            # Templates demand that a user begins; what the model said first is context all the same.
            merged.insert(0, Turn(Role.USER, LEFT_OUT if left_out else _YOU_BEGAN))
        elif left_out:
            merged[0] = replace(merged[0], content=f"{LEFT_OUT}\n{merged[0].content}")
        if not system:
            return self._tokenizer.render(merged)
        if self._has_system_role:
            return self._tokenizer.render([Turn(Role.SYSTEM, system), *merged])
        merged[0] = replace(merged[0], content=f"{system}{_AFTER_SYSTEM}{merged[0].content}")
        return self._tokenizer.render(merged)

    def _from(
        self, start: int, system: str, turns: Sequence[Turn], pinned: Sequence[int], room: int, earlier_left_out: bool
    ) -> Prompt:
        """Lay out the turns from `start` on, after what of the pinned ones before it goes into `room` tokens."""
        pins = self._pins(turns, [place for place in pinned if place < start], room)
        kept = (*sorted(pins), *range(start, len(turns)))
        said = [pins.get(place, turns[place]) for place in kept]
        ids = self._render(system, said, left_out=earlier_left_out or len(kept) < len(turns))
        return Prompt(tuple(ids), kept, start)

    def _pins(self, turns: Sequence[Turn], pinned: Sequence[int], room: int) -> dict[int, Turn]:
        pins: dict[int, Turn] = {}
        for place in pinned:
            turn = turns[place]
            if self._cost(turn) > room:
                if room < _SHORTEST_PIN:
                    break
                turn = self._shortened(turn, room)
            pins[place] = turn
            room -= self._cost(turn)
        return pins

    def _shortened(self, turn: Turn, room: int) -> Turn:
        """Return the beginning of a turn that costs at most `room` tokens, give or take one."""
        ids = self._tokenizer.encode_text(turn.content)
        words = ids[: max(0, room - self._turn_tokens[turn.role] - self._count(_SHORTENED))]
        return replace(turn, content=self._tokenizer.decode(words).rstrip("\ufffd") + _SHORTENED)

    def _cost(self, turn: Turn) -> int:
        return self._count(turn.content) + self._turn_tokens[turn.role]

    def _cut(self, turns: Sequence[Turn], start: int, *, fixed: int, budget: int, refit: int) -> int:
        """Return where to start, as if every turn had been a prompt of its own: so the next prompt cuts there too."""
        costs = [self._cost(turn) for turn in turns]
        total = fixed
        for index in range(start, len(turns)):
            total += costs[index]
            if total > budget:
                while start < index and total > refit:
                    total -= costs[start]
                    start += 1
                while start < index and turns[start].role is Role.ASSISTANT:
                    total -= costs[start]
                    start += 1
        return start

    def _without_ends(self, completion_ids: Sequence[int]) -> tuple[int, ...]:
        end = len(completion_ids)
        while end and completion_ids[end - 1] in self._tokenizer.end_ids:
            end -= 1
        return tuple(completion_ids[:end])

    def _after_reply(self) -> list[int]:
        """Return what the template puts between a reply and the next one when the member says `_GO_ON`."""
        return self._tokenizer.render_after([*_EXCHANGE, Turn(Role.USER, _GO_ON)], 1)

    def _end_of_turn(self) -> int:
        """Return the control token that the template puts after a reply, or the model's own end of text."""
        rest = self._tokenizer.render_after(_EXCHANGE, 1, add_generation_prompt=False)
        return next((i for i in rest if self._tokenizer.is_control(i)), self._tokenizer.end_ids[0])


def _merged(turns: Iterable[Turn]) -> list[Turn]:
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].role is turn.role:
            merged[-1] = replace(turn, content=f"{merged[-1].content}\n{turn.content}")
        else:
            merged.append(turn)
    return merged


def _common(texts: Sequence[str]) -> str:
    """Return what all texts begin with."""
    return "".join(letters[0] for letters in takewhile(lambda letters: len({*letters}) == 1, zip(*texts, strict=False)))


def _without_system(turn: str, before: str, after: str, system_sha256: str) -> str:
    """Return a user's turn without the system prompt between `before` and `after`, if it is there."""
    folded = turn.removeprefix(before).lstrip()
    for gap in re.finditer(re.escape(after), folded) if turn.startswith(before) else ():
        if hashlib.sha256(folded[: gap.start()].encode()).hexdigest() == system_sha256:
            return folded[gap.end() :]
    return turn


def _next_start(turns: Sequence[Turn], start: int) -> int:
    """Return the next later place to start that is a user's turn, or the newest turn."""
    start += 1
    while start < len(turns) - 1 and turns[start].role is Role.ASSISTANT:
        start += 1
    return start
