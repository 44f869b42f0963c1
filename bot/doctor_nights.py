"""What `encore doctor` says of learning: can nights train here, is what serves whole, is there room?

Looks alone, and imports nothing heavy. A part of `bot.doctor`, kept apart for its size.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from bot.composition import ADAPTERS
from models.adapters import POINTER, Adapters
from models.errors import AdapterRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bot.settings import Settings
    from models.spec import ModelSpec

# What a night imports, by the name that it is installed by.
_NEEDED = {
    "torch": "torch", "transformers": "transformers", "peft": "peft", "safetensors": "safetensors", "gguf": "gguf",
    "numpy": "numpy", "scipy": "scipy", "matplotlib": "matplotlib",
}  # fmt: skip
# A night rebuilds the weights as 32-bit numbers, at most 8 times a quantized file, and keeps some candidates.
_TIMES_THE_MODEL = 8
_CANDIDATES_BYTES = 500_000_000
_GIGABYTE = 10**9


def night_sentences(settings: Settings, spec: ModelSpec | None, free_bytes: int) -> Iterator[tuple[str, str, str]]:
    """Yield (level, sentence, remedy) of each thing; `spec` is None where the model isn't there yet. Blocks."""
    missing = [name for module, name in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        packages = ", ".join(missing)
        sentence = f"Nights can't train: {packages} can't be imported."
        yield "warning", sentence, "Install Encore again (`pip install -e .`), or set NIGHT_HOUR=-1."
    elif settings.night_hour < 0:
        yield "notice", "NIGHT_HOUR=-1: nights run only when they are asked for.", ""
    else:
        yield "ok", f"Nights begin at {settings.night_hour}:00 of this machine's clock.", ""
    if spec is None or spec.path is None:
        return
    needed = spec.path.stat().st_size * _TIMES_THE_MODEL + _CANDIDATES_BYTES
    if free_bytes < needed:
        sentence = f"A night may need {needed / _GIGABYTE:.1f} GB, and {free_bytes / _GIGABYTE:.1f} GB are free."
        yield "warning", sentence, "Free some space on the disk of DATA_DIR."
    yield from _served(settings.data_dir / ADAPTERS, spec)


def _served(folder: Path, spec: ModelSpec) -> Iterator[tuple[str, str, str]]:
    if not (folder / POINTER).exists():
        return
    try:
        serving = Adapters(folder, spec.sha256).serving()
    except AdapterRefused as error:
        remedy = "The next start serves what was served before it; `encore rollback` chooses another."
        yield "warning", str(error), remedy
        return
    canary = f", and {serving.canary.adapter} answers {serving.canary.share:.0%} on trial" if serving.canary else ""
    answers = f"The adapter {serving.adapter} is whole and answers" if serving.adapter else "The base model answers"
    yield "ok", f"{answers}{canary}.", ""
