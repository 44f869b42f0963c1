"""Files that an operator brings: both of TRL's formats, every line checked, all or nothing kept."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from bot.collect import collect
from bot.errors import ImportRefused
from bot.importer import read_prompts
from models.learning.snapshot import Snapshot
from tests.bot.imports import BAD, GOOD, HH, PAIR, TOKENIZER, added, read, said, write
from tests.bot.stores import Clock, opened

# ---------------------------------------------------------------------- the formats


async def test_unpaired_lines_become_labelled_replies(tmp_path: Path) -> None:
    imported = read(write(tmp_path, GOOD, "", BAD))
    assert (imported.lines, imported.pairs, imported.ignored_keys) == (2, 0, ())
    async with opened(tmp_path) as store:
        snapshot = await added(store, imported)
    good, bad = snapshot.replies
    assert (good.completion_text, bad.completion_text) == ("Fine!", "Go away.")
    assert snapshot.gold == {good.reply_id: True, bad.reply_id: False}
    assert good.provenance == "import" and good.author_id is None
    assert good.conversation_id == bad.conversation_id, "one prompt is one conversation"
    prompt = TOKENIZER.decode(good.prompt_token_ids)
    assert "Be kind." in prompt and "How are you?" in prompt
    (fact,) = snapshot.facts.values()
    assert fact.trusted and fact.account_age_days is None
    (rater,) = imported.trusted
    assert [(v.value, v.rater_id) for v in snapshot.votes] == [(1.0, rater), (-1.0, rater)]
    assert snapshot.votes[0].rated_at < snapshot.votes[1].rated_at, "the file's order is the order in time"


async def test_labels_without_a_rater_are_as_many_voices_as_prompts(tmp_path: Path) -> None:
    # Else a night refused every such file: one rater had all of the weight.
    lines = [{"prompt": f"How is tea number {number}?", "completion": "Hot.", "label": True} for number in range(20)]
    imported = read(write(tmp_path, *lines))
    async with opened(tmp_path) as store:
        snapshot = await added(store, imported)
    assert len({vote.rater_id for vote in snapshot.votes}) == 20
    assert all(fact.trusted for fact in snapshot.facts.values())


async def test_a_pair_becomes_two_labelled_replies_and_a_pair(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        snapshot = await added(store, read(write(tmp_path, PAIR)))
    chosen, rejected = snapshot.replies
    (pair,) = snapshot.pairs
    assert (pair.chosen_reply_id, pair.rejected_reply_id) == (chosen.reply_id, rejected.reply_id)
    assert (pair.source, pair.weight) == ("import", 1.0)
    assert snapshot.gold == {chosen.reply_id: True, rejected.reply_id: False}


def test_messages_are_the_same_as_text(tmp_path: Path) -> None:
    plain = read(write(tmp_path, GOOD, PAIR, name="a.jsonl"))
    lists = read(
        write(
            tmp_path,
            {"prompt": [said("user", "How are you?")], "completion": [said("assistant", "Fine!")], "label": True},
            {
                "prompt": [said("user", "Tea?")],
                "chosen": [said("assistant", "Yes please.")],
                "rejected": [said("assistant", "No.")],
            },
            name="b.jsonl",
        )
    )
    assert [(r.prompt_token_ids, r.completion_token_ids) for r in plain.replies] == [
        (r.prompt_token_ids, r.completion_token_ids) for r in lists.replies
    ]


def test_lists_of_a_pair_may_share_their_prompt(tmp_path: Path) -> None:
    start = [said("system", "You are a sailor."), said("user", "Hi"), said("assistant", "Ahoy"), said("user", "And?")]
    line = {"chosen": [*start, said("assistant", "Aye")], "rejected": [*start, said("assistant", "Nay")]}
    chosen, rejected = read(write(tmp_path, line)).replies
    prompt = TOKENIZER.decode(chosen.prompt_token_ids)
    assert "sailor" in prompt and "Be kind." not in prompt and "Ahoy" in prompt
    assert (chosen.completion, rejected.completion) == ("Aye", "Nay")


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "replies"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is", ["blue.", "green."]),
        ("A leaf is Green", "A leaf is Grey", "A leaf is", ["Green", "Grey"]),  # not "A leaf is Gre"
        ("What is tea?\n\nA drink.", "What is tea?\n\nNo idea.", "What is tea?", ["A drink.", "No idea."]),
    ],
)
def test_texts_of_a_pair_may_share_their_prompt(
    tmp_path: Path, chosen: str, rejected: str, prompt: str, replies: list[str]
) -> None:
    implicit = read(write(tmp_path, {"chosen": chosen, "rejected": rejected}))
    told = read(write(tmp_path, {"prompt": prompt, "chosen": replies[0], "rejected": replies[1]}))
    assert [reply.completion for reply in implicit.replies] == replies
    assert [reply.prompt_token_ids for reply in implicit.replies] == [r.prompt_token_ids for r in told.replies]


def test_a_pair_in_the_form_of_hh_is_a_conversation(tmp_path: Path) -> None:
    line = {"chosen": HH + " Hold it.\n\nLike so.", "rejected": HH + " Hold off."}  # the same word begins both
    start = [said("user", "Hi"), said("assistant", "Hello"), said("user", "How do I hold a cup?")]
    implicit = read(write(tmp_path, line))
    told = read(write(tmp_path, {"prompt": start, "chosen": "Hold it.\n\nLike so.", "rejected": "Hold off."}))
    assert [reply.completion for reply in implicit.replies] == ["Hold it.\n\nLike so.", "Hold off."]
    assert implicit.replies[0].prompt_token_ids == told.replies[0].prompt_token_ids
    assert [reply.gold for reply in implicit.replies] == [True, False]


async def test_named_raters_vote_and_label_nothing(tmp_path: Path) -> None:
    lines = [GOOD | {"rater": "mei"}, GOOD | {"rater": "alex", "label": False, "created_at": "2026-05-01T12:00:00Z"}]
    async with opened(tmp_path) as store:
        snapshot = await added(store, read(write(tmp_path, *lines)))
    assert len(snapshot.replies) == 1 and snapshot.gold == {}
    assert sorted(vote.value for vote in snapshot.votes) == [-1.0, 1.0]
    assert not any(fact.trusted for fact in snapshot.facts.values())


async def test_time_that_lies_ahead_counts_as_now(tmp_path: Path) -> None:
    """Else no rating of today could be newer than what was learned from it, until that date."""
    clock = Clock()
    ahead = {"rater": "mei", "created_at": "2099-05-01T12:00:00Z"}
    imported = read(write(tmp_path, GOOD | ahead, *ranked("best", "good", "bad", **ahead)))
    async with opened(tmp_path, clock=clock) as store:
        snapshot = await added(store, imported)
    opinions = [opinion for pair in snapshot.pairs for opinion in pair.opinions]
    assert snapshot.votes and opinions
    assert all(clock.now - 1 < reply.created_at <= clock.now for reply in snapshot.replies)
    assert {said.rated_at for said in (*snapshot.votes, *opinions)} == {clock.now}


async def test_a_file_is_taken_once_for_a_model(tmp_path: Path) -> None:
    imported = read(write(tmp_path, GOOD, PAIR))
    async with opened(tmp_path, clock=Clock()) as store:
        for model, new in (("sha", True), ("sha", False), ("other", True)):
            kept = await store.add_import(imported, model="m", model_sha256=model, prompt_version=1)
            assert (kept is not None) is new
        other = read(write(tmp_path, BAD, name="more.jsonl"))
        assert await store.add_import(other, model="m", model_sha256="sha", prompt_version=1)
        snapshot = (await collect(store, model_sha256="sha", prompt_version=1, now=2e9)).snapshot
        assert len(snapshot.replies) == 4
        assert await store.check() == []


async def test_an_import_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = read(write(tmp_path, GOOD, PAIR))
    async with opened(tmp_path) as store:

        def broken(*_: object) -> list[Any]:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched, pytest.raises(Exception, match="room"):
            patched.setattr(store, "_ratings", broken)
            await store.add_import(imported, model="m", model_sha256="sha", prompt_version=1)
        assert (await collect(store, model_sha256="sha", prompt_version=1, now=2e9)).snapshot.replies == ()
        assert await store.add_import(imported, model="m", model_sha256="sha", prompt_version=1)


def test_unknown_keys_are_told(tmp_path: Path) -> None:
    assert read(write(tmp_path, GOOD | {"score": 3}, PAIR | {"id": 1})).ignored_keys == ("id", "score")


def test_keys_that_a_terminal_can_not_show_are_told_without_harm(tmp_path: Path) -> None:
    line = '{"prompt": "x", "completion": "y", "label": true, "\\ud800": 1, "\\u001b[2Jgone": 2}'
    assert read(write(tmp_path, line)).ignored_keys == ("�", "�[2Jgone")


# ---------------------------------------------------------------------- rankings


def ranked(*replies: str, **more: Any) -> list[dict[str, Any]]:
    """Return the pairs of neighbours in a ranking, the best first."""
    pairs = itertools.pairwise(replies)
    return [{"prompt": "Tea?", "chosen": better, "rejected": worse, **more} for better, worse in pairs]


def pairs_of(snapshot: Snapshot) -> set[tuple[str, str, int]]:
    text = {reply.reply_id: reply.completion_text for reply in snapshot.replies}
    return {(text[p.chosen_reply_id], text[p.rejected_reply_id], len(p.opinions)) for p in snapshot.pairs}


async def test_a_ranking_is_kept_as_pairs_and_labels_only_its_ends(tmp_path: Path) -> None:
    imported = read(write(tmp_path, *ranked("best", "good", "bad", "worst")))
    assert imported.pairs == 3
    async with opened(tmp_path) as store:
        snapshot = await added(store, imported)
        assert await store.check() == []
    text = {reply.reply_id: reply.completion_text for reply in snapshot.replies}
    assert {text[reply_id]: good for reply_id, good in snapshot.gold.items()} == {"best": True, "worst": False}
    assert {text[vote.reply_id] for vote in snapshot.votes} == {"best", "worst"}
    # The operator's word, as every pair without a rater; the ends are a pair by their labels.
    assert pairs_of(snapshot) == {
        ("best", "good", 0), ("good", "bad", 0), ("bad", "worst", 0), ("best", "worst", 0)
    }  # fmt: skip
    assert {(pair.source, pair.weight) for pair in snapshot.pairs} == {("import", 1.0)}


async def test_a_raters_ranking_is_what_that_rater_thinks(tmp_path: Path) -> None:
    # In the file's order the later reply of a pair is once the better one.
    lines = [*reversed(ranked("best", "good", "bad", rater="mei")), *ranked("best", "bad", rater="alex")]
    async with opened(tmp_path) as store:
        snapshot = await added(store, read(write(tmp_path, *lines)))
    assert snapshot.gold == {}
    assert pairs_of(snapshot) == {("best", "good", 1), ("good", "bad", 1), ("best", "bad", 2)}


async def test_preferences_in_a_circle_stay_pairs_without_labels(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        snapshot = await added(store, read(write(tmp_path, *ranked("a", "b", "c", "a"))))
    assert snapshot.gold == {} and snapshot.votes == ()
    assert pairs_of(snapshot) == {("a", "b", 0), ("b", "c", 0), ("c", "a", 0)}


def test_a_pair_told_both_ways_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"line 3: it says the opposite of line 1 of the same pair"):
        read(write(tmp_path, *ranked("a", "b"), *ranked("c", "d"), *ranked("b", "a")))


@pytest.mark.parametrize("label_first", [True, False])
def test_a_pair_against_a_label_is_refused(tmp_path: Path, label_first: bool) -> None:
    lines = [{"prompt": "Tea?", "completion": "b", "label": True}, *ranked("a", "b")]
    with pytest.raises(ImportRefused, match=r"line 2: it says the opposite of line 1 of the same reply"):
        read(write(tmp_path, *(lines if label_first else reversed(lines))))


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ({"prompt": "x", "completion": "y"}, "label"),
        (GOOD | {"label": "true"}, "true or false"),
        (GOOD | {"label": 1}, "true or false"),
        (GOOD | {"completion": "  "}, "isn't empty"),
        (GOOD | {"prompt": []}, "`prompt`"),
        (GOOD | {"prompt": [said("tool", "x")]}, "needs a role"),
        (GOOD | {"prompt": [said("user", "x"), said("assistant", "y")]}, "end with a user's message"),
        (GOOD | {"prompt": [said("user", "x"), said("system", "y"), said("user", "z")]}, "first message"),
        (GOOD | {"completion": [said("user", "x")]}, "must be the assistant's"),
        (GOOD | {"completion": [said("assistant", "x")] * 2}, "one message"),
        (GOOD | {"label": False}, "opposite of line 1"),
        (PAIR | {"rejected": "Yes please."}, "are the same"),
        ({"chosen": "x", "rejected": "y"}, "`prompt` is missing"),
        ({"chosen": "Green.", "rejected": "Grey."}, "begin with no word"),
        ({"chosen": " Green.", "rejected": " Grey."}, "begin with no word"),
        ({"chosen": "Tea is hot.", "rejected": "Teapot."}, "begin with no word"),
        ({"chosen": "Tea is ", "rejected": "Tea is hot."}, "isn't empty"),
        ({"chosen": "x", "rejected": [said("user", "x")]}, "`prompt` is missing"),
        ({"chosen": HH + " a", "rejected": HH.replace("Hi", "Ho") + " b"}, "differ before their last"),
        ({"chosen": HH + " a", "rejected": HH}, "isn't empty"),
        ({"chosen": HH + " a", "rejected": HH + " b\n\nHuman: c"}, "differ before their last"),
        (GOOD | {"rater": 7}, "`rater`"),
        (GOOD | {"created_at": "yesterday"}, "created_at"),
        (GOOD | {"created_at": True}, "created_at"),
        (GOOD | {"completion": "word " * 2000}, "too long"),
        (GOOD | {"prompt": "word " * 2000}, "tokens"),
        ('{"prompt": "\\ud800", "completion": "y", "label": true}', "lone surrogate"),
    ],
)
def test_a_wrong_line_is_refused_by_its_number(tmp_path: Path, line: Any, words: str) -> None:
    path = write(tmp_path, GOOD, PAIR, line)
    with pytest.raises(ImportRefused) as refused:
        read(path)
    assert f"{path}, line 3: " in str(refused.value)
    kept = read(path, skip_bad=True)
    assert (kept.lines, len(kept.replies), [one.line for one in kept.left_out]) == (2, 3, [3]), "all of it or nothing"
    assert words in kept.left_out[0].sentence
    assert words in str(refused.value)
    assert "; nothing was imported. Mend it, or leave such lines out with --skip-bad." in str(refused.value)


@pytest.mark.parametrize("data", [b"\xff\xfe{}", b"", b"\n\n"])
def test_a_file_without_lines_in_utf8_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(data)
    with pytest.raises(ImportRefused, match=r"x\.jsonl"):
        read(tmp_path / "x.jsonl")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="can't be read"):
        read(tmp_path / "none.jsonl")


# ---------------------------------------------------------------------- prompts


def test_prompts_of_text_and_of_json_lines(tmp_path: Path) -> None:
    text = write(tmp_path, "﻿Hello?", "", "今天天气怎么样？", "Hello?", name="p.txt")
    assert read_prompts(text) == [("Hello?", ""), ("今天天气怎么样？", "")]
    told = write(tmp_path, {"prompt": "Hi", "language": "en"}, {"prompt": "嗨"}, name="p.jsonl")
    assert read_prompts(told) == [("Hi", "en"), ("嗨", "")]


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [("p.txt", "x" * 2001, "2001 characters"), ("p.jsonl", '{"text": "x"}', "`prompt`"), ("p.jsonl", "Hi", "no JSON")],
)
def test_a_wrong_prompt_is_refused_by_its_line(tmp_path: Path, name: str, line: str, words: str) -> None:
    good = "Hello?" if name == "p.txt" else '{"prompt": "Hello?"}'
    with pytest.raises(ImportRefused, match=f"line 2: .*{words}"):
        read_prompts(write(tmp_path, good, line, name=name))


async def test_prompts_are_kept_once_and_used_in_turn(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=Clock()) as store:
        assert await store.take_prompt() is None
        assert await store.add_prompts([("a", "en"), ("b", "")]) == 2
        assert await store.add_prompts([("b", ""), ("c", "")]) == 1
        assert await store.count_prompts() == (3, 3)
        taken = [await store.take_prompt() for _ in range(4)]
        assert [prompt.text for prompt in taken if prompt] == ["a", "b", "c", "a"]
        assert await store.count_prompts() == (3, 0)
        assert [prompt.text for prompt in await store.prompts(2)] == ["b", "c"]
