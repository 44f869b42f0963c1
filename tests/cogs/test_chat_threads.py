"""Threads that the character was called into: it stays in the talk until it is sent away."""

from __future__ import annotations

from pathlib import Path

from tests.world import live_world


async def test_thread_where_it_was_mentioned_is_followed_and_its_starter_is_the_root(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        starter = await world.say(world.bob, "general", "Topic: the lighthouse")
        await world.say(world.bob, "general", "something else altogether")
        thread = await world.create_thread(world.bob, "Lighthouse", message=starter)
        await world.say(world.alice, thread, "nobody asked it yet")
        await world.ask(world.alice, thread, "who lives there?")
        [first] = await world.answered_in(thread)
        prompt = await world.prompt_of(first)
        assert prompt.index("Topic: the lighthouse") < prompt.index("who lives there?")
        assert "something else altogether" not in prompt
        await world.say(world.bob, thread, "a keeper, perhaps")
        [_, second] = await world.answered_in(thread, 2)
        assert second.content == "a keeper, perhaps"


async def test_message_from_before_the_mention_is_not_answered_however_close_they_come(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        starter = await world.say(world.bob, "general", "a topic")
        thread = await world.create_thread(world.bob, "Topic", message=starter)
        async with world.lock:  # both events arrive before the bot can look anything up
            world.backend.create_message(thread.id, world.bob.id, "just between us")
            world.backend.create_message(thread.id, world.alice.id, f"{world.mention} hello")
        [shown] = await world.answered_in(thread)
        await world.quiet()
        assert world.replies(thread) == [shown]
        assert (await world.reply_shown_by(shown)).ask.member_id == world.alice.id


async def test_thread_that_it_was_removed_from_is_followed_no_longer(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        thread = await world.create_thread(world.bob, "Aside", channel="general")
        await world.ask(world.alice, thread, "hello")
        await world.answered_in(thread)
        me = world.bot.user.id
        async with world.lock:
            world.backend.add_thread_member(thread.id, me)
            world.backend.remove_thread_member(thread.id, me)
        await world.say(world.alice, thread, "it is gone")
        await world.quiet()
        assert len(world.replies(thread)) == 1
