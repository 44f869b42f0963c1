"""What answering loads: nothing of what only training needs, which would cost memory and seconds at every start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_BUILD = """
import asyncio, sys
from pathlib import Path
from bot import commands, doctor
from bot.composition import services
from bot.settings import Settings

async def build():
    settings = Settings(data_dir=Path("data"), model=sys.argv[1], context_tokens=256, parallel_streams=1)
    imports = ("bot.client", "bot.gateway", "bot.demo.server", "bot.terminal")
    nothing = lambda *_: None
    async with services(settings, database=settings.database, progress=nothing, imports=imports) as (store, model, *_):
        from bot.client import build_bot
        await build_bot(settings, store, model).close()

asyncio.run(build())
heavy = {"torch", "transformers", "peft", "pandas", "scipy"} & sys.modules.keys()
sys.exit(f"loaded: {sorted(heavy)}" if heavy else 0)
"""


def _build(model: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, model],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(_ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_serving_loads_no_torch(tmp_path: Path) -> None:
    _build("echo", tmp_path)


def test_serving_the_embedded_model_loads_no_torch(tmp_path: Path, embedded_cache: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "models").symlink_to(embedded_cache)
    _build("embedded", tmp_path)
