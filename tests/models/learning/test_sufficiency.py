"""What a reply weighs, whether a night has enough, and how many more ratings it asks for: the least that could be."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from models.learning.examples import Vote
from models.learning.labels import label
from models.learning.raters import RaterReport, infer
from models.learning.sides import Shortage, shortage
from models.learning.snapshot import Snapshot
from models.learning.sufficiency import author_caps, enough, votes_to_begin, weight_of
from models.learning.verdict import DEFAULT_RULES
from models.learning.words import wanted
from tests.models.learning.nights import HOUR, NOW, reply


def _short(snapshot: Snapshot, *, not_before: float | None = None) -> Shortage | None:
    report = infer(snapshot.votes, snapshot.facts, snapshot.gold, seed=1)
    labels = label(snapshot, report, frozenset(), now=NOW)
    return shortage(snapshot, report, labels, not_before=not_before, rules=DEFAULT_RULES)


def _more(snapshot: Snapshot) -> int | None:
    short = _short(snapshot)
    assert short is not None
    return short.more_ratings_needed


def _rated(count: int, voices: int, *, raters: int = 20) -> Snapshot:
    """Let each reply have that many voices that agree."""
    draw = random.Random(5)
    replies = [reply(place) for place in range(1, count + 1)]
    votes = [
        Vote(one.reply_id, rater, (-1.0) ** place, rated_at=one.created_at + 60.0)
        for place, one in enumerate(replies)
        for rater in draw.sample(range(1, raters + 1), voices)
    ]
    return _snapshot(replies, votes)


def _snapshot(replies: Sequence[object], votes: Sequence[Vote], gold: dict[int, bool] | None = None) -> Snapshot:
    return Snapshot(replies=tuple(replies), votes=tuple(votes), facts={}, gold=gold or {}, pairs=())  # type: ignore[arg-type]


def test_without_any_vote_it_takes_two_on_each_of_twice_as_many_replies_as_are_held_out() -> None:
    assert _more(_snapshot((), ())) == 2 * 128


def test_first_votes_on_replies_save_as_many() -> None:
    assert _more(_rated(40, 1)) == 2 * 128 - 40


def test_what_has_no_time_of_its_own_is_not_held_out_so_that_much_new_has_to_be_rated() -> None:
    replies = [reply(place, created_at=NOW - HOUR) for place in range(1, 121)]
    imported = _snapshot(replies, (), {one.reply_id: one.reply_id % 2 == 0 for one in replies})
    assert _more(imported) == 2 * 64


def test_number_that_a_night_asks_for_is_enough_to_begin_with() -> None:
    """Whoever brings them, evenly spread, has no shortage of replies left."""
    assert _more(_rated(100, 2, raters=11)) == 2 * 28
    assert _short(_rated(128, 2)) is None


def test_raters_that_lack_are_asked_for_as_well() -> None:
    few = _rated(400, 4, raters=9)
    assert _more(few) == 3


def test_one_raters_weight_is_no_matter_of_votes() -> None:
    snapshot = _rated(400, 2)
    report = infer(snapshot.votes, snapshot.facts, snapshot.gold, seed=1)
    labels = label(snapshot, report, frozenset(), now=NOW)
    loud = replace(report, influence=report.influence | {1: 1000.0 * max(report.influence.values())})
    votes = tuple(Vote(one.reply_id, 1, 1.0, rated_at=NOW) for one in snapshot.replies)
    short = shortage(
        replace(snapshot, votes=snapshot.votes + votes), loud, labels, not_before=None, rules=DEFAULT_RULES
    )
    assert short is not None
    assert short.sentences[0].startswith("One rater has")
    assert short.more_ratings_needed is None


def test_votes_on_undecided_replies_count_once_each() -> None:
    assert votes_to_begin(9.2, 0) == 20
    assert votes_to_begin(9.2, 4) == 16
    assert votes_to_begin(9.2, 400) == 10
    assert votes_to_begin(-3.0, 4) == 0


def test_words_tell_what_begins_from_what_is_settled() -> None:
    assert wanted(256, trained=False) == "It takes at least 256 more ratings to begin."
    assert wanted(1, trained=True) == "About 1 more rating would settle it."
    assert wanted(None, trained=False) == wanted(0, trained=True) == ""


# Weights, and whether they are enough


def test_weight_is_certainty_times_recency_times_author_cap() -> None:
    assert weight_of(0.9, 0, raters=2) == pytest.approx(0.8)
    assert weight_of(0.1, 30, raters=2, author_cap=0.5) == pytest.approx(0.8 / 4)
    assert weight_of(1.0, -3, raters=5) == 1.0


def test_uncertain_reply_and_reply_of_one_rater_weigh_nothing() -> None:
    assert weight_of(0.64, 0, raters=9) == 0
    assert weight_of(1.0, 0, raters=1) == 0
    assert weight_of(1.0, 0, raters=1, gold=True) == 1.0


def test_author_of_many_prompts_is_capped_to_the_median() -> None:
    assert author_caps({1: 4, 2: 4, 3: 16}) == {1: 1.0, 2: 1.0, 3: 0.25}
    assert author_caps({}) == {}


def _night(replies: int, raters: int, *, good: int) -> tuple[dict[int, float], dict[int, float], list[Vote]]:
    votes = [Vote(reply, (reply + k) % raters, 1.0) for reply in range(replies) for k in range(3)]
    return dict.fromkeys(range(replies), 0.8), {reply: 0.9 if reply < good else 0.1 for reply in range(replies)}, votes


def _believed(raters: Iterable[int], *clusters: frozenset[int]) -> RaterReport:
    """Believe all alike, clusters as one voice."""
    size = {rater: len(cluster) for cluster in clusters for rater in cluster}
    return RaterReport({}, {}, {rater: 1 / size.get(rater, 1) for rater in raters}, clusters, False, ())


def test_plenty_is_enough() -> None:
    weights, p_good, votes = _night(80, 20, good=40)
    sufficiency = enough(weights, p_good, votes, _believed(range(20)))
    assert sufficiency.enough
    assert sufficiency.reasons == ()
    assert sufficiency.effective_replies == pytest.approx(80)
    assert (sufficiency.good, sufficiency.bad) == (40, 40)


@pytest.mark.parametrize(
    ("replies", "raters", "good", "sentence"),
    [
        (60, 20, 30, "60 effective"),
        (80, 20, 70, "10 replies rated bad"),
        (80, 20, 9, "9 replies rated good"),
        (80, 11, 40, "11 raters"),
    ],
)
def test_too_little_is_told_with_its_figure(replies: int, raters: int, good: int, sentence: str) -> None:
    weights, p_good, votes = _night(replies, raters, good=good)
    sufficiency = enough(weights, p_good, votes, _believed(range(raters)))
    assert not sufficiency.enough
    assert [sentence in reason for reason in sufficiency.reasons] == [True]


def test_one_rater_with_too_much_of_the_weight_stops_the_night() -> None:
    weights, p_good, votes = _night(80, 20, good=40)
    votes += [Vote(reply, 99, 1.0) for reply in range(80)]
    sufficiency = enough(weights, p_good, votes, _believed([*range(20), 99]))
    assert sufficiency.largest_share == pytest.approx(0.25)
    assert "25%" in sufficiency.reasons[0]


@pytest.mark.parametrize("turns", [False, True])
def test_accounts_that_vote_as_one_are_one_rater(turns: bool) -> None:
    """Ten members and one with twelve accounts, which vote all at once or by turns."""
    weights, p_good, votes = _night(80, 10, good=40)
    accounts = range(100, 112)
    votes += [Vote(reply, one, 1.0) for reply in range(80) for one in accounts if not turns or one % 12 == reply % 12]
    found = enough(weights, p_good, votes, _believed([*range(10), *accounts], frozenset(accounts)))
    assert found.raters == 11
    assert found.largest_share == pytest.approx(0.25)
    assert [reason[:9] for reason in found.reasons] == ["11 raters", "One rater"]


def test_no_replies_is_not_enough() -> None:
    sufficiency = enough({}, {}, [], _believed(()))
    assert not sufficiency.enough
    assert len(sufficiency.reasons) == 4
