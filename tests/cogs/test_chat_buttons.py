"""Stop, regenerate and continue below a reply, and who may press them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bot import ui
from bot.moderation.limits import Scope
from bot.records import ReplyState
from bot.streaming import Controls
from tests.world import World, live_world

STORY = " ".join(f"word{number}" for number in range(35))


async def one_answer(world: World, text: str = "hello") -> Any:
    await world.ask(world.alice, "general", text)
    [shown] = await world.answered_in("general")
    return shown


async def refused(world: World, member: Any, message: Any, label: str) -> str:
    """Press a button and return the ephemeral sentence that comes back."""
    result = await world.click(member, message, label=label)
    await world.eventually(lambda: result.followups)
    [answer] = result.followups
    assert answer.ephemeral
    return str(answer.content)


async def test_finished_answer_offers_thumbs_regenerate_and_continue(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        shown = await one_answer(world)
        reply = await world.reply_shown_by(shown)
        actions = ("up", "down", "regenerate", "continue")
        assert world.custom_ids(shown) == [f"encore:{action}:{reply.id}" for action in actions]


async def test_regenerate_keeps_both_versions_and_offers_to_compare_them(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        first = await one_answer(world)
        world.engine.says = "another way to put it"
        await world.click(world.alice, first, label="Regenerate")
        [kept, second] = await world.answered_in("general", 2)
        assert (kept.content, second.content) == ("hello", "another way to put it")
        assert second.reference["message_id"] == first.reference["message_id"], "both answer the same message"
        a, b = await world.reply_shown_by(kept), await world.reply_shown_by(second)
        assert (a.ask.variant, b.ask.variant) == (0, 1)
        choices = [f"encore:better:{a.id}:{b.id}:{choice}" for choice in ("a", "b", "both", "neither")]
        assert world.custom_ids(second)[-4:] == choices
        assert a.prompt is not None
        assert b.prompt is not None
        assert a.prompt.token_ids == b.prompt.token_ids, "the versions answer the same prompt"


async def test_regenerated_version_is_the_one_that_later_talk_builds_on(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        world.engine.says = "the first version"
        first = await one_answer(world)
        world.engine.says = "the second version"
        await world.click(world.alice, first, label="Regenerate")
        await world.answered_in("general", 2)
        await world.ask(world.alice, "general", "go on")
        [*_, third] = await world.answered_in("general", 3)
        prompt = await world.prompt_of(third)
        assert "the second version" in prompt
        assert "the first version" not in prompt


async def test_regenerating_twice_at_once_makes_one_more_version(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        first = await one_answer(world)
        await world.click(world.alice, first, label="Regenerate")
        await world.click(world.alice, first, label="Regenerate")
        await world.eventually(lambda: world.finished("general", 2))
        await world.quiet()
        replies = [await world.reply_shown_by(message) for message in world.replies("general")]
        variants = [reply.ask.variant for reply in replies]
        assert len(set(variants)) == len(variants)


async def test_an_old_question_is_regenerated_from_what_was_said_then(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.say(world.bob, "general", "said before")
        first = await one_answer(world, "what was said?")
        await world.say(world.bob, "general", "said after")
        await world.restart()
        await world.ask(world.bob, "general", "hello")
        await world.answered_in("general", 2)
        await world.click(world.alice, first, label="Regenerate")
        [*_, again] = await world.answered_in("general", 3)
        prompt = await world.prompt_of(again)
        assert "said before" in prompt
        assert "said after" not in prompt


async def test_regenerating_after_the_question_is_gone_says_so(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        asked = await world.ask(world.alice, "general", "hello")
        [shown] = await world.answered_in("general")
        await world.delete(world.alice, asked)
        assert "is gone" in await refused(world, world.alice, shown, "Regenerate")
        assert world.replies("general") == [shown]


async def test_continue_goes_on_where_the_length_limit_cut(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.store.change_server_settings(world.guild.id, world.moderator.id, max_new_tokens=100)
        first = await one_answer(world, STORY)
        assert first.content.endswith("-# Cut at the length limit; I can continue.")
        await world.click(world.alice, first, label="Continue")
        [_, second] = await world.answered_in("general", 2)
        said = (await world.reply_shown_by(first)).outcome
        carried_on = await world.reply_shown_by(second)
        assert second.reference["message_id"] == str(first.id)
        assert carried_on.ask.continues_reply_id == (await world.reply_shown_by(first)).id
        assert said is not None
        assert carried_on.outcome is not None
        assert STORY.startswith(said.completion + carried_on.outcome.completion)


async def test_regenerating_a_continuation_continues_again(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.store.change_server_settings(world.guild.id, world.moderator.id, max_new_tokens=100)
        first = await one_answer(world, STORY)
        await world.click(world.alice, first, label="Continue")
        [_, second] = await world.answered_in("general", 2)
        await world.click(world.alice, second, label="Regenerate")
        [*_, third] = await world.answered_in("general", 3)
        assert third.content == second.content
        original, again = await world.reply_shown_by(first), await world.reply_shown_by(third)
        assert again.ask.continues_reply_id == original.id


async def test_members_can_not_press_what_is_not_theirs_and_moderators_can(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        shown = await one_answer(world)
        for label in ("Regenerate", "Continue"):
            assert "Only who asked" in await refused(world, world.troll, shown, label)
        assert world.replies("general") == [shown]
        await world.click(world.moderator, shown, label="Regenerate")
        await world.answered_in("general", 2)


async def test_moderator_is_told_why_nothing_is_made_of_what_a_muted_member_asked(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        shown = await one_answer(world)
        await world.store.mute(world.guild.id, world.alice.id, world.moderator.id, None)
        for label in ("Regenerate", "Continue"):
            told = await refused(world, world.moderator, shown, label)
            assert told == "Who asked this is muted for me, so I make nothing more of it."
        assert len(world.replies("general")) == 1


async def test_moderator_is_told_that_a_question_may_not_be_read_any_more(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        role = world.guild.create_role("Loud")
        world.backend.add_member_role(world.guild.id, world.alice.id, role.id)
        shown = await one_answer(world)
        await world.store.mute(world.guild.id, role.id, world.moderator.id, None, Scope.ROLE)
        assert "may no longer read the message" in await refused(world, world.moderator, shown, "Regenerate")
        assert len(world.replies("general")) == 1


async def test_buttons_rest_while_the_server_is_paused(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        shown = await one_answer(world)
        await world.store.change_server_settings(world.guild.id, world.moderator.id, paused=True)
        assert "paused" in await refused(world, world.alice, shown, "Regenerate")


async def test_buttons_of_old_messages_work_after_a_restart(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        shown = await one_answer(world)
        await world.restart()
        result = await world.click(world.alice, shown, label="Regenerate")
        await world.answered(result)
        [_, second] = await world.answered_in("general", 2)
        assert second.content == "hello"


async def test_stop_of_an_ended_reply_says_so(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        await world.ask(world.alice, "general", STORY)
        [growing] = await world.eventually(lambda: world.replies("general"))
        reply_id = (await world.reply_shown_by(growing)).id
        cog: Any = world.bot.get_cog("Chat")
        # The press arrives just after the end: the button was still there when the member saw it.
        stop, cog._responder.stop = cog._responder.stop, lambda _: False
        assert "already ended" in await refused(world, world.alice, growing, "Stop")
        cog._responder.stop = stop
        assert stop(reply_id)
        await world.answered_in("general")


async def test_buttons_work_in_direct_messages(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.dm(world.alice, "psst")
        dm = world.dm_channel(world.alice)
        [first] = await world.answered_in(dm)
        await world.click(world.alice, first, label="Regenerate")
        [_, second] = await world.answered_in(dm, 2)
        assert (await world.reply_shown_by(second)).ask.variant == 1


async def test_failing_button_tells_the_member_and_keeps_the_bot_running(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        shown = await one_answer(world)
        next_variant = world.store.next_variant

        async def broken(_: int) -> int:
            raise RuntimeError("broken on purpose")

        world.store.next_variant = broken  # type: ignore[method-assign]
        assert "reference" in await refused(world, world.alice, shown, "Regenerate")
        world.store.next_variant = next_variant  # type: ignore[method-assign]
        await world.click(world.alice, shown, label="Regenerate")
        [_, second] = await world.answered_in("general", 2)
        assert (await world.reply_shown_by(second)).state is ReplyState.DONE


async def test_button_below_another_message_than_the_reply_it_names_does_nothing(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        reply = await world.reply_shown_by(await one_answer(world))
        view: Any = ui.reply_view(reply.id, Controls.FINISHED)
        await world.bot.get_channel(world.stage.id).send("what had this id before the backup was restored", view=view)
        [old] = world.replies("stage")
        for label in ("Regenerate", "Continue"):
            assert "no longer know this reply" in await refused(world, world.alice, old, label)
        await world.quiet()
        assert len(world.replies("general")) == 1
