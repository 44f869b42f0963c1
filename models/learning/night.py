"""`python -m models.learning.night FOLDER`: one night, from a frozen snapshot to result.json.

Owns how a night ends, and the steps that need no model (who is believed, is it enough, what is held out), so that most
refusals take seconds. Each step leaves a durable file, by which a killed night knows where to go on, with the same
result; result.json is the last. Whatever goes wrong (a full disk, a damaged snapshot, another model) is a result too,
in one sentence; running the folder again after that goes on as after a kill. The exit code is 0 when there is a result.
Doesn't decide what may be learned from, and doesn't serve what it made: both are the bot's.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from models.adapters import Adapters
from models.errors import DiskFull, ModelError
from models.fetch import sha256_of
from models.learning import job as jobs
from models.learning.context import Context, LimitReached
from models.learning.job import Job, JobDamaged, Outcome, Progress, Result
from models.learning.labels import label
from models.learning.sides import judge_raters, part, short_held_out, shortage
from models.learning.snapshot import read_snapshot
from models.learning.verdict import Rules
from models.learning.words import counted
from models.safety import load_filter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Set

    from models.learning.raters import RaterReport
    from models.learning.sides import Shortage
    from models.learning.snapshot import Snapshot

log = logging.getLogger(__name__)

_LOCK = ".lock"
_NICENESS = 19
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ModelChanged(ModelError):
    """The base model isn't the one that the ratings are of."""


class NightRuns(ModelError):
    """Another process is at this night."""


def run(context: Context) -> Result:
    """Take the night from wherever it is to its result. Raises ModelError, OSError."""
    job = context.job
    context.begin("open", "Checking the snapshot and the model.")
    snapshot = read_snapshot(context.folder / jobs.SNAPSHOT, sha256=job.dataset_sha256)
    _require_model(job)
    incumbent = Adapters(job.adapters_dir, job.model_sha256).manifest(job.incumbent) if job.incumbent else None
    rules = _rules(job)

    context.begin(
        "raters", f"Reading {counted(len(snapshot.votes), 'vote')} on {counted(len(snapshot.replies), 'reply')}."
    )
    report = judge_raters(context, snapshot)
    labels = label(snapshot, report, unsafe_replies(snapshot), now=job.now)
    replies = {rated.example.reply_id for rated in labels.examples}
    figures: dict[str, Any] = {"rated_replies": len(replies), **_counted(snapshot, report, replies)}
    not_before = incumbent.training_cut if incumbent else None
    if short := shortage(snapshot, report, labels, not_before=not_before, rules=rules):
        return _insufficient(short, figures, report.warnings)

    context.begin("split", "Holding out the newest conversations.")
    sides = part(context, snapshot, lambda: labels, not_before=not_before, rules=rules)
    figures |= sides.figures
    if short := short_held_out(sides, rules):
        return _insufficient(short, figures, report.warnings)
    figures |= _counted(snapshot, report, {example.reply_id for example in sides.training})

    from models.learning.proof import learn  # brings in torch, which takes seconds and a GB

    result = learn(context, snapshot, report, sides, rules)
    return replace(
        result,
        figures={**figures, **result.figures},
        warnings=(*report.warnings, *result.warnings),
        files={**sides.files, **result.files},
    )


def night(folder: Path, *, say: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic) -> Result:
    """Run the night of a folder and write its result, whatever it is. Raises OSError when not even that is possible."""
    try:
        with FileLock(folder / _LOCK, blocking=False):
            try:
                found = jobs.read_result(folder)
                job = jobs.read_job(folder)
            except JobDamaged as error:
                result = failed(str(error))
            else:
                if found is not None and found.outcome is not Outcome.FAILED:
                    return found
                result = _ended(Context(folder, job, say=say, clock=clock))
            jobs.write_result(folder, result)
            return result
    except Timeout:
        raise NightRuns("Another process is at this night; wait for it, or end it.") from None


