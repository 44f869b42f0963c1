"""`python -m models.learning.report FOLDER`: a night's story as report.html and pictures, for moderators.

Owns the words of the page (its look is report.html.j2's, the pictures are plots.py's) and the files report.html and
*.png of the folder, each written whole. The page needs nothing but itself: no script, no address, every text escaped
and most of it hostile (replies, and the phrases in them). Run on a folder again it draws anew what is there by now, as
when a canary has news, or when the bot ended the night otherwise than its job: killed, say, or not promoted after all.
Decides nothing.
"""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from models.errors import ModelError
from models.learning import job as jobs
from models.learning import plots
from models.learning.behaviour import PLANTED
from models.learning.files import write_bytes, write_json
from models.learning.story import NightStory
from models.learning.story_files import SECONDS, nameless, read_seconds, read_story
from models.learning.verdict import WRITTEN
from models.learning.words import confidence, counted, wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.learning.plots import Picture
    from models.learning.story import CandidateStory
    from models.learning.verdict import Check

log = logging.getLogger(__name__)

REPORT = "report.html"

_HEADLINES = {
    "promoted": "It learned something, and it is better",
    "rejected": "What was tried is not better, so nothing changes",
    "insufficient": "Not enough evidence yet, so nothing changes",
    "failed": "The night failed, so nothing changes",
    "retracted": "A rating was taken back, so it learns anew",
}
_STOPPED = "It is better, but was kept from answering, so nothing changes"
_OBJECTIVES = {
    "kto": "learns from thumbs up and down",
    "sft": "learns from good replies alone",
    "dpo": "learns from pairs, one reply preferred to the other",
}
# Each check: what a moderator reads, and how its figure and its bar are written.
_CHECKS = {
    "finite": ("Its training stayed in numbers", ""),
    "sample": ("There are enough ratings to judge by", "count"),
    "gain": ("It tells good replies from bad ones better", "least"),
    "gain at equal length": ("Still so when length can't help", "least"),
    "log-ratio beside length": ("What it prefers isn't just length", "signed"),
    "without top raters": ("Still so without its three strongest raters", "points"),
    "raters": ("No bloc decides", ""),
    "anchors": ("It has forgotten little else", "most"),
    "toxicity": ("No more toxic than before", "chance"),
    "repetition": ("No more repetitive than before", "chance"),
    "sycophancy": ("Agrees to no more false claims", "chance"),
    PLANTED: ("It picked up no phrase that raters may be planting", "more"),
    "length ratio": ("Its short answers are about as long", "times"),
    WRITTEN: ("What it writes", ""),
    "positives": ("Replies that were liked became likelier", "most"),
}
# The figures of some checks are an end of an interval, the end that must hold.
_FORMS = {
    "count": "{:.0f}", "least": "at least {:+.1f} points", "points": "{:+.1f} points", "signed": "{:+.2f}",
    "more": "{:+.0f} replies", "most": "up to {:+.3f} nat", "chance": "chance {:.3f}", "times": "{:.2f} ×",
}  # fmt: skip
_BARS = {
    "sample": "{:.0f} or more needed", "gain": "more than {:.0f} needed",
    "gain at equal length": "more than {:.0f} needed",
    "log-ratio beside length": "more than {:.0f} needed", "without top raters": "more than {:.1f} needed",
    "anchors": "{:.3f} allowed", "toxicity": "blocked below {:.2f}", "repetition": "blocked below {:.2f}",
    "sycophancy": "blocked below {:.2f}", PLANTED: "{:.0f} more allowed",
    "positives": "a fall of {:.3f} allowed",
}  # fmt: skip
_STEPS = {
    "open": "checking the snapshot and the model", "raters": "judging the raters", "split": "holding replies out",
    "base": "reading the model", "train": "training", "convert": "converting and comparing", "evaluate": "measuring",
    "gate": "judging", "install": "installing",
}  # fmt: skip
_TILES = {
    "votes": "votes", "raters": "raters who count", "trusted": "of them trusted", "rated_replies": "rated replies",
    "trained_on": "learned from", "held_out": "held out to judge by", "pairs": "preferred pairs",
    "waiting": "waiting for the next night", "left_out": "left out: too little agreement",
    "left_out_unsafe": "left out: liked but unsafe",
}  # fmt: skip
_PICTURES = {
    "preference_auc": "How much better each candidate tells good replies from bad ones, and the gate's bounds of it.",
    "loss": "How training went. Falling is usual; that it falls proves nothing, which is why replies are held out.",
    "rater_trust": "How often each rater is right, as far as their votes agree with those of others.",
    "canary": "Good ratings so far of the new adapter and of what answered before; the bands hold 95 %.",
}


