"""How well the text rules find what is disguised and leave alone what is harmless; benchmarks.safety prints it.

    python -m benchmarks.safety_text ../shared/data

Every entry of LDNOOBW's English and Chinese lists is disguised in each way of `DISGUISES`, by a seeded generator,
inside a harmless sentence. Entries of a single letter or character are left out: they are no words.

caught                  fraction of the disguised entries that are found where they stand; per disguise in `caught_by`
false_positives         fraction of the first 5,000 lines of Topical-Chat in which the lists find anything, the words
                        as they are written included; `in_disguise` counts only lines without the entry as written
rule_false_positives    fraction of those lines marked by each category of the other rules
message_p95_ms          CPU time of check_message on those lines
chunk_p95_ms            CPU time of a guard's chunk of four characters in answers of 2,000
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot.moderation.blocklist import Blocklist
from bot.moderation.check import check_message
from bot.moderation.findings import Audience, Category, default_policy
from bot.moderation.guard import OutputGuard
from bot.moderation.normalise import Forms, is_spaceless

BARS = {"caught": (">=", 0.98), "false_positives": ("<=", 0.005), "chunk_p95_ms": ("<=", 1.0)}
LINES, SEED = 5000, 20261124
_LEET = {"a": "4@", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7", "b": "8"}
_HOMOGLYPHS = {
    "a": "аɑ",
    "c": "сϲ",
    "e": "еҽ",
    "i": "іι",
    "o": "оο",
    "p": "рρ",
    "s": "ѕꜱ",
    "x": "хх",
    "y": "уү",
    "h": "һ",
}
_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_MARKS = "\u0300\u0316\u0321\u0334\u0337\u0489\u035c"
_PROMPT = "You are Encore, a character of this server. Stay kind, keep to the topic and never speak for a member."

Disguise = Callable[[str, random.Random], str]


def _swapped(word: str, table: dict[str, str], rng: random.Random) -> str:
    places = [at for at, letter in enumerate(word) if letter.lower() in table]
    chosen = set(rng.sample(places, rng.randint(1, len(places)))) if places else set()
    return "".join(rng.choice(table[c.lower()]) if at in chosen else c for at, c in enumerate(word))


def _parted(word: str, rng: random.Random) -> str:
    """Part the letters: by spaces, dots, stars, dashes; words of a phrase stay apart by one more."""
    mark = rng.choice([" ", ".", "*", "-", " . "])
    return (mark * 2 if mark == " " else mark).join(mark.join(part) for part in word.split())


def _full_width(word: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in word)


DISGUISES: dict[str, Disguise] = {
    "as written": lambda word, rng: word,
    "case": lambda word, rng: "".join(rng.choice((c.upper(), c.lower())) for c in word),
    "leet": lambda word, rng: _swapped(word, _LEET, rng),
    "homoglyphs": lambda word, rng: _swapped(word, _HOMOGLYPHS, rng),
    "zero width": lambda word, rng: "".join(c + rng.choice(("", rng.choice(_ZERO_WIDTH))) for c in word),
    "parted": _parted,
    "repeats": lambda word, rng: "".join(c * rng.choice((1, 1, 2, 3, 4)) if c.isalpha() else c for c in word),
    "full width": lambda word, rng: _full_width(word),
    "zalgo": lambda word, rng: "".join(c + "".join(rng.choices(_MARKS, k=rng.randint(0, 6))) for c in word),
    "leet and homoglyphs": lambda word, rng: _swapped(_swapped(word, _LEET, rng), _HOMOGLYPHS, rng),
}


def _entries(data: Path) -> list[str]:
    written = [
        line.strip() for name in ("en", "zh") for line in (data / "ldnoobw" / f"{name}.txt").read_text().split("\n")
    ]
    letters = {entry: re.sub(r"[\W_]", "", entry) for entry in written}
    return list(dict.fromkeys(entry for entry in written if len(letters[entry]) > 1 and not letters[entry].isdecimal()))


def _lines(data: Path) -> list[str]:
    chats = json.loads((data / "topical-chat-valid-freq.json").read_text("utf-8"))
    return [turn["message"] for chat in chats.values() for turn in chat["content"]][:LINES]


def caught_by(entries: Sequence[str], words: Blocklist) -> tuple[dict[str, float], list[str]]:
    """Return the fraction of entries found in each disguise, and what was missed."""
    rng = random.Random(SEED)
    rates, missed = {}, []
    for name, disguise in DISGUISES.items():
        hits = 0
        for entry in entries:
            before, after = ("我说", "好吗") if any(map(is_spaceless, entry)) else ("well ", " I say")
            hidden = disguise(entry, rng)
            found = words.find(Forms(before + hidden + after))
            whole = range(len(before), len(before) + len(hidden) + 1)
            hit = any(finding.span.start in whole and finding.span.end in whole for finding in found)
            hits += hit
            if not hit:
                missed.append(f"{name}: {hidden}")
        rates[name] = hits / len(entries)
    return rates, missed


def measure(data: Path) -> dict[str, Any]:
    """Return the figures above; `data` is the folder with ldnoobw/ and Topical-Chat. Takes some ten seconds."""
    entries, lines = _entries(data), _lines(data)
    words = Blocklist(entries)
    rates, missed = caught_by(entries, words)
    policy = default_policy(Audience.GENERAL, words=words)
    flagged = in_disguise = 0
    others: Counter[str] = Counter()
    seconds = []
    for line in lines:
        started = time.thread_time()
        findings = check_message(line, policy)
        seconds.append(time.thread_time() - started)
        listed = [finding for finding in findings if finding.category is Category.WORD]
        flagged += bool(listed)
        in_disguise += any(finding.text.lower() != finding.detail for finding in listed)
        others.update({finding.category.value for finding in findings} - {Category.WORD.value})
    figures = {
        "caught": sum(rates.values()) / len(rates),
        "caught_by": rates,
        "false_positives": flagged / len(lines),
        "in_disguise": in_disguise / len(lines),
        "rule_false_positives": {name: count / len(lines) for name, count in others.items()},
        "message_p95_ms": float(np.quantile(seconds, 0.95)) * 1e3,
        "chunk_p95_ms": _chunk_p95_ms(lines, words),
        "missed": missed[:20],
    }
    figures["holds"] = (
        figures["caught"] >= BARS["caught"][1]
        and figures["false_positives"] <= BARS["false_positives"][1]
        and figures["chunk_p95_ms"] <= BARS["chunk_p95_ms"][1]
    )
    return figures


def _chunk_p95_ms(lines: list[str], words: Blocklist) -> float:
    """Return the 95th percentile of the time a chunk of four characters takes; half the answers are Chinese."""
    policy = default_policy(Audience.GENERAL, words=words)
    chinese = "灯塔今晚很亮，海上没有船，看守人慢慢地走上楼梯，看着远处的雾。" * 70
    plain = [line for line in lines if not check_message(line, policy)]
    seconds = []
    for answer in [chinese, chinese, *(" ".join(plain[at : at + 40]) for at in (0, 40))]:
        guard = OutputGuard(policy, _PROMPT)
        for end in range(4, 2001, 4):
            started = time.thread_time()
            guard.feed(answer[:end])
            seconds.append(time.thread_time() - started)
    return float(np.quantile(seconds, 0.95)) * 1e3


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1])), ensure_ascii=False, indent=1))
