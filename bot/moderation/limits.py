"""How much a member, a role or a channel may ask: a rate, a slow-down, and budgets a day.

Counts alone; what a refused member reads is said elsewhere. What an answer takes is known when it ends, so until it is
settled each question holds as many tokens as one may take: asked at once, they pass no budget. Memory is bounded:
whoever was quiet longest is dropped first, and to drop means to allow. The store keeps what `counts` returns and
hands it to `restore` after a restart; rates reach back a minute and are not kept. Of whom the store may keep nothing of
today, only this memory knows what they used, until the day is over: a deletion must not refill a budget.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_WINDOW_SECONDS = 60.0
_DAY_SECONDS = 86_400
_UNDER_WAY_SECONDS = 15.0  # after which to ask again: nobody knows when answers under way end


_Key = tuple[int, "Scope", int]  # guild, what the subject is, its id


class Scope(StrEnum):
    MEMBER = "member"
    ROLE = "role"  # a limit of a role holds for each of its members by themselves
    CHANNEL = "channel"


class Reason(StrEnum):
    RATE = "rate"
    SLOW_DOWN = "slow-down"
    MESSAGES = "messages a day"
    TOKENS = "tokens a day"
    UNDER_WAY = "answers under way"  # which may take all that is left of the tokens


@dataclass(frozen=True, slots=True)
class Limit:
    """What one subject may use; None is no limit. Tokens are those of prompts and answers together."""

    messages_per_minute: int | None = None
    seconds_between: float | None = None
    messages_per_day: int | None = None
    tokens_per_day: int | None = None

    def __post_init__(self) -> None:
        for value in (self.messages_per_minute, self.seconds_between, self.messages_per_day, self.tokens_per_day):
            if value is not None and value < 0:
                raise ValueError("A limit is a number from 0 on.")


@dataclass(frozen=True, slots=True)
class Quotas:
    """A server's limits. Of the roles a member has that have a limit, the one that allows most per matter counts, and
    counts instead of `member`: a role is how moderators let some ask more, or less."""

    member: Limit = field(default_factory=Limit)
    channel: Limit = field(default_factory=Limit)
    roles: Mapping[int, Limit] = field(default_factory=dict)
    channels: Mapping[int, Limit] = field(default_factory=dict)  # instead of `channel`

    def of_member(self, role_ids: Iterable[int]) -> Limit:
        limits = [self.roles[role_id] for role_id in role_ids if role_id in self.roles]
        if not limits:
            return self.member
        return Limit(
            _most(limit.messages_per_minute for limit in limits),
            _least(limit.seconds_between for limit in limits),
            _most(limit.messages_per_day for limit in limits),
            _most(limit.tokens_per_day for limit in limits),
        )

    def of_channel(self, channel_id: int) -> Limit:
        return self.channels.get(channel_id, self.channel)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, where."""

    guild_id: int
    member_id: int
    channel_id: int
    role_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit was met, and in how many seconds there is room again."""

    scope: Scope
    reason: Reason
    retry_seconds: float


@dataclass(frozen=True, slots=True)
class Count:
    """What a subject used on one day (days since 1970-01-01, UTC): what the store keeps."""

    guild_id: int
    scope: Scope
    subject_id: int
    day: int
    messages: int
    tokens: int


@dataclass(slots=True)
class _Usage:
    recent: deque[float] = field(default_factory=deque)  # times of the last minute's messages
    last: float | None = None
    day: int = 0
    messages: int = 0
    tokens: int = 0
    held: int = 0  # tokens for answers under way, also from before midnight


@dataclass(eq=False, slots=True)
class Admission:
    """A question that may be answered; to be settled once, whatever becomes of it."""

    asker: Asker
    holding: tuple[_Usage, ...]


class Limiter:
    """Counts what is asked, for all servers. `clock` returns seconds since 1970-01-01 UTC; it may be set back.

    `answer_tokens` are the most that a prompt and its answer take together.
    """

    def __init__(self, clock: Callable[[], float], *, answer_tokens: int = 0, most_subjects: int = 50_000) -> None:
        self._clock = clock
        self._answer_tokens = answer_tokens
        self._most = most_subjects
        self._usages: OrderedDict[_Key, _Usage] = OrderedDict()
        self._unkept: set[_Key] = set()  # of today, which the store must not get

    def __len__(self) -> int:
        return len(self._usages)

    def admit(self, asker: Asker, quotas: Quotas) -> Admission | Refusal:
        """Count a message, or return why it is refused, by the limit that lasts longest; refused ones do not count."""
        now = self._clock()
        subjects = [
            (self._usage(key, now), limit, Scope.ROLE if key[1] is Scope.MEMBER and by_role else key[1])
            for key, limit, by_role in self._subjects(asker, quotas)
        ]
        refusals = [refusal for usage, limit, scope in subjects for refusal in _refusals(usage, limit, scope, now)]
        if refusals:
            return max(refusals, key=lambda refusal: refusal.retry_seconds)
        for usage, limit, _ in subjects:
            usage.last = now
            usage.messages += 1
            usage.held += self._answer_tokens
            if limit.messages_per_minute is not None:
                usage.recent.append(now)
        return Admission(asker, tuple(usage for usage, _, _ in subjects))

    def settle(self, admission: Admission, tokens: int) -> None:
        """Count what an answer took, 0 if there was none, in the place of what was held for it."""
        now = self._clock()
        for key, usage in zip(_keys(admission.asker), admission.holding, strict=True):
            usage.held -= self._answer_tokens
            if self._usages.get(key) is usage:  # whoever was dropped meanwhile stays dropped
                self._usage(key, now).tokens += tokens

    def counts(self) -> Iterator[Count]:
        """Yield today's counts."""
        return self._counts(list(self._usages))

    def counts_of(self, asker: Asker) -> list[Count]:
        """Return today's counts of a member and a channel."""
        return list(self._counts(_keys(asker)))

    def restore(self, counts: Iterable[Count]) -> None:
        """Take over the counts of today that were kept; others are over."""
        now = self._clock()
        for count in counts:
            if count.day == day_of(now):
                usage = self._usage((count.guild_id, count.scope, count.subject_id), now)
                usage.messages = max(usage.messages, count.messages)
                usage.tokens = max(usage.tokens, count.tokens)

    def forget(self, member_id: int) -> None:
        """Return today's counts of a member no more, from any server; they hold here until the day is over."""
        self._drop_unkept(day_of(self._clock()))
        self._unkept.update(key for key in self._usages if key[1] is Scope.MEMBER and key[2] == member_id)

    def _drop_unkept(self, today: int) -> None:
        for key in list(self._unkept):
            usage = self._usages.get(key)
            if usage is None or usage.day != today:
                self._usages.pop(key, None)
                self._unkept.discard(key)

    def _subjects(self, asker: Asker, quotas: Quotas) -> Iterator[tuple[_Key, Limit, bool]]:
        member, channel = _keys(asker)
        yield member, quotas.of_member(asker.role_ids), any(role_id in quotas.roles for role_id in asker.role_ids)
        yield channel, quotas.of_channel(asker.channel_id), False

    def _counts(self, keys: Iterable[_Key]) -> Iterator[Count]:
        today = day_of(self._clock())
        for key in keys:
            usage = self._usages.get(key) if key not in self._unkept else None
            if usage is not None and usage.day == today and (usage.messages or usage.tokens):
                yield Count(*key, usage.day, usage.messages, usage.tokens)

    def _usage(self, key: _Key, now: float) -> _Usage:
        self._drop_unkept(day_of(now))
        usage = self._usages.pop(key, None) or _Usage(day=day_of(now))
        self._usages[key] = usage  # the newest
        if usage.day != day_of(now):
            usage.day, usage.messages, usage.tokens = day_of(now), 0, 0
        while usage.recent and not 0 <= now - usage.recent[0] < _WINDOW_SECONDS:
            usage.recent.popleft()
        while len(self._usages) > self._most:
            self._usages.popitem(last=False)
        return usage


