"""Does a night learn what people like, when three raters in ten vote against it?

    python -m benchmarks.learn [--data DIR] [--trolls .3] [--attack flip] [--quick] [--work DIR]

Human pairs (HH helpful-base, split by prompt: TEST pairs are in no night). Of each other pair one side is shown, by a
fair coin, and rated as benchmarks/simulation.py says: 60 raters, 3 votes, 20 % honest error, 5 trusted raters, the
given attack. Three arms learn from that:

encore     a whole night in its own process, as the bot starts it: raters, split by time, KTO and SFT with anchors,
           conversion, parity, gate. How it ended is in `nights`. Its KTO candidate is judged here, promoted or not
clean      the same trainer with the same anchors and seed on the same night, had it known the truth (an oracle)
majority   the same for the raw votes' majority: who believes all raters alike

Judged on the TEST pairs:

accuracy      a pair is right when log pi - log pi_base of the chosen reply is the higher one (a tie is half)
auc           of the same log-ratio, chosen replies against rejected ones, over all pairs
coefficient   of the log-ratio's difference in a logistic regression on it and on the difference in length, both in
              their standard deviations: above 0 means that length alone doesn't explain it
ratio         (encore - .5) / (clean - .5), of accuracies

`base` is the base's own log-probability a token, `length` says that the longer reply is better. Intervals are 95 %, by
a bootstrap over prompts in which all arms and seeds share the resample. Bars: clean accuracy >= .58, its coefficient's
interval above 0, ratio >= .9.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, special, stats

from benchmarks.nights import MOST_TOKENS, follow, make_night, start_night
from benchmarks.preferences import read_pairs
from benchmarks.simulation import Attack

if TYPE_CHECKING:
    from benchmarks.nights import Made
    from benchmarks.preferences import Pair
    from models.learning.batches import Tokens
    from models.learning.context import Context
    from models.learning.raters import RaterReport
    from models.learning.sides import Sides
    from models.learning.snapshot import Snapshot
    from models.learning.train import TrainResult
    from models.prompt import PromptBuilder

ARMS = ("encore", "clean", "majority")
TEST, REPLIES, SEEDS = 350, 1000, (1, 2, 3)
QUICK_TEST, QUICK_REPLIES, QUICK_SEEDS = 60, 200, (1,)
RESAMPLES = 2000
MODELS = Path("data/models")


@dataclass(frozen=True, slots=True)
class Run:
    """One arm on one seed: everything that its result depends on."""

    arm: str
    seed: int
    trolls: float
    attack: str
    replies: int
    test: int
    data: str
    work: str

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.attack}-{self.trolls:g}-seed{self.seed}-{self.replies}"


def learn(run: Run) -> dict[str, Any]:
    """Let one arm learn and score the test pairs; a finished run in the work folder is not run again."""
    result = Path(run.work) / f"{run.name}.json"
    if result.exists():
        found: dict[str, Any] = json.loads(result.read_text())
        return found
    os.nice(19)
    import torch

    torch.set_num_threads(1)
    from models.learning.context import Context
    from models.learning.snapshot import read_snapshot
    from models.learning.torch_model import completion_logprobs, read_adapter

    folder = Path(run.work) / run.name
    made = make_night(
        folder,
        Path(run.data),
        MODELS,
        replies=run.replies,
        seed=run.seed,
        attack=Attack(run.attack),
        trolls=run.trolls,
        kept_out=run.test,
    )
    ended = whole_night(folder) if run.arm == "encore" else {}
    context = Context(folder, made.job, say=lambda _: None)
    snapshot = read_snapshot(folder / "examples.jsonl", sha256=made.job.dataset_sha256)
    sides = sides_of(run.arm, context, snapshot, made)
    trained = train_kto(context, sides)

    pairs = read_pairs(Path(run.data), context.tokenizer, context.prompts, most_tokens=MOST_TOKENS)[: run.test]
    texts = tokens_of(pairs, context.prompts)
    scored = completion_logprobs(context.base, texts)
    after = completion_logprobs(read_adapter(context.base, trained.adapter_folder), texts)
    right = np.mean([(e.p_good > 0.5) == made.truth[e.reply_id] for e in sides.training])
    said = {
        **asdict(run),
        **ended,
        "trained_on": len(sides.training),
        "label_accuracy": round(float(right), 4),
        "seconds": round(trained.seconds, 1),
        "steps": trained.steps,
        "base": scored,
        "after": after,
        "tokens": [len(side) for pair in pairs for side in (pair.chosen, pair.rejected)],
    }
    result.write_text(json.dumps(said))
    return said


def whole_night(folder: Path) -> dict[str, Any]:
    """Run the night's process to its end, or to where a finished one has ended."""
    from models.learning.job import read_result

    process = start_night(folder)
    follow(process, lambda _: False)
    process.wait()
    result = read_result(folder)
    if result is None:
        raise SystemExit(f"The night in {folder} left no result; run it alone to see why.")
    return {"outcome": result.outcome.value, "sentences": result.sentences, "warnings": result.warnings}


