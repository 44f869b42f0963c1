"""What members notice of a night: latency of replies while it trains, over the same without it.

    python -m benchmarks.night_serving [--data DIR] [--quick]

The real bot answers in a live SimCord world on the embedded model, and a real night (benchmarks/nights.py) trains in
its own process, as the bot starts it: lowest priority, one thread. Both conditions are one run: the night's process is
stopped (SIGSTOP) for some replies and goes on for the next ones, in turn, each reply to a prompt of its own.

latency_ratio     p50 of the seconds from a member's message to the final edit, night running over night stopped: <= 2.0
loop_lag_p99_ms   lateness of a 5 ms timer on the bot's event loop while the night runs: <= 20
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.nights import follow, make_night, start_night
from benchmarks.serve import TOPICS, Stage, stage

REPLIES, QUICK_REPLIES = 600, 400
ROUNDS, QUICK_ROUNDS = 12, 2
REPLIES_A_ROUND, REPLY_TOKENS = 3, 64
SLOTS, SEED = 4, 12
MODELS = Path("data/models")
BARS = {"latency_ratio": 2.0, "loop_lag_p99_ms": 20.0}


async def measure(on: Stage, group: int, rounds: int, steps: list[float]) -> dict[str, Any]:
    """Alternate between a stopped and a running night; `steps` grows by one a training step."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    each: dict[bool, list[float]] = {True: [], False: []}  # seconds a token
    lags: list[float] = []
    running = False

    async def watch() -> None:
        while True:
            due = time.perf_counter() + 0.005
            await asyncio.sleep(0.005)
            if running:
                lags.append((time.perf_counter() - due) * 1000)

    await on.set_length(REPLY_TOKENS)
    await on.talk(on.channel(), "Hello!")
    watcher = asyncio.create_task(watch())
    trained = len(steps)
    for number in range(rounds * 2):
        running = number % 2 == 1
        os.killpg(group, signal.SIGCONT if running else signal.SIGSTOP)
        await asyncio.sleep(0.5)
        for topic in range(REPLIES_A_ROUND):
            name = TOPICS[(number * REPLIES_A_ROUND + topic) % len(TOPICS)]
            reply, taken = await on.talk(on.channel(), f"({number}.{topic}) Tell me a long story about {name}.")
            assert reply.outcome is not None
            print(f"night {'running' if running else 'stopped'}: {taken:.2f} s", file=sys.stderr, flush=True)
            seconds[running].append(taken)
            each[running].append(taken / max(len(reply.outcome.completion_token_ids), 1))
    watcher.cancel()
    lags.sort()
    with_night, without = (statistics.median(seconds[state]) for state in (True, False))
    a_token, a_token_without = (statistics.median(each[state]) for state in (True, False))
    return {
        "latency_ratio": round(with_night / without, 3),
        "with_night_seconds": round(with_night, 3),
        "without_seconds": round(without, 3),
        "latency_ratio_a_token": round(a_token / a_token_without, 3),
        "replies_each": len(seconds[True]),
        "loop_lag_p99_ms": round(lags[int(len(lags) * 0.99)], 2),
        "loop_lag_max_ms": round(lags[-1], 2),
        "training_steps_meanwhile": len(steps) - trained,
    }


async def run(data: Path, folder: Path, *, replies: int, rounds: int) -> dict[str, Any]:
    make_night(folder, data, MODELS, replies=replies, seed=SEED)
    process = start_night(folder)
    training, steps = threading.Event(), []

    def told(progress: dict[str, Any]) -> bool:
        if progress["step"] == "train" and progress["done"]:
            steps.append(time.monotonic())
            training.set()
        return False

    reader = threading.Thread(target=follow, args=(process, told), daemon=True)
    reader.start()
    try:
        if not await asyncio.to_thread(training.wait, 600):
            raise SystemExit("The night never came to its training; run it alone to see why.")
        async with stage("embedded", MODELS, slots=SLOTS) as on:
            figures = await measure(on, process.pid, rounds, steps)
        if process.poll() is not None:
            raise SystemExit("The night ended before the measurement did; give it more replies.")
        return figures
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of replies while a night trains")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with HH (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few replies, judging nothing")
    options = parser.parse_args()
    replies, rounds = (QUICK_REPLIES, QUICK_ROUNDS) if options.quick else (REPLIES, ROUNDS)
    with tempfile.TemporaryDirectory() as temporary:
        figures = asyncio.run(run(options.data, Path(temporary) / "night", replies=replies, rounds=rounds))
    holds = all(figures[name] <= bar for name, bar in BARS.items())
    print(json.dumps({**figures, "bars": BARS, "holds": None if options.quick else holds}, indent=1))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
