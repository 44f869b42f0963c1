"""models/prompt: which turns the model sees, that prompts grow at their end, and what training learns from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ModelUnavailable, PromptTooLong
from models.prompt import LEFT_OUT, Prompt, PromptBuilder
from models.spec import ECHO, resolve
from models.tokenizer import ModelTokenizer, prepare
from models.types import Role, Turn
from tests.models.test_tokenizer import made
from tests.models.tiny_gguf import cache_tiny_tokenizer, write_tiny_gguf

NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
LOSES_SYSTEM = NO_SYSTEM.replace(
    "{{ raise_exception('System role not supported') }}", "{% set messages = messages[1:] %}"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    cache = tmp_path_factory.mktemp("cache")
    path = write_tiny_gguf(cache / "tiny.gguf")
    cache_tiny_tokenizer(path, cache)
    return prepare(resolve(str(path), cache), cache)


@pytest.fixture(scope="module")
def prompts(tokenizer: ModelTokenizer) -> PromptBuilder:
    return PromptBuilder(tokenizer)


def user(text: str) -> Turn:
    return Turn(Role.USER, text)


def reply(text: str) -> Turn:
    return Turn(Role.ASSISTANT, text)


def build(
    prompts: PromptBuilder,
    turns: list[Turn],
    *,
    budget: int = 10_000,
    refit: int | None = None,
    pinned: Sequence[int] = (),
) -> Prompt:
    refit = budget * 3 // 4 if refit is None else refit
    return prompts.build("Be kind.", turns, budget=budget, refit=refit, pinned=pinned)


def shown(tokenizer: ModelTokenizer, prompt: Prompt) -> str:
    return tokenizer.decode(prompt.token_ids)


def test_all_turns_stay_if_they_fit(prompts: PromptBuilder, tokenizer: ModelTokenizer) -> None:
    prompt = build(prompts, [user("Ana: hi"), reply("hello"), user("Ben: hey")])
    assert shown(tokenizer, prompt) == (
        "system\nBe kind.\nuser\nAna: hi\nassistant\nhello\nuser\nBen: hey\nassistant\n"
    )
    assert prompt.kept == (0, 1, 2)


def test_adjacent_turns_of_one_role_become_one(prompts: PromptBuilder, tokenizer: ModelTokenizer) -> None:
    prompt = build(prompts, [user("Ana: hi"), user("Ben: hey"), reply("a"), reply("b"), user("Ana: so?")])
    text = shown(tokenizer, prompt)
    assert "user\nAna: hi\nBen: hey\nassistant\na\nb\nuser\nAna: so?\n" in text


def test_full_context_leaves_out_the_oldest_and_says_so(prompts: PromptBuilder, tokenizer: ModelTokenizer) -> None:
    turns = [turn for n in range(10) for turn in (user(f"question {n}"), reply(f"answer {n}"))]
    prompt = build(prompts, [*turns, user("newest")], budget=200, refit=150)
    text = shown(tokenizer, prompt)
    assert len(prompt.token_ids) <= 200
    assert 0 < prompt.start < 20
    assert prompt.kept == tuple(range(prompt.start, 21))
    assert f"user\n{LEFT_OUT}\nquestion {prompt.start // 2}\n" in text
    assert f"question {prompt.start // 2 - 1}\n" not in text
    assert text.endswith("user\nnewest\nassistant\n")


def test_newest_turn_that_does_not_fit_is_refused_with_a_remedy(prompts: PromptBuilder) -> None:
    with pytest.raises(PromptTooLong, match="shorten the message or raise CONTEXT_TOKENS"):
        build(prompts, [user("old"), user("x" * 500)], budget=200)


def test_newest_turn_alone_may_fill_the_budget(prompts: PromptBuilder, tokenizer: ModelTokenizer) -> None:
    needed = len(build(prompts, [user("old"), user("x" * 500)]).token_ids)
    prompt = build(prompts, [user("y" * 500), user("x" * 500)], budget=needed + 40, refit=10)
    assert prompt.kept == (1,)
    assert "x" * 500 in shown(tokenizer, prompt)


def test_no_turn_is_a_mistake_of_ours(prompts: PromptBuilder) -> None:
    with pytest.raises(ValueError, match="at least one turn"):
        build(prompts, [])


texts = st.text(max_size=30) | st.sampled_from(["\n\nhello", " ", "<|im_end|>", "你好", "a\n"])


@given(spoken=st.lists(texts, min_size=1, max_size=7), answer=texts, question=texts)
def test_next_prompt_starts_with_this_prompt(
    prompts: PromptBuilder, spoken: list[str], answer: str, question: str
) -> None:
    turns = [user(text) if index % 2 == 0 else reply(text) for index, text in enumerate(spoken)]
    if turns[-1].role is Role.ASSISTANT:
        turns.append(user("and?"))
    before = build(prompts, turns).token_ids
    after = build(prompts, [*turns, reply(answer), user(question)]).token_ids
    assert after[: len(before)] == before


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    budget=st.integers(150, 400),
    pinned=st.lists(st.integers(0, 39), unique=True),
)
def test_prompt_never_exceeds_the_budget(
    prompts: PromptBuilder, lengths: list[int], budget: int, pinned: list[int]
) -> None:
    turns = [user("x" * n) if index % 3 else reply("y" * n) for index, n in enumerate(lengths)]
    places = [place for place in pinned if place < len(turns)]
    prompt = build(prompts, [*turns, user("end")], budget=budget, pinned=places)
    assert len(prompt.token_ids) <= budget
    assert prompt.kept[-1] == len(turns)
    assert set(prompt.kept[:-1]) >= set(range(prompt.start, len(turns)))
    assert {place for place in prompt.kept if place < prompt.start} <= set(places)


def test_pinned_turns_stay_when_those_around_them_go(prompts: PromptBuilder, tokenizer: ModelTokenizer) -> None:
    turns = [turn for n in range(10) for turn in (user(f"question {n}"), reply(f"answer {n}"))]
    prompt = build(prompts, [*turns, user("newest")], budget=200, refit=150, pinned=[0, 5])
    text = shown(tokenizer, prompt)
    assert prompt.kept == (0, 5, *range(prompt.start, 21))
    assert prompt.start > 6
    assert f"user\n{LEFT_OUT}\nquestion 0\nassistant\nanswer 2\nuser\n" in text


def test_pinned_turn_longer_than_its_share_is_shortened(prompts: PromptBuilder, tokenizer: ModelTokenizer) -> None:
    turns = [user("Ana: once upon a time " + "and then " * 200), reply("hello"), user("Ben: who was it?")]
    prompt = build(prompts, turns, budget=300, pinned=[0])
    text = shown(tokenizer, prompt)
    assert "user\nAna: once upon a time and then" in text
    assert " …\nassistant\nhello\nuser\nBen: who was it?\nassistant\n" in text


def test_newest_turn_is_answered_even_where_it_leaves_no_room_for_a_pinned_one(prompts: PromptBuilder) -> None:
    needed = len(build(prompts, [user("old"), user("x" * 500)]).token_ids)
    for budget in range(needed + 30, needed + 130, 7):
        prompt = build(prompts, [user("y" * 500), user("x" * 500)], budget=budget, pinned=[0])
        assert len(prompt.token_ids) <= budget
        assert prompt.kept[-1] == 1


def test_cut_stays_in_place_between_overflows(prompts: PromptBuilder) -> None:
    turns: list[Turn] = []
    cuts, hits = [], 0
    before: tuple[int, ...] = ()
    for n in range(60):
        turns.append(user(f"question {n} of many"))
        prompt = build(prompts, turns, budget=600, refit=300)
        hits += prompt.token_ids[: len(before)] == before
        before = prompt.token_ids
        cuts.append(prompt.start)
        turns.append(reply(f"answer {n} of many"))
    assert cuts == sorted(cuts)
    assert len(set(cuts)) <= 12
    assert hits >= 48


def test_turns_that_the_model_began_keep_its_words(prompts: PromptBuilder, tokenizer: ModelTokenizer) -> None:
    text = shown(tokenizer, build(prompts, [reply("Did you see the trailer?"), user("Ana: yes!")]))
    assert "user\n(You spoke first.)\nassistant\nDid you see the trailer?\nuser\nAna: yes!\n" in text


def test_no_system_prompt_leaves_that_to_the_template(prompts: PromptBuilder, tokenizer: ModelTokenizer) -> None:
    prompt = prompts.build("", [user("hi")], budget=1000, refit=800)
    assert shown(tokenizer, prompt).startswith("system\nYou are a test.\nuser\nhi\n")


@pytest.mark.parametrize("template", [NO_SYSTEM, LOSES_SYSTEM], ids=["refuses", "loses"])
def test_template_without_a_system_role_gets_it_in_the_first_turn(template: str) -> None:
    strict = made(template)
    prompt = build(PromptBuilder(strict), [reply("hey"), user("a"), user("b"), reply("c"), user("d")])
    assert shown(strict, prompt) == (
        "user\nBe kind.\n\n(You spoke first.)\nassistant\nhey\nuser\na\nb\nassistant\nc\nuser\nd\nmodel\n"
    )


def test_template_that_cannot_show_a_conversation_is_refused() -> None:
    only_one = made(
        "{% if messages | length > 1 %}{{ raise_exception('one only') }}{% endif %}{{ messages[0].content }}"
    )
    with pytest.raises(ModelUnavailable, match="one only"):
        PromptBuilder(only_one)


def test_reply_that_broke_off_is_carried_on_where_it_stopped(prompts: PromptBuilder, tokenizer: ModelTokenizer) -> None:
    prompt = build(prompts, [user("hi")]).token_ids
    said = tokenizer.encode_text("Once upon")
    assert prompts.continuation(prompt, said, ended=False) == (*prompt, *said)


def test_reply_that_ended_is_carried_on_after_a_request(prompts: PromptBuilder, tokenizer: ModelTokenizer) -> None:
    prompt = build(prompts, [user("hi")]).token_ids
    said = tokenizer.encode_text("The end.")
    expected = build(prompts, [user("hi"), reply("The end."), user("(Please continue.)")]).token_ids
    assert prompts.continuation(prompt, [*said, tokenizer.end_ids[0]], ended=True) == expected
    assert prompts.continuation(prompt, said, ended=True) == expected


def test_training_learns_the_completion_and_its_end_alone(prompts: PromptBuilder, tokenizer: ModelTokenizer) -> None:
    end = tokenizer.end_ids[0]
    for completion in ([7, 8], [7, 8, end]):
        assert prompts.training_example([5, 6], completion) == ((5, 6, 7, 8, end), (0, 0, 1, 1, 1))
    assert prompts.training_example([5, 6], [7, 8], cut=True) == ((5, 6, 7, 8), (0, 0, 1, 1))


def test_echo_builds_prompts_without_a_model(tmp_path: Path) -> None:
    tokenizer = prepare(ECHO, tmp_path)
    prompt = build(PromptBuilder(tokenizer), [user("你好")])
    assert shown(tokenizer, prompt) == "system\nBe kind.\nuser\n你好\nassistant\n"


def test_repeated_build_does_not_encode_the_history_again(
    tokenizer: ModelTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = tokenizer._encode_uncached
    monkeypatch.setattr(tokenizer, "encode_text", lambda text: encoded.append(text) or list(encode(text)))
    prompts = PromptBuilder(tokenizer)
    turns = [turn for n in range(20) for turn in (user(f"question {n}"), reply(f"answer {n}"))]
    build(prompts, [*turns, user("first")], budget=300)
    encoded.clear()
    build(prompts, [*turns, user("second")], budget=300)
    assert encoded == ["second"]


def test_embedded_model_builds_a_long_history_in_milliseconds(embedded_cache: Path) -> None:
    prompts = PromptBuilder(prepare(resolve("embedded", embedded_cache), embedded_cache))
    turns = [turn for n in range(20) for turn in (user(f"Ana: {n} " + "word " * 40), reply(f"{n} " + "answer " * 40))]
    build(prompts, turns)
    took = []
    for n in range(5):
        start = time.perf_counter()
        build(prompts, [*turns, user(f"question {n}")])
        took.append(time.perf_counter() - start)
    assert min(took) < 0.02


def test_a_prompt_that_ends_in_an_opened_think_tag_opens_reasoning() -> None:
    tokenizer = prepare(ECHO, Path())
    prompts = PromptBuilder(tokenizer)
    asked = tokenizer.render([Turn(Role.USER, "<think>")])
    assert not prompts.opens_reasoning(asked)
    assert prompts.opens_reasoning([*asked, *tokenizer.encode_text("<think>\n")])
