"""Does a night learn what people like, when three raters in ten vote against it?

    python -m benchmarks.learn [--data DIR] [--trolls .3] [--attack flip] [--quick] [--work DIR]

Human pairs (HH helpful-base, split by prompt: TEST pairs are never trained on). Of each training pair one side is
shown, by a fair coin, and rated as benchmarks/simulation.py says: 60 raters, 3 votes, 20 % honest error, 5 trusted
raters, the given attack. The labels of three arms train one adapter each, with the night's own trainer, its rules and
the same seed: `encore` (what models/learning/raters.py infers, with the night's weights), `majority` (of the raw votes,
every reply at weight 1), and `clean` (the truth, at weight 1: an oracle). Judged on the TEST pairs:

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
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, special, stats

from benchmarks.preferences import read_pairs
from benchmarks.simulation import Attack, Community, rate
from models.learning.examples import Example
from models.learning.raters import infer
from models.learning.sufficiency import weight_of
from models.prompt import PROMPT_VERSION, PromptBuilder
from models.spec import resolve
from models.tokenizer import prepare

if TYPE_CHECKING:
    from benchmarks.preferences import Pair
    from models.learning.batches import Tokens

ARMS = ("encore", "majority", "clean")
TEST, TRAIN, SEEDS = 350, 700, (1, 2, 3)
QUICK_TEST, QUICK_TRAIN, QUICK_SEEDS = 60, 64, (1,)
MOST_TOKENS = 192
RESAMPLES = 2000
MODELS = Path("data/models")


@dataclass(frozen=True, slots=True)
class Run:
    """One training: everything that its result depends on."""

    arm: str
    seed: int
    trolls: float
    attack: str
    train: int
    test: int
    data: str
    work: str
    threads: int

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.attack}-{self.trolls:g}-seed{self.seed}-{self.train}"


def labels(run: Run, pairs: list[Pair]) -> tuple[list[Example], dict[str, float]]:
    """Show one side of each pair, let the community rate it, and label it as the arm does."""
    generator = np.random.default_rng(run.seed)
    shown = [pairs[at] for at in generator.permutation(len(pairs))[: run.train]]
    truth = generator.random(len(shown)) < 0.5
    community = Community(Attack(run.attack), run.trolls, trusted=5, replies=len(shown))
    ratings = rate(community, 10_000 + run.seed, truth)
    report = infer(ratings.votes, ratings.facts, {}, seed=run.seed)
    ups = np.bincount([v.reply_id for v in ratings.votes], [v.value for v in ratings.votes], len(shown))
    given = {
        "encore": [(report.p_good[i], weight_of(report.p_good[i], 0.0, raters=3)) for i in range(len(shown))],
        "majority": [(float(up > 0), 1.0) for up in ups],
        "clean": [(float(good), 1.0) for good in truth],
    }[run.arm]
    examples = [
        Example(
            reply_id=i,
            conversation_id=pair.key,
            created_at=float(i),
            prompt_token_ids=pair.prompt,
            completion_token_ids=pair.chosen if good else pair.rejected,
            prompt_version=PROMPT_VERSION,
            provenance="import",
            p_good=p,
            weight=weight,
        )
        for i, (pair, good, (p, weight)) in enumerate(zip(shown, truth.tolist(), given, strict=True))
        if weight > 0
    ]
    right = np.mean([(e.p_good > 0.5) == truth[e.reply_id] for e in examples])
    return examples, {"kept": len(examples) / len(shown), "label_accuracy": round(float(right), 4)}


def train_one(run: Run) -> dict[str, Any]:
    """Train one arm on one seed and score the test pairs; a finished run in the work folder is not run again."""
    result = Path(run.work) / f"{run.name}.json"
    if result.exists():
        found: dict[str, Any] = json.loads(result.read_text())
        return found
    import torch

    torch.set_num_threads(run.threads)
    from models.learning.objectives import Objective
    from models.learning.torch_model import completion_logprobs, load_base, read_adapter
    from models.learning.train import Labelled, TrainRules, train

    spec = resolve("embedded", MODELS)
    assert spec.path is not None
    tokenizer = prepare(spec, MODELS)
    prompts = PromptBuilder(tokenizer)
    pairs = read_pairs(Path(run.data), tokenizer, prompts, most_tokens=MOST_TOKENS)
    test, rest = pairs[: run.test], pairs[run.test :]
    examples, figures = labels(run, rest)
    base = load_base(spec.path, spec.sha256, MODELS)
    scored = completion_logprobs(base, tokens_of(test, prompts))
    started = time.monotonic()
    trained = train(
        base,
        Objective.KTO,
        [Labelled(e, as_tokens(prompts, e.prompt_token_ids, e.completion_token_ids)) for e in examples],
        (),
        (),
        folder=Path(run.work) / run.name,
        rules=TrainRules(),
        seed=run.seed,
    )
    seconds = time.monotonic() - started
    adapted = read_adapter(base, trained.adapter_folder)
    after = completion_logprobs(adapted, tokens_of(test, prompts))
    made = {
        **asdict(run),
        **figures,
        "seconds": round(seconds, 1),
        "steps": trained.steps,
        "keys": [pair.key for pair in test],
        "base": scored,
        "after": after,
        "tokens": [len(side) for pair in test for side in (pair.chosen, pair.rejected)],
    }
    result.write_text(json.dumps(made))
    return made


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
                "label_accuracy": [row["label_accuracy"] for row in rows],
                "kept": [round(row["kept"], 3) for row in rows],
                "seconds": [row["seconds"] for row in rows],
            }

    def ratio(picked: np.ndarray) -> float:
        above = arms["clean"].accuracy(picked) - 0.5
        return (arms["encore"].accuracy(picked) - 0.5) / above if above else float("nan")

    figures["ratio"] = round(ratio(everyone), 4)
    figures["ratio_95"] = interval([ratio(picked) for picked in resamples])
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
    parser.add_argument("--workers", type=int, default=2, help="trainings at once, a core each (default %(default)s)")
    options = parser.parse_args()
    train, test, seeds = (QUICK_TRAIN, QUICK_TEST, QUICK_SEEDS) if options.quick else (TRAIN, TEST, SEEDS)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        planned = [
            Run(arm, seed, options.trolls, options.attack, train, test, str(options.data), str(work), threads=1)
            for seed in seeds
            for arm in ("clean", "encore", "majority")
        ]
        runs = []
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            for done in as_completed([pool.submit(train_one, run) for run in planned]):
                runs.append(done.result())
                said = {key: runs[-1][key] for key in ("arm", "seed", "label_accuracy", "seconds")}
                print(f"{len(runs)}/{len(planned)} {said}", file=sys.stderr, flush=True)
    runs.sort(key=lambda run: (run["arm"], run["seed"]))
    figures = judge(runs)
    holds = (
        figures["clean"]["accuracy"] >= 0.58 and figures["clean"]["coefficient_95"][0] > 0 and figures["ratio"] >= 0.9
    )
    settings = {"trolls": options.trolls, "attack": options.attack, "train": train, "test_pairs": test, "seeds": seeds}
    print(json.dumps({**settings, **figures, "holds": None if options.quick else holds}, indent=1))


if __name__ == "__main__":
    main()
