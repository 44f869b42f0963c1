"""Members' data in their hands: /privacy, /consent, /mydata, and who opted out, through Discord."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.moderation.limits import Count, Scope, day_of
from bot.privacy.forget import Receipt
from bot.privacy.members import note_members
from bot.settings import Settings
from tests.cogs.commands import audit, embed_of, leaves, words
from tests.cogs.nights import FakeNightly
from tests.cogs.privacy import FakeForget
from tests.cogs.rating import a_reply, said, votes
from tests.world import World, live_world


@pytest.fixture
def forget() -> FakeForget:
    return FakeForget(Receipt(rows={"replies": 1, "ratings": 2}, nights=("n",), adapters=("a",), changed=True))


@pytest.fixture
async def world(tmp_path: Path, forget: FakeForget) -> AsyncIterator[World]:
    async with live_world(tmp_path, nightly=FakeNightly(tmp_path), forget=forget.on) as world:
        yield world


async def answer(world: World, command: str, *, by: Any = None, where: Any = "general") -> Any:
    """Use a command and return its answer, which only the asker sees."""
    result = await world.answered(await world.slash(by or world.alice, where, command))
    found = await world.eventually(
        lambda: [m for m in (result.response, *result.followups) if m and (m.content or m.embeds or m.attachments)]
    )
    assert all(message.ephemeral for message in found)
    return found[-1]


# ---------------------------------------------------------------------- what they are


async def test_commands_are_for_every_member(world: World) -> None:
    names = [
        *leaves(world.backend.find_command("privacy", world.guild.id, type=1)),
        *leaves(world.backend.find_command("consent", world.guild.id, type=1)),
        *leaves(world.backend.find_command("mydata", world.guild.id, type=1)),
    ]
    assert names == [
        "privacy",
        *(f"consent {name}" for name in ("give", "withdraw", "status")),
        *(f"mydata {name}" for name in ("export", "delete", "optout", "optin")),
    ]
    for name in ("privacy", "consent", "mydata"):
        command = world.backend.find_command(name, world.guild.id, type=1)
        assert command["default_member_permissions"] is None
        for told in words(command):
            assert 8 <= len(told) <= 100 and not told.endswith(".")


# ---------------------------------------------------------------------- /privacy


async def test_privacy_says_what_really_holds(world: World) -> None:
    told = embed_of(await answer(world, "privacy")).description
    assert told is not None and len(told) <= 4096
    assert "messages that mention me, replies to mine, and every message in the channels where I answer" in told
    for promise in (
        "I am a bot",
        "365 days",
        "90 days",
        "teach me nothing",
        "/mydata delete",
        "/consent withdraw",
        "echo",
        "Backups are",
    ):
        assert promise in told


async def test_privacy_follows_the_settings(tmp_path: Path, forget: FakeForget) -> None:
    settings = Settings(
        data_dir=tmp_path,
        discord_training_permission="granted",
        retention_days_replies=0,
        retention_days_audit=1,
        privacy_contact="privacy@example.org",
    )
    async with live_world(tmp_path, settings=settings, nightly=FakeNightly(tmp_path), forget=forget.on) as world:
        told = embed_of(await answer(world, "privacy")).description or ""
    for promise in ("states that Discord gave permission", "as long as I run", "1 day", "privacy@example.org"):
        assert promise in told
    assert "teach me nothing:" not in told
    assert "replies to mine, with the messages before" in told, "without the intent it reads no more"


# ---------------------------------------------------------------------- consent


async def test_consent_is_given_shown_and_withdrawn(world: World, forget: FakeForget) -> None:
    assert "haven't said" in (await answer(world, "consent status")).content
    assert "Thank you" in (await answer(world, "consent give")).content
    assert "agreed already" in (await answer(world, "consent give")).content
    assert "You agreed <t:" in (await answer(world, "consent status")).content
    assert (await world.store.consent(world.alice.id)).given
    told = (await answer(world, "consent withdraw")).content
    assert "teach me nothing from now on" in told and "1 version of me" in told
    assert forget.unlearned == [world.alice.id]
    assert "took your consent back" in (await answer(world, "consent status")).content


async def test_withdrawal_and_opt_out_that_were_cut_short_go_on_when_asked_again(
    world: World, forget: FakeForget
) -> None:
    forget.receipt = Receipt(failures=("The folder of the night n could not be removed.",))
    for command in ("consent withdraw", "mydata optout"):
        assert "Not all of it could be removed yet" in (await answer(world, command)).content
    forget.receipt = Receipt(nights=("n",), adapters=("a",))
    for command in ("consent withdraw", "mydata optout"):
        told = (await answer(world, command)).content
        assert "nothing" in told and "1 version of me that had learned from you is removed" in told
    assert forget.unlearned == [world.alice.id] * 4


async def test_who_opted_out_is_told_to_opt_in_before_agreeing(world: World) -> None:
    await world.slash(world.moderator, "general", "mod consent")
    [question] = await world.eventually(lambda: [m for m in world.replies("general") if m.embeds])
    await answer(world, "mydata optout")
    assert "/mydata optin first" in (await answer(world, "consent give")).content
    pressed = await world.answered(await world.click(world.alice, question, custom_id="encore:consent:give"))
    assert "/mydata optin first" in await said(world, pressed)
    assert not (await world.store.consent(world.alice.id)).given
    await answer(world, "mydata optin")
    assert "Thank you" in (await answer(world, "consent give")).content


async def test_moderator_posts_the_question_and_its_buttons_work_after_a_restart(
    world: World, forget: FakeForget
) -> None:
    await world.slash(world.moderator, "general", "mod consent")
    [question] = await world.eventually(lambda: [m for m in world.replies("general") if m.embeds])

    async def audited() -> bool:
        return [entry[1] for entry in await audit(world)] == ["mod consent"]

    await world.eventually(audited)
    assert "Every night I learn" in (embed_of(question).description or "")
    await world.restart()
    result = await world.answered(await world.click(world.bob, question, custom_id="encore:consent:give"))
    assert "Thank you" in await said(world, result)
    assert (await world.store.consent(world.bob.id)).given
    result = await world.answered(await world.click(world.bob, question, custom_id="encore:consent:withdraw"))
    assert "teach me nothing from now on" in await said(world, result)
    assert not (await world.store.consent(world.bob.id)).given
    assert forget.unlearned == [world.bob.id]


# ---------------------------------------------------------------------- /mydata


async def test_export_is_a_file_of_the_members_rows(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👍")
    await world.react(world.bob, reply, "👎")
    await votes(world, reply)
    await world.eventually(lambda: world.store.usage(day_of(time.time())))
    message = await answer(world, "mydata export")
    assert "4 entries, by kind" in message.content
    [file] = message.attachments
    held = json.loads(await file.read())
    assert {table: len(rows) for table, rows in held.items() if rows} == {
        "ratings": 1,
        "member_usage": 1,
        "raters": 1,
        "replies": 1,
    }
    assert str(world.bob.id) not in json.dumps(held)


async def exported(world: World, by: Any) -> dict[str, Any]:
    [file] = (await answer(world, "mydata export", by=by)).attachments
    held: dict[str, Any] = json.loads(await file.read())
    return held


async def test_export_holds_the_members_own_words_and_nobody_elses(world: World, tmp_path: Path) -> None:
    world.engine.says = "noted"
    await world.say(world.alice, "general", "BANANA Note: pudding\nBob: SHERBET")
    await world.ask(world.bob, "general", "CHERRY pie")
    await world.answered_in("general")
    await world.ask(world.alice, "general", "DAMSON jam")
    await world.answered_in("general", 2)
    nights = tmp_path / "nights"
    for name, members in (("n-1", [world.alice.id]), ("n-2", [world.bob.id]), ("n-3", None)):
        (nights / name).mkdir(parents=True)
        if members is not None:
            note_members(nights / name, members)
    mine, theirs = await exported(world, world.alice), await exported(world, world.bob)
    banana = "BANANA Note: pudding\nBob: SHERBET"
    assert [row["your_words"] for row in mine["replies"]] == [[banana, "DAMSON jam"]]
    assert [row["your_words"] for row in mine["replies_to_others_that_read_you"]] == [[banana]]
    assert [row["your_words"] for row in theirs["replies"]] == [["CHERRY pie"]]
    assert [row["your_words"] for row in theirs["replies_to_others_that_read_you"]] == [["CHERRY pie"]]
    assert "CHERRY" not in str(mine) and not any(word in str(theirs) for word in ("BANANA", "SHERBET", "DAMSON"))
    assert mine["nights_that_hold_you"] == [{"night": "n-1", "certain": True}, {"night": "n-3", "certain": False}]


async def test_export_holds_what_was_said_in_direct_messages(world: World) -> None:
    await world.dm(world.alice, "a SECRET of mine")
    await world.answered_in(world.dm_channel(world.alice))
    held = await exported(world, world.alice)
    assert [row["your_words"] for row in held["replies"]] == [["a SECRET of mine"]]


async def test_words_that_only_the_bot_repeats_are_in_nobodys_export(world: World) -> None:
    world.engine.says = "as Alice says: QUINCE"
    await world.ask(world.alice, "general", "what is it?")
    [reply] = await world.answered_in("general")
    await world.ask(world.bob, "general", "Alice: is it so?", reply_to=reply)
    await world.answered_in("general", 2)
    held = await exported(world, world.bob)
    assert [row["your_words"] for row in held["replies"]] == [["Alice: is it so?"]]
    held = await exported(world, world.alice)
    assert [row["your_words"] for row in held["replies_to_others_that_read_you"]] == [["what is it?"]]


async def test_deletion_asks_first_and_answers_with_a_receipt(world: World, forget: FakeForget) -> None:
    question = await answer(world, "mydata delete")
    assert "can't be undone" in question.content and forget.deleted == []
    await world.click(world.alice, question, label="Delete everything")
    told = await world.eventually(lambda: question.content if "Deleted:" in question.content else "")
    assert forget.deleted == [world.alice.id]
    assert "1 reply to you, 2 ratings" in told and "the model as it came answers now" in told and "Kept:" in told


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        (["damaged-20261101-031500"], "A copy of my database from {}, and remove it by 2026-12-02."),
        (
            ["damaged-20261101-031500", "before-restore-20261110-031500-2"],
            "2 copies of my database from {}, and remove them by 2026-12-11.",
        ),
        (["damaged-20261101-031500", "damaged-mine"], "2 copies of my database from {}, and whoever runs me has to"),
    ],
    ids=["one", "two", "named by hand"],
)
async def test_receipt_says_by_when_copies_that_it_does_not_reach_are_gone(
    world: World, forget: FakeForget, kept: list[str], told: str
) -> None:
    forget.receipt = Receipt(rows={}, copies=tuple(Path(f"encore.sqlite3.{name}") for name in kept))
    question = await answer(world, "mydata delete")
    await world.click(world.alice, question, label="Delete everything")
    await world.eventually(lambda: "Kept:" in question.content)
    assert told.format("before a restore or a damage may still hold it; I read nothing there") in question.content


async def test_answer_under_way_at_a_deletion_is_not_counted_for_the_member(
    world: World, forget: FakeForget, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.engine.seconds_per_token = 0.02
    await world.ask(world.alice, "general", "a question " * 8)
    await world.eventually(lambda: world.replies("general"))

    async def usage() -> list[Count]:
        return await world.store.usage(day_of(time.time()))

    async def delete_until_it_ended(member_id: int) -> Receipt:
        await world.answered_in("general")
        await world.eventually(usage)
        return forget.receipt

    monkeypatch.setattr(forget, "delete", delete_until_it_ended)
    question = await answer(world, "mydata delete")
    await world.click(world.alice, question, label="Delete everything")
    await world.eventually(lambda: "Deleted:" in question.content)
    assert [count.scope for count in await usage()] == [Scope.CHANNEL]


async def test_deletion_refills_no_quota_and_says_so(world: World, forget: FakeForget) -> None:
    quota = {"member": {"messages_per_day": 1}}
    await world.store.change_server_settings(world.guild.id, world.moderator.id, quotas=quota)
    await a_reply(world)
    question = await answer(world, "mydata delete")
    await world.click(world.alice, question, label="Delete everything")
    await world.eventually(lambda: "until midnight UTC: how much you asked today" in question.content)
    await world.ask(world.alice, "general", "and again?")
    [_, refusal] = await world.answered_in("general", 2)
    assert "all of your answers for today" in refusal.content


async def test_deletion_can_be_thought_over(world: World, forget: FakeForget) -> None:
    question = await answer(world, "mydata delete")
    await world.click(world.alice, question, label="Keep it")
    await world.eventually(lambda: question.content == "Nothing was changed.")
    assert forget.deleted == []


# ---------------------------------------------------------------------- opting out


async def test_who_opted_out_is_neither_read_answered_nor_counted(world: World, forget: FakeForget) -> None:
    reply = await a_reply(world)
    assert "read, answer and keep nothing" in (await answer(world, "mydata optout", by=world.bob)).content
    assert forget.unlearned == [world.bob.id]
    await world.react(world.bob, reply, "👍")
    await world.ask(world.bob, "general", "SECRET plans, answer me")
    await world.quiet(0.1)
    assert await votes(world, reply) == {}
    assert len(world.replies("general")) == 1
    await world.ask(world.alice, "general", "and me?")
    await world.answered_in("general", 2)
    row = await world.reply_shown_by(world.replies("general")[-1])
    assert row.prompt is not None and world.bob.id not in row.prompt.member_ids
    assert "SECRET" not in world.model.tokenizer.decode(row.prompt.token_ids)
    assert "/mydata optin" in (await answer(world, "consent status", by=world.bob)).content
    assert (await answer(world, "mydata optin", by=world.bob)).content == "I read and answer you again."
    await world.ask(world.bob, "general", "back again")
    await world.answered_in("general", 3)


async def test_who_comes_back_is_told_that_their_consent_is_over(world: World) -> None:
    await answer(world, "consent give")
    await answer(world, "mydata optout")
    told = (await answer(world, "mydata optin")).content
    assert told == "I read and answer you again. You teach me nothing until you agree anew: /consent give."
    assert "took your consent back" in (await answer(world, "consent status")).content
    assert "Thank you" in (await answer(world, "consent give")).content
    assert (await world.store.consent(world.alice.id)).given
