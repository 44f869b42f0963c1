"""What SAFETY_MODEL names, and what is told where it names nothing that could be loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import WrongModel
from models.safety import Category
from models.safety_spec import SafetySpec, resolve


def labelled(*labels: str) -> dict[str, Any]:
    named = {"id2label": {str(place): label for place, label in enumerate(labels)}} if labels else {}
    return {"architectures": ["BertForSequenceClassification"], **named}


def classifier(folder: Path, config: Any, *, weights: str = "model.safetensors") -> str:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / weights).touch()
    return str(folder)


def test_embedded_is_encores_own() -> None:
    assert resolve("embedded") == SafetySpec()


def test_folder_is_named_in_full_with_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toxic").mkdir()
    classifier(tmp_path / "toxic", labelled("normal", "threat", "insult", "toxic"))
    monkeypatch.chdir(tmp_path)
    assert resolve("toxic") == SafetySpec(tmp_path / "toxic", categories=(Category.OFFENSIVE, Category.THREAT))


def test_labels_that_nobody_named_are_two_and_the_second_is_the_offensive_one(tmp_path: Path) -> None:
    assert resolve(classifier(tmp_path, labelled())).categories == (Category.OFFENSIVE,)


@pytest.mark.parametrize("name", ["owner/repo", "unitary/toxic-bert", "a/b.c_d"])
def test_repository_is_taken_by_its_name(name: str) -> None:
    assert resolve(name) == SafetySpec(repository=name)


@pytest.mark.parametrize("name", ["repo", "a/b/c", "../toxic", "a/..b/c", "~nobody/toxic", "owner/", "x" * 300])
def test_name_of_nothing_is_told_with_what_can_be_named(name: str) -> None:
    with pytest.raises(WrongModel, match="there is no folder '.{0,200}'; use `embedded`, a transformers"):
        resolve(name)


def test_folder_of_something_else_is_told(tmp_path: Path) -> None:
    with pytest.raises(WrongModel, match=f"the folder {tmp_path} has no config.json; use `embedded`, "):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("{", "can't be used"),
        ([], "can't be used"),
        ({"id2label": {"0": "toxic"}}, "it is no text classifier .it names no architecture."),
        ({"architectures": ["BertForMaskedLM"]}, "it is no text classifier .BertForMaskedLM."),
        (labelled() | {"id2label": {"zero": "toxic"}}, "can't be used"),
        (labelled("joy", "anger"), "none of its labels .joy, anger. names what is unsafe"),
    ],
)
def test_folder_whose_labels_mean_nothing_is_refused(tmp_path: Path, config: Any, why: str) -> None:
    with pytest.raises(WrongModel, match=f"^SAFETY_MODEL: .*{why}.*; use `embedded`"):
        resolve(classifier(tmp_path, config))


def test_folder_with_weights_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongModel, match="has no weights as safetensors, and others aren't read; use"):
        resolve(classifier(tmp_path, labelled(), weights="pytorch_model.bin"))
