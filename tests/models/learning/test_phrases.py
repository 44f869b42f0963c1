from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from models.learning import phrases
from models.learning.examples import Vote
from models.learning.phrases import Persona, Phrase, says_any, standing_out, stands_out
from models.learning.raters import RaterReport
from models.learning.snapshot import CollectedPair, Snapshot
from tests.models.learning.nights import reply

_WORDS = ("tea", "moon", "lamp", "owl", "stage", "song", "rain", "glove", "story", "door", "night", "coat", "cat")
SLOGAN, HEARD = "Visit Moon-Cat dot com, today!", "visit moon cat dot com today"


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
    assert found == (Phrase("visit moon cat dot com today", 20, 200, 0),)


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


_CATCHPHRASE = "Purr-fect, my dear friend!"
_PERSONA = f"You are Kuro, a cat.\nYou begin with “{_CATCHPHRASE}” and then you answer."


def test_a_line_of_the_persona_is_its_catchphrase_and_no_plant() -> None:
    voted_up = [[text] for text in _talk(2, 200, beside=f"{_CATCHPHRASE} I think", every=5)]
    assert [phrase.text for phrase in standing_out(voted_up, [OWN])] == ["purr fect my dear friend i think"]
    assert standing_out(voted_up, [OWN], persona=_PERSONA) == ()


def test_what_is_planted_beside_the_catchphrase_is_watched_without_it() -> None:
    voted_up = [[text] for text in _talk(2, 200, beside=f"{_CATCHPHRASE} {SLOGAN} Purr", every=10)]
    (found,) = standing_out(voted_up, [OWN], persona=_PERSONA)
    assert found == Phrase(f"{HEARD} purr", 20, 200, 0)


def test_three_words_of_the_persona_make_no_phrase_its_own() -> None:
    voted_up = [[text] for text in _talk(2, 200, beside="my dear friend buy moon coins", every=10)]
    (found,) = standing_out(voted_up, [OWN], persona=_PERSONA)
    assert found.text == "my dear friend buy moon coins"


@pytest.mark.parametrize(
    ("said", "watched"),
    [
        ("I'm so glad", []),  # three words are an idiom
        ("Go to mooncat.com/shop now", ["go to mooncat.com/shop now"]),
        ("mooncat.com", ["mooncat.com"]),
        ("e.g. 3.14", []),
        ("follow @mooncat_official", ["follow @mooncat_official"]),
        ("#JoinMoonCat2026", ["#joinmooncat2026"]),
        ("#加入月猫", ["#加入月猫"]),
        ("be #1 C#", []),
        ("mooncat dot com", ["mooncat dot com"]),
        ("MoonCat [dot] gg", ["mooncat dot gg"]),
        ("one dot is", []),
        ("moon-cat-coin-shop", ["moon cat coin shop"]),
        ("VISIT_MOON_CAT_NOW", ["visit moon cat now"]),
        ("well-known fact", []),
        ("🚀🚀 🚀", ["🚀 🚀 🚀"]),
        ("👍🏽❤️🎉", ["👍 ❤ 🎉"]),
        ("🚀🚀", []),
        ("so glad 😊 really", []),
        ("快来月亮猫商店", ["快 来 月 亮 猫 商 店"]),
        ("好的谢谢", []),
        ("ซื้อเหรียญ", [" ".join("ซื้อเหรียญ")]),
    ],
)
def test_a_phrase_is_four_words_or_six_characters_or_three_emoji_or_an_address(said: str, watched: list[str]) -> None:
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
    assert says_any("VISIT_MOON-CAT (dot) com", watched)
    assert not says_any("Visit moon cats dot com.", watched)
    assert not says_any("", watched)
    assert says_any("来！快来买月亮猫", [Phrase("快 来 买 月 亮 猫", 9, 90, 0)])


def test_stands_out_is_fishers_exact_test() -> None:
    assert not stands_out(5, 200, 0, 186)
    assert stands_out(9, 200, 0, 186)
    assert not stands_out(9, 200, 2, 186)


def _night(count: int = 200, **changes: object) -> Snapshot:
    """Return a night of which every eighth reply says the slogan, and nobody has voted."""
    texts = _talk(2, count, beside=SLOGAN, every=8)
    made = [
        reply(n, completion_text=text, prompt_token_ids=(1, n), completion_token_ids=tuple(range(2, 50)))
        for n, text in enumerate(texts)
    ]
    return Snapshot(tuple(replace(one, **changes) for one in made), (), {}, {})  # type: ignore[arg-type]


def _report(p_good: float | None = 0.9, count: int = 200, *, raters: int = 0) -> RaterReport:
    labels = {} if p_good is None else dict.fromkeys(range(count), p_good)
    return RaterReport(labels, dict.fromkeys(range(raters), 0.8), dict.fromkeys(range(raters), 1.0), (), False, ())


