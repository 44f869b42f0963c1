"""What members do with a reply, in the words of the cog tests."""

from __future__ import annotations

from typing import Any

from tests.world import World


async def a_reply(world: World, text: str = "hello", where: Any = "general") -> Any:
    count = len(world.replies(where))
    await world.ask(world.alice, where, text)
    return (await world.answered_in(where, count + 1))[-1]


async def votes(world: World, message: Any) -> dict[int, tuple[str, float]]:
    """Return each member's vote on the reply that a message shows, once all events so far are committed."""
    await world.quiet(0.02)
    await world.bot.ratings.drain()
    reply = await world.reply_shown_by(message)
    return {vote.member_id: (vote.source, vote.value) for vote in await world.store.votes(reply.id)}


async def votes_become(world: World, message: Any, wanted: dict[int, tuple[str, float]]) -> None:
    """Wait until the votes on the reply that a message shows are those."""

    async def are() -> bool:
        return await votes(world, message) == wanted

    await world.eventually(are)


async def press(world: World, member: Any, message: Any, action: str) -> Any:
    """Press the button of a reply whose custom id begins with `encore:ACTION:` and wait for the answer."""
    custom_id = next(name for name in world.custom_ids(message) if name.startswith(f"encore:{action}:"))
    return await world.answered(await world.click(member, message, custom_id=custom_id))


async def said(world: World, result: Any) -> str:
    """Return what the bot told the presser, and nobody else."""
    answer = await world.eventually(lambda: [m for m in (result.response, *result.followups) if m and m.content])
    assert all(message.ephemeral for message in answer)
    return str(answer[-1].content)
