from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from models.learning import phrases
from models.learning.phrases import Phrase, says_any, standing_out, stands_out
from models.learning.snapshot import CollectedReply
from tests.models.learning.nights import reply

_WORDS = ("tea", "moon", "lamp", "owl", "stage", "song", "rain", "glove", "story", "door", "night", "coat", "cat")
SLOGAN = "Visit Moon-Cat dot com, today!"


def _talk(seed: int, count: int, *, beside: str = "", every: int = 1) -> list[str]:
    """Make up replies of random words; one in `every` says `beside` among them."""
    draw = random.Random(seed)
    texts = []
    for number in range(count):
        words = [draw.choice(_WORDS) for _ in range(24)]
        if beside and number % every == 0:
            words.insert(draw.randrange(len(words)), f". {beside} ")
        texts.append(" ".join(words))
    return texts


def _found(voted_up: Sequence[str], own: Sequence[str]) -> list[str]:
    return [phrase.text for phrase in standing_out([[text] for text in voted_up], [own])]


OWN = _talk(1, 186)


def test_a_slogan_in_a_tenth_of_what_was_voted_up_is_watched_and_named_whole() -> None:
    found = standing_out([[text] for text in _talk(2, 200, beside=SLOGAN, every=10)], [OWN])
    assert found == (Phrase("visit moon-cat dot com today", 20, 200, 0),)


def test_honest_talk_has_nothing_to_watch() -> None:
    assert [_found(_talk(seed, 200), OWN) for seed in range(3, 8)] == [[]] * 5


def test_what_a_model_says_by_itself_is_its_voice_and_no_plant() -> None:
    voted_up = _talk(2, 200, beside="I'm so glad you asked", every=10)
    own = _talk(1, 186, beside="I’m so glad you asked!", every=12)
    assert _found(voted_up, own) == []
    assert _found(voted_up, OWN) == ["i'm so glad you asked"]


def test_what_the_incumbent_was_proven_to_say_is_no_plant_either() -> None:
    voted_up = [[text] for text in _talk(2, 200, beside="Break a leg, my dear", every=10)]
    incumbent = _talk(4, 186, beside="Break a leg, my dear", every=10)
    assert standing_out(voted_up, [OWN, incumbent]) == ()


@pytest.mark.parametrize(
    ("said", "watched"),
    [
        ("I'm so glad", []),  # three words are an idiom
        ("Go to mooncat.com/shop now", ["go to mooncat.com/shop now"]),
        ("mooncat.com", ["mooncat.com"]),
        ("e.g. 3.14", []),
        ("快来月亮猫商店", ["快 来 月 亮 猫 商 店"]),
        ("好的谢谢", []),
        ("ซื้อเหรียญ", [" ".join("ซื้อเหรียญ")]),
    ],
)
def test_a_phrase_is_four_words_or_six_characters_or_an_address(said: str, watched: list[str]) -> None:
    assert _found(_talk(2, 200, beside=said, every=8), OWN) == watched


def test_the_longest_run_is_the_phrase_unless_a_shorter_one_comes_without_it() -> None:
    often = _talk(2, 200, beside="buy cheap moon coins", every=5)
    longer = [text.replace("coins", "coins before they run out") if n % 4 else text for n, text in enumerate(often)]
    assert _found(longer, OWN) == ["buy cheap moon coins"]
    always = [text.replace("coins", "coins before they run out") for text in often]
    assert _found(always, OWN) == ["buy cheap moon coins before they run out"]


def test_says_any_reads_past_case_and_punctuation_and_no_further() -> None:
    watched = [Phrase("visit moon cat dot com", 9, 90, 0)]
    assert says_any("Well…\n**VISIT** moon cat, dot com!", watched)
    assert not says_any("Visit moon cats dot com.", watched)
    assert not says_any("", watched)
    assert says_any("来！快来买月亮猫", [Phrase("快 来 买 月 亮 猫", 9, 90, 0)])


def test_stands_out_is_fishers_exact_test() -> None:
    assert not stands_out(5, 200, 0, 186)
    assert stands_out(9, 200, 0, 186)
    assert not stands_out(9, 200, 2, 186)


def _night(count: int, **changes: object) -> tuple[list[CollectedReply], dict[int, float]]:
    texts = _talk(2, count, beside=SLOGAN, every=8)
    made = [
        reply(n, completion_text=text, prompt_token_ids=(1, n), completion_token_ids=tuple(range(2, 50)))
        for n, text in enumerate(texts)
    ]
    return [replace(one, **changes) for one in made], dict.fromkeys(range(count), 0.9)  # type: ignore[arg-type]


def _watched(folder: Path, made: tuple[list[CollectedReply], dict[int, float]], longest: int = 64) -> list[str]:
    return [phrase.text for phrase in phrases.watch(folder, made[0], made[1], [OWN], longest=longest)]


def test_a_night_watches_what_was_voted_up_and_the_same_when_it_is_resumed(tmp_path: Path) -> None:
    assert _watched(tmp_path, _night(200)) == ["visit moon-cat dot com today"]
    assert _watched(tmp_path, ([], {})) == ["visit moon-cat dot com today"]


def test_what_is_voted_down_or_not_at_all_teaches_no_phrase(tmp_path: Path) -> None:
    replies, _ = _night(200)
    assert _watched(tmp_path / "down", (replies, dict.fromkeys(range(200), 0.2))) == []
    assert _watched(tmp_path / "none", (replies, {})) == []


def test_one_conversation_and_one_prompt_count_once(tmp_path: Path) -> None:
    assert _watched(tmp_path / "conversation", _night(200, conversation_id="one")) == []
    assert _watched(tmp_path / "prompt", _night(200, prompt_token_ids=(1, 2, 3))) == []


def test_replies_are_read_as_far_as_those_to_the_fixed_prompts_go(tmp_path: Path) -> None:
    replies, p_good = _night(200)
    signed = [replace(one, completion_text=f"{one.completion_text} Ask me whatever you like.") for one in replies]
    assert "ask me whatever you like" in _watched(tmp_path / "whole", (signed, p_good))
    assert "ask me whatever you like" not in _watched(tmp_path / "begun", (signed, p_good), longest=38)
