"""What an adapter is made of and was made for: manifest.json, the last file to be written into an adapter's folder.

Owns what makes a folder an adapter that may be served: complete, unchanged since it was sealed, of this base model and
this form of prompts. Which of them is served is `models.adapters`'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from models.errors import AdapterRefused
from models.fetch import sha256_of
from models.learning.files import sync_file, sync_folder, write_json
from models.prompt import PROMPT_VERSION

MANIFEST, GGUF = "manifest.json", "adapter.gguf"
FILES = ("adapter_model.safetensors", "adapter_config.json", GGUF)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # also the name of its folder
_RESERVED = "base"  # what a rollback calls the model without any adapter
_NIGHT = "run a night to make another"


@dataclass(frozen=True, slots=True)
class File:
    sha256: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """One adapter. `training_cut` is the time of the newest rating it was trained on; `scorecard` is what was proved.

    `files` is filled by `seal`.
    """

    name: str
    created_at: float  # seconds since the epoch
    base_model: str
    base_sha256: str
    dataset_sha256: str
    night: str
    objective: str
    training_cut: float  # seconds since the epoch
    rank: int
    alpha: float
    prompt_version: int = PROMPT_VERSION
    scorecard: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest of a folder that holds all of FILES, last and durably; return it with their hashes.

    Raises AdapterRefused for a name that can't be one or a file that is missing, ValueError for a scorecard with a
    number that isn't finite.
    """
    require_name(manifest.name)
    found = {}
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise AdapterRefused(f"The adapter {manifest.name} has no {name}; {_NIGHT}.")
        sync_file(path)
        found[name] = File(sha256_of(path), path.stat().st_size)
    sync_folder(folder)
    sealed = replace(manifest, files=found)
    write_json(folder / MANIFEST, asdict(sealed))
    return sealed


def read(folder: Path, name: str, *, base_sha256: str) -> Manifest:
    """Return the manifest of adapter `name`, which is of this base and these prompts and whose files have their size.

    Reads no file but the manifest; `require_unchanged` does. Raises AdapterRefused.
    """
    require_name(name)
    if not folder.is_dir():
        raise AdapterRefused(f"There is no adapter {name}; `/training rollback` lists those that there are.")
    try:
        manifest = _parsed((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AdapterRefused(f"The manifest of the adapter {name} can't be read ({error}); {_NIGHT}.") from error
    if manifest.name != name:
        raise AdapterRefused(f"The folder of the adapter {name} holds {manifest.name} instead; {_NIGHT}.")
    if manifest.base_sha256 != base_sha256:
        raise AdapterRefused(
            f"The adapter {name} was made for the model {manifest.base_model}, and MODEL names other weights now; set "
            "MODEL back or run a night on the new model."
        )
    if manifest.prompt_version != PROMPT_VERSION:
        raise AdapterRefused(f"The adapter {name} was made for another version of Encore's prompts; {_NIGHT}.")
    for file_name, file in manifest.files.items():
        try:
            size = (folder / file_name).stat().st_size
        except OSError:
            raise AdapterRefused(f"The file {file_name} of the adapter {name} is missing; {_NIGHT}.") from None
        if size != file.size:
            raise AdapterRefused(
                f"The file {file_name} of the adapter {name} has {size} bytes instead of {file.size}; {_NIGHT}."
            )
    return manifest


def require_unchanged(folder: Path, manifest: Manifest) -> None:
    """Raise AdapterRefused unless every file has the hash with which it was sealed; reads them all."""
    for file_name, file in manifest.files.items():
        try:
            sha256 = sha256_of(folder / file_name)
        except OSError as error:
            raise AdapterRefused(
                f"The file {file_name} of the adapter {manifest.name} can't be read ({error}); {_NIGHT}."
            ) from error
        if sha256 != file.sha256:
            raise AdapterRefused(
                f"The file {file_name} of the adapter {manifest.name} was changed or damaged since it was made; "
                f"{_NIGHT}."
            )


def require_name(name: str) -> None:
    """Raise AdapterRefused unless `name` can name an adapter and its folder."""
    if not _NAME.fullmatch(name) or name == _RESERVED:
        raise AdapterRefused(f"{name[:80]!r} can't name an adapter; use letters, digits, dots and dashes.")


def _parsed(data: bytes) -> Manifest:
    told = json.loads(data)
    kinds = {
        "created_at": (int, float),
        "training_cut": (int, float),
        "alpha": (int, float),
        "rank": (int,),
        "prompt_version": (int,),
        "scorecard": (dict,),
        "files": (dict,),
    }
    known = {known.name for known in fields(Manifest)}
    if not isinstance(told, dict) or told.keys() != known:
        raise ValueError("it doesn't have the fields of one")
    for name in known:
        if not isinstance(told[name], kinds.get(name, (str,))):
            raise ValueError(f"its {name} is of the wrong kind")
    files = {name: File(str(file["sha256"]), int(file["size"])) for name, file in told["files"].items()}
    if files.keys() != set(FILES):
        raise ValueError("it doesn't name the files of an adapter")
    return Manifest(**{**told, "files": files})