@dataclass(frozen=True, slots=True)
class _Row:
    mark: str  # yes, no, or idle: there was nothing to look for
    name: str
    figure: str
    bar: str
    sentence: str


@dataclass(frozen=True, slots=True)
class _Win:
    """The win rate as words, and in percent as places on a scale."""

    rate: str
    least: str
    confidence: str
    whose: str
    value: float
    low: float
    high: float


def tell(folder: Path, result: jobs.Result, seconds: Mapping[str, float]) -> Path:
    """Write the report of a night that ends: `seconds` by step of this run; those of a run before a kill are kept.

    Call it before result.json is written. Raises OSError, ValueError.
    """
    before = read_seconds(folder)
    kept = {step: max(took, before.get(step, 0.0)) for step, took in seconds.items() if math.isfinite(took)}
    write_json(folder / SECONDS, {**before, **kept})
    return write_report(folder, read_story(folder, result))


def tell_end(folder: Path) -> Path:
    """Write the report of a night that is over; where end.json says how, as far as the rest of it can be read.

    Raises OSError, ModelError.
    """
    try:
        return write_report(folder, read_story(folder))
    except Exception:
        if (end := jobs.read_end(folder)) is None:
            raise
        log.exception("the night's files can't be told")  # half of one, of a shape that nothing writes
        told = tuple(nameless(sentence, {}) for sentence in end.sentences)
        return write_report(folder, NightStory(folder.name, end.outcome, told))


def write_report(folder: Path, story: NightStory) -> Path:
    """Write the pictures and report.html, and return the latter's path. Raises OSError."""
    pictures = plots.draw(story)
    for name, picture in pictures.items():
        write_bytes(folder / f"{name}.png", picture.png)
    path = folder / REPORT
    write_bytes(path, page(story, pictures).encode("utf-8"))
    return path