def _ended(context: Context) -> Result:
    result = _attempted(context)
    try:
        from models.learning.report import tell  # brings in matplotlib, which only this needs

        tell(context.folder, result, context.seconds)
    except Exception:
        log.exception("there is no report")  # the result stands without it
    return result


def _attempted(context: Context) -> Result:
    try:
        return run(context)
    except ModelError as error:
        log.warning("the night ends: %s", error, exc_info=True)
        return failed(str(error), resumable=isinstance(error, DiskFull | LimitReached))
    except OSError as error:
        log.exception("the night ends")
        if error.errno in _FULL:
            sentence = f"The disk is full; free 1 GB beside {context.folder}; the next night goes on from here."
        else:
            sentence = f"A file of the night could not be read or written ({error}); see to it and run the night again."
        return failed(sentence, resumable=True)
    except MemoryError:
        log.exception("the night ends")
        sentence = "There was too little memory; end what else runs, or set a smaller MODEL, and run it again."
        return failed(sentence, resumable=True)
    except Exception as error:
        log.exception("the night broke")
        return failed(f"The night broke ({type(error).__name__}: {error}); report this with its log.")
    finally:
        context.end()
        log.info("seconds: %s", context.seconds)


def failed(sentence: str, *, resumable: bool = False) -> Result:
    return Result(Outcome.FAILED, (sentence,), resumable=resumable)


def _insufficient(short: Shortage, figures: dict[str, Any], warnings: Sequence[str]) -> Result:
    return Result(
        Outcome.INSUFFICIENT,
        ("There was no training tonight: not enough to learn from.", *short.sentences),
        more_ratings_needed=short.more_ratings_needed,
        warnings=tuple(warning for warning in warnings if warning not in short.sentences),
        figures=figures,
    )


def _counted(snapshot: Snapshot, report: RaterReport, replies: Set[int]) -> dict[str, int]:
    """Count the votes on these replies that count for anything, and whose they are: who vote as one are one."""
    voice_of = report.voices()
    voters = [
        vote.rater_id
        for vote in snapshot.votes
        if vote.reply_id in replies and vote.value and report.influence.get(vote.rater_id, 0.0) > 0
    ]
    return {
        "votes": len(voters),
        "raters": len({voice_of.get(rater, rater) for rater in voters}),
        "trusted": sum(snapshot.facts[rater].trusted for rater in {*voters} & snapshot.facts.keys()),
    }


def unsafe_replies(snapshot: Snapshot) -> frozenset[int]:
    """Return the ids of the replies that the safety filter marks."""
    check = load_filter().check
    return frozenset(reply.reply_id for reply in snapshot.replies if check(reply.completion_text).unsafe)


def _require_model(job: Job) -> None:
    if not job.model_path.is_file() or sha256_of(job.model_path) != job.model_sha256:
        raise ModelChanged(
            f"The model {job.model_path.name} isn't the one that these replies are of; run a new night with the model "
            "that serves."
        )


def _rules(job: Job) -> Rules:
    try:
        return Rules(**job.gate_rules)
    except TypeError as error:
        raise JobDamaged(f"The job replaces a rule that there isn't ({error}); run the night again.") from error


def _give_way() -> None:
    """Take the lowest priority, so that replies don't wait for the night.

    Linux shares its cores between sessions before it looks at what is nice in each (sched(7), autogroup): a night that
    has a session of its own has to lower that too, or it takes half of the machine.
    """
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    if hasattr(os, "getsid") and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(_NICENESS))


def main(arguments: Sequence[str]) -> int:
    """Run the night of the folder that is named; progress goes to standard output, one JSON object a line."""
    _give_way()
    # What libraries print goes where the log goes: standard output is for progress alone.
    progress = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)

    def say(told: Progress) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody listens any more; the result is read from the folder
            progress.write(jobs.progress_line(told))
            progress.flush()

    try:
        night(Path(arguments[0]), say=say)
    except (ModelError, OSError) as error:
        log.error("no result: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
