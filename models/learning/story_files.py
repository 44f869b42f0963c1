"""Read a night's story from its folder, whatever is missing there: a night that failed early left little.

Owns what of the files is told, and that no member is named: raters are numbers from 1, those who vote as one side by
side, and the ids that a warning lists become these numbers. Decides nothing and draws nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from models.errors import ModelError
from models.fetch import sha256_of
from models.learning import job as jobs
from models.learning.files import read_json, write_json
from models.learning.fixed_prompts import neutral_prompts
from models.learning.naming import renamed
from models.learning.phrases import PHRASES, Phrase
from models.learning.snapshot import read_snapshot
from models.learning.story import (
    BeforeAfter,
    CanaryPoint,
    CanaryStory,
    CandidateStory,
    Interval,
    NightStory,
    RaterTrust,
)
from models.learning.verdict import Check, Kind
from models.manifest import GGUF

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from models.learning.job import Job, Result

SECONDS, CANARY = "seconds.json", "canary.json"
SHOWN_PROMPTS = 8
# Whatever a night may have left unwritten, or half of it after a failure.
_MISSING = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, ModelError)


def read_story(folder: Path, result: Result | None = None) -> NightStory:
    """Read a night's folder; `result` is its result while result.json isn't written yet. Raises OSError for neither.

    Where the bot ended the night otherwise than its job, that is told.
    """
    end = jobs.read_end(folder) if result is None else None
    result = result or _result(folder, end)
    end = end or jobs.End(result.outcome.value, result.sentences, result.warnings)
    job: Job | None = None
    with contextlib.suppress(*_MISSING):
        job = jobs.read_job(folder)
    night = job.night_id if job else folder.name
    figures = result.figures
    shown = f"{night}-{figures['objective']}" if isinstance(figures.get("objective"), str) else ""
    raters, frozen, numbers = _raters(folder)
    return NightStory(
        night=night,
        outcome=end.outcome,
        sentences=tuple(nameless(told, numbers) for told in dict.fromkeys((*end.sentences, *result.sentences))),
        warnings=tuple(nameless(told, numbers) for told in dict.fromkeys((*end.warnings, *result.warnings))),
        more_ratings_needed=result.more_ratings_needed,
        now=job.now if job else None,
        incumbent=job.incumbent if job else None,
        shown=shown,
        win_rate=_interval(figures, "win_rate", "win_rate_low", "win_rate_high", "level"),
        counts=_counts(raters) | {name: value for name, value in figures.items() if isinstance(value, int | float)},
        candidates=tuple(_candidates(folder, night)),
        replies=_replies(folder, job, shown) if job and shown else (),
        watched=_watched(folder, numbers),
        raters=raters,
        frozen=frozen,
        seconds=read_seconds(folder),
        hashes=_hashes(job, result),
        canary=_canary(folder),
    )


def _result(folder: Path, end: jobs.End | None) -> Result:
    """Return the result of a night that is over; of one that was ended without any, that it failed."""
    try:
        result = jobs.read_result(folder)
    except ModelError:
        if end is None:
            raise
        result = None
    if result is None and end is None:
        raise FileNotFoundError(f"{folder} has no {jobs.RESULT}: the night isn't over; run it first.")
    return result or jobs.Result(jobs.Outcome.FAILED, ())


def read_seconds(folder: Path) -> dict[str, float]:
    """Return how long each step took, as far as it is known."""
    found = _read(folder / SECONDS, {})
    return {step: took for step, value in found.items() if math.isfinite(took := _number_of(value))}


def nameless(sentence: str, numbers: Mapping[int, int]) -> str:
    """Return a sentence with the raters that it lists by their numbers in the report, and no other Discord id."""
    return renamed(sentence, lambda ids: ", ".join(_number(rater, numbers) for rater in ids))


def _number(rater: int, numbers: Mapping[int, int]) -> str:
    return f"rater {numbers[rater]}" if rater in numbers else "someone"


def _read(path: Path, default: Any) -> Any:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return default
    return found if isinstance(found, type(default)) else default


def _raters(folder: Path) -> tuple[tuple[RaterTrust, ...], bool, dict[int, int]]:
    """Return the raters, whether they are frozen, and the number of each by id."""
    with contextlib.suppress(*_MISSING):
        said = read_json(folder / "raters.json")
        snapshot = read_snapshot(folder / jobs.SNAPSHOT)
        trusted = {rater for rater, fact in snapshot.facts.items() if fact.trusted}
        votes = dict.fromkeys((int(rater) for rater in said["accuracy"]), 0)
        for vote in snapshot.votes:
            votes[vote.rater_id] = votes.get(vote.rater_id, 0) + 1
        group = {rater: place for place, ids in enumerate(said["clusters"], 1) for rater in ids}
        # Groups first, then by what their votes come to: not by id, which would say who is who.
        accuracy = {int(rater): float(value) for rater, value in said["accuracy"].items()}
        influence = {int(rater): float(value) for rater, value in said["influence"].items()}
        order = sorted(accuracy, key=lambda rater: (group.get(rater, math.inf), -accuracy[rater], -votes[rater], rater))
        numbers = {rater: place for place, rater in enumerate(order, 1)}
        raters = tuple(
            RaterTrust(
                numbers[rater],
                accuracy[rater],
                influence.get(rater, 0.0),
                votes[rater],
                rater in trusted,
                group.get(rater, 0),
            )
            for rater in order
        )
        return raters, bool(said["frozen"]), numbers
    return (), False, {}


def _counts(raters: Sequence[RaterTrust]) -> dict[str, float]:
    """Count what a night knows of its raters even where it came to no figures."""
    if not raters:
        return {}
    counted = sum(rater.influence > 0 for rater in raters)
    votes, trusted = sum(rater.votes for rater in raters), sum(rater.trusted for rater in raters)
    return {"votes": votes, "raters": counted, "trusted": trusted}


def _candidates(folder: Path, night: str) -> Iterator[CandidateStory]:
    judged = _read(folder / "scorecard.json", {}).get("candidates")
    judged = judged if isinstance(judged, dict) else {}
    training = folder / "train"
    objectives = sorted(path.name for path in training.iterdir() if path.is_dir()) if training.is_dir() else []
    for objective in sorted(objectives, key=lambda name: f"{night}-{name}" not in judged):
        name = f"{night}-{objective}"
        card = judged.get(name, {})
        trained = _read(training / objective / "train.json", {})
        staged = folder / "adapters" / name / GGUF
        yield CandidateStory(
            name=name,
            objective=objective,
            outcome=card.get("outcome"),
            dropped=_read(training / objective / "dropped.json", {}).get("sentence", ""),
            gain=_interval(card, "gain", "gain_low", "gain_high", "level"),
            checks=tuple(_check(fields) for fields in card.get("checks", ())),
            losses=tuple(_number_of(loss) for loss in trained.get("losses", ())),
            parity=card.get("parity", {}).get("sentence", ""),
            gguf_sha256=sha256_of(staged) if staged.is_file() else "",
        )


def _interval(figures: Mapping[str, Any], *names: str) -> Interval:
    return Interval(*(_number_of(figures.get(name)) for name in names))


def _check(fields: Mapping[str, Any]) -> Check:
    return Check(
        fields["name"],
        Kind(fields["kind"]),
        _number_of(fields["figure"]),
        _number_of(fields["bound"]),
        bool(fields["held"]),
        fields["sentence"],
    )


def _number_of(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _replies(folder: Path, job: Job, shown: str) -> tuple[BeforeAfter, ...]:
    """Return the same fixed prompts every night, evenly from all of them: nobody picks the ones that flatter."""
    kept = folder / "evidence"
    base = job.models_dir / "base-replies" / f"{job.model_sha256[:16]}.jsonl"
    with contextlib.suppress(*_MISSING):
        prompts = neutral_prompts()
        before = _texts(kept / f"{job.incumbent}.jsonl" if job.incumbent else base)
        after = _texts(kept / f"{shown}.jsonl")
        places = [place * len(prompts) // SHOWN_PROMPTS for place in range(SHOWN_PROMPTS)]
        return tuple(
            BeforeAfter(prompts[place].text, prompts[place].language, before[place], after[place]) for place in places
        )
    return ()


def _watched(folder: Path, numbers: Mapping[int, int]) -> tuple[Phrase, ...] | None:
    with contextlib.suppress(*_MISSING):
        found = [Phrase(**fields) for fields in read_json(folder / PHRASES)]
        return tuple(replace(phrase, text=nameless(phrase.text, numbers)) for phrase in found)
    return None


def _texts(path: Path) -> Sequence[str]:
    """Return the replies of a file of `generations`, whose first line says what they are of."""
    return [json.loads(line)["text"] for line in path.read_bytes().splitlines()[1:]]


def _hashes(job: Job | None, result: Result) -> dict[str, str]:
    of_job = {f"model {job.model_name}": job.model_sha256, jobs.SNAPSHOT: job.dataset_sha256} if job else {}
    return {**of_job, **result.files}


def write_canary(folder: Path, canary: CanaryStory) -> None:
    """Keep the canary for `read_story`, durably."""
    points = [(point.at, point.candidate, point.good) for point in canary.points]
    verdict = {
        "decision": canary.decision,
        "probability_worse": canary.probability_worse,
        "sentence": canary.sentence,
    }
    write_json(folder / CANARY, {"verdict": verdict, "points": points})


def _canary(folder: Path) -> CanaryStory | None:
    with contextlib.suppress(*_MISSING):
        said = read_json(folder / CANARY)
        points = tuple(CanaryPoint(float(at), bool(new), float(good)) for at, new, good in said["points"])
        verdict = said["verdict"]
        return CanaryStory(str(verdict["decision"]), float(verdict["probability_worse"]), verdict["sentence"], points)
    return None
