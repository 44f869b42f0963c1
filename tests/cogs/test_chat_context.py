"""What the character has read when it answers: history, chains, threads, names, edits and deletions."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from simcord.backend.models import AllowedMentions

from bot.records import ReplyState
from bot.settings import Settings
from tests.world import World, live_world

FEW = 5


def few_messages(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, edit_interval_seconds=0.02, message_content_intent=True, history_messages=FEW)


async def chatter(world: World, count: int, where: Any = "general") -> list[Any]:
    return [await world.say(world.bob, where, f"chatter {number}") for number in range(count)]


async def test_recent_talk_of_the_channel_is_read_from_before_it_was_ever_asked_there(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.say(world.bob, "general", "the password is swordfish")
        await world.ask(world.alice, "general", "what did Alex say?")
        [shown] = await world.answered_in("general")
        assert "Alex: the password is swordfish\n" in await world.prompt_of(shown)


async def test_talk_between_two_questions_is_read_too(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.ask(world.alice, "general", "first")
        await world.answered_in("general")
        await world.say(world.bob, "general", "an interjection")
        await world.ask(world.alice, "general", "second")
        [_, shown] = await world.answered_in("general", 2)
        prompt = await world.prompt_of(shown)
        assert prompt.index("first") < prompt.index("an interjection") < prompt.index("second")


async def test_only_the_newest_messages_are_read(tmp_path: Path) -> None:
    async with live_world(tmp_path, settings=few_messages(tmp_path)) as world:
        await chatter(world, 3 * FEW)
        await world.ask(world.alice, "general", "now")
        [shown] = await world.answered_in("general")
        await chatter(world, 3 * FEW)
        await world.ask(world.alice, "general", "and now")
        [_, again] = await world.answered_in("general", 2)
        for message in (shown, again):
            assert 1 <= (await world.prompt_of(message)).count("chatter") < FEW


async def test_prompts_of_follow_ups_begin_alike_while_the_window_stands(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, edit_interval_seconds=0.0, history_messages=20)
    async with live_world(tmp_path, settings=settings) as world:
        await chatter(world, 60)
        prompts: list[tuple[int, ...]] = []
        for number in range(8):
            await world.ask(world.alice, "general", f"question {number}")
            shown = await world.answered_in("general", number + 1)
            prompt = (await world.reply_shown_by(shown[-1])).prompt
            assert prompt is not None
            prompts.append(prompt.token_ids)
        grown = sum(later[: len(earlier) - 30] == earlier[:-30] for earlier, later in pairwise(prompts))
        assert grown >= 5, "the window may move once; otherwise a prompt goes on where the last one was"


async def test_reply_chain_is_followed_beyond_the_recent_talk(tmp_path: Path) -> None:
    async with live_world(tmp_path, settings=few_messages(tmp_path)) as world:
        root = await world.say(world.bob, "general", "the root of it all")
        await world.ask(world.alice, "general", "what do you make of it?", reply_to=root)
        [first] = await world.answered_in("general")
        await chatter(world, 3 * FEW)
        await world.say(world.alice, "general", "go deeper", reply_to=first)
        [_, second] = await world.answered_in("general", 2)
        prompt = await world.prompt_of(second)
        assert prompt.index("the root of it all") < prompt.index("what do you make of it?") < prompt.index("go deeper")


async def test_chain_survives_a_restart_and_a_deleted_link(tmp_path: Path) -> None:
    async with live_world(tmp_path, settings=few_messages(tmp_path)) as world:
        root = await world.say(world.bob, "general", "the root of it all")
        asked = await world.ask(world.alice, "general", "what do you make of it?", reply_to=root)
        [first] = await world.answered_in("general")
        await world.restart()
        await chatter(world, 3 * FEW)
        await world.delete(world.alice, asked)
        await world.say(world.alice, "general", "go deeper", reply_to=first)
        [_, second] = await world.answered_in("general", 2)
        prompt = await world.prompt_of(second)
        assert f"assistant\n{first.content}\n" in prompt
        assert "what do you make of it?" not in prompt


async def test_further_parts_of_a_long_answer_belong_to_its_question(tmp_path: Path) -> None:
    async with live_world(tmp_path, context_tokens=32768, settings=few_messages(tmp_path)) as world:
        await world.allow_long_answers()
        world.engine.says = "\n".join(f"verse {number} of a song" for number in range(150))
        await world.ask(world.alice, "general", "sing something")
        [_, last] = await world.answered_in("general", 2)
        world.engine.says = None
        await world.restart()
        await chatter(world, 3 * FEW)
        await world.say(world.alice, "general", "and the refrain?", reply_to=last)
        [*_, second] = await world.answered_in("general", 3)
        prompt = await world.prompt_of(second)
        assert prompt.count("sing something") == 1
        assert prompt.count("verse 7 of a song") == 1, "the whole answer, once"


async def test_members_with_the_same_name_are_told_apart(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        twin = world.guild.add_member(world.env.create_user("alex2", global_name="Alex"))
        await world.say(twin, "general", "I like tea")
        await world.say(world.bob, "general", "I like coffee")
        await world.ask(world.alice, "general", "who likes what?")
        [shown] = await world.answered_in("general")
        prompt = await world.prompt_of(shown)
        assert f"Alex#{twin.id % 10000:04d}: I like tea" in prompt
        assert f"Alex#{world.bob.id % 10000:04d}: I like coffee" in prompt
        assert "Mei 小美: who likes what?" in prompt


async def test_edited_messages_read_as_they_stand_and_deleted_ones_are_gone(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.ask(world.alice, "general", "hello")
        await world.answered_in("general")
        edited = await world.say(world.bob, "general", "I like tea")
        deleted = await world.say(world.bob, "general", "a secret")
        await world.edit(world.bob, edited, "I like coffee")
        await world.delete(world.bob, deleted)
        await world.ask(world.alice, "general", "what does Alex like?")
        [_, shown] = await world.answered_in("general", 2)
        prompt = await world.prompt_of(shown)
        assert "I like coffee" in prompt
        assert "I like tea" not in prompt
        assert "a secret" not in prompt


async def test_messages_deleted_in_bulk_are_gone(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.ask(world.alice, "general", "hello")
        await world.answered_in("general")
        spam = await chatter(world, 3)
        async with world.lock:
            world.backend.bulk_delete_messages(world.general.id, [message.id for message in spam])
        await world.ask(world.alice, "general", "what was that?")
        [_, shown] = await world.answered_in("general", 2)
        assert "chatter" not in await world.prompt_of(shown)


async def test_pictures_are_noted_by_name(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        async with world.lock:
            await world.alice.send(
                world.general, f"{world.mention} what is this?", attachments=[("cat.png", b"\x89PNG")]
            )
        [shown] = await world.answered_in("general")
        assert "what is this?\n  [picture: cat.png]" in await world.prompt_of(shown)


async def test_mentions_and_server_emoji_read_as_names(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.ask(world.alice, "general", f", ask {world.bob.mention} <:tofu:123456789012345678>")
        [shown] = await world.answered_in("general")
        assert "Mei 小美: ask @Alex :tofu:" in await world.prompt_of(shown)


async def test_unreadable_history_leaves_the_question_alone_in_the_prompt(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.say(world.bob, "stage", "you can't read this back")
        await world.set_bot_permissions("stage", read_message_history=False)
        await world.ask(world.alice, "stage", "hello?")
        [shown] = await world.answered_in("stage")
        prompt = await world.prompt_of(shown)
        assert "hello?" in prompt
        assert "read this back" not in prompt


async def test_reply_that_pings_nobody_is_answered(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.ask(world.alice, "general", "hello")
        [first] = await world.answered_in("general")
        async with world.lock:
            reference = {"channel_id": str(world.general.id), "message_id": str(first.id)}
            world.backend.create_message(
                world.general.id,
                world.bob.id,
                "who are you?",
                reference=world.backend.normalize_message_reference(world.general.id, reference),
                allowed_mentions=AllowedMentions(replied_user=False),
            )
        [_, second] = await world.answered_in("general", 2)
        assert second.content == "who are you?"


async def test_thread_started_from_its_own_answer_begins_with_it(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.ask(world.alice, "general", "once upon a time")
        [first] = await world.answered_in("general")
        thread = await world.create_thread(world.alice, "Story", message=first)
        await world.ask(world.alice, thread, "go on")
        [shown] = await world.answered_in(thread)
        prompt = await world.prompt_of(shown)
        assert prompt.index("once upon a time") < prompt.index("go on")


async def test_new_session_reads_again_what_was_missed(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.ask(world.alice, "general", "hello")
        await world.answered_in("general")
        world.backend.subscribers.remove(world.env._gateway_feed)
        await world.say(world.bob, "general", "said while the gateway was down")
        world.backend.subscribers.append(world.env._gateway_feed)
        world.bot.dispatch("ready")
        await world.ask(world.alice, "general", "what did I miss?")
        [_, shown] = await world.answered_in("general", 2)
        assert "said while the gateway was down" in await world.prompt_of(shown)
        assert (await world.reply_shown_by(shown)).state is ReplyState.DONE


async def test_two_questions_at_once_each_end_with_their_own(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.003) as world:
        cats = await world.ask(world.alice, "general", "tell me about cats")
        dogs = await world.ask(world.bob, "general", "tell me about dogs")
        shown = await world.answered_in("general", 2)
        prompts = {message.reference["message_id"]: await world.prompt_of(message) for message in shown}
        assert "dogs" not in prompts[str(cats.id)]
        assert prompts[str(dogs.id)].rstrip().endswith("tell me about dogs\nassistant")


async def test_post_of_a_forum_is_the_root_of_its_thread(tmp_path: Path) -> None:
    async with live_world(tmp_path, settings=few_messages(tmp_path)) as world:
        async with world.lock:
            forum = world.guild.create_forum_channel("help")
            post = world.channel(world.backend.create_thread(forum.id, "Question", world.bob.id).id)
            # The first message of a post has the id of its thread, and lies in it.
            first = world.backend.prepare_message(post.id, world.bob.id, "how do I whistle?")
            first.id = post.id
            world.backend.commit_message(first)
        await chatter(world, 3 * FEW, post)
        await world.ask(world.alice, post, "can you help?")
        [shown] = await world.answered_in(post)
        prompt = await world.prompt_of(shown)
        assert prompt.index("how do I whistle?") < prompt.index("can you help?")
