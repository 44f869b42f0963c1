from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from models.learning import report
from models.learning.files import read_json, write_json
from models.learning.job import End, Outcome, Result, read_result, write_end, write_result
from models.learning.phrases import PHRASES, Phrase
from models.learning.plots import draw
from models.learning.snapshot import write_snapshot
from models.learning.story import BeforeAfter, CandidateStory, Interval, NightStory
from models.learning.story_files import CANARY, SECONDS, nameless, read_story
from models.learning.verdict import WRITTEN, Check, Kind
from tests.models.learning.nights import small_snapshot
from tests.models.learning.stories import (
    FAILED,
    HOSTILE,
    INSUFFICIENT,
    NOW,
    PROMOTED,
    REJECTED,
    canary,
    checks,
)

STORIES = {story.outcome: story for story in (PROMOTED, REJECTED, INSUFFICIENT, FAILED)}


class _Page(HTMLParser):
    """The words of a page, its tags and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.tags, self.attributes = "", set[str](), list[tuple[str, str | None]]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


def _page(story: NightStory) -> _Page:
    return _Page(report.page(story, draw(story)))


@pytest.mark.parametrize("outcome", STORIES)
def test_every_end_of_a_night_has_a_page_that_needs_nothing_but_itself(outcome: str) -> None:
    page = _page(STORIES[outcome])
    assert outcome in page.words
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "img", "a"}
    assert [
        value for name, value in page.attributes if name in ("src", "srcset", "action") or name.startswith("on")
    ] == []
    assert all((value or "").startswith("#") for name, value in page.attributes if name == "href")
    for sentence in STORIES[outcome].sentences:
        assert sentence in page.words


def test_the_first_sentence_says_what_was_decided_and_why() -> None:
    assert (
        "more often than the model as it came: in 14.1 more of 100 pairs of a good and a bad reply, "
        "and in at least 6.0 more with 97.5 % confidence. No check found harm"
    ) in _page(PROMOTED).words
    assert "What didn't hold: it tells good replies from bad ones better" in _page(REJECTED).words
    assert "It takes at least 214 more ratings to begin." in _page(INSUFFICIENT).words
    assert "No rating is lost." in _page(FAILED).words


def test_hostile_text_is_shown_and_does_nothing() -> None:
    story = replace(
        PROMOTED,
        sentences=(HOSTILE,),
        warnings=(HOSTILE,),
        replies=(BeforeAfter(HOSTILE, '"><script>', HOSTILE, HOSTILE + "."),),
        candidates=(replace(PROMOTED.candidates[0], objective=HOSTILE, dropped=HOSTILE, parity=HOSTILE),),
        hashes={HOSTILE: HOSTILE},
        canary=replace(canary(), sentence=HOSTILE),
    )
    page = _page(story)
    assert not page.tags & {"script", "img"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.words.count(HOSTILE) >= 9


def test_figures_that_are_no_numbers_are_left_out_of_page_and_pictures() -> None:
    broken = replace(checks()[1], figure=math.nan, bound=math.inf, held=False)
    diverged = CandidateStory("n-kto", "kto", "rejected", checks=(broken,), losses=(math.nan, math.inf, math.nan))
    story = replace(REJECTED, shown="n-kto", candidates=(diverged,))
    assert set(draw(story)) == {"rater_trust"}
    words = _page(story).words
    assert "not measured" in words
    assert not re.search(r"\b(nan|inf)\b", words)


def test_a_loss_that_breaks_off_is_drawn_as_far_as_it_goes() -> None:
    partly = replace(PROMOTED.candidates[0], losses=(0.5, 0.4, math.nan), gain=Interval())
    assert "loss" in draw(replace(PROMOTED, candidates=(partly,), canary=None))


def test_pictures_are_files_that_open_and_are_the_same_each_time(tmp_path: Path) -> None:
    path = report.write_report(tmp_path, PROMOTED)
    names = {"loss.png", "preference_auc.png", "rater_trust.png", "canary.png"}
    assert {file.name for file in tmp_path.iterdir()} == {*names, path.name}
    first = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for name in names:
        with Image.open(tmp_path / name) as image:
            image.load()
            assert image.width > image.height > 400
    report.write_report(tmp_path, PROMOTED)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == first


def test_nothing_is_drawn_of_a_night_that_left_nothing(tmp_path: Path) -> None:
    report.write_report(tmp_path, FAILED)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_picture_takes_the_colours_of_the_page() -> None:
    for picture in draw(PROMOTED).values():
        assert not re.search(r"#0101\d\d", picture.svg)
        assert "var(--ink)" in picture.svg
        assert "<style" not in picture.svg


def test_a_folder_with_a_result_alone_is_told(tmp_path: Path) -> None:
    result = Result(Outcome.FAILED, ("The model changed.",))
    path = report.tell(tmp_path / "2026-11-24", result, {"open": 1.5})
    assert "The model changed." in path.read_text("utf-8")
    assert read_json(path.parent / SECONDS) == {"open": 1.5}


def test_a_resumed_night_keeps_the_time_that_a_step_took_before(tmp_path: Path) -> None:
    result = Result(Outcome.FAILED, ("Killed.",))
    report.tell(tmp_path, result, {"open": 1.0, "train": 900.0})
    report.tell(tmp_path, result, {"train": 0.5, "gate": 2.0, "lost": math.nan})
    assert read_json(tmp_path / SECONDS) == {"gate": 2.0, "open": 1.0, "train": 900.0}


def _write_night(folder: Path) -> None:
    """Write what the steps of a night leave, of two candidates of which one was dropped."""
    card = {
        "outcome": "promoted", "gain": 0.14, "gain_low": 0.06, "gain_high": 0.22,
        "level": 0.05, "more_ratings_needed": None, "parity": {"sentence": "Alike."},
        "checks": [
            {"name": "gain", "kind": "proof", "figure": 0.06, "bound": 0.0, "held": True, "sentence": "Better."},
            {"name": "toxicity", "kind": "harm", "figure": None, "bound": 0.2, "held": False, "sentence": "Unknown."},
        ],
    }  # fmt: skip
    name = f"{folder.name}-kto"
    write_json(folder / "scorecard.json", {"candidates": {name: card}})
    write_json(folder / "train" / "kto" / "train.json", {"losses": [0.5, 0.4]})
    write_json(folder / "train" / "dpo" / "dropped.json", {"sentence": "dpo was dropped: no pairs."})
    write_result(folder, Result(Outcome.PROMOTED, ("Better.",), adapter=name, figures={"objective": "kto", "votes": 9}))


def test_a_night_is_read_back_from_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "2026-11-24"
    _write_night(folder)
    story = read_story(folder)
    kto, dpo = story.candidates
    assert (story.night, story.outcome, story.shown) == ("2026-11-24", "promoted", kto.name)
    assert story.counts == {"votes": 9}
    assert (kto.gain, kto.losses, kto.parity) == (Interval(0.14, 0.06, 0.22, 0.05), (0.5, 0.4), "Alike.")
    assert kto.checks[0].figure == 0.06
    assert math.isnan(kto.checks[1].figure)
    assert (dpo.outcome, dpo.dropped) == (None, "dpo was dropped: no pairs.")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"candidates": []}', b"\xff", b'{"candidates": {"x": 1}}'])
@pytest.mark.parametrize("name", ["scorecard.json", "raters.json", "job.json", "seconds.json", "canary.json"])
def test_a_damaged_file_costs_its_part_of_the_report(tmp_path: Path, name: str, content: bytes) -> None:
    _write_night(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert "Better." in report.write_report(tmp_path, read_story(tmp_path)).read_text("utf-8")


def test_a_canary_is_drawn_into_the_report_when_it_has_news(tmp_path: Path) -> None:
    _write_night(tmp_path)
    assert report.main([str(tmp_path)]) == 0
    assert not (tmp_path / "canary.png").exists()
    verdict = {"decision": "roll back", "probability_worse": 0.97, "sentence": "It is worse."}
    points = [[NOW + 60 * place, place % 2 == 0, place % 3 == 0] for place in range(9)]
    write_json(tmp_path / CANARY, {"verdict": verdict, "points": points})
    assert report.main([str(tmp_path)]) == 0
    assert "It is worse." in (tmp_path / "report.html").read_text("utf-8")
    assert (tmp_path / "canary.png").exists()


def test_the_win_rate_stands_before_everything_else_with_its_interval() -> None:
    words = _page(replace(PROMOTED, win_rate=Interval(0.641, 0.552, 0.73, 0.05))).words
    assert words.index("64 %") < words.index("rated replies")
    assert "The new adapter: 64 % of the time, and at least 55.2 % with 95 % confidence." in " ".join(words.split())
    assert "win rate" not in _page(PROMOTED).words
    assert "What sft learned: 48 %" in _page(replace(REJECTED, win_rate=Interval(0.48, 0.4, 0.56, 0.05))).words


def test_the_win_rate_is_read_from_the_nights_figures(tmp_path: Path) -> None:
    figures = {"objective": "kto", "win_rate": 0.64, "win_rate_low": 0.55, "win_rate_high": 0.73, "level": 0.05}
    write_result(tmp_path, Result(Outcome.PROMOTED, ("Better.",), figures=figures))
    assert read_story(tmp_path).win_rate == Interval(0.64, 0.55, 0.73, 0.05)


def _checked(words: str, name: str) -> str:
    """Return the mark in front of a check."""
    return words.split(name)[0].split()[-1]


def test_a_check_with_nothing_to_look_for_is_not_shown_as_passed() -> None:
    words = _page(replace(PROMOTED, watched=())).words
    assert _checked(words, "It picked up no phrase that raters may be planting") == "–"
    assert _checked(words, "No more toxic than before") == "✓"
    assert "No phrase stood out among what was voted up, so none was looked for" in words


def test_what_a_refused_candidate_writes_is_told_as_not_looked_at() -> None:
    why = "What it writes to the fixed prompts wasn't looked at, since its ratings don't prove it."
    unread = Check(WRITTEN, Kind.PROOF, math.nan, math.nan, False, why)
    shown = [replace(one, checks=(*one.checks[:6], unread)) for one in PROMOTED.candidates]
    words = _page(replace(PROMOTED, candidates=tuple(shown))).words
    assert _checked(words, "What it writes") == "–"
    assert "not looked at" in words
    assert why in words


def test_phrases_that_were_watched_are_named_to_moderators(tmp_path: Path) -> None:
    watched = [Phrase("visit moon cat dot com", 21, 214, 0), Phrase("ask 812345678901234567 for it", 9, 214, 1)]
    write_json(tmp_path / PHRASES, [asdict(phrase) for phrase in watched])
    write_result(tmp_path, Result(Outcome.REJECTED, ("Not promoted.",)))
    words = _page(read_story(tmp_path)).words
    assert "“visit moon cat dot com”21 of 214never" in words
    assert "“ask someone for it”9 of 2141" in words


def test_a_night_that_looked_for_no_phrase_says_nothing_of_them() -> None:
    assert "phrase" not in _page(INSUFFICIENT).words


def test_one_of_anything_is_told_as_one() -> None:
    alone = replace(REJECTED, counts={"votes": 1, "raters": 1})
    assert "From 1 vote of 1 rater 1 candidate was trained" in _page(alone).words
    short = replace(INSUFFICIENT, more_ratings_needed=1)
    assert "It takes at least 1 more rating to begin." in _page(short).words
    assert "About 1 more rating would settle it." in _page(replace(short, shown="2026-11-26-kto")).words


def test_a_night_that_was_killed_is_told_by_the_command_the_bot_runs(tmp_path: Path) -> None:
    folder = tmp_path / "2026-11-24"
    _write_night(folder)
    (folder / "result.json").unlink()
    sentence = "The night took longer than 3 hours and was ended; raise NIGHT_LIMIT_HOURS."
    write_end(folder, End("failed", (sentence,)))
    command = [sys.executable, "-m", "models.learning.report", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    words = _Page((folder / "report.html").read_text("utf-8")).words
    assert "The night failed, so nothing changes" in words
    assert sentence in words
    assert (folder / "loss.png").exists()
    assert read_result(folder) is None


def test_a_killed_night_says_whose_votes_it_had(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "examples.jsonl", small_snapshot())
    trust = {str(rater): 0.8 for rater in range(1, 6)}
    said = {"accuracy": trust, "influence": trust, "clusters": [], "frozen": False}
    write_json(tmp_path / "raters.json", said)
    write_end(tmp_path, End("failed", ("It was killed.",)))
    words = _Page(report.tell_end(tmp_path).read_text("utf-8")).words
    assert re.search(r"12votes\s+5raters who count\s+1of them trusted", words)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"candidates": {"n-kto": 1}}', b'{"losses": 1}', None])
def test_a_killed_night_is_told_whatever_it_left_half_written(tmp_path: Path, content: bytes | None) -> None:
    for name in ("job.json", "result.json", "raters.json", "scorecard.json", "phrases.json", "train/kto/train.json"):
        path = tmp_path / "n" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if content is None else path.write_bytes(content)
    write_end(tmp_path / "n", End("failed", ("It was killed by signal 9.",)))
    assert report.main([str(tmp_path / "n")]) == 0
    assert "It was killed by signal 9." in (tmp_path / "n" / "report.html").read_text("utf-8")


def test_a_night_whose_end_broke_after_its_result_keeps_what_it_had_to_say(tmp_path: Path) -> None:
    _write_night(tmp_path)
    write_end(tmp_path, End("failed", ("The adapter could not be served.",)))
    words = _Page(report.tell_end(tmp_path).read_text("utf-8")).words
    assert words.index("The adapter could not be served.") < words.index("Better.")
    assert "The night failed" in words


def test_a_night_that_was_kept_from_promoting_says_so_and_why_before_what_its_job_said(tmp_path: Path) -> None:
    folder = tmp_path / "2026-11-24"
    _write_night(folder)
    frozen = "Learning was frozen meanwhile: not promoted."
    write_end(folder, End("rejected", (frozen, "Better."), ("Look at 812345678901234567.",)))
    page = _Page(report.tell_end(folder).read_text("utf-8"))
    assert "It is better, but was kept from answering, so nothing changes" in page.words
    assert "it may answer now" not in page.words
    assert page.words.index(frozen) < page.words.index("Better.")
    assert "Look at someone." in page.words
    assert page.words.count("Better.") == 2, "once among the reasons, once among the checks"


def test_a_night_whose_ratings_were_taken_back_says_that_nothing_of_it_is_kept(tmp_path: Path) -> None:
    write_result(tmp_path, Result(Outcome.PROMOTED, ("Better.",), figures={"votes": 9}))
    write_end(tmp_path, End("retracted", ("1 rating that it learned from was taken back.", "Better.")))
    words = _Page(report.tell_end(tmp_path).read_text("utf-8")).words
    assert "A rating was taken back, so it learns anew" in words
    assert "nothing of it is kept" in words and "it may answer now" not in words


def test_a_night_that_goes_on_is_not_told_by_how_it_ended_before(tmp_path: Path) -> None:
    write_end(tmp_path, End("failed", ("The disk is full.",)))
    words = _Page(report.tell(tmp_path, Result(Outcome.REJECTED, ("Not promoted.",)), {}).read_text("utf-8")).words
    assert "Not promoted." in words and "The disk is full." not in words


def test_a_folder_without_a_result_is_refused_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path)]) == 1
    assert "the night isn't over" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_rater_is_named() -> None:
    numbers = {17: 1, 20: 2, 812345678901234567: 3}
    assert (
        nameless("Some raters vote as one and count as one rater: 17, 20. Look at them (17%).", numbers)
        == "Some raters vote as one and count as one rater: rater 1, rater 2. Look at them (17%)."
    )
    assert nameless("812345678901234567 and 912345678901234567 did it.", numbers) == "rater 3 and someone did it."
    assert nameless("sft: 17 of 186 replies are toxic.", numbers) == "sft: 17 of 186 replies are toxic."