def _refusals(usage: _Usage, limit: Limit, scope: Scope, now: float) -> Iterator[Refusal]:
    tomorrow = (day_of(now) + 1) * _DAY_SECONDS - now
    if limit.messages_per_minute is not None and len(usage.recent) >= limit.messages_per_minute:
        # There is room once so many of the last minute's messages are older that one more fits.
        leaves = len(usage.recent) - limit.messages_per_minute
        free = usage.recent[leaves] + _WINDOW_SECONDS - now if leaves < len(usage.recent) else tomorrow
        yield Refusal(scope, Reason.RATE, free)
    if limit.seconds_between is not None and usage.last is not None and 0 <= now - usage.last < limit.seconds_between:
        yield Refusal(scope, Reason.SLOW_DOWN, usage.last + limit.seconds_between - now)
    if limit.messages_per_day is not None and usage.messages >= limit.messages_per_day:
        yield Refusal(scope, Reason.MESSAGES, tomorrow)
    if limit.tokens_per_day is not None and usage.tokens >= limit.tokens_per_day:
        yield Refusal(scope, Reason.TOKENS, tomorrow)
    elif limit.tokens_per_day is not None and usage.tokens + usage.held >= limit.tokens_per_day:
        yield Refusal(scope, Reason.UNDER_WAY, _UNDER_WAY_SECONDS)


def _keys(asker: Asker) -> tuple[_Key, _Key]:
    member = (asker.guild_id, Scope.MEMBER, asker.member_id)
    return member, (asker.guild_id, Scope.CHANNEL, asker.channel_id)


def day_of(now: float) -> int:
    """Return the day of a time: days since 1970-01-01, UTC."""
    return int(now // _DAY_SECONDS)


def _most(values: Iterable[int | None]) -> int | None:
    known = list(values)
    return None if None in known else max(value for value in known if value is not None)


def _least(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else min(value for value in known if value is not None)
