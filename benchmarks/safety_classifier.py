"""The classifier of moderation and its rivals on HateCheck, COLD and Topical-Chat; a part of benchmarks.safety.

hatecheck_held_out  balanced accuracy of hate or threat on the half of HateCheck's templates that nobody looked at when
                    the lexicon was written (`split`); some are variants of templates that were
hatecheck           the same on all of it; the half that was looked at flatters it
hatecheck_any       balanced accuracy of any category, on the held-out half: profanity without hate counts against it
cold                balanced accuracy of any category on COLD's test set; none of its texts was looked at
topical_chat_marked share of 5,000 harmless lines of Topical-Chat that any category marks
latency_p95_ms      of one message's scores, over all the texts

Marks are by the default thresholds of models/safety.py.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.safety_candidates import CANDIDATES
from bot.screening import read_scores
from models.safety import Category, Scores, mark
from models.safety_process import ProcessClassifier, open_classifier

HARMLESS_LINES = 5000


@dataclass(frozen=True, slots=True)
class Text:
    """A text with what people say of it; `held_out` is False where it was looked at."""

    text: str
    bad: bool
    held_out: bool = True


@dataclass(frozen=True, slots=True)
class Texts:
    hatecheck: Sequence[Text]
    cold: Sequence[Text]
    harmless: Sequence[str]


def split(template: str) -> bool:
    """Return whether a template of HateCheck is of the half that was held out."""
    return bool(hashlib.sha256(template.encode()).digest()[0] % 2)


def read_texts(data: Path) -> Texts:
    """Read the three sets, HateCheck and COLD whole."""
    with (data / "hatecheck.csv").open(encoding="utf-8", newline="") as file:
        hatecheck = [
            Text(row["test_case"], row["label_gold"] == "hateful", split(row["templ_id"]))
            for row in csv.DictReader(file)
        ]
    with (data / "cold-zh-test.csv").open(encoding="utf-8-sig", newline="") as file:
        cold = [Text(row["TEXT"], row["label"] == "1") for row in csv.DictReader(file)]
    talks = json.loads((data / "topical-chat-valid-freq.json").read_text("utf-8")).values()
    lines = [turn["message"] for talk in talks for turn in talk["content"]]
    random.Random(0).shuffle(lines)
    return Texts(hatecheck, cold, lines[:HARMLESS_LINES])


def balanced_accuracy(texts: Sequence[Text], marked: Sequence[bool]) -> dict[str, float]:
    """Return the mean of the two shares that are right, and how often bad and other texts are marked."""
    bad = statistics.fmean(found for text, found in zip(texts, marked, strict=True) if text.bad)
    other = statistics.fmean(found for text, found in zip(texts, marked, strict=True) if not text.bad)
    return {
        "balanced_accuracy": round((bad + 1 - other) / 2, 4),
        "bad_marked": round(bad, 4),
        "other_marked": round(other, 4),
    }


def _hateful(scores: Scores) -> bool:
    return mark({kind: scores.get(kind, 0.0) for kind in (Category.HATE, Category.THREAT)}).unsafe


def classifier(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the classifier that serves, Encore's own or the one of --model, as the bot has it read a message."""
    texts = read_texts(arguments.data)
    every = [*(text.text for text in texts.hatecheck), *(text.text for text in texts.cold), *texts.harmless]
    scores, seconds = asyncio.run(_as_served(arguments.model, every))
    hatecheck = scores[: len(texts.hatecheck)]
    cold = scores[len(texts.hatecheck) : -len(texts.harmless)]
    held = [at for at, text in enumerate(texts.hatecheck) if text.held_out]
    held_texts = [texts.hatecheck[at] for at in held]
    figures: dict[str, Any] = {
        "classifier": arguments.model or "embedded",
        "hatecheck_held_out": balanced_accuracy(held_texts, [_hateful(hatecheck[at]) for at in held]),
        "hatecheck": balanced_accuracy(texts.hatecheck, [_hateful(found) for found in hatecheck]),
        "hatecheck_any": balanced_accuracy(held_texts, [mark(hatecheck[at]).unsafe for at in held]),
        "cold": balanced_accuracy(texts.cold, [mark(found).unsafe for found in cold]),
        "topical_chat_marked": statistics.fmean(mark(found).unsafe for found in scores[-len(texts.harmless) :]),
        "latency_p50_ms": round(statistics.median(seconds) * 1e3, 3),
        "latency_p95_ms": round(statistics.quantiles(seconds, n=20)[-1] * 1e3, 3),
    }
    bars = {
        "hatecheck_held_out": figures["hatecheck_held_out"]["balanced_accuracy"] >= 0.70,
        "cold": figures["cold"]["balanced_accuracy"] >= 0.65,
        "topical_chat_marked": figures["topical_chat_marked"] <= 0.01,
        "latency_p95_ms": figures["latency_p95_ms"] <= 15.0,
    }
    return figures | {"bars": bars, "holds": all(bars.values())}


def candidate(name: str, data: Path) -> dict[str, Any]:
    """Measure a candidate at its own threshold, and at the lowest that marks at most 1 % of Topical-Chat."""
    texts, (score, own) = read_texts(data), CANDIDATES[name]()
    hatecheck, seconds = _timed(score, [text.text for text in texts.hatecheck])
    cold, _ = _timed(score, [text.text for text in texts.cold])
    harmless, _ = _timed(score, texts.harmless)
    strict = max(own, sorted(harmless)[int(0.99 * len(harmless))])
    at = {
        f"above {threshold:.3g}": {
            "hatecheck": balanced_accuracy(texts.hatecheck, [found > threshold for found in hatecheck]),
            "cold": balanced_accuracy(texts.cold, [found > threshold for found in cold]),
            "topical_chat_marked": statistics.fmean(found > threshold for found in harmless),
        }
        for threshold in (own, strict)
    }
    return {"candidate": name, **at, "latency_p95_ms": round(statistics.quantiles(seconds, n=20)[-1] * 1e3, 3)}


def _timed(score: Callable[[str], Any], texts: Sequence[str]) -> tuple[list[Any], list[float]]:
    found, seconds = [], []
    for text in texts:
        started = time.perf_counter()
        found.append(score(text))
        seconds.append(time.perf_counter() - started)
    return found, seconds


async def _as_served(model: str | None, texts: Sequence[str]) -> tuple[list[Scores], list[float]]:
    found, seconds = [], []
    async with open_classifier(model or "embedded") as classifier:
        if isinstance(classifier, ProcessClassifier):
            await classifier.ready()
        for text in texts:
            started = time.perf_counter()
            found.append(await read_scores(classifier, text))
            seconds.append(time.perf_counter() - started)
    return found, seconds
