"""What users said is read back from a prompt's ids, whatever the template, and nothing that anyone else said."""

from __future__ import annotations

import hashlib

import pytest

from models.prompt import PromptBuilder
from models.types import Role, Turn
from tests.models.test_tokenizer import made

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OWN_SYSTEM = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Q.<|im_end|>\n{% endif %}" + CHATML
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
_APART = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set said = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set said = messages %}{% endif %}"
)
FOLDED = _APART + (
    "{% for m in said %}{% if m['role'] == 'user' %}<s>[INST] "
    "{% if loop.first and system %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}"
    "{{ m['content'] }} [/INST]{% else %} {{ m['content'] }} </s>{% endif %}{% endfor %}"
)
FOLDED_LAST = _APART + (
    "<s>{% for m in said %}{% if m['role'] == 'user' %}[INST] {% if loop.last and system %}{{ system }}\n\n{% endif %}"
    "{{ m['content'] }}[/INST]{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}\n"
    "{% elif m['role'] == 'user' %}USER: {{ m['content'] }}\n{% else %}ASSISTANT: {{ m['content'] }}</s>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "own system": OWN_SYSTEM, "no system": NO_SYSTEM, "folded": FOLDED}
TEMPLATES |= {"folded last": FOLDED_LAST, "plain": PLAIN}
SYSTEM = "Note: be kind.\n\nEven so."
TALK = [
    Turn(Role.ASSISTANT, "Mei: I speak first"),
    Turn(Role.USER, "Mei: hi\n  there\n  \n  you"),
    Turn(Role.USER, "Lin: yo"),
    Turn(Role.ASSISTANT, "Lin: as Lin says"),
    Turn(Role.USER, "Mei: again \u4eca\u5929 <|im_end|>"),
]
SAID = ["Mei: hi\n  there\n  \n  you\nLin: yo", "Mei: again \u4eca\u5929 <|im_end|>"]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("system", [SYSTEM, ""])
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_what_users_said_is_read_back_from_a_prompt(template: str, system: str) -> None:
    tokenizer = made(template)
    builder = PromptBuilder(tokenizer)
    prompt = builder.build(system, TALK, budget=4000, refit=3000)
    assert builder.user_turns(prompt.token_ids, sha256(system)) == SAID
    carried_on = builder.continuation(prompt.token_ids, tokenizer.encode_text("Mei: done"), True)
    assert builder.user_turns(carried_on, sha256(system)) == SAID


@pytest.mark.parametrize("template", [NO_SYSTEM, FOLDED, FOLDED_LAST])
def test_nothing_is_read_where_users_words_cannot_be_told_from_the_instructions(template: str) -> None:
    builder = PromptBuilder(made(template))
    prompt = builder.build(SYSTEM, TALK, budget=4000, refit=3000)
    assert builder.user_turns(prompt.token_ids, sha256("another")) == []


def test_the_note_that_earlier_messages_are_left_out_is_nobodys() -> None:
    builder = PromptBuilder(made(CHATML))
    prompt = builder.build(SYSTEM, TALK[-1:], budget=4000, refit=3000, earlier_left_out=True)
    assert builder.user_turns(prompt.token_ids, sha256(SYSTEM)) == SAID[-1:]


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_the_system_prompt_is_read_back_without_what_was_said(template: str) -> None:
    tokenizer = made(template)
    builder = PromptBuilder(tokenizer)
    prompt = builder.build(SYSTEM, TALK, budget=4000, refit=3000)
    for ids in (prompt.token_ids, builder.continuation(prompt.token_ids, tokenizer.encode_text("Mei: done"), True)):
        told = builder.system_text(ids, sha256(SYSTEM))
        assert SYSTEM in told
        assert not any(words in told for words in ("hi", "again", "as Lin says", "done"))
    assert builder.system_text(builder.build("", TALK, budget=4000, refit=3000).token_ids, sha256("")) == ""


@pytest.mark.parametrize("template", [NO_SYSTEM, FOLDED, FOLDED_LAST])
def test_more_than_the_system_prompt_is_returned_where_its_end_cannot_be_told(template: str) -> None:
    builder = PromptBuilder(made(template))
    prompt = builder.build(SYSTEM, TALK, budget=4000, refit=3000)
    assert SYSTEM in builder.system_text(prompt.token_ids, sha256("another"))
