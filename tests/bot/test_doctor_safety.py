"""What `encore doctor` says of the classifier that SAFETY_MODEL names."""

from __future__ import annotations

from pathlib import Path

from bot.doctor import check_safety
from bot.findings import Level
from bot.settings import Settings
from tests.models.test_safety_spec import classifier, labelled


def test_encores_own_classifier_is_told_with_its_languages() -> None:
    found = check_safety(Settings())
    assert (found.level, found.sentence) == (
        Level.OK,
        "Encore's own classifier scores messages in English and Chinese.",
    )


def test_folder_is_told_with_what_its_classifier_finds(tmp_path: Path) -> None:
    found = check_safety(Settings(safety_model=classifier(tmp_path, labelled("fine", "self-harm", "toxic"))))
    assert found.level is Level.OK
    assert f"The classifier in {tmp_path} scores messages: offensive, self harm." in found.sentence


def test_repository_is_fetched_later(tmp_path: Path) -> None:
    found = check_safety(Settings(safety_model="owner/repo"))
    assert found.level is Level.NOTICE
    assert "owner/repo is fetched with the first message; until then Encore's own stands in" in found.sentence


def test_wrong_name_is_an_error_with_its_remedy() -> None:
    found = check_safety(Settings(safety_model="toxic-bert"))
    assert (found.level, found.sentence) == (Level.ERROR, "SAFETY_MODEL: there is no folder 'toxic-bert'.")
    assert found.remedy.startswith("Use `embedded`, a transformers text classifier's folder, or its `owner/repo`")
