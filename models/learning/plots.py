"""The pictures of a night's report: losses, the gain of preference AUC, rater trust, the canary.

Owns how they look, as PNG files (light, to post) and as SVG that takes its colours from the page it is put into. Alone
in Encore in importing matplotlib, whose text is never read as formulas here.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from models.learning.words import confidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from models.learning.statistics import Floats
    from models.learning.story import CanaryPoint, NightStory

_INCHES, _PIXELS_PER_INCH = (5.4, 3.1), 200
# A stand-in of no other use for each colour that the page sets; by name as in the page's style.
_LIGHT = {
    "ink": "#2b2330", "dim": "#6c6172", "line": "#e7ddd3", "card": "#ffffff",
    "a": "#a62c5b", "b": "#1c7c8d", "c": "#b0701e", "good": "#24734a", "danger": "#b3261e",
}  # fmt: skip
_STANDINS = {name: f"#0101{place:02x}" for place, name in enumerate(_LIGHT, 1)}
_SERIES = ("a", "b", "c")
_HOUR = 3600.0
_LABEL = 12  # characters
_UNWANTED = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)  # a style would be the page's


@dataclass(frozen=True, slots=True)
class Picture:
    """One plot: `png` to post, `svg` to put into a page that defines --ink, --dim, --line, --card and the others."""

    png: bytes
    svg: str


def draw(story: NightStory) -> dict[str, Picture]:
    """Draw whatever the story has figures for, by the name of the file without its ending."""
    wanted: dict[str, tuple[bool, Callable[[Axes, NightStory, Mapping[str, str]], None]]] = {
        "loss": (any(_finite(one.losses) for one in story.candidates), _loss),
        "preference_auc": (any(one.gain.measured for one in story.candidates), _preference),
        "rater_trust": (bool(story.raters), _trust),
        "canary": (story.canary is not None and len(story.canary.points) > 0, _canary),
    }
    return {name: _picture(name, plot, story) for name, (there, plot) in wanted.items() if there}


def _picture(name: str, plot: Callable[[Axes, NightStory, Mapping[str, str]], None], story: NightStory) -> Picture:
    style: dict[str, object] = {
        "font.family": ["DejaVu Sans"],
        "font.size": 9.5,
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
    }
    drawn = []
    for colours, kind in ((_LIGHT, "png"), (_STANDINS, "svg")):
        with mpl.rc_context(style | {"legend.labelcolor": colours["ink"]}):  # type: ignore[arg-type]
            figure = Figure(figsize=_INCHES, dpi=_PIXELS_PER_INCH, layout="constrained")
            figure.patch.set_facecolor(colours["card"])
            axes = figure.add_subplot()
            _dress(axes, colours)
            plot(axes, story, colours)
            out = io.BytesIO()
            metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
            figure.savefig(out, format=kind, metadata=metadata, facecolor=colours["card"])
            drawn.append(out.getvalue())
    return Picture(drawn[0], _themed(drawn[1].decode()))


def _themed(svg: str) -> str:
    """Return the picture as an element of a page, in the page's colours and letters, as wide as there is room."""
    for name, colour in _STANDINS.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = _UNWANTED.sub("", svg[svg.index("<svg") :]).replace("'DejaVu Sans'", "inherit")
    opening, rest = svg.split(">", 1)
    kept = [part for part in opening.split() if not part.startswith(("width=", "height=", "xmlns:"))]
    return f'{" ".join(kept)} aria-hidden="true" stroke-linejoin="round">{rest}'.replace("xlink:href", "href")


def _dress(axes: Axes, colours: Mapping[str, str]) -> None:
    axes.set_facecolor(colours["card"])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(colours["line"])
    axes.tick_params(colors=colours["dim"], length=3)
    axes.xaxis.label.set_color(colours["dim"])
    axes.yaxis.label.set_color(colours["dim"])


