"""What a promoted night costs elsewhere: the likelihood of human chats that nobody rated.

    python -m benchmarks.forgetting [--data DIR] [--quick] [--work DIR]

A community's first week and night, as the product has them: the embedded model answers simulated fans (bot/fans.py:
30 with a taste, 8 trolls), who rate it, and a night learns from that in its own process and is judged by its gate.
Then the first CHAT_TOKENS tokens of Topical-Chat conversations are scored under the base and under the promoted
adapter. Where nothing is promoted the bar is not met.

rise        of the negative log-likelihood a token, relative to the base's; the bar is .01
rise_95     its interval by a bootstrap over conversations, paired
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bot.composition import NightOptions, services
from bot.fans import FanWeek
from bot.learning_records import Cause, Night, NightOutcome
from bot.ratings import Ratings
from bot.responder import Responder
from bot.settings import Settings
from models.learning.batches import Tokens
from models.spec import resolve
from models.tokenizer import ModelTokenizer, prepare

CHATS, QUICK_CHATS = 150, 12
REPLIES, QUICK_REPLIES = 336, 100
GUILD = 1
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


async def learn(folder: Path, *, replies: int) -> Night:
    """Let a week of fans and a night pass in `folder`, which goes on where an earlier run left it."""
    settings = replace(Settings(), data_dir=folder, night_threads=2)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "models").exists():
        (folder / "models").symlink_to(MODELS.resolve())
    opening = services(
        settings,
        database=settings.database,
        progress=lambda *_: None,
        nights=NightOptions(snowflakes=False),
    )
    async with opening as (store, model, learning, _), Ratings(store) as ratings:
        responder = Responder(store, model, settings=settings, arms=learning.arms)
        if (await store.counts(GUILD)).rated_replies < replies:
            week = FanWeek(store, responder, ratings, GUILD, seed=SEED, replies=replies)
            await week.run(
                lambda now: _tell(f"Day {now.day}: {now.replies} of {now.of} replies.", now.replies % 50 == 0)
            )
        return await learning.nightly.run(Cause.DEMO, lambda now: _tell(now.sentence, now.done == 0))


def _tell(sentence: str, wanted: bool) -> None:
    if wanted:
        print(sentence, file=sys.stderr, flush=True)


def run(data: Path, folder: Path, *, replies: int, chats: int) -> dict[str, Any]:
    night = asyncio.run(learn(folder, replies=replies))
    told = {"outcome": night.outcome or night.state, "adapter": night.adapter, "sentences": night.sentences}
    if night.outcome is not NightOutcome.PROMOTED or night.adapter is None:
        return {**told, "rise": None}

    from models.learning.torch_model import completion_logprobs, load_base, read_adapter

    spec = resolve("embedded", MODELS)
    assert spec.path is not None
    base = load_base(spec.path, spec.sha256, MODELS)
    texts = read_chats(data, prepare(spec, MODELS), chats)
    before = -np.array(completion_logprobs(base, texts))
    after = -np.array(completion_logprobs(read_adapter(base, folder / "adapters" / night.adapter), texts))
    count = np.array([text.learned_count for text in texts], dtype=float)
    generator = np.random.default_rng(0)
    picks = [generator.integers(0, len(texts), len(texts)) for _ in range(2000)]
    rises = [after[pick].sum() / before[pick].sum() - 1 for pick in picks]
    return {
        **told,
        "gain": night.figures.get("gain"),
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
        "--data", type=Path, default=Path("../shared/data"), help="folder with Topical-Chat (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="a small night and few chats, judging nothing")
    parser.add_argument("--work", type=Path, help="folder that keeps the night (default: a temporary one)")
    options = parser.parse_args()
    replies, chats = (QUICK_REPLIES, QUICK_CHATS) if options.quick else (REPLIES, CHATS)
    with tempfile.TemporaryDirectory() as temporary:
        figures = run(options.data, (options.work or Path(temporary)) / "data", replies=replies, chats=chats)
    holds = figures["rise"] is not None and figures["rise"] <= BAR
    print(json.dumps({**figures, "bar": BAR, "holds": None if options.quick else holds}, indent=1))


if __name__ == "__main__":
    main()
