"""SAFETY_MODEL -> what scores messages: Encore's own classifier, a transformers classifier's folder, or its repository.

Reads a folder's config, so that a wrong name is told at the start. What loads it is `models.safety_worker`.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from models.errors import WrongModel
from models.learning.files import read_json
from models.safety import Category
from models.safety_worker import categories_in

EMBEDDED = "embedded"
_REPOSITORY = re.compile(r"[\w-][\w.-]{,95}/[\w-][\w.-]{,95}", re.ASCII)
_CHOICES = "use `embedded`, a transformers text classifier's folder, or its `owner/repo` on the Hugging Face hub"


@dataclass(frozen=True, slots=True)
class SafetySpec:
    """What to load: `folder` or `repository`; neither is Encore's own. `categories` are known of a folder alone."""

    folder: Path | None = None
    repository: str | None = None
    categories: tuple[Category, ...] = ()


def resolve(model: str) -> SafetySpec:
    """Return what SAFETY_MODEL names, without fetching anything. Blocks. Raises WrongModel."""
    if model == EMBEDDED:
        return SafetySpec()
    with contextlib.suppress(RuntimeError, OSError):  # "~nobody", or too long a name
        folder = Path(model).expanduser()
        if folder.is_dir():
            return SafetySpec(folder.resolve(), categories=_categories(folder))
    if _REPOSITORY.fullmatch(model):
        return SafetySpec(repository=model)
    raise WrongModel(f"SAFETY_MODEL: there is no folder {model[:200]!r}; {_CHOICES}.")


def _categories(folder: Path) -> tuple[Category, ...]:
    try:
        found = categories_in(read_json(folder / "config.json"))
    except FileNotFoundError:
        raise WrongModel(f"SAFETY_MODEL: the folder {folder} has no config.json; {_CHOICES}.") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WrongModel(f"SAFETY_MODEL: the folder {folder} can't be used ({error}); {_CHOICES}.") from error
    if not any(folder.glob("*.safetensors")):
        raise WrongModel(
            f"SAFETY_MODEL: the folder {folder} has no weights as safetensors, and others aren't read; {_CHOICES}."
        )
    return tuple(sorted(set(found.values())))
