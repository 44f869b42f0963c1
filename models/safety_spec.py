"""SAFETY_MODEL -> what scores messages: Encore's own classifier, a transformers classifier's folder, or its repository.

Owns a model's labels read as our categories, by `category_of`. Reads a folder's config, so that a wrong name is told at
the start. What loads the model is `models.safety_worker`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import WrongModel
from models.learning.files import read_json
from models.safety import Category

EMBEDDED = "embedded"
_REPOSITORY = re.compile(r"[\w-][\w.-]{,95}/[\w-][\w.-]{,95}", re.ASCII)
_CHOICES = "use `embedded`, a transformers text classifier's folder, or its `owner/repo` on the Hugging Face hub"
# Tried in this order on a label in small letters with spaces: "not_toxic" is harmless before it is offensive.
_RULES: tuple[tuple[re.Pattern[str], Category | None], ...] = (
    (re.compile(r"\b(?:non|not|no|nothate|nonhate|none|neither|neutral|normal|safe|clean|ok|okay|benign)\b"), None),
    (re.compile(r"\b(?:harmless|appropriate|acceptable|positive|nontoxic|nonoffensive|sfw)\b"), None),
    (re.compile(r"self ?harm|suicid"), Category.SELF_HARM),
    (re.compile(r"hate|racis|sexis|identity|homophob|misogyn|discriminat|derogat"), Category.HATE),
    (re.compile(r"threat|violen"), Category.THREAT),
    (re.compile(r"sexual|porn|nsfw|erotic"), Category.SEXUAL),
    (re.compile(r"toxi|offens|insult|obscen|profan|abus|harass|bully|vulgar"), Category.OFFENSIVE),
    (re.compile(r"unsafe|inappropriate|harmful"), Category.OFFENSIVE),
)  # fmt: skip
_UNNAMED = {0: "LABEL_0", 1: "LABEL_1"}


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


def category_of(label: str) -> Category | None:
    """Return the category that a model's label means, or None for what is harmless or unknown."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_/:.-]+", " ", label).lower()
    return next((category for pattern, category in _RULES if pattern.search(words)), None)


def categories_of(labels: Mapping[int, str]) -> dict[int, Category]:
    """Return each label's category by its place; the second of two unnamed labels is taken to be the offensive one.

    Raises ValueError where no label means a category.
    """
    if labels == _UNNAMED:
        return {1: Category.OFFENSIVE}
    found = {place: category for place, label in labels.items() if (category := category_of(label)) is not None}
    if not found:
        raise ValueError(f"none of its labels ({', '.join(labels.values())}) names what is unsafe")
    return found


def categories_in(config: Mapping[str, Any]) -> dict[int, Category]:
    """Return what `categories_of` does, of a model's config.json.

    Raises ValueError for what is no text classifier: transformers would give it a head of random weights.
    """
    architectures = [str(name) for name in config.get("architectures") or ()]
    if not any(name.endswith("ForSequenceClassification") for name in architectures):
        raise ValueError(f"it is no text classifier ({', '.join(architectures) or 'it names no architecture'})")
    labels = config.get("id2label") or _UNNAMED  # left out where nobody named them
    return categories_of({int(place): str(label) for place, label in labels.items()})
