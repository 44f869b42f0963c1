"""What moderation adds to a message and its answer, on the CPU: all of it, as the bot calls it.

    python -m benchmarks.safety --json

A question is counted by the limits and read (bot/gate.py); its answer is read at every edit while it grows and once at
its end (bot/screening.py). The server has all that costs: both of Encore's lists, words of its own, two expressions
(which send every text through a thread), the default rules and a classifier. Once with the embedded classifier in the
process, once with the same one in a process of its own, as one of SAFETY_MODEL is: what that adds is the way there and
back. Wall time; the store's writes for a moderators' case are made beside the answer and don't count.

question_ms     from the member's message to the model
edit_ms         before one edit of the answer; edits come every 80 characters, some 18 tokens a second
finish_ms       before the end of the answer is shown
added_ms        the bar's figure, of one message and its answer: the question, the slowest edit and the end, as an edit
                waits for its own reading alone while the model goes on
work_ms         the question, all the edits and the end; cpu_ms is the CPU time of it, this process's
scores_ms       one text's scores by the classifier
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.safety_classifier import read_texts
from bot.gate import Gate
from bot.moderation.findings import Audience
from bot.moderation.limits import Asker, Quotas
from bot.records import ServerSettings
from bot.screening import Screening
from bot.settings import DEFAULT_SYSTEM_PROMPT, Settings
from bot.store import Store
from models.safety import Scores
from models.safety_embedded import load_classifier
from models.safety_process import ProcessClassifier, TextClassifier, open_classifier

BAR_MS = 15.0
_EXCHANGES, _QUICK_EXCHANGES, _WARM_UP = 1000, 200, 20
_ANSWER = (60, 1200)  # characters; 256 tokens, the default limit, are some 1,150 of English
_LONG_SHARE, _LONG_QUESTION = 0.05, (400, 2000)
_EDIT_CHARACTERS = 80
_CHINESE_SHARE = 0.25
_SERVER = ServerSettings(
    filter_lists=["en", "zh"],
    filter_words=["frobnicate*", "free nitro", "moon cat", "giveaway", "傻猫", "加微信", "refer a friend", "spoiler"],
    filter_patterns=[r"free\s+n[i1]tro", r"\b(?:buy|sell)\b.{0,20}\baccounts?\b"],
)
# Encore's own classifier behind the pipes of a process, as models/safety_worker.py answers there.
_WORKER = """
import json, sys
from models.safety_embedded import load_classifier
classifier = load_classifier()
print(json.dumps({"ready": ["hate"]}), flush=True)
for line in sys.stdin:
    print(json.dumps({"scores": [dict(classifier.scores(text)) for text in json.loads(line)["texts"]]}), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Exchange:
    question: str
    answer: str


@dataclass(slots=True)
class Times:
    """Milliseconds."""

    question: list[float] = field(default_factory=list)
    edit: list[float] = field(default_factory=list)
    finish: list[float] = field(default_factory=list)
    added: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


class _Timed:
    """A classifier whose answers are timed."""

    def __init__(self, classifier: TextClassifier, milliseconds: list[float]) -> None:
        self._classifier, self._milliseconds = classifier, milliseconds

    async def scores(self, text: str) -> Scores:
        with _timed(self._milliseconds):
            return await self._classifier.scores(text)


def exchanges(data: Path, count: int) -> list[Exchange]:
    """Return questions as members write them, some as long as Discord allows, and answers of all lengths; seeded."""
    texts, rng = read_texts(data), random.Random(0)
    english, chinese = list(texts.harmless), [text.text for text in texts.cold if not text.bad]
    made = []
    for _ in range(count):
        lines = chinese if rng.random() < _CHINESE_SHARE else english
        long = rng.random() < _LONG_SHARE
        question = _of_length(_between(rng, *_LONG_QUESTION), lines, rng) if long else rng.choice(lines)
        made.append(Exchange(question, _of_length(_between(rng, *_ANSWER), lines, rng)))
    return made


def _between(rng: random.Random, shortest: int, longest: int) -> int:
    """Draw a length; its logarithm is uniform."""
    return round(shortest * (longest / shortest) ** rng.random())


def _of_length(length: int, lines: Sequence[str], rng: random.Random) -> str:
    text = ""
    while len(text) < length:
        text += rng.choice(lines) + " "
    return text[:length]


async def measure(talks: Sequence[Exchange], classifier: TextClassifier) -> Times:
    """Moderate every exchange, one at a time."""
    times = Times()
    screening = Screening(_Timed(classifier, times.scores))
    with tempfile.TemporaryDirectory() as folder:
        async with await Store.open(Path(folder) / "encore.sqlite3") as store:
            gate = Gate(store, screening, answer_tokens=Settings().context_tokens, direct_messages=Quotas())
            for number, talk in enumerate(talks[:_WARM_UP]):  # rules are compiled, caches filled
                await _moderate(gate, talk, Asker(2, number, 1, ()), Times())
            times.scores.clear()
            for number, talk in enumerate(talks):
                await _moderate(gate, talk, Asker(1, number, 1, ()), times)
    return times


async def _moderate(gate: Gate, talk: Exchange, asker: Asker, times: Times) -> None:
    edits: list[float] = []
    before = time.process_time()
    with _timed(times.question):
        gate.admit(asker, _SERVER)
        policy = await gate.screening.policy(_SERVER, Audience.GENERAL)
        await gate.read(talk.question, policy)
    screen = gate.screening.answer(policy, DEFAULT_SYSTEM_PROMPT, question=talk.question)
    for end in range(_EDIT_CHARACTERS, len(talk.answer), _EDIT_CHARACTERS):
        with _timed(edits):
            await screen.feed(talk.answer[:end])
        if screen.hidden:
            break
    with _timed(times.finish):
        await screen.finish(talk.answer)
    times.edit += edits
    around = times.question[-1] + times.finish[-1]
    times.added.append(around + max(edits, default=0.0))
    times.work.append(around + sum(edits))
    times.cpu.append((time.process_time() - before) * 1e3)


@contextlib.contextmanager
def _timed(milliseconds: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    milliseconds.append((time.perf_counter() - started) * 1e3)


@contextlib.asynccontextmanager
async def _by_process(model: str | None) -> AsyncIterator[TextClassifier]:
    command = (sys.executable, "-m", "models.safety_worker") if model else (sys.executable, "-c", _WORKER)
    async with ProcessClassifier(model or "embedded", load_classifier(), command=command) as classifier:
        await classifier.ready()
        yield classifier


async def _both(talks: Sequence[Exchange], model: str | None) -> dict[str, Times]:
    async with open_classifier("embedded") as classifier:
        within = await measure(talks, classifier)
    async with _by_process(model) as classifier:
        return {"in_process": within, "own_process": await measure(talks, classifier)}


def latency(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the whole path, with the classifier in this process and in one of its own (that of --model, if given)."""
    talks = exchanges(arguments.data, _QUICK_EXCHANGES if arguments.quick else _EXCHANGES)
    ways = asyncio.run(_both(talks, arguments.model))
    figures: dict[str, Any] = {
        "exchanges": len(talks),
        "question_characters": _quantiles([len(talk.question) for talk in talks], 0),
        "answer_characters": _quantiles([len(talk.answer) for talk in talks], 0),
        "edits": len(ways["in_process"].edit),
    }
    for way, times in ways.items():
        kinds = ("question", "edit", "finish", "added", "work", "cpu", "scores")
        figures[way] = {f"{kind}_ms": _quantiles(getattr(times, kind), 3) for kind in kinds}
    bars = {f"{way}.added_p95_ms": figures[way]["added_ms"]["p95"] <= BAR_MS for way in ways}
    return figures | {"bars": bars, "holds": all(bars.values())}


def _quantiles(values: Sequence[float], digits: int) -> dict[str, float]:
    found = np.quantile(values, (0.5, 0.95, 0.99))
    return {name: round(float(value), digits) for name, value in zip(("p50", "p95", "p99"), found, strict=True)}