def _loss(axes: Axes, story: NightStory, colours: Mapping[str, str]) -> None:
    """Draw each candidate's loss against its own first steps: those of two objectives can't be compared."""
    drawn = [one for one in story.candidates if _finite(one.losses)]
    for place, one in enumerate(drawn):
        losses = np.asarray(one.losses, dtype=np.float64)
        width = max(len(losses) // 12, 1)
        beginning = float(np.nanmean(losses[:width])) if _finite(one.losses[:width]) else math.nan
        relative = 100 * losses / (abs(beginning) or 1.0)
        colour = colours[_SERIES[place % len(_SERIES)]]
        steps = np.arange(1, len(losses) + 1)
        axes.plot(steps, relative, color=colour, linewidth=0.8, alpha=0.35)
        axes.plot(steps[width - 1 :], _smooth(relative, width), color=colour, linewidth=2, label=one.objective[:_LABEL])
    axes.axhline(100, color=colours["line"], linewidth=1, zorder=0)
    axes.set_xlabel("training step")
    axes.set_ylabel("loss, % of its beginning")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _preference(axes: Axes, story: NightStory, colours: Mapping[str, str]) -> None:
    drawn = [one for one in story.candidates if one.gain.measured]
    for place, one in enumerate(reversed(drawn)):
        won = one.outcome == "promoted"
        colour = colours["good"] if won else colours["a"]
        low, value, high = (100 * number for number in (one.gain.low, one.gain.value, one.gain.high))
        axes.plot([low, high], [place, place], color=colour, linewidth=3, solid_capstyle="round")
        axes.plot([value], [place], "o", color=colour, markersize=8)
        axes.annotate(
            f"{value:+.1f}  ({low:+.1f} to {high:+.1f})",
            (value, place), xytext=(0, 9), textcoords="offset points", ha="center", color=colours["ink"],
            bbox={"facecolor": colours["card"], "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip
    axes.axvline(0, color=colours["dim"], linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_yticks(range(len(drawn)), [one.objective[:_LABEL] for one in reversed(drawn)])
    axes.set_ylim(-0.6, len(drawn) - 0.3)
    reach = max(abs(100 * end) for one in drawn for end in (one.gain.low, one.gain.high))
    axes.set_xlim(-1.15 * reach - 1, 1.15 * reach + 1)
    axes.set_xlabel(
        "points of preference AUC, against what answered before\n"
        f"← worse       bar: each end with {confidence(drawn[0].gain.level)} % confidence       better →"
    )
    axes.tick_params(axis="y", length=0, colors=colours["ink"])
    axes.spines["left"].set_visible(False)


def _trust(axes: Axes, story: NightStory, colours: Mapping[str, str]) -> None:
    kinds = (
        ("others", "b", [one for one in story.raters if not one.trusted and not one.group]),
        ("trusted by moderators", "good", [one for one in story.raters if one.trusted and not one.group]),
        ("vote as one", "danger", [one for one in story.raters if one.group]),
    )
    there = [kind for kind in kinds if kind[2]]
    axes.hist(
        [[100 * rater.accuracy for rater in raters] for _, _, raters in there],
        bins=np.linspace(0, 100, 21).tolist(),
        stacked=True,
        color=[colours[colour] for _, colour, _ in there],
        label=[f"{name} ({len(raters)})" for name, _, raters in there],
        edgecolor=colours["card"],
        linewidth=1,
    )
    axes.axvline(50, color=colours["dim"], linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(0, 100)
    axes.set_xlabel("how often a rater is right, %\n← votes against the rest       50: chance       reliable →")
    axes.set_ylabel("raters")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, columnspacing=1.2,
                handlelength=1.2)  # fmt: skip


def _canary(axes: Axes, story: NightStory, colours: Mapping[str, str]) -> None:
    """Draw the share of good ratings so far in either arm, with the 95 % of a Beta (1, 1) that saw them."""
    assert story.canary is not None
    points = sorted(story.canary.points, key=lambda point: point.at)
    begun, unit, seconds = points[0].at, "hours", _HOUR
    if points[-1].at - begun > 48 * _HOUR:
        unit, seconds = "days", 24 * _HOUR
    for name, new, colour in (("the new adapter", True, "a"), ("what answered before", False, "b")):
        arm = [point for point in points if point.candidate is new]
        if not arm:
            continue
        since = np.array([(point.at - begun) / seconds for point in arm])
        _arm(axes, since, arm, f"{name} ({len(arm)})", colours[colour])
    axes.set_ylim(0, 100)
    axes.set_xlabel(f"{unit} since the first rating")
    axes.set_ylabel("good ratings so far, %")
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _arm(axes: Axes, since: Floats, arm: list[CanaryPoint], label: str, colour: str) -> None:
    count = np.arange(1, len(arm) + 1)
    good = np.cumsum([point.good for point in arm])
    low, high = (100 * stats.beta.ppf(share, 1 + good, 1 + count - good) for share in (0.025, 0.975))
    axes.fill_between(since, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(since, 100 * good / count, color=colour, linewidth=2, label=label, marker="o" if len(arm) == 1 else None)


def _finite(losses: tuple[float, ...]) -> bool:
    return any(map(math.isfinite, losses))


def _smooth(values: Floats, width: int) -> Floats:
    """Return the means of `width` values in a row."""
    return np.array([values[end - width : end].mean() for end in range(width, len(values) + 1)])