def sides_of(arm: str, context: Context, snapshot: Snapshot, made: Made) -> Sides:
    """Return the night's two sides as the arm labels them; those of `encore` are the night's own, read back."""
    from models.learning.labels import label
    from models.learning.night import unsafe_replies
    from models.learning.sides import judge_raters, part
    from models.learning.verdict import Rules

    report = judge_raters(context, snapshot)
    if arm != "encore":
        report = replace(report, p_good=opinions(arm, snapshot, report, made))
    unsafe = unsafe_replies(snapshot)
    return part(
        context, snapshot, lambda: label(snapshot, report, unsafe, now=made.job.now), not_before=None, rules=Rules()
    )


def opinions(arm: str, snapshot: Snapshot, report: RaterReport, made: Made) -> dict[int, float]:
    """Return how good the arm thinks each rated reply is: certain, whichever way."""
    if arm == "clean":
        return {reply: float(made.truth[reply]) for reply in report.p_good}
    ups: defaultdict[int, float] = defaultdict(float)
    for vote in snapshot.votes:
        ups[vote.reply_id] += vote.value
    return {reply: float(ups[reply] > 0) for reply in report.p_good}


def train_kto(context: Context, sides: Sides) -> TrainResult:
    """Train the night's KTO candidate, or read it back."""
    from models.learning.candidates import candidates, train_all
    from models.learning.generations import anchor_texts, base_replies
    from models.learning.objectives import Objective
    from models.learning.train import TrainRules

    anchors = anchor_texts(context, base_replies(context))
    tried = [candidate for candidate in candidates(context, sides) if candidate.objective is Objective.KTO]
    trained = train_all(context, tried, sides, anchors.training, TrainRules())
    if not trained:
        raise SystemExit(f"{context.folder}: {tried[0].dropped}")
    return trained[tried[0]]


def tokens_of(pairs: list[Pair], prompts: PromptBuilder) -> list[Tokens]:
    """Return chosen, rejected, chosen, rejected, ..."""
    return [as_tokens(prompts, pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)]


def as_tokens(prompts: PromptBuilder, prompt: tuple[int, ...], completion: tuple[int, ...]) -> Tokens:
    from models.learning.batches import Tokens

    return Tokens(*prompts.training_example(prompt, completion))


class Scores:
    """The differences, chosen less rejected, of one arm on the test pairs: (seeds, pairs)."""

    def __init__(self, chosen: np.ndarray, rejected: np.ndarray) -> None:
        self.chosen, self.rejected = chosen, rejected

    def accuracy(self, picked: np.ndarray) -> float:
        difference = (self.chosen - self.rejected)[:, picked]
        return float(((difference > 0) + 0.5 * (difference == 0)).mean())

    def auc(self, picked: np.ndarray) -> float:
        wins = [
            stats.mannwhitneyu(chosen[picked], rejected[picked]).statistic / len(picked) ** 2
            for chosen, rejected in zip(self.chosen, self.rejected, strict=True)
        ]
        return float(np.mean(wins))

    def coefficient(self, picked: np.ndarray, lengths: np.ndarray) -> float:
        """Fit P(chosen) = expit(a d_ratio + b d_length), without intercept: which side is called first is arbitrary."""
        difference = (self.chosen - self.rejected)[:, picked]
        length = np.broadcast_to(lengths[picked], difference.shape)
        columns = np.column_stack([difference.ravel() / difference.std(), length.ravel() / lengths.std()])
        fit = optimize.minimize(
            lambda beta: -special.log_expit(columns @ beta).mean(),
            np.zeros(2),
            jac=lambda beta: -(columns * special.expit(-(columns @ beta))[:, None]).mean(0),
        )
        return float(fit.x[0])


