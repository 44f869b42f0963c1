"""What a promoted night costs elsewhere: the likelihood of human chats that nobody rated.

    python -m benchmarks.forgetting [--data DIR] [--quick] [--work DIR]

A whole night (benchmarks/nights.py: HH replies, three trolls in ten raters) runs in its own process on the embedded
model. Then the first CHAT_TOKENS tokens of Topical-Chat conversations are scored under the base and under the night's
adapter: the promoted one, or its KTO candidate where nothing was promoted (then the bar is not met, whatever the rise).

rise        of the negative log-likelihood a token, relative to the base's; the bar is .01
rise_95     its interval by a bootstrap over conversations, paired
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nights import follow, make_night, start_night
from models.learning.batches import Tokens
from models.learning.job import Outcome, read_result
from models.spec import resolve
from models.tokenizer import ModelTokenizer, prepare

CHATS, QUICK_CHATS = 150, 12
REPLIES, QUICK_REPLIES = 1100, 160
CHAT_TOKENS = 256
SEED = 11
MODELS = Path("data/models")
TOPICAL_CHAT = "topical-chat-valid-freq.json"
BAR = 0.01


def read_chats(data: Path, tokenizer: ModelTokenizer, count: int) -> list[Tokens]:
    """Return the first tokens of `count` conversations, drawn with a fixed seed; all but the first are scored."""
    conversations = json.loads((data / TOPICAL_CHAT).read_text("utf-8"))
    names = sorted(conversations)
    chosen = np.random.default_rng(SEED).permutation(len(names))[:count]
    chats = []
    for at in chosen.tolist():
        text = "\n".join(said["message"] for said in conversations[names[at]]["content"])
        ids = tuple(tokenizer.encode_text(text)[:CHAT_TOKENS])
        chats.append(Tokens(ids, (0,) + (1,) * (len(ids) - 1)))
    return chats


def run(data: Path, folder: Path, *, replies: int, chats: int) -> dict[str, Any]:
    job = make_night(folder, data, MODELS, replies=replies, seed=SEED, threads=2)

    def tell(progress: dict[str, Any]) -> bool:
        print(progress["sentence"], file=sys.stderr, flush=True)
        return False

    with start_night(folder) as process:
        follow(process, tell)
    result = read_result(folder)
    if result is None or result.outcome is Outcome.FAILED:
        raise SystemExit(f"The night failed: {' '.join(result.sentences) if result else 'no result'}")
    adapter = job.adapters_dir / result.adapter if result.adapter else folder / "train" / "kto" / "adapter"

    from models.learning.torch_model import completion_logprobs, load_base, read_adapter

    base = load_base(job.model_path, job.model_sha256, MODELS)
    tokenizer = prepare(resolve("embedded", MODELS), MODELS)
    texts = read_chats(data, tokenizer, chats)
    before = -np.array(completion_logprobs(base, texts))
    after = -np.array(completion_logprobs(read_adapter(base, adapter), texts))
    count = np.array([text.learned_count for text in texts], dtype=float)
    generator = np.random.default_rng(0)
    picks = [generator.integers(0, len(texts), len(texts)) for _ in range(2000)]
    rises = [after[pick].sum() / before[pick].sum() - 1 for pick in picks]
    return {
        "outcome": result.outcome,
        "adapter": result.adapter or "train/kto, not promoted",
        "sentences": result.sentences,
        "chats": chats,
        "tokens": int(count.sum()),
        "base_nll": round(float(before.sum() / count.sum()), 4),
        "adapter_nll": round(float(after.sum() / count.sum()), 4),
        "rise": round(float(after.sum() / before.sum() - 1), 5),
        "rise_95": [round(float(value), 5) for value in np.quantile(rises, (0.025, 0.975))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Likelihood of unrelated chats after a night")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder with HH and Topical-Chat (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="a small night and few chats, judging nothing")
    parser.add_argument("--work", type=Path, help="folder that keeps the night (default: a temporary one)")
    options = parser.parse_args()
    replies, chats = (QUICK_REPLIES, QUICK_CHATS) if options.quick else (REPLIES, CHATS)
    with tempfile.TemporaryDirectory() as temporary:
        figures = run(options.data, (options.work or Path(temporary)) / "night", replies=replies, chats=chats)
    holds = figures["rise"] <= BAR and figures["outcome"] is Outcome.PROMOTED
    print(json.dumps({**figures, "bar": BAR, "holds": None if options.quick else holds}, indent=1))


if __name__ == "__main__":
    main()
