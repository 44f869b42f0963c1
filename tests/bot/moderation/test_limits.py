from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.moderation.limits import Admission, Asker, Count, Limit, Limiter, Quotas, Reason, Refusal, Scope

DAY = 86_400.0
KIM, LEE = Asker(1, 10, 100), Asker(1, 11, 100)


class Clock:
    def __init__(self) -> None:
        self.now = 20_000 * DAY

    def __call__(self) -> float:
        return self.now


def refusal_of(limiter: Limiter, asker: Asker, quotas: Quotas, *, tokens: int = 0) -> Refusal | None:
    """Ask something whose answer takes so many tokens, and return why it was refused."""
    admitted = limiter.admit(asker, quotas)
    if isinstance(admitted, Refusal):
        return admitted
    limiter.settle(admitted, tokens)
    return None


def under_way(limiter: Limiter, asker: Asker, quotas: Quotas) -> Admission:
    admitted = limiter.admit(asker, quotas)
    assert isinstance(admitted, Admission)
    return admitted


@given(st.lists(st.floats(0, 90), max_size=80), st.integers(1, 5))
def test_no_minute_holds_more_messages_than_the_rate(waits: list[float], rate: int) -> None:
    clock = Clock()
    limiter = Limiter(clock)
    admitted: list[float] = []
    for wait in waits:
        clock.now += wait
        refusal = refusal_of(limiter, KIM, Quotas(member=Limit(messages_per_minute=rate)))
        recent = [time for time in admitted if clock.now - time < 60]
        assert (refusal is None) == (len(recent) < rate)
        if refusal is None:
            admitted.append(clock.now)


@given(st.lists(st.floats(0, 90), max_size=60), st.integers(1, 4), st.floats(0, 30))
def test_whoever_waits_as_told_is_admitted(waits: list[float], rate: int, between: float) -> None:
    clock = Clock()
    limiter = Limiter(clock)
    quotas = Quotas(member=Limit(messages_per_minute=rate, seconds_between=between))
    for wait in waits:
        clock.now += wait
        if refusal := refusal_of(limiter, KIM, quotas):
            assert 0 <= refusal.retry_seconds <= 60
            clock.now += refusal.retry_seconds + 0.001
            assert refusal_of(limiter, KIM, quotas) is None


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=300), st.integers(2, 20))
def test_memory_is_bounded_whoever_asks(askers: list[tuple[int, int]], most: int) -> None:
    clock = Clock()
    limiter = Limiter(clock, most_subjects=most)
    for member, channel in askers:
        clock.now += 0.01
        refusal_of(limiter, Asker(1, member, channel), Quotas(member=Limit(messages_per_minute=3)))
        assert len(limiter) <= most


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 500)), max_size=60), st.integers(1, 60))
def test_a_restart_forgets_no_budget(events: list[tuple[int, int]], at: int) -> None:
    clock = Clock()
    quotas = Quotas(member=Limit(messages_per_day=7, tokens_per_day=1500), channel=Limit(messages_per_day=40))
    whole, restarted = Limiter(clock), Limiter(clock)
    for number, (member, tokens) in enumerate(events):
        clock.now += 1
        if number == at:
            kept = list(restarted.counts())
            restarted = Limiter(clock)
            restarted.restore(kept)
        asker = Asker(1, member, 100)
        verdicts = [refusal_of(limiter, asker, quotas, tokens=tokens) for limiter in (whole, restarted)]
        assert verdicts[0] == verdicts[1]


def test_budgets_begin_anew_at_midnight() -> None:
    clock = Clock()
    clock.now += DAY - 100
    limiter = Limiter(clock)
    quotas = Quotas(member=Limit(tokens_per_day=50))
    assert refusal_of(limiter, KIM, quotas, tokens=60) is None
    refusal = refusal_of(limiter, KIM, quotas)
    assert refusal is not None
    assert (refusal.scope, refusal.reason, refusal.retry_seconds) == (Scope.MEMBER, Reason.TOKENS, 100)
    clock.now += 100
    assert refusal_of(limiter, KIM, quotas) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100)), max_size=60), st.integers(1, 900))
def test_no_budget_is_passed_by_more_than_one_answer_however_many_ask_at_once(
    events: list[tuple[bool, int]], budget: int
) -> None:
    limiter, quotas = Limiter(Clock(), answer_tokens=100), Quotas(channel=Limit(tokens_per_day=budget))
    asked: list[Admission] = []
    for number, (ends, tokens) in enumerate(events):
        if ends and asked:
            limiter.settle(asked.pop(0), tokens)
        else:
            admitted = limiter.admit(Asker(1, number, 100), quotas)
            asked += [admitted] if isinstance(admitted, Admission) else []
    for admitted in asked:
        limiter.settle(admitted, 100)
    used = sum(count.tokens for count in limiter.counts() if count.scope is Scope.CHANNEL)
    assert used < budget + 100


