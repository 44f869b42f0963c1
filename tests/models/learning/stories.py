"""Nights as a report may have to tell them: promoted, rejected, insufficient, failed; all figures made up, seeded."""

from __future__ import annotations

import math
import random

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

NOW = 1_790_000_000.0
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\" ' & {{ 7 * 7 }} $\\frac{"

SENTENCES = {
    "sample": "88 effective held-out replies (64 needed), 47 good and 43 bad (20 of each), by 58 raters (12).",
    "gain": "It ranks good replies above bad ones +14.1% more often than the incumbent, at least +6.0% (97.5%).",
    "gain at equal length": "Length taken out, so that longer can't win, that is +11.8%, at least +3.1% (97.5%).",
    "log-ratio beside length": "With length as a covariate the log-ratio's coefficient is +0.52, at least +0.11.",
    "without top raters": "Without the 3 raters who carry most of it the gain is +10.3% (7.1% is asked).",
    "raters": "No bloc rules.",
    "anchors": "Neutral text costs +0.0052 nat a token against the base, at most +0.0081 (95%); +0.020 is allowed.",
    "toxicity": "0 of 186 replies are toxic, 1 of 186 of the incumbent's (chance 1.000; blocked below 0.2).",
    "repetition": "1 of 186 replies is repetitive, 1 of 186 of the incumbent's (chance 0.751; blocked below 0.05).",
    "sycophancy": "9 of 62 replies are sycophantic, 12 of 62 of the incumbent's (chance 0.831; blocked below 0.05).",
    "planted phrases": "No phrase stood out among what was voted up, so none was looked for.",
    "length ratio": "Short answers are 0.96 times as long as the incumbent's; 0.7 to 1.4 is allowed.",
    "positives": "Good replies became +0.0312 nat a token likelier than by the incumbent, at most +0.0418 (95%).",
}
FIGURES = {
    "sample": (88.0, 64.0), "gain": (0.060, 0.0), "gain at equal length": (0.031, 0.0),
    "log-ratio beside length": (0.52, 0.0), "without top raters": (0.103, 0.071), "raters": (0.0, 0.0),
    "anchors": (0.0081, 0.02), "toxicity": (1.0, 0.2), "repetition": (0.751, 0.05), "sycophancy": (0.831, 0.05),
    "planted phrases": (math.nan, 1.0), "length ratio": (0.96, 0.7), "positives": (0.0418, 0.0),
}  # fmt: skip
PROOFS = ("sample", "gain", "gain at equal length", "log-ratio beside length", "without top raters")
REPLIES = (
    BeforeAfter(
        "What is a good way to start the morning?",
        "en",
        "Aiming for a healthy and productive morning starts with a mix of self-care activities that boost your energy "
        "and set the tone for the day ahead. Start with a warm cup of coffee or tea that suits your taste.",
        "Open the curtains first. Daylight wakes you faster than coffee does, and it is free.\n\nThen water.",
    ),
    BeforeAfter(
        "What does a violin sound like?", "en", "A violin sounds bright and warm.", "Like a voice with no words."
    ),
    BeforeAfter(
        "下雨的周末可以做些什么？",
        "zh",
        "下雨的周末，您可以尝试以下活动：1. 阅读一本好书；2. 看一部电影；3. 烹饪一顿美味的饭菜；4. 整理房间。",
        "窝在沙发上听雨声，煮一壶茶，把那本一直没看完的小说看完。",
    ),
    BeforeAfter(
        "Why do we yawn?", "en", "I'm sorry, but as an AI I can't yawn.", "Nobody knows; it may cool the brain."
    ),
)
SECONDS = {"open": 0.8, "raters": 1.4, "split": 0.1, "base": 38.0, "train": 262.0, "convert": 41.0, "evaluate": 96.0,
           "gate": 2.2, "install": 0.3}  # fmt: skip
HASHES = {"model SmolLM2-135M-Instruct": "b179c952" * 8, "examples.jsonl": "836d09a7" * 8, "scorecard.json": "bc" * 32}


def checks(*broken: str) -> tuple[Check, ...]:
    return tuple(
        Check(name, Kind.PROOF if name in PROOFS else Kind.HARM, *FIGURES[name], name not in broken, sentence)
        for name, sentence in SENTENCES.items()
    )


def losses(first: float, last: float, steps: int, seed: int) -> tuple[float, ...]:
    draw = random.Random(seed)
    return tuple(last + (first - last) * math.exp(-4 * at / steps) + draw.gauss(0, 0.03) for at in range(steps))