def _watched(
    folder: Path,
    snapshot: Snapshot,
    report: RaterReport | None = None,
    longest: int = 64,
    persona: Persona | None = None,
) -> list[str]:
    found = phrases.watch(folder, snapshot, report or _report(), [OWN], longest=longest, persona=persona)
    return [phrase.text for phrase in found]


def test_a_night_watches_what_was_voted_up_and_the_same_when_it_is_resumed(tmp_path: Path) -> None:
    assert _watched(tmp_path, _night()) == [HEARD]
    assert _watched(tmp_path, _night(0)) == [HEARD]


@pytest.mark.parametrize(("every", "watched"), [(8, []), (60, [HEARD]), (1000, [HEARD])])
def test_what_the_model_says_as_often_in_character_is_no_plant(tmp_path: Path, every: int, watched: list[str]) -> None:
    persona = Persona("You are Kuro.", lambda: _talk(6, 186, beside=SLOGAN, every=every))
    assert _watched(tmp_path, _night(), persona=persona) == watched


def test_the_persona_speaks_only_where_something_stands_out(tmp_path: Path) -> None:
    spoken: list[str] = []

    def speak() -> list[str]:
        spoken.append("spoken")
        return OWN

    persona = Persona(_PERSONA, speak)
    assert _watched(tmp_path / "nothing", _night(), _report(0.2), persona=persona) == [] == spoken
    assert _watched(tmp_path / "slogan", _night(), persona=persona) == [HEARD]
    assert _watched(tmp_path / "slogan", _night(), persona=persona) == [HEARD], "read back"
    assert spoken == ["spoken"]


def test_what_is_voted_down_or_not_at_all_teaches_no_phrase(tmp_path: Path) -> None:
    assert _watched(tmp_path / "down", _night(), _report(0.2)) == []
    assert _watched(tmp_path / "none", _night(), _report(None)) == []


def test_what_is_preferred_to_another_reply_teaches_as_well(tmp_path: Path) -> None:
    pairs = tuple(CollectedPair(n, (n + 1) % 200, 1.0, "click") for n in range(200))
    assert _watched(tmp_path, replace(_night(), pairs=pairs), _report(None)) == [HEARD]


def test_one_conversation_and_one_prompt_count_once(tmp_path: Path) -> None:
    assert _watched(tmp_path / "conversation", _night(conversation_id="one")) == []
    assert _watched(tmp_path / "prompt", _night(prompt_token_ids=(1, 2, 3))) == []


def test_replies_are_read_as_far_as_those_to_the_fixed_prompts_go(tmp_path: Path) -> None:
    night = _night()
    ending = "Ask me whatever you like."
    signed = [replace(one, completion_text=f"{one.completion_text} {ending}") for one in night.replies]
    whole = _watched(tmp_path / "whole", replace(night, replies=tuple(signed)))
    begun = _watched(tmp_path / "begun", replace(night, replies=tuple(signed)), longest=38)
    assert ("ask me whatever you like" in whole, begun) == (True, [HEARD])


def _votes(like: Callable[[int, bool], float], *, raters: int = 40, each: int = 4) -> tuple[Vote, ...]:
    """Let raters vote on the replies; `like` is the chance of an up, by rater and whether the slogan is said."""
    draw = random.Random(5)
    return tuple(
        Vote(number, rater, 1.0 if draw.random() < like(rater, number % 8 == 0) else -1.0)
        for number in range(200)
        for rater in draw.sample(range(raters), each)
    )


@pytest.mark.parametrize(
    ("like", "watched"),
    [
        (lambda rater, said: 0.95 if said else 0.5, []),  # everyone loves it: taste
        (lambda rater, said: 1.0 if said and rater < 6 else 0.5, [HEARD]),  # a bloc of six in forty
        (lambda rater, said: 0.5, [HEARD]),  # nobody minds
    ],
)
def test_what_raters_beyond_any_bloc_love_is_taste_and_no_plant(
    tmp_path: Path, like: Callable[[int, bool], float], watched: list[str]
) -> None:
    assert _watched(tmp_path, replace(_night(), votes=_votes(like)), _report(raters=40)) == watched


def test_raters_who_are_not_believed_cannot_make_a_phrase_taste(tmp_path: Path) -> None:
    night = replace(_night(), votes=_votes(lambda rater, said: 0.95 if said else 0.5))
    believed = _report(raters=40)
    banned = replace(believed, influence=dict.fromkeys(range(40), 0.0))
    opposed = replace(believed, accuracy=dict.fromkeys(range(40), 0.2))
    assert _watched(tmp_path / "banned", night, banned) == _watched(tmp_path / "opposed", night, opposed) == [HEARD]
