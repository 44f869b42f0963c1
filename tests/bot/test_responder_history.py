"""What of the talk before it an answer goes by."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

from bot.records import Ask, Message, Provenance
from models.types import Sampling
from tests.bot.answering import CHANNEL, GUILD, MEI, Room, opened
from tests.bot.screen import Screen


async def test_talk_goes_on_from_the_version_that_was_replied_to(room: Room) -> None:
    ask = room.ask("question")
    for variant, answer in enumerate(["older version", "newer version"]):
        room.history[-1] = replace(room.history[-1], content=answer)
        reply = await room.respond(replace(ask, variant=variant), screen := Screen(ids=itertools.count(100 + variant)))
        assert reply is not None
        assert list(screen.shown()) == [100 + variant]
    versions = [
        Message(100 + v, CHANNEL, 2, "Encore", "", is_self=True, reply_to_id=ask.asked_message_id) for v in (0, 1)
    ]
    question = replace(room.history[-1], content="question")
    for replied_to, spoken in ((100, "older version"), (101, "newer version"), (None, "newer version")):
        follow = Message(2000 + len(room.history), CHANNEL, MEI, "Mei", "go on", reply_to_id=replied_to)
        room.history.append(follow)
        follow_up = Ask(follow.id, CHANNEL, GUILD, MEI, Provenance.DEMO)
        history = [question, *versions, follow]
        reply = await room.responder.respond(follow_up, history, Screen(), room.server)
        prompt = room.model.tokenizer.decode(reply.prompt.token_ids)
        assert [version for version in ("older version", "newer version") if version in prompt] == [spoken]


async def test_a_reply_to_a_further_part_has_the_whole_chain(tmp_path: Path) -> None:
    async with opened(tmp_path, context_tokens=6000) as room:
        room.server = replace(room.server, sampling=Sampling(max_new_tokens=2100))
        ask = room.ask("verse " * 340)
        reply = await room.respond(ask, Screen())
        assert len(reply.message_ids) == 2
        room.history += [
            Message(message_id, CHANNEL, 2, "Encore", "", is_self=True, reply_to_id=ask.asked_message_id)
            for message_id in reply.message_ids
        ]
        room.history += [Message(2000 + n, CHANNEL, 12, "Alex", "chatter " * 10) for n in range(30)]
        follow = Message(3000, CHANNEL, MEI, "Mei", "go on", reply_to_id=reply.message_ids[-1])
        room.history.append(follow)
        followed = await room.respond(Ask(follow.id, CHANNEL, GUILD, MEI, Provenance.DEMO), Screen())
        assert followed.prompt.message_ids[0] == reply.message_ids[0]


async def test_what_no_longer_fits_is_said_once(room: Room) -> None:
    texts = []
    for number in range(12):
        screen = Screen()
        await room.respond(room.ask(f"{number} " + "x" * 150), screen)
        texts.append(screen.text)
    [told] = [text for text in texts if "older ones are left out" in text]
    assert re.search(r"\n-# I go by \d+ messages here, up to yours; older ones are left out\.$", told)


async def test_what_was_said_comes_back_as_it_was_generated_not_as_shown(tmp_path: Path) -> None:
    async with opened(tmp_path, context_tokens=16_384) as room:
        room.server = replace(room.server, sampling=Sampling(max_new_tokens=4000))
        screen = Screen()
        ask = room.ask("First part. " * 120 + "\n\n" + "second part " * 60)
        reply = await room.respond(ask, screen)
        assert len(reply.message_ids) == 2
        room.history += [
            Message(message_id, CHANNEL, 2, "Encore", content + " ▍", is_self=True, reply_to_id=ask.asked_message_id)
            for message_id, (content, _) in screen.shown().items()
        ]
        room.history.append(Message(5000, CHANNEL, 2, "Encore", "Which is better?", is_self=True))
        followed = await room.respond(room.ask("and?"), Screen())
        prompt = room.model.tokenizer.decode(followed.prompt.token_ids)
        assert prompt.count("assistant\n" + reply.outcome.completion.strip()) == 1
        assert "▍" not in prompt
        assert "Which is better?" not in prompt