def judge(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Turn the runs into figures with intervals."""
    base = np.array(runs[0]["base"]).reshape(-1, 2)
    tokens = np.array(runs[0]["tokens"], dtype=float).reshape(-1, 2)
    lengths = np.log(tokens[:, 0]) - np.log(tokens[:, 1])
    arms = {}
    for arm in ARMS:
        of_arm = [np.array(run["after"]).reshape(-1, 2) - base for run in runs if run["arm"] == arm]
        arms[arm] = Scores(np.stack([r[:, 0] for r in of_arm]), np.stack([r[:, 1] for r in of_arm]))
    per_token = base / tokens
    arms["base"] = Scores(per_token[None, :, 0], per_token[None, :, 1])
    arms["length"] = Scores(tokens[None, :, 0], tokens[None, :, 1])

    generator = np.random.default_rng(0)
    everyone = np.arange(len(base))
    resamples = [generator.integers(0, len(base), len(base)) for _ in range(RESAMPLES)]

    def interval(values: list[float]) -> list[float]:
        return [round(float(v), 4) for v in np.nanquantile(values, (0.025, 0.975))]

    figures: dict[str, Any] = {}
    for name, scores in arms.items():
        figures[name] = {
            "accuracy": round(scores.accuracy(everyone), 4),
            "accuracy_95": interval([scores.accuracy(picked) for picked in resamples]),
            "auc": round(scores.auc(everyone), 4),
            "auc_95": interval([scores.auc(picked) for picked in resamples[:500]]),
        }
        if name in ARMS:
            rows = [run for run in runs if run["arm"] == name]
            figures[name] |= {
                "coefficient": round(scores.coefficient(everyone, lengths), 4),
                "coefficient_95": interval([scores.coefficient(picked, lengths) for picked in resamples[:500]]),
                "accuracy_each_seed": [
                    round(Scores(c[None], r[None]).accuracy(everyone), 4)
                    for c, r in zip(scores.chosen, scores.rejected, strict=True)
                ],
                **{each: [row[each] for row in rows] for each in ("label_accuracy", "trained_on", "steps", "seconds")},
            }

    def ratio(picked: np.ndarray) -> float:
        above = arms["clean"].accuracy(picked) - 0.5
        return (arms["encore"].accuracy(picked) - 0.5) / above if above else float("nan")

    figures["ratio"] = round(ratio(everyone), 4)
    figures["ratio_95"] = interval([ratio(picked) for picked in resamples])
    figures["nights"] = [
        {name: run[name] for name in ("seed", "outcome", "sentences")} for run in runs if run["arm"] == "encore"
    ]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out preference accuracy of what a night learns, with trolls")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder with HH (default %(default)s)"
    )
    parser.add_argument("--trolls", type=float, default=0.3, help="share of the raters (default %(default)s)")
    parser.add_argument("--attack", default="flip", choices=[a.value for a in Attack], help="what trolls do")
    parser.add_argument("--quick", action="store_true", help="one seed of a few examples, judging nothing")
    parser.add_argument("--work", type=Path, help="folder that keeps finished runs (default: a temporary one)")
    parser.add_argument("--workers", type=int, default=2, help="nights at once, a core each (default %(default)s)")
    options = parser.parse_args()
    replies, test, seeds = (QUICK_REPLIES, QUICK_TEST, QUICK_SEEDS) if options.quick else (REPLIES, TEST, SEEDS)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        planned = [
            Run(arm, seed, options.trolls, options.attack, replies, test, str(options.data), str(work))
            for arm in ARMS
            for seed in seeds
        ]
        runs = []
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            for done in as_completed([pool.submit(learn, run) for run in planned]):
                runs.append(done.result())
                said = {key: runs[-1][key] for key in ("arm", "seed", "label_accuracy", "seconds")}
                print(f"{len(runs)}/{len(planned)} {said}", file=sys.stderr, flush=True)
    runs.sort(key=lambda run: (run["arm"], run["seed"]))
    figures = judge(runs)
    holds = (
        figures["clean"]["accuracy"] >= 0.58 and figures["clean"]["coefficient_95"][0] > 0 and figures["ratio"] >= 0.9
    )
    drawn = {"trolls": options.trolls, "attack": options.attack, "replies": replies, "test_pairs": test, "seeds": seeds}
    print(json.dumps({**drawn, **figures, "holds": None if options.quick else holds}, indent=1))


if __name__ == "__main__":
    main()
