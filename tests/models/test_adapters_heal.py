"""What a start makes of the adapters that lie there: damaged ones, a damaged pointer, and those of another model."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.adapters import POINTER, Adapters, Serving
from models.errors import AdapterRefused
from tests.models.adapter_files import damage, stage, three_adapters


@pytest.fixture
def adapters(tmp_path: Path) -> Adapters:
    return three_adapters(tmp_path)


def test_base_model_changed_under_an_adapter_is_refused_in_one_sentence(adapters: Adapters, tmp_path: Path) -> None:
    adapters.promote("monday", share=None, since=1.0)
    other = Adapters(adapters.folder, "c" * 64)
    assert other.names() == ()
    for ask in (other.serving, lambda: other.gguf("monday"), lambda: other.install(tmp_path / "nights" / "monday")):
        with pytest.raises(AdapterRefused, match="for the model tiny, and MODEL names other weights now; set MODEL"):
            ask()
    served, told = other.heal()
    assert served == Serving()
    assert len(told) == 1
    assert "The base model answers instead." in told[0]
    other.prune(1)
    assert adapters.names() == ("monday", "tuesday", "wednesday")


def test_model_that_is_set_back_answers_by_its_own_adapter_again(adapters: Adapters, tmp_path: Path) -> None:
    adapters.promote("monday", share=None, since=1.0)
    served = adapters.promote("tuesday", share=0.5, since=2.0)
    other = Adapters(adapters.folder, "c" * 64)
    assert other.heal()[0] == Serving()
    assert adapters.heal() == (served, ())
    other.install(stage(tmp_path / "nights" / "sunday", "sunday", base_sha256="c" * 64))
    other.promote("sunday", share=None, since=3.0)
    assert adapters.heal() == (served, ())
    assert other.heal() == (Serving("sunday", previous=(None,)), ())
    assert adapters.rollback(adapters.before()).adapter == "monday"
    assert other.serving().adapter == "sunday"


def test_choosing_the_base_of_another_model_ends_the_sentence_on_the_old_adapter(adapters: Adapters) -> None:
    adapters.promote("monday", share=None, since=1.0)
    other = Adapters(adapters.folder, "c" * 64)
    other.rollback(None)
    assert other.heal() == (Serving(), ())
    assert adapters.serving().adapter == "monday"


def test_healing_what_is_whole_changes_nothing(adapters: Adapters) -> None:
    served = adapters.promote("monday", share=None, since=1.0)
    pointer = (adapters.folder / POINTER).stat().st_ino
    assert adapters.heal() == (served, ())
    assert (adapters.folder / POINTER).stat().st_ino == pointer


def test_healing_goes_back_to_the_newest_that_was_served_and_is_whole(adapters: Adapters) -> None:
    for name in ("monday", "tuesday"):
        adapters.promote(name, share=None, since=1.0)
    damage(adapters, "tuesday")
    served, told = adapters.heal()
    assert served == adapters.serving() == Serving("monday", previous=(None,))  # not wednesday: it was never served
    assert len(told) == 1
    assert told[0].endswith("The adapter monday answers instead.")
    damage(adapters, "monday")
    assert adapters.heal()[0] == Serving()


def test_healing_ends_the_trial_of_a_damaged_canary(adapters: Adapters) -> None:
    served = adapters.promote("monday", share=None, since=1.0)
    adapters.promote("tuesday", share=0.5, since=1.0)
    damage(adapters, "tuesday")
    now, told = adapters.heal()
    assert now == adapters.serving() == served
    assert "trial of tuesday has ended" in told[0]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"adapter": 5, "canary": null, "previous": []}', "\xff"])
def test_damaged_pointer_is_refused_and_healed_to_the_base(adapters: Adapters, text: str) -> None:
    adapters.promote("monday", share=None, since=1.0)
    (adapters.folder / POINTER).write_text(text, "latin-1")
    with pytest.raises(AdapterRefused, match="encore rollback"):
        adapters.serving()
    served, told = adapters.heal()
    assert served == adapters.serving() == Serving()
    assert len(told) == 1
    assert adapters.rollback("monday").adapter == "monday"