def test_what_answers_under_way_hold_is_given_back_when_they_end() -> None:
    limiter, quotas = Limiter(Clock(), answer_tokens=100), Quotas(member=Limit(tokens_per_day=150))
    first, second = under_way(limiter, KIM, quotas), under_way(limiter, KIM, quotas)
    refusal = refusal_of(limiter, KIM, quotas)
    assert refusal is not None and refusal.reason is Reason.UNDER_WAY and refusal.retry_seconds < 60
    limiter.settle(first, 0)  # it failed before it began
    third = under_way(limiter, KIM, quotas)
    limiter.settle(second, 100)
    limiter.settle(third, 60)
    refusal = refusal_of(limiter, KIM, quotas)
    assert refusal is not None and refusal.reason is Reason.TOKENS


def test_what_is_counted_of_a_forgotten_member_holds_until_midnight_and_is_handed_to_nobody() -> None:
    clock = Clock()
    limiter, quotas = Limiter(clock), Quotas(member=Limit(messages_per_day=2, tokens_per_day=100))
    under_way_then = under_way(limiter, KIM, quotas)
    limiter.forget(KIM.member_id)
    limiter.settle(under_way_then, 70)
    assert refusal_of(limiter, KIM, quotas) is None
    refusal = refusal_of(limiter, KIM, quotas)
    assert refusal is not None and refusal.reason is Reason.MESSAGES
    assert [count.scope for count in limiter.counts_of(KIM)] == [Scope.CHANNEL]
    clock.now += DAY
    refusal_of(limiter, LEE, quotas)
    assert len(limiter) == 2, "of who doesn't ask again nothing is remembered after the day"
    assert refusal_of(limiter, KIM, quotas) is None
    assert [count.scope for count in limiter.counts_of(KIM)] == [Scope.MEMBER, Scope.CHANNEL]


def test_answer_of_a_forgotten_member_that_ends_after_midnight_counts_for_the_new_day() -> None:
    clock = Clock()
    limiter, quotas = Limiter(clock), Quotas(member=Limit(tokens_per_day=100))
    before = under_way(limiter, KIM, quotas)
    limiter.forget(KIM.member_id)
    clock.now += DAY
    limiter.settle(before, 70)
    assert [(count.scope, count.tokens) for count in limiter.counts_of(KIM)] == [
        (Scope.MEMBER, 70),
        (Scope.CHANNEL, 70),
    ]


def test_a_channel_slows_everybody_down_and_its_own_limit_wins() -> None:
    limiter = Limiter(Clock())
    quotas = Quotas(channel=Limit(), channels={100: Limit(seconds_between=30)})
    assert refusal_of(limiter, KIM, quotas) is None
    refusal = refusal_of(limiter, LEE, quotas)
    assert refusal is not None
    assert (refusal.scope, refusal.reason, refusal.retry_seconds) == (Scope.CHANNEL, Reason.SLOW_DOWN, 30)
    assert refusal_of(limiter, Asker(1, 11, 101), quotas) is None


def test_the_role_that_allows_most_counts_instead_of_the_members_limit() -> None:
    quotas = Quotas(Limit(messages_per_day=1), roles={5: Limit(messages_per_day=2), 6: Limit(messages_per_day=0)})
    limiter = Limiter(Clock())
    patron = Asker(1, 10, 100, (5, 6, 7))
    assert refusal_of(limiter, patron, quotas) is None
    assert refusal_of(limiter, patron, quotas) is None
    refusal = refusal_of(limiter, patron, quotas)
    assert refusal is not None and refusal.scope is Scope.ROLE
    assert quotas.of_member((7,)) == Limit(messages_per_day=1)
    assert Quotas(roles={5: Limit(), 6: Limit(messages_per_day=3)}).of_member((5, 6)) == Limit()


def test_a_refused_message_does_not_count() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    quotas = Quotas(member=Limit(seconds_between=10))
    assert refusal_of(limiter, KIM, quotas) is None
    for _ in range(9):
        clock.now += 1
        assert refusal_of(limiter, KIM, quotas) is not None
    clock.now += 1
    assert refusal_of(limiter, KIM, quotas) is None


def test_counts_of_another_day_are_not_taken_over_and_a_member_can_be_forgotten() -> None:
    limiter = Limiter(Clock())
    limiter.restore([Count(1, Scope.MEMBER, 10, 19_999, 5, 5), Count(1, Scope.MEMBER, 11, 20_000, 5, 7)])
    assert list(limiter.counts()) == [Count(1, Scope.MEMBER, 11, 20_000, 5, 7)]
    limiter.forget(11)
    assert list(limiter.counts()) == []


def test_a_clock_set_back_locks_nobody_out() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    quotas = Quotas(member=Limit(messages_per_minute=1, seconds_between=60))
    assert refusal_of(limiter, KIM, quotas) is None
    clock.now -= 3600
    assert refusal_of(limiter, KIM, quotas) is None


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 on"):
        Limit(messages_per_day=-1)
