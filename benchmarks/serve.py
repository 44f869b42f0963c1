"""Speed of serving: the whole path (event, cog, queue, engine, edits, rows) against the bare engine.

    python -m benchmarks.serve --json [--rounds 5] [--model embedded]

Everything runs on the embedded model in a live SimCord world. Rounds are interleaved: each round runs the path, then
xllamacpp called directly (a server of its own, same parameters, threads calling `handle_completions`) on the *same*
prompt ids, sampling and seeds, read back from the rows that the path wrote. Figures are medians of the rounds' ratios.

single_ratio          tokens/s of one streamed reply, member's event to final edit, over the direct call
batch16_ratio         16 channels at once, aggregate tokens/s, over 16 direct calls at once
fairness              slowest channel's finish over the median one, 16 at once, equal lengths
followup_ttft_ratio   time to first token of turn 5 over the same ids with nothing cached
loop_lag_p99_ms       lateness of a 5 ms timer on the bot's event loop while 16 replies stream
rss_mb                peak of the process that serves the 16 streams (no direct engine beside it)
ready_seconds         `encore demo` from exec to its "ready" line, caches warm, median of 5
torch_loaded          whether the serving process has imported torch
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import discord

from bot import settings as settings_module
from bot.client import build_bot
from bot.demo.world import LiveWorld
from bot.records import Provenance, Reply, ReplyState
from bot.screening import Screening
from bot.settings import Settings
from bot.store import Store
from models.loading import load_model
from models.safety_process import open_classifier

STREAMS = 16
CONTEXT_TOKENS = 1088  # at least 1,024 a stream
SINGLE_TOKENS, BATCH_TOKENS, TURN_TOKENS = 192, 64, 48
BARS = {
    "single_ratio": (">=", 0.95),
    "batch16_ratio": (">=", 0.90),
    "fairness": ("<=", 1.5),
    "followup_ttft_ratio": ("<=", 0.25),
    "loop_lag_p99_ms": ("<=", 20.0),
    "rss_mb": ("<=", 600.0),
    "ready_seconds": ("<=", 3.0),
    "torch_loaded": ("<=", 0.0),
}
TOPICS = (
    "a lighthouse keeper", "two rival bands", "a lost satellite", "the night market", "a shy dragon", "an old train",
    "a chess champion", "the last library", "a mountain village", "a robot gardener", "a cursed guitar", "the deep sea",
    "a clock maker", "a comet", "the first winter", "a talking fox",
)  # fmt: skip


class Stage:
    """A live world around the real bot on the embedded model."""

    def __init__(self, world: LiveWorld, store: Store) -> None:
        self.world, self.store = world, store
        self._channels = 0
        self._changed: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        # A member who polls would take from the bot the very time that is measured: changes wake the one who waits.
        world.backend.watchers.append(lambda change: self._changed[change.channel_id].set())

    def channel(self) -> Any:
        self._channels += 1
        return self.world.guild.create_text_channel(f"bench-{self._channels}")

    async def set_length(self, tokens: int) -> None:
        guild_id = self.world.guild.id
        sampling = (await self.store.server_settings(guild_id)).sampling
        sampling = dataclasses.replace(sampling, max_new_tokens=tokens)
        await self.store.change_server_settings(guild_id, 0, sampling=sampling, seed=7, quotas={})

    async def talk(self, channel: Any, text: str) -> tuple[Reply, float]:
        """Say something to the bot; return its finished reply and the seconds from the event to the final edit."""
        started = time.perf_counter()
        asked = await self.world.say(self.world.mei, channel, f"{self.world.mention} {text}")
        while True:
            reply = await self._finished(asked.id, channel)
            if reply is not None:
                return reply, time.perf_counter() - started
            await self._changed[channel.id].wait()
            self._changed[channel.id].clear()

    async def _finished(self, asked_id: int, channel: Any) -> Reply | None:
        # The member sees the end when the regenerate button appears with the final edit.
        replies = self.world.replies(channel)
        if not replies or not any("regenerate" in str(row) for row in replies[-1].components):
            return None
        if (replies[-1].reference or {}).get("message_id") != str(asked_id):
            return None
        while True:
            reply = await self.store.reply_of_message(replies[-1].id)
            if reply is not None and reply.state not in (ReplyState.WAITING, ReplyState.STREAMING):
                return reply
            await asyncio.sleep(0.003)


@contextlib.asynccontextmanager
async def stage(model: str, cache: Path, *, slots: int = STREAMS) -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory() as folder:
        settings = dataclasses.replace(
            Settings(), model=model, data_dir=Path(folder), parallel_streams=slots, context_tokens=CONTEXT_TOKENS
        )
        async with contextlib.AsyncExitStack() as stack:
            store = await stack.enter_async_context(await Store.open(settings.database))
            loaded = await load_model(
                settings.model,
                cache_dir=cache,
                context_tokens=settings.context_tokens,
                slots=settings.parallel_streams,
                queue_limit=settings.queue_limit,
                threads=settings.threads,
                kv_cache=settings.kv_cache,
                prompt_cache_mib=settings.prompt_cache_mib,
            )
            stack.push_async_callback(loaded.aclose)
            classifier = await stack.enter_async_context(open_classifier(settings.safety_model))
            screening = Screening(classifier)
            bot = build_bot(settings, store, loaded, screening=screening, provenance=Provenance.DEMO)
            world = await stack.enter_async_context(LiveWorld(bot))
            yield Stage(world, store)


class Direct:
    """xllamacpp with the same parameters, called without anything of Encore's around it."""

    def __init__(self, gguf: Path, *, slots: int) -> None:
        from models.engines.cores import usable_cores
        from models.engines.llama_server import open_server

        self._server, _ = open_server(
            gguf,
            context_tokens=CONTEXT_TOKENS,
            slots=slots,
            threads=usable_cores()[0],
            kv_cache=Settings().kv_cache,
            prompt_cache_mib=Settings().prompt_cache_mib,
        )

    def run(self, replies: Sequence[Reply], *, cached: bool = True) -> tuple[float, int, float]:
        """Generate all replies' prompts at once; return seconds, tokens and the first one's time to first token."""
        counts = [0] * len(replies)
        first = [0.0] * len(replies)

        def one(index: int, reply: Reply) -> None:
            assert reply.prompt and reply.generation
            sampling = reply.generation.sampling
            request = {
                "prompt": list(reply.prompt.token_ids),
                "n_predict": sampling.max_new_tokens,
                "stream": True,
                "temperature": sampling.temperature,
                "top_k": 40,
                "top_p": sampling.top_p,
                "min_p": sampling.min_p,
                "repeat_penalty": sampling.repeat_penalty,
                "repeat_last_n": sampling.repeat_last_n,
                "seed": reply.generation.seed,
                "cache_prompt": cached,
            }

            def on_piece(piece: dict[str, Any]) -> bool:
                if not first[index]:
                    first[index] = time.perf_counter() - started
                if "usage" in piece:
                    counts[index] = piece["usage"]["completion_tokens"]
                return False

            self._server.handle_completions(request, on_piece)

        threads = [threading.Thread(target=one, args=pair) for pair in enumerate(replies)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started, sum(counts), first[0]


def _request(number: str, topic: str) -> str:
    """Return a text that no cache has seen: only the instructions before it may be cached, on either side."""
    return f"({number}) Tell me a long story about {topic}, in detail."


def _tokens(replies: Sequence[Reply]) -> int:
    return sum(len(reply.outcome.completion_token_ids) for reply in replies if reply.outcome)


async def measure_ratios(model: str, cache: Path, gguf: Path, rounds: int) -> dict[str, Any]:
    """Path and bare engine in one process, in turn."""
    singles, batches, followups, spreads = [], [], [], []
    single_rates, batch_rates = [], []
    async with stage(model, cache) as on:
        direct = await asyncio.to_thread(Direct, gguf, slots=STREAMS)
        for number in range(rounds + 1):
            await on.set_length(SINGLE_TOKENS)
            reply, seconds = await on.talk(on.channel(), _request(f"single {number}", TOPICS[number % STREAMS]))
            bare_seconds, bare_tokens, _ = await asyncio.to_thread(direct.run, [reply])
            path_rate, bare_rate = _tokens([reply]) / seconds, bare_tokens / bare_seconds

            await on.set_length(BATCH_TOKENS)
            channels = [on.channel() for _ in TOPICS]
            started = time.perf_counter()
            done = await asyncio.gather(
                *(on.talk(c, _request(f"batch {number}", t)) for c, t in zip(channels, TOPICS, strict=True))
            )
            batch_seconds = time.perf_counter() - started
            replies = [reply for reply, _ in done]
            bare_batch_seconds, bare_batch_tokens, _ = await asyncio.to_thread(direct.run, replies)

            await on.set_length(TURN_TOKENS)
            channel = on.channel()
            for turn in range(5):
                reply, _ = await on.talk(channel, _request(f"turn {number}.{turn}", TOPICS[turn]))
            assert reply.outcome and reply.outcome.first_token_milliseconds
            _, _, cold = await asyncio.to_thread(direct.run, [reply], cached=False)
            if number == 0:
                continue  # warm-up: page cache, first-call set-up
            singles.append(path_rate / bare_rate)
            single_rates.append((round(path_rate, 1), round(bare_rate, 1)))
            path_batch, bare_batch = _tokens(replies) / batch_seconds, bare_batch_tokens / bare_batch_seconds
            batches.append(path_batch / bare_batch)
            batch_rates.append((round(path_batch, 1), round(bare_batch, 1)))
            finishes = [seconds for _, seconds in done]
            spreads.append(max(finishes) / statistics.median(finishes))
            followups.append(reply.outcome.first_token_milliseconds / 1000 / cold)
    return {
        "single_ratio": round(statistics.median(singles), 3),
        "single_tokens_per_second": single_rates,
        "batch16_ratio": round(statistics.median(batches), 3),
        "batch16_tokens_per_second": batch_rates,
        "fairness": round(statistics.median(spreads), 3),
        "followup_ttft_ratio": round(statistics.median(followups), 3),
        "followup_ttft_ratios": [round(ratio, 3) for ratio in followups],
    }


async def measure_process(model: str, cache: Path) -> dict[str, Any]:
    """16 streams in a process that holds nothing but the bot: memory, loop lag, imports."""
    lags: list[float] = []

    async def watch() -> None:
        while True:
            due = time.perf_counter() + 0.005
            await asyncio.sleep(0.005)
            lags.append((time.perf_counter() - due) * 1000)

    async with stage(model, cache) as on:
        await on.set_length(BATCH_TOKENS)
        await on.talk(on.channel(), "Hello!")
        channels = [on.channel() for _ in TOPICS]
        watcher = asyncio.create_task(watch())
        await asyncio.gather(*(on.talk(c, _request("batch", t)) for c, t in zip(channels, TOPICS, strict=True)))
        watcher.cancel()
    lags.sort()
    return {
        "loop_lag_p99_ms": round(lags[int(len(lags) * 0.99)], 2),
        "loop_lag_max_ms": round(lags[-1], 2),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "torch_loaded": int("torch" in sys.modules),
    }


def measure_ready(model: str, cache: Path, runs: int) -> dict[str, Any]:
    """Time `encore demo` from exec to the line that says it is ready."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DATA_DIR": folder, "MODEL": model, "PYTHONUNBUFFERED": "1"}
        (Path(folder) / "models").symlink_to(cache.resolve())
        for _ in range(runs + 1):
            started = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "bot", "demo", "--no-browser"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert process.stdout
            seen = []
            for line in process.stdout:
                seen.append(line)
                if "http://" in line:
                    break
            else:
                raise SystemExit("encore demo did not become ready:\n" + "".join(seen))
            seconds.append(time.perf_counter() - started)
            process.terminate()
            process.stdout.close()
            process.wait(30)
    return {
        "ready_seconds": round(statistics.median(seconds[1:]), 2),
        "ready_seconds_each": [round(s, 2) for s in seconds],
    }


def _holds(figures: dict[str, Any]) -> bool:
    return all(figures[name] >= bar if sign == ">=" else figures[name] <= bar for name, (sign, bar) in BARS.items())


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure serving against the bare engine.")
    parser.add_argument("--json", action="store_true", help="print one JSON object (default: the same, indented)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds after one warm-up (default 5)")
    parser.add_argument("--model", default="embedded", help="as MODEL (default embedded)")
    parser.add_argument("--process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = settings_module.load()
    cache = settings.models_dir
    if arguments.process:
        print(json.dumps(asyncio.run(measure_process(arguments.model, cache))))
        return
    from models.spec import resolve

    spec = resolve(arguments.model, cache)
    assert spec.path is not None
    alone = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve", "--process", "--model", arguments.model],
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, Any] = json.loads(alone.stdout.strip().splitlines()[-1])
    figures |= measure_ready(arguments.model, cache, runs=5)
    figures |= asyncio.run(measure_ratios(arguments.model, cache, spec.path, arguments.rounds))
    figures["holds"] = _holds(figures)
    figures["versions"] = {"discord.py": discord.__version__, "python": sys.version.split()[0]}
    print(json.dumps(figures) if arguments.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
