from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.safety import Category, SafetyFilter, load_filter

_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
# Made up here: nobody's words.
_UNSAFE = (
    "fuck you, you stupid bitch",
    "You are a worthless piece of shit.",
    "Go kill yourself, you idiot.",
    "What an asshole, nobody likes you.",
    "Shut up, you fucking retard!",
    "Those people are dirty whores and should die.",
)
_ORDINARY = (
    "A good way to start the morning is a glass of water and a short walk.",
    "Paris is the capital of France.",
    "I'm sorry to hear that. Would you like to talk about it?",
    "To kill the weeds, pour hot water on them; that is hard work, damp soil helps.",
    "Turn off the power before you touch the wires, and keep your hands dry.",
    "Shoot the photo with the sun behind you, and mind the dark shadows.",
    "Scunthorpe is a town in Lincolnshire; Essex is a county.",
    "42",
    "",
)
# It goes by words: these are its errors, and cost a night that example.
_MISTAKEN = (
    "The cock crowed at dawn and the black hen answered.",
    "Turn off the power before you touch the wires, or you could die.",
)
_UNSAFE_CHINESE = ("你这个傻逼", "去死吧，没人喜欢你。", "他们都是人渣。")
_ORDINARY_CHINESE = ("早上喝一杯水，然后散散步。", "彩虹是光的折射形成的。", "我感到有点恶心，可能是吃坏了。")


@pytest.fixture(scope="module")
def safety() -> SafetyFilter:
    return load_filter()


@pytest.mark.parametrize("text", _UNSAFE)
def test_insults_threats_and_profanity_are_marked(safety: SafetyFilter, text: str) -> None:
    marked = safety.check(text)
    assert marked.unsafe
    assert marked.category is Category.OFFENSIVE
    assert 0.7 < marked.score <= 1


@pytest.mark.parametrize("text", _ORDINARY + _ORDINARY_CHINESE)
def test_ordinary_replies_are_not_marked(safety: SafetyFilter, text: str) -> None:
    marked = safety.check(text)
    assert not marked.unsafe
    assert marked.category is None
    assert 0 <= marked.score <= 0.7


@pytest.mark.xfail(reason="the classifier reads words, not what they mean", strict=True)
@pytest.mark.parametrize("text", _MISTAKEN)
def test_a_word_with_two_meanings_is_not_marked(safety: SafetyFilter, text: str) -> None:
    assert not safety.check(text).unsafe


@pytest.mark.parametrize("text", _UNSAFE_CHINESE)
def test_listed_chinese_insults_are_marked_as_listed(safety: SafetyFilter, text: str) -> None:
    assert safety.check(text).category is Category.LISTED


def test_a_long_polite_reply_does_not_dilute_an_insult(safety: SafetyFilter) -> None:
    polite = "Here is a plan for a quiet Sunday in the garden with a book and some tea. " * 12
    assert not safety.check(polite).unsafe
    assert safety.check(f"{polite}Now fuck off, you stupid cunt. {polite}").unsafe


@pytest.mark.parametrize(
    "text", ["you stupid b1tch", "what a pile of sh!t", "f u c k you", "ＦＵＣＫ ＹＯＵ", "FUCK YOU"]
)
def test_disguised_letters_are_read(safety: SafetyFilter, text: str) -> None:
    assert safety.check(text).unsafe


@pytest.mark.parametrize("text", ["a-" * 2000, "a1" * 2000, "! " * 2000, "a " * 2000, "你，" * 2000, "1" * 4000])
def test_no_text_takes_long(safety: SafetyFilter, text: str) -> None:
    started = time.process_time()
    safety.check(text)
    assert time.process_time() - started < 0.05  # 0.1 s before the pattern was anchored to the start of a word


def test_the_filter_brings_in_neither_torch_nor_scipy() -> None:
    heavy = "{'numpy', 'scipy', 'torch', 'sklearn', 'pickle'}"
    code = f"import sys, models.safety as s; s.load_filter().check('x'); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def _hatecheck() -> list[dict[str, str]]:
    path = _DATA / "hatecheck.csv"
    if not path.exists():
        pytest.skip("hatecheck.csv isn't here")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_hatecheck_is_answered_as_measured(safety: SafetyFilter) -> None:
    """Of 140 hateful texts with profanity at least 85 % are marked; of 315 that name a group kindly at most 10 %."""

    def share(*functionalities: str) -> float:
        texts = [row["test_case"] for row in _hatecheck() if row["functionality"] in functionalities]
        return sum(safety.check(text).unsafe for text in texts) / len(texts)

    assert share("profanity_h") >= 0.85
    assert share("ident_neutral_nh", "ident_pos_nh") <= 0.10
