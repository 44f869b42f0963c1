from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

import pytest

from models.safety import Category, Scores
from models.safety_embedded import load_classifier
from models.safety_process import ProcessClassifier, open_classifier
from models.safety_spec import categories_of, category_of
from tests.models.tiny_classifier import write_tiny_classifier

_STOOD_IN: Scores = {Category.OFFENSIVE: 0.125}
# Answers as the worker does, with the number of texts of a batch as the score, and with its own id in a file.
_FAKE = """
import json, os, sys, pathlib
model = pathlib.Path(sys.argv[1])
model.joinpath("starts").open("a").write(f"{os.getpid()}\\n")
if model.joinpath("broken").exists():
    print(json.dumps({"error": "the weights are no safetensors"}), flush=True); sys.exit(1)
print(json.dumps({"ready": ["hate"]}), flush=True)
for line in sys.stdin:
    texts = json.loads(line)["texts"]
    if "die" in texts: sys.exit(3)
    if "babble" in texts: print("what?", flush=True); continue
    if "hang" in texts: continue
    print(json.dumps({"scores": [{"hate": len(texts) / 100} for _ in texts]}), flush=True)
"""


class _StandIn:
    def scores(self, text: str) -> Scores:
        return _STOOD_IN


def _fake(folder: Path, *, first_pause: float = 0.01) -> ProcessClassifier:
    command = (sys.executable, "-c", _FAKE)
    return ProcessClassifier(str(folder), _StandIn(), command=command, first_pause=first_pause, answer_seconds=0.5)


def _starts(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "starts").read_text().split()] if (folder / "starts").exists() else []


async def _ready(classifier: ProcessClassifier) -> None:
    async with asyncio.timeout(60):
        await classifier.ready()


@pytest.mark.parametrize(
    ("label", "category"),
    [
        ("toxic", Category.OFFENSIVE),
        ("severe_toxicity", Category.OFFENSIVE),
        ("identity_hate", Category.HATE),
        ("hateSpeech", Category.HATE),
        ("sexism", Category.HATE),
        ("sexual_explicit", Category.SEXUAL),
        ("threat", Category.THREAT),
        ("self-harm", Category.SELF_HARM),
        ("NOT_TOXIC", None),
        ("non-offensive", None),
        ("nothate", None),
        ("neutral", None),
        ("safe", None),
        ("unsafe", Category.OFFENSIVE),
        ("joy", None),
    ],
)
def test_a_models_label_is_read_as_the_category_that_it_means(label: str, category: Category | None) -> None:
    assert category_of(label) is category


def test_the_second_of_two_unnamed_labels_is_the_offensive_one_and_labels_without_meaning_are_refused() -> None:
    assert categories_of({0: "LABEL_0", 1: "LABEL_1"}) == {1: Category.OFFENSIVE}
    with pytest.raises(ValueError, match="joy, anger"):
        categories_of({0: "joy", 1: "anger"})


async def test_a_transformers_classifier_scores_by_category_in_a_process_of_its_own(tmp_path: Path) -> None:
    async with ProcessClassifier(
        write_tiny_classifier(tmp_path, ["normal", "offensive", "hate"]), _StandIn()
    ) as classifier:
        assert await classifier.scores("you are kind") == _STOOD_IN  # it is still starting
        await _ready(classifier)
        found = await asyncio.gather(*(classifier.scores(text) for text in ("you are bad", "你坏", "a " * 500, "")))
    for scores in found:
        assert set(scores) == {Category.OFFENSIVE, Category.HATE}
        assert 0 < sum(scores.values()) < 1  # the rest is "normal"


async def test_labels_that_are_true_together_each_have_their_own_score(tmp_path: Path) -> None:
    model = write_tiny_classifier(tmp_path, ["toxic", "insult", "threat"], problem="multi_label_classification")
    async with ProcessClassifier(model, _StandIn()) as classifier:
        await _ready(classifier)
        scores = await classifier.scores("you are bad")
    assert set(scores) == {Category.OFFENSIVE, Category.THREAT}
    assert sum(scores.values()) != pytest.approx(1, abs=1e-3)  # sigmoids, the larger of two for offence