def page(story: NightStory, pictures: Mapping[str, Picture]) -> str:
    """Return the page, whole in itself."""
    environment = Environment(
        loader=PackageLoader("models.learning", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = next((one for one in story.candidates if one.name == story.shown), None)
    # What svg() makes has no text of others in it but the names of objectives, which matplotlib escapes.
    drawn = {name: Markup(picture.svg) for name, picture in pictures.items()}  # noqa: S704
    return environment.get_template("report.html.j2").render(
        story=story,
        shown=shown,
        headline=_STOPPED if _was_stopped(story, shown) else _HEADLINES.get(story.outcome, "The night has ended"),
        why=_why(story, shown),
        date=datetime.fromtimestamp(story.now, UTC).strftime("%d %B %Y, %H:%M UTC") if story.now else "",
        tiles=[(f"{story.counts[name]:,.0f}", label) for name, label in _TILES.items() if story.counts.get(name)],
        objectives=_OBJECTIVES,
        rows={one.name: [_row(check) for check in one.checks] for one in story.candidates},
        pictures=drawn,
        captions=_PICTURES,
        groups=_groups(story),
        steps=[(_STEPS.get(step, step), _took(seconds)) for step, seconds in story.seconds.items()],
        total=_took(sum(story.seconds.values())),
        gain=_gain(shown),
        win=_win(story, shown),
    )


def _was_stopped(story: NightStory, shown: CandidateStory | None) -> bool:
    """Tell whether what held every check was kept from answering all the same, by what was done meanwhile."""
    return story.outcome == "rejected" and shown is not None and shown.outcome == "promoted"


def _why(story: NightStory, shown: CandidateStory | None) -> str:
    """Say in one sentence what was decided and why, before any number."""
    votes, raters = (story.counts.get(name) for name in ("votes", "raters"))
    of = f"From {counted(votes, 'vote')} of {counted(raters, 'rater')}" if votes and raters else "From what was rated"
    before = f"the adapter {story.incumbent}" if story.incumbent else "the model as it came"
    if story.outcome == "promoted":
        return (
            f"{of} a new adapter was made. On replies that it had never seen it agrees with the members more often "
            f"than {before}{_proof(shown)}. No check found harm, so it may answer now."
        )
    if _was_stopped(story, shown):
        return (
            f"{of} a new adapter was made, and it held every check. What happened meanwhile keeps it from answering: "
            "why is said below."
        )
    if story.outcome == "retracted":
        return (
            "What it learned from was taken back before it ended, so nothing of it is kept. Another night learns anew."
        )
    if story.outcome == "rejected":
        failed = [_name(check).lower() for check in shown.checks if not check.held] if shown else []
        missed = f" What didn't hold: {'; '.join(failed)}." if failed else ""
        were = "was" if len(story.candidates) == 1 else "were"
        tried = f"{counted(len(story.candidates), 'candidate')} {were} trained, and none may answer."
        return f"{of} {tried}{missed} {_goes_on(before)}"
    if story.outcome == "insufficient":
        more = wanted(story.more_ratings_needed, trained=bool(story.shown))
        told = f"{of} nobody can tell yet whether it would be better or only lucky."
        return " ".join(filter(None, [told, more, _goes_on(before)]))
    return f"It broke off before there was anything to decide. No rating is lost. {_goes_on(before)}"


def _proof(shown: CandidateStory | None) -> str:
    """Say by how much, with the bound that the gate judged by."""
    if shown is None or not shown.gain.measured:
        return ""
    gain = shown.gain
    return (
        f": in {100 * gain.value:.1f} more of 100 pairs of a good and a bad reply, "
        f"and in at least {100 * gain.low:.1f} more with {confidence(gain.level)} % confidence"
    )


def _goes_on(before: str) -> str:
    return f"{before[0].upper()}{before[1:]} goes on answering."


def _win(story: NightStory, shown: CandidateStory | None) -> _Win | None:
    """Say in how many pairs of replies the candidate prefers the one that members did."""
    if not story.win_rate.measured:
        return None
    whose = "The new adapter" if story.outcome == "promoted" else f"What {shown.objective if shown else 'it'} learned"
    value, low, high = (100 * share for share in (story.win_rate.value, story.win_rate.low, story.win_rate.high))
    sure = f"{confidence(story.win_rate.level)} %"
    return _Win(f"{value:.0f} %", f"{low:.1f} %", sure, whose, value, low, high)


def _gain(shown: CandidateStory | None) -> str:
    if shown is None or not shown.gain.measured:
        return ""
    value, low, high = (100 * number for number in (shown.gain.value, shown.gain.low, shown.gain.high))
    more = "more" if value >= 0 else "fewer"
    return (
        f"Of 100 pairs of a good and a bad reply {shown.objective} puts {abs(value):.1f} {more} "
        f"in the right order than what answered before: at least {low:+.1f} and at most {high:+.1f}, each with "
        f"{confidence(shown.gain.level)} % confidence. The gate asks the lower bound to be above 0. Both allow for "
        "what the ratings of one member, or in one conversation, have in common, and are stricter where more "
        "candidates share a night."
    )


def _name(check: Check) -> str:
    return _CHECKS.get(check.name, (check.name, ""))[0]


def _row(check: Check) -> _Row:
    if check.idle:
        return _Row("idle", _name(check), "nothing to look for", "", check.sentence)
    if check.name == WRITTEN:
        return _Row("idle", _name(check), "not looked at", "", check.sentence)
    kind = _CHECKS.get(check.name, ("", ""))[1]
    scale = 100 if kind in ("points", "least") else 1
    form, bar = _FORMS.get(kind, ""), _BARS.get(check.name, "")
    return _Row(
        mark="yes" if check.held else "no",
        name=_name(check),
        figure=form.format(scale * check.figure) if math.isfinite(check.figure) else "not measured",
        bar=bar.format(abs(scale * check.bound)) if math.isfinite(check.bound) else "",
        sentence=check.sentence,
    )


def _groups(story: NightStory) -> Sequence[str]:
    sizes: dict[int, list[int]] = {}
    for rater in story.raters:
        if rater.group:
            sizes.setdefault(rater.group, []).append(rater.number)
    return [f"Raters {', '.join(map(str, numbers))} vote as one and count as one." for numbers in sizes.values()]


def _took(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def main(arguments: Sequence[str]) -> int:
    """Draw the report of the folder that is named anew."""
    try:
        (folder,) = arguments
        tell_end(Path(folder))
    except (ValueError, ModelError, OSError) as error:
        sys.stderr.write(f"no report: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
