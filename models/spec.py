"""From the MODEL setting to the file to load: what it is, why it was chosen, and what it can't do.

Loads no weights; models/fetch brings and checks the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models import fetch
from models.errors import WrongModel

_SPEAKS_CHINESE = "MODEL=Qwen/Qwen2.5-1.5B-Instruct-GGUF/qwen2.5-1.5b-instruct-q4_k_m.gguf"
EMBEDDED_LANGUAGES = f"English only; for Chinese and other languages set {_SPEAKS_CHINESE}"
EMBEDDED_NOTE = (
    "The embedded model is small and speaks English only; for Chinese and other languages set "
    f"{_SPEAKS_CHINESE} (1.1 GB), or another GGUF that knows them."
)
HUB = re.compile(r"(?P<repository>[\w-][\w.-]{,95}/[\w-][\w.-]{,95})/(?P<name>[^\\]{1,200}\.gguf)", re.ASCII)
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model to load. `path` is None for `echo`; `reason` says why it was chosen; `sha256` names the exact file."""

    name: str
    path: Path | None
    sha256: str
    quantization: str
    reason: str
    languages: str


ECHO = ModelSpec(
    name="echo",
    path=None,
    sha256="",
    quantization="none",
    reason="MODEL=echo: repeats the last message; for tests",
    languages="any: it repeats what it is told",
)


def resolve(model: str, cache_dir: Path, *, progress: Callable[[str, int, int], None] | None = None) -> ModelSpec:
    """Find the model that MODEL names, fetching it on first use; blocks.

    `progress` is told a stage, bytes done and bytes in all. Raises ModelUnavailable; WrongModel if MODEL is at fault.
    """
    report = progress or fetch.no_progress
    if model == "echo":
        return ECHO
    if model == "embedded":
        path = fetch.embedded_file(cache_dir, progress=report)
        reason = "MODEL=embedded: the default, checked by sha256"
        return _spec(path, cache_dir, reason, report, languages=EMBEDDED_LANGUAGES)
    if file := file_named(model):
        return _spec(file, cache_dir, "MODEL names this file", report)
    found = HUB.fullmatch(model)
    if found and ".." not in PurePosixPath(model).parts:
        path = fetch.hub_file(found["repository"], found["name"], cache_dir, progress=report)
        return _spec(path, cache_dir, "MODEL names this file on the Hugging Face hub", report)
    shown = model if len(model) <= _SHOWN_CHARACTERS else f"{model[:_SHOWN_CHARACTERS]}…"
    raise WrongModel(
        f"MODEL: there is no file {shown!r}; "
        "use `embedded`, a path to a GGUF file, or `owner/repo/file.gguf` on the Hugging Face hub."
    )


def file_named(model: str) -> Path | None:
    """Return the local file that MODEL names, None if there is none."""
    try:
        path = Path(model).expanduser()
        return path if path.is_file() else None
    except (RuntimeError, OSError):  # ~ of no account; a name that no file can have
        return None


def _spec(
    path: Path, cache_dir: Path, reason: str, progress: fetch.Progress, *, languages: str | None = None
) -> ModelSpec:
    facts = fetch.facts_of(path, cache_dir, progress=progress)
    return ModelSpec(
        name=facts.name if languages is None else path.name.split(".")[0],
        path=path,
        sha256=facts.sha256,
        quantization=facts.quantization,
        reason=reason,
        languages=languages or ", ".join(facts.languages) or "as the model was trained",
    )