async def test_weights_that_are_pickles_are_refused_and_the_stand_in_scores(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = write_tiny_classifier(tmp_path, ["normal", "offensive"], safe=False)
    async with ProcessClassifier(model, _StandIn(), first_pause=60) as classifier:
        await classifier.scores("you are bad")
        async with asyncio.timeout(60):
            while "doesn't answer" not in caplog.text:
                await asyncio.sleep(0.05)
        assert await classifier.scores("you are bad") == _STOOD_IN
    assert "Encore's own classifier stands in" in caplog.text
    assert "safetensors" in caplog.text


async def test_model_that_is_no_classifier_does_not_score_by_chance(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = write_tiny_classifier(tmp_path, ["LABEL_0", "LABEL_1"])
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    async with ProcessClassifier(model, _StandIn(), first_pause=60) as classifier:
        await classifier.scores("you are bad")
        async with asyncio.timeout(60):
            while "doesn't answer" not in caplog.text:
                await asyncio.sleep(0.05)
    assert "it is no text classifier (BertForMaskedLM)" in caplog.text


async def test_texts_that_wait_are_asked_together(tmp_path: Path) -> None:
    async with _fake(tmp_path) as classifier:
        await _ready(classifier)
        found = await asyncio.gather(*(classifier.scores(f"text {number}") for number in range(5)))
    assert [scores[Category.HATE] for scores in found] == [0.05] * 5


async def test_the_setting_opens_encores_own_classifier_or_the_operators(tmp_path: Path) -> None:
    own = load_classifier().scores("I really can't stand immigrants.")
    async with open_classifier("embedded") as classifier:
        assert await classifier.scores("I really can't stand immigrants.") == own
    async with open_classifier(write_tiny_classifier(tmp_path, ["LABEL_0", "LABEL_1"])) as classifier:
        assert isinstance(classifier, ProcessClassifier)
        assert await classifier.scores("I really can't stand immigrants.") == own  # it is still starting
        await _ready(classifier)
        assert set(await classifier.scores("you are bad")) == {Category.OFFENSIVE}


async def test_nothing_is_started_before_the_first_text(tmp_path: Path) -> None:
    async with _fake(tmp_path):
        await asyncio.sleep(0.05)
    assert _starts(tmp_path) == []


@pytest.mark.parametrize("trouble", ["die", "babble", "hang"])
async def test_the_stand_in_scores_until_a_process_in_trouble_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    caplog.set_level(logging.INFO)
    async with _fake(tmp_path) as classifier:
        await _ready(classifier)
        assert await classifier.scores(trouble) == _STOOD_IN
        await _ready(classifier)
        assert await classifier.scores("fine") == {Category.HATE: 0.01}
    assert len(_starts(tmp_path)) == 2
    assert caplog.text.count("Encore's own classifier stands in") == 1


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    async with _fake(tmp_path) as classifier:
        await _ready(classifier)
        os.kill(_starts(tmp_path)[0], signal.SIGKILL)
        assert await classifier.scores("fine") == _STOOD_IN
        await _ready(classifier)
        assert await classifier.scores("fine") == {Category.HATE: 0.01}


async def test_the_pause_doubles_while_the_model_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken").touch()
    async with _fake(tmp_path, first_pause=0.001) as classifier:
        assert await classifier.scores("fine") == _STOOD_IN
        async with asyncio.timeout(30):
            while len(_starts(tmp_path)) < 4:
                await asyncio.sleep(0.01)
        (tmp_path / "broken").unlink()
        await _ready(classifier)
        assert await classifier.scores("fine") == {Category.HATE: 0.01}
    pauses = [float(record.args[2]) for record in caplog.records if isinstance(record.args, tuple)]
    assert pauses[:4] == [0.001, 0.002, 0.004, 0.008]
    assert "the weights are no safetensors" in caplog.text


async def test_the_process_ends_with_the_bot_and_texts_are_scored_even_then(tmp_path: Path) -> None:
    async with _fake(tmp_path) as classifier:
        await _ready(classifier)
        waiting = asyncio.create_task(classifier.scores("hang"))
        await asyncio.sleep(0.05)
    assert await waiting == _STOOD_IN
    assert await classifier.scores("fine") == _STOOD_IN
    with pytest.raises(ProcessLookupError):
        os.kill(_starts(tmp_path)[0], 0)


async def test_the_bots_secrets_are_not_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "secret")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    code = (
        "import json, os, sys, pathlib;"
        "pathlib.Path(sys.argv[1], 'environment').write_text(json.dumps(dict(os.environ)));"
        "print(json.dumps({'ready': []}), flush=True); sys.stdin.read()"
    )
    async with ProcessClassifier(str(tmp_path), _StandIn(), command=(sys.executable, "-c", code)) as classifier:
        await _ready(classifier)
    environment = json.loads((tmp_path / "environment").read_text())
    assert "DISCORD_TOKEN" not in environment
    assert environment["HF_ENDPOINT"] == "https://hub.example"
