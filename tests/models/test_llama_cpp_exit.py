"""A process that ends in the middle of a stream of llama.cpp's: it ends at once, and in silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from models.spec import ModelSpec

ROOT = Path(__file__).resolve().parents[2]
EXIT_SCRIPT = """
import asyncio, atexit, sys
from pathlib import Path
from models.engines.llama_cpp import LlamaCppEngine
from models.spec import ModelSpec
from models.types import Request, Sampling

async def begin():
    spec = ModelSpec("tiny", Path(sys.argv[1]), "", "", "", "")
    engine = await LlamaCppEngine.open(spec, context_tokens=8192, slots=1, threads=1)
    sampling = Sampling(temperature=0.0, repeat_penalty=1.0, max_new_tokens=8000)
    pieces = engine.stream(Request(tuple(range(10, 60)), sampling, 1), cancel=asyncio.Event())
    await anext(pieces)
    return engine, pieces

def report(engine, pieces):
    for run in engine._runs:
        print("generated", run._timings["predicted_n"], "alive", run.thread.is_alive(), flush=True)
"""


def run_to_exit(tiny_spec: ModelSpec, ending: str) -> subprocess.Popen[str]:
    script = EXIT_SCRIPT + textwrap.dedent(ending)
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", script, str(tiny_spec.path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_interpreter_exit_stops_a_stream_that_nobody_closed(tiny_spec: ModelSpec) -> None:
    process = run_to_exit(
        tiny_spec,
        """
        loop = asyncio.new_event_loop()
        engine, pieces = loop.run_until_complete(begin())
        atexit.register(report, engine, pieces)
        sys.exit(3)
        """,
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert err == ""
    words = out.split()
    assert int(words[1]) < 8000
    assert words[3] == "False"


def test_exit_inside_the_event_loop_stops_a_stream_in_flight(tiny_spec: ModelSpec) -> None:
    process = run_to_exit(
        tiny_spec,
        """
        async def main():
            engine, pieces = await begin()
            atexit.register(report, engine, pieces)
            sys.exit(4)

        asyncio.run(main())
        """,
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    assert err == ""
    assert out == "" or int(out.split()[1]) < 8000


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_termination_signal_ends_the_process_in_the_middle_of_a_stream(tiny_spec: ModelSpec) -> None:
    process = run_to_exit(
        tiny_spec,
        """
        async def main():
            engine, pieces = await begin()
            print("streaming", flush=True)
            async for piece in pieces:
                pass

        asyncio.run(main())
        """,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "streaming\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGTERM
