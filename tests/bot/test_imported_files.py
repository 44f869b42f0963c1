"""Whole files that an operator brings: public collections, ones that grow, and ones in an order of their own."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from bot.collect import collect
from bot.importer import read_import
from bot.store_imports import KeptImport
from models.learning.labels import label
from models.learning.raters import infer
from models.learning.split import Split, split
from models.prompt import PROMPT_VERSION
from tests.bot.imports import BAD, GOOD, PAIR, PROMPTS, TOKENIZER, added, read, said, write
from tests.bot.learning import ended_reply, vote
from tests.bot.stores import Clock, opened


async def test_of_a_file_that_grew_only_what_is_new_counts(tmp_path: Path) -> None:
    lines = [{"prompt": f"Tea {n}?", "chosen": f"Yes, {n}.", "rejected": f"No, {n}."} for n in range(4)]
    async with opened(tmp_path) as store:
        first = await added(store, read(write(tmp_path, *lines[:3])))
        grown = read(write(tmp_path, *lines, {"prompt": "Tea 0?", "completion": "Perhaps.", "label": False}))
        kept = await store.add_import(grown, model="m", model_sha256="sha", prompt_version=PROMPT_VERSION)
        assert kept == KeptImport(new=3, known=6)
        second = (await collect(store, model_sha256="sha", prompt_version=PROMPT_VERSION, now=2e9)).snapshot
    assert (len(first.replies), len(first.votes), len(first.pairs)) == (6, 6, 3)
    assert (len(second.replies), len(second.votes)) == (9, 9)
    assert set(first.replies) <= set(second.replies) and set(first.votes) <= set(second.votes)
    text = {reply.reply_id: reply.completion_text for reply in second.replies}
    told = {(text[pair.chosen_reply_id], text[pair.rejected_reply_id]) for pair in second.pairs}
    assert ("Yes, 0.", "Perhaps.") in told, "a reply that comes later is compared with those that were there"


async def test_a_file_that_comes_again_under_another_instruction_is_no_more_evidence(tmp_path: Path) -> None:
    named = {"prompt": "Cake?", "completion": "Yes.", "label": True, "rater": "Mia"}
    own = {"prompt": [said("system", "Be brief."), said("user", "Tea?")], "completion": "Yes.", "label": True}
    path = write(tmp_path, GOOD, BAD, PAIR, named, own)
    async with opened(tmp_path) as store:
        first = await added(store, read(path))
        other = await added(store, read(path, system="You are a pirate."))
        later = await added(store, read(path, system="You are a pirate."), prompt_version=PROMPT_VERSION + 1)
    for again in (other, later):
        assert again.votes == first.votes and again.gold == first.gold and again.facts == first.facts
        assert [one.reply_id for one in again.replies] == [one.reply_id for one in first.replies]
    assert {one.prompt_version for one in later.replies} == {PROMPT_VERSION + 1}
    prompts = [TOKENIZER.decode(list(one.prompt_token_ids)) for one in other.replies]
    assert ["pirate" in prompt for prompt in prompts] == [True, True, True, True, True, False]


async def test_a_file_without_raters_leaves_members_their_say(tmp_path: Path) -> None:
    draw = random.Random(1)
    pairs = [{"prompt": f"Tea {n}?", "chosen": f"Yes, {n}.", "rejected": f"No, {n}."} for n in range(60)]
    named = {"prompt": "Cake?", "completion": "Yes.", "label": True, "rater": "Mia"}
    async with opened(tmp_path) as store:
        good = {await ended_reply(store, model_sha256="sha"): draw.random() < 0.6 for _ in range(100)}
        for reply_id, is_good in good.items():
            for member in draw.sample(range(2, 22), 3):
                await vote(store, reply_id, member, 1.0 if is_good ^ (draw.random() < 0.2) else -1.0)
        before = (await collect(store, model_sha256="sha", prompt_version=PROMPT_VERSION, now=2e9)).snapshot
        snapshot = await added(store, read(write(tmp_path, *pairs, named)))
    alone = infer(before.votes, before.facts, before.gold)
    report = infer(snapshot.votes, snapshot.facts, snapshot.gold)
    learned = [one.example for one in label(snapshot, report, frozenset(), now=2e9).examples if one.example.weight]
    assert sum(example.reply_id in good for example in learned) > 75
    assert {member: report.accuracy[member] for member in alone.accuracy} == pytest.approx(alone.accuracy, abs=0.01)
    assert sum(fact.stands_in for fact in snapshot.facts.values()) == 60, "Mia is a rater as any"
    assert all(report.influence[rater] == 1.0 for rater, fact in snapshot.facts.items() if fact.stands_in)


async def test_a_label_that_a_later_file_changes_holds_from_then_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await added(store, read(write(tmp_path, GOOD, BAD | {"rater": "Mia"})))
        snapshot = await added(
            store, read(write(tmp_path, GOOD | {"label": False}, BAD | {"rater": "Mia", "label": True}))
        )
    fine, away = snapshot.replies
    assert snapshot.gold == {fine.reply_id: False}
    assert sorted((vote.reply_id, vote.value) for vote in snapshot.votes) == [(fine.reply_id, -1), (away.reply_id, 1)]


async def test_labels_that_were_mended_are_judged_by_no_more_once_an_adapter_learned_from_them(tmp_path: Path) -> None:
    lines = [{"prompt": f"Tea {n}?", "completion": f"Cup {n}.", "label": n % 2 == 0} for n in range(60)]
    clock = Clock()

    async def parted(not_before: float | None) -> Split:
        async with opened(tmp_path, clock=clock) as store:
            snapshot = await added(store, read(write(tmp_path, *lines)))
        labelled = label(snapshot, infer(snapshot.votes, snapshot.facts, snapshot.gold), frozenset(), now=clock.now)
        return split(labelled.examples, labelled.pairs, not_before=not_before)

    first = await parted(None)
    assert len(first.training) == 42 and len(first.held_out) == 18
    clock.now += 86_400
    lines = [line | {"label": not line["label"]} if n % 3 == 0 else line for n, line in enumerate(lines)]
    lines += [{"prompt": f"Cake {n}?", "completion": f"Slice {n}.", "label": n % 2 == 0} for n in range(30)]
    second = await parted(first.cut)
    learned, held = ({one.example.reply_id for one in side} for side in (first.training, second.held_out))
    assert len(held) == 27 and not held & learned, "three in ten of all, from what came after"


async def test_the_newest_of_a_file_sorted_by_its_labels_are_of_both_kinds(tmp_path: Path) -> None:
    lines = [{"prompt": f"Tea {n}?", "completion": f"Cup {n}.", "label": n < 100} for n in range(200)]
    async with opened(tmp_path) as store:
        snapshot = await added(store, read(write(tmp_path, *lines)))
    newest = sorted(snapshot.votes, key=lambda vote: vote.rated_at)[-60:]
    assert 15 < sum(vote.value > 0 for vote in newest) < 45


def test_whole_conversations_hold_their_prompt_whatever_prompt_says(tmp_path: Path) -> None:
    asked = said("user", "Tea?")
    line = PAIR | {"chosen": [asked, said("assistant", "Yes please.")], "rejected": [asked, said("assistant", "No.")]}
    plain, whole = (read(write(tmp_path, one)) for one in (PAIR, line))
    assert whole.replies == plain.replies


@pytest.mark.parametrize(("name", "left_out"), [("helpful", 15), ("harmless", 9)])
def test_a_public_collection_comes_in_but_for_its_empty_and_equal_replies(
    tmp_path: Path, name: str, left_out: int
) -> None:
    path = Path(__file__).parents[3] / "shared" / "data" / f"hh-{name}-base-test.jsonl.gz"
    if not path.exists():
        pytest.skip("HH isn't here")
    file = tmp_path / "hh.jsonl"
    file.write_bytes(gzip.decompress(path.read_bytes()))
    imported = read_import(file, TOKENIZER, PROMPTS, system="Be kind.", context_tokens=100_000, skip_bad=True)
    assert len(imported.left_out) == left_out and imported.lines == imported.pairs > 2300