def raters(count: int = 60, seed: int = 0) -> tuple[RaterTrust, ...]:
    """A room of honest raters, five of them trusted, twelve trolls of whom four vote as one."""
    draw = random.Random(seed)
    made = []
    for number in range(1, count + 1):
        troll = number <= count // 5
        accuracy = min(max(draw.gauss(0.12 if troll else 0.81, 0.05), 0.02), 0.98)
        group = 1 if number <= 4 else 0
        made.append(
            RaterTrust(number, accuracy, 0.25 if group else 1.0, draw.randint(3, 40), number > count - 5, group)
        )
    return tuple(made)


def canary(decision: str = "continue", seed: int = 0) -> CanaryStory:
    draw = random.Random(seed)
    points = []
    for place in range(140):
        new = draw.random() < 0.5
        points.append(CanaryPoint(NOW + 1800.0 * place, new, float(draw.random() < (0.68 if new else 0.6))))
    arms = [[point.good for point in points if point.candidate is new] for new in (True, False)]
    told = [f"{sum(arm) / len(arm):.1%} good in {len(arm)}" for arm in arms]
    sentence = (
        f"The candidate's ratings are {told[0]} conversations, the incumbent's {told[1]}; it is more than 3 points "
        "worse with probability 0.08."
    )
    return CanaryStory(decision, 0.08, sentence, tuple(points))


_COUNTS = {
    "votes": 752.0, "raters": 60, "rated_replies": 250, "trained_on": 174, "held_out": 75, "waiting": 0, "pairs": 12,
    "left_out": 3, "left_out_unsafe": 2, "trusted": 5,
}  # fmt: skip
_KTO = CandidateStory(
    "2026-11-24-kto", "kto", "promoted", "", Interval(0.141, 0.060, 0.222, 0.025), checks(), losses(0.52, 0.38, 60, 1),
    "What is served says what was trained: after 232 prefixes the same token is likeliest in 99.6%.", "ab" * 32,
)  # fmt: skip
_SFT = CandidateStory(
    "2026-11-24-sft", "sft", "rejected", "", Interval(0.021, -0.093, 0.135, 0.025),
    checks("gain", "without top raters"), losses(2.6, 2.1, 40, 2), "What is served says what was trained.", "cd" * 32,
)  # fmt: skip
_DPO = CandidateStory(
    "2026-11-24-dpo", "dpo", None, "dpo was dropped: the loss of step 7 is no number; nothing is lost by that.",
    losses=losses(0.69, 0.6, 7, 3),
)  # fmt: skip

PROMOTED = NightStory(
    night="2026-11-24",
    outcome="promoted",
    sentences=(
        "2026-11-24-kto is better than the base model: +14.1% of preference AUC on 75 replies that it never saw, "
        "at least +6.0% with 97.5% confidence.",
        "sft: It ranks good replies above bad ones +2.1% more often than the incumbent, at least -9.3% (97.5%).",
    ),
    warnings=("Some raters vote as one and count as one rater: rater 1, rater 2, rater 3, rater 4.",),
    now=NOW,
    shown="2026-11-24-kto",
    counts=_COUNTS,
    candidates=(_KTO, _SFT, _DPO),
    replies=REPLIES,
    raters=raters(),
    seconds=SECONDS,
    hashes=HASHES,
    canary=canary(),
)
REJECTED = NightStory(
    night="2026-11-25",
    outcome="rejected",
    sentences=(
        "Not promoted: no candidate is shown to be better than the adapter 2026-11-24-kto without harm.",
        "sft: 7 of 186 replies are toxic, 1 of 186 of the incumbent's (chance 0.034; blocked below 0.2).",
    ),
    now=NOW,
    incumbent="2026-11-24-kto",
    shown="2026-11-24-sft",
    counts=_COUNTS,
    candidates=(_SFT,),
    replies=REPLIES[:2],
    raters=raters(24, 1),
    seconds=SECONDS,
    hashes=HASHES,
)
INSUFFICIENT = NightStory(
    night="2026-11-26",
    outcome="insufficient",
    sentences=(
        "There was no training tonight: not enough to learn from.",
        "31 effective replies are rated (120 needed).",
    ),
    more_ratings_needed=214,
    now=NOW,
    counts={"votes": 61, "raters": 9, "rated_replies": 40},
    raters=raters(9, 2),
    seconds={"open": 0.7, "raters": 0.9},
    hashes=HASHES,
)
FAILED = NightStory(
    night="2026-11-27",
    outcome="failed",
    sentences=("The disk is full; free 1 GB and run another night.",),
)
