"""Speed, memory and loss of the trainer against TRL's KTOTrainer: one KTO job on the embedded model, on the CPU.

    python -m benchmarks.train [--data ../shared/data] [--quick] [--rounds 3] [--threads 2]

Both sides get the same 64 examples of 160-256 tokens (HH helpful, prompts as the bot builds them, the preferred reply
shown in every second one), a fresh adapter of rank 16 on all linear layers, 8 examples a step, fp32, and as many
threads; each runs in a process of its own, in turns. The clock covers the whole job: set-up, reference pass, steps,
the saved adapter; not imports and loading the base. TRL runs as fast as it can be made to here: gradient checkpointing
(its default) is off, its dataset comes tokenized, and its defaults for KTO stay (sequential order, which its mismatched
pairs need). Both do what they do by default for z0: TRL measures it on every batch, ours on a sample of them
(models/learning/train says how).

tokens_per_second_ratio    of ours over TRL's, the median of the rounds' ratios; tokens are the examples' own
cpu_ratio                  the same by processor seconds, which other processes on the machine disturb less
peak_rss_ratio             peak memory of our process over that of TRL's, the median of the rounds
against_checkpointing      both ratios with TRL's gradient checkpointing on (its default: slower and smaller), one round
                           of fewer examples a side; no bar is on them
loss_difference            |ours - TRL's| on one batch, both with the same strong random adapter, z0 measured by each
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.learning.batches import Tokens

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "data" / "models"
EXAMPLES, QUICK_EXAMPLES = 64, 16
SHORTEST, LONGEST = 160, 256
BATCH, RANK, ALPHA, RATE, BETA = 8, 16, 32, 1e-4, 0.1
BARS = {"tokens_per_second_ratio": (">=", 2.0), "peak_rss_ratio": ("<=", 0.7), "loss_difference": ("<=", 1e-5)}
OURS, TRL, TRL_DEFAULT = "ours", "trl", "trl-default"


def read_examples(data: Path, count: int) -> list[tuple[Tokens, bool]]:
    """Return the first `count` replies of fitting length, alternately preferred ones and their rivals."""
    from benchmarks.preferences import read_pairs
    from models.learning.batches import Tokens
    from models.prompt import PromptBuilder
    from models.spec import resolve
    from models.tokenizer import prepare

    tokenizer = prepare(resolve("embedded", MODELS), MODELS)
    prompts = PromptBuilder(tokenizer)
    found: list[tuple[Tokens, bool]] = []
    for pair in read_pairs(data, tokenizer, prompts, most_tokens=LONGEST - 1):
        good = len(found) % 2 == 0
        tokens = Tokens(*prompts.training_example(pair.prompt, pair.chosen if good else pair.rejected))
        if SHORTEST <= len(tokens.ids) <= LONGEST:
            found.append((tokens, good))
        if len(found) == count:
            return found
    raise SystemExit(f"only {len(found)} examples of {SHORTEST}-{LONGEST} tokens in {data}")


def randomize(model: Any, spread: float = 0.02) -> None:
    """Give the adapter weights that matter; the same on both sides, which name their parameters alike."""
    import torch

    generator = torch.Generator().manual_seed(1)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            parameter.data.normal_(std=spread, generator=generator)


def trl_trainer(base: Any, examples: Sequence[tuple[Tokens, bool]], folder: str, **options: Any) -> Any:
    """Return a KTOTrainer over examples that are tokens already."""
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast
    from trl import KTOConfig, KTOTrainer

    class OfTokens(KTOTrainer):  # type: ignore[misc, unused-ignore]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    size = options.get("per_device_train_batch_size", BATCH)
    batches = [[tokens for tokens, _ in examples[i : i + size]] for i in range(0, len(examples), size)]
    rotated = [tokens for batch in batches for tokens in (batch[-1], *batch[:-1])]
    rows = {
        "prompt_ids": [list(tokens.prompt) for tokens, _ in examples],
        "completion_ids": [list(tokens.completion) for tokens, _ in examples],
        "KL_completion_ids": [list(tokens.completion) for tokens in rotated],
        "label": [good for _, good in examples],
    }
    plain = {
        "per_device_train_batch_size": BATCH,
        "gradient_checkpointing": False,
        "learning_rate": RATE,
        "beta": BETA,
        "num_train_epochs": 1,
        "max_length": 512,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "seed": 0,
    }
    words = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return OfTokens(
        model=base,
        args=KTOConfig(folder, **{**plain, **options}),
        train_dataset=Dataset.from_dict(rows),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<pad>"),
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def trl_loss(trainer: Any) -> tuple[float, float]:
    """Return the first batch's loss and kl under the trainer's adapter as it is."""
    import torch

    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        loss = float(trainer.compute_loss(trainer.model, batch))
    return loss, float(trainer._metrics["train"]["kl"][-1])


def our_loss(model: Any, examples: Sequence[tuple[Tokens, bool]]) -> tuple[float, float]:
    """Return our loss of the examples as one batch, and z0 from all of their mismatched pairs."""
    import torch

    from models.learning.batches import mismatched
    from models.learning.checkpoint import References
    from models.learning.objectives import soft_kto
    from models.learning.torch_model import completion_logprobs
    from models.learning.train import z0_estimate

    sequences = [tokens for tokens, _ in examples]
    references = References()
    with model.disable_adapter():
        for wanted in (sequences, mismatched(sequences)):
            references.add(wanted, completion_logprobs(model, wanted))
    z0 = max(0.0, z0_estimate(model, sequences, references))
    ratio = torch.tensor(completion_logprobs(model, sequences)) - torch.tensor([references[s] for s in sequences])
    p_good = torch.tensor([float(good) for _, good in examples])
    return float(soft_kto(ratio, p_good, torch.ones(len(examples)), z0, BETA).mean()), z0


def side(name: str, data: Path, count: int) -> dict[str, Any]:
    """Run one job in this process."""
    from models.learning.examples import Example
    from models.learning.objectives import Objective
    from models.learning.torch_model import fresh_adapter, load_base
    from models.learning.train import Labelled, TrainRules, train
    from models.spec import resolve

    examples = read_examples(data, count)
    spec = resolve("embedded", MODELS)
    assert spec.path is not None
    base = load_base(spec.path, spec.sha256, MODELS)
    if name != OURS:
        import trl  # noqa: F401 - its import isn't the job's time
    with tempfile.TemporaryDirectory() as folder:
        started, cpu_started = time.perf_counter(), time.process_time()
        if name == OURS:
            labelled = [
                Labelled(Example(i, str(i), 0.0, t.prompt, t.completion, 1, "import", float(good), 1.0), t)
                for i, (t, good) in enumerate(examples)
            ]
            rules = TrainRules(rank=RANK, alpha=ALPHA, learning_rate=RATE, beta=BETA, batch_examples=BATCH)
            losses = list(train(base, Objective.KTO, labelled, (), (), folder=Path(folder), rules=rules, seed=0).losses)
        else:
            trainer = trl_trainer(base, examples, folder, gradient_checkpointing=name == TRL_DEFAULT)
            trainer.train()
            trainer.save_model(folder)
            losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        model = fresh_adapter(base, rank=RANK, alpha=ALPHA, seed=0) if name == OURS else trainer.model
        randomize(model)
        loss, z0 = our_loss(model, examples[:BATCH]) if name == OURS else trl_loss(trainer)
    return {
        "tokens": sum(len(tokens.ids) for tokens, _ in examples),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "rss_mb": rss,
        "losses": losses,
        "one_loss": loss,
        "one_z0": z0,
    }


def in_process(name: str, options: argparse.Namespace, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.train", "--side", name, "--data", str(options.data)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, "--examples", str(count)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {result['tokens'] / result['seconds']:.1f} tokens/s, {result['rss_mb']:.0f} MB", file=sys.stderr)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="The trainer against TRL's KTOTrainer")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="where the HH files are")
    parser.add_argument("--quick", action="store_true", help=f"one round of {QUICK_EXAMPLES} examples, judging nothing")
    parser.add_argument("--rounds", type=int, default=3, help="jobs a side (default 3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads a side (default: all cores)")
    parser.add_argument("--side", choices=(OURS, TRL, TRL_DEFAULT), help=argparse.SUPPRESS)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(side(options.side, options.data, options.examples)))
        return
    count = QUICK_EXAMPLES if options.quick else EXAMPLES
    rounds = []
    for number in range(1 if options.quick else options.rounds):
        names = (OURS, TRL) if number % 2 == 0 else (TRL, OURS)
        rounds.append({name: in_process(name, options, count) for name in names})
    checkpointed = {name: in_process(name, options, QUICK_EXAMPLES) for name in (TRL_DEFAULT, OURS)}

    def median(key: str, *, rate: bool = False) -> float:
        ratios = [sides[OURS][key] / sides[TRL][key] for sides in rounds]
        return statistics.median([1 / ratio for ratio in ratios] if rate else ratios)

    figures = {
        "tokens_per_second_ratio": round(median("seconds", rate=True), 3),
        "cpu_ratio": round(median("cpu_seconds", rate=True), 3),
        "peak_rss_ratio": round(median("rss_mb"), 3),
        "against_checkpointing": {
            "tokens_per_second_ratio": round(checkpointed[TRL_DEFAULT]["seconds"] / checkpointed[OURS]["seconds"], 3),
            "peak_rss_ratio": round(checkpointed[OURS]["rss_mb"] / checkpointed[TRL_DEFAULT]["rss_mb"], 3),
        },
        "loss_difference": max(abs(sides[OURS]["one_loss"] - sides[TRL]["one_loss"]) for sides in rounds),
    }
    holds = all(figures[key] >= bar if sign == ">=" else figures[key] <= bar for key, (sign, bar) in BARS.items())
    print(
        json.dumps(
            {
                **figures,
                "bars": BARS,
                "rounds": rounds,
                "checkpointed": checkpointed,
                "threads": options.threads,
                "holds": None if options.quick else holds,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
