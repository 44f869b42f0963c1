"""Whatever members, nights, backups and restarts do in whatever order: nothing that was deleted or not agreed to is in
a training file, and no adapter that learned from it is there to be served."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bot import rows
from bot.backups import restore
from bot.learning_records import Cause
from bot.night_job import JobEnd
from bot.privacy.forget import Forget
from bot.privacy.journal import JOURNAL, Journal, RequestKind
from bot.privacy.members import members_of
from bot.records import Provenance
from models.learning.snapshot import read_snapshot
from tests.bot import fake_night
from tests.bot.learning import ended_reply, vote
from tests.bot.nights import House, house
from tests.bot.privacy.channel import Channel
from tests.bot.stores import Clock, folder_in_memory

MEMBERS, BOT = [301, 302, 303], 999
members = st.sampled_from(MEMBERS)
provenances = st.sampled_from([Provenance.DISCORD, Provenance.OPERATOR, Provenance.DEMO])
# Who asks, how many messages before theirs the answer reads, and of how many it repeats a run of words; and talk in
# which the first one's words go from answer to answer while nobody reads their message any more.
exchanges = st.lists(st.tuples(members, st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=2)
hearsay = st.permutations(MEMBERS).map(lambda order: [(member, 1, 1) for member in order])


async def run_job(command: Any, folder: Path, **options: Any) -> JobEnd:
    """Make and install the adapter of a night, without a process of its own."""
    await asyncio.to_thread(fake_night.main, "promote", folder)
    return JobEnd(0)


class Policy(RuleBasedStateMachine):
    """A server with three members; the model beside it knows what may be learned from."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(folder_in_memory()))
        self.stack.enter_context(patch("bot.night_work.run_job", run_job))
        self.h: House
        self.opened = AsyncExitStack()
        self.consenting: set[int] = set()
        self.refusing: set[int] = set()
        self.opted_out: set[int] = set()
        self.deleted_replies: set[int] = set()
        self.deleted_votes: set[tuple[int, int]] = set()
        self.replies: dict[int, tuple[Provenance, int]] = {}
        self.votes: set[tuple[int, int]] = set()
        self.clock = Clock()
        self.channel = Channel()
        self.deleted_at: dict[int, float] = {}
        self.backup: dict[str, Any] | None = None

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        self.opened = AsyncExitStack()
        self.h = self.do(self.opened.enter_async_context(house(self.folder, clock=self.clock)))
        object.__setattr__(self.h.work._settings, "discord_training_permission", "granted")
        self.do(self.forget.finish_all())

    @property
    def forget(self) -> Forget:
        h = self.h
        return Forget(h.store, Journal(h.folder / JOURNAL), h.nightly, h.promotion, nights=h.work.folder, clock=h.clock)

    def teardown(self) -> None:
        try:
            self.do(self.opened.aclose())
        finally:
            self.stack.close()
            self.runner.close()

    # ------------------------------------------------------------------ what happens

    @rule(talk=exchanges | hearsay, provenance=provenances, raters=st.sets(members, min_size=1))
    def talk(self, talk: list[tuple[int, int, int]], provenance: Provenance, raters: set[int]) -> None:
        for author, window, repeats in talk:
            self.h.clock.now += 1
            if provenance is Provenance.OPERATOR:
                author = BOT
                reply = self.do(ended_reply(self.h.store, provenance=provenance, author_id=author))
            elif author in self.opted_out:  # it is answered nothing
                continue
            else:
                exchange = self.channel.exchange(
                    self.h.store, author, at=self.h.clock.now, provenance=provenance, window=window, repeats=repeats,
                    unread=self.opted_out, deleted_at=self.deleted_at,
                )  # fmt: skip
                reply = self.do(exchange)
            self.replies[reply] = (provenance, author)
            self.deleted_replies.discard(reply)  # after a restore an id may be given out again
            self.deleted_votes = {pair for pair in self.deleted_votes if pair[0] != reply}
            for rater in raters - self.opted_out:
                self.do(vote(self.h.store, reply, rater))
                self.votes.add((reply, rater))

    @precondition(lambda self: self.replies)
    @rule(number=st.integers(0, 9), rater=members)
    def rate(self, number: int, rater: int) -> None:
        reply = sorted(self.replies)[number % len(self.replies)]
        self.h.clock.now += 1
        if rater in self.opted_out:
            return
        self.do(vote(self.h.store, reply, rater))
        self.votes.add((reply, rater))
        self.deleted_votes.discard((reply, rater))

    @rule(member=members)
    def agree(self, member: int) -> None:
        self.do(self.forget.give_consent(member))
        self.consenting.add(member)
        self.refusing.discard(member)

    @rule(member=members)
    def withdraw(self, member: int) -> None:
        self.do(self.forget.withdraw_consent(member))
        self.consenting.discard(member)
        self.refusing.add(member)

    @rule(member=members)
    def opt_out(self, member: int) -> None:
        self.do(self.forget.opt_out(member))
        self.opted_out.add(member)
        self._end_consent(member)

    @rule(member=members)
    def opt_in(self, member: int) -> None:
        self.do(self.forget.opt_in(member))
        if member in self.opted_out:
            self._end_consent(member)
        self.opted_out.discard(member)

    def _end_consent(self, member: int) -> None:
        if member in self.consenting:
            self.consenting.discard(member)
            self.refusing.add(member)

    @rule(member=members)
    def delete(self, member: int) -> None:
        self.h.clock.now += 1
        self.do(self.forget.delete(member))
        self.deleted_at[member] = self.h.clock.now
        self.consenting.discard(member)
        self.refusing.discard(member)
        self._forget(member)

    def _forget(self, member: int) -> None:
        own = {reply for reply, (_, author) in self.replies.items() if author == member}
        self.deleted_replies |= own
        self.deleted_votes |= {pair for pair in self.votes if pair[1] == member or pair[0] in own}
        self.votes -= self.deleted_votes
        for reply in own:
            del self.replies[reply]

    @rule()
    def night(self) -> None:
        self.h.clock.now += 60
        self.do(self.h.nightly.run(Cause.COMMAND))

    @rule()
    def back_up(self) -> None:
        self.do(self.h.store.backup(self.folder / "backup.sqlite3", overwrite=True))
        self.backup = {
            "replies": dict(self.replies),
            "votes": set(self.votes),
            "deletions": self._deletions().keys(),
        }

    @precondition(lambda self: self.backup)
    @rule()
    def put_back(self) -> None:
        assert self.backup is not None
        self.do(self.opened.aclose())
        self.do(restore(self.folder / "backup.sqlite3", self.folder / "encore.sqlite3"))
        self.replies, self.votes = dict(self.backup["replies"]), set(self.backup["votes"])
        for deletion, member in self._deletions().items():
            if deletion not in self.backup["deletions"]:
                self._forget(member)
        self.start()

    def _deletions(self) -> dict[str, int]:
        requests = Journal(self.folder / JOURNAL).read()
        return {asked.id: asked.member_id for asked in requests if asked.kind is RequestKind.DELETE}

    @precondition(lambda self: self.replies)
    @rule(member=members)
    def delete_what_a_backup_brings_back(self, member: int) -> None:
        self.back_up()
        self.delete(member)
        self.put_back()
        self.night()

    @precondition(lambda self: self.replies)
    @rule(member=members, choose=st.sampled_from(["withdraw", "opt_out"]))
    def refuse_what_a_backup_brings_back(self, member: int, choose: str) -> None:
        self.opt_in(member)
        self.agree(member)
        self.back_up()
        getattr(self, choose)(member)
        self.put_back()
        self.night()

    @rule()
    def restart(self) -> None:
        self.do(self.opened.aclose())
        self.start()

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def choices_stand(self) -> None:
        if hasattr(self, "h"):
            assert self.do(self.h.store.refusing()) == self.refusing | self.opted_out
            assert {member for member in MEMBERS if self.do(self.h.store.consent(member)).given} == self.consenting

    def _kept_words(self, tokens: Iterable[int]) -> set[int]:
        """Return whose words these are, of which none is older than its sayer's deletion."""
        said_at = self.channel.authors(tokens)
        assert not {member for member, at in said_at.items() if at < self.deleted_at.get(member, 0.0)}
        return set(said_at)

    @invariant()
    def deleted_words_are_nowhere(self) -> None:
        if not hasattr(self, "h"):
            return
        sql = "SELECT prompt_token_ids, completion_token_ids, completion FROM replies"
        for prompt, completed, completion in self.do(self.h.store._database.read(sql)):
            self._kept_words(rows.unpack_tokens((prompt or b"") + (completed or b"")))
            self._kept_words(int(word) for word in (completion or "").split() if word.isdigit())

    @invariant()
    def nothing_learned_that_may_not_be(self) -> None:
        if not hasattr(self, "h"):
            return
        nights = self.h.work.folder
        held = {path.parent.name: read_snapshot(path) for path in nights.glob("*/examples.jsonl")}
        for name, snapshot in held.items():
            replies = {reply.reply_id for reply in snapshot.replies}
            votes = {(v.reply_id, v.rater_id) for v in snapshot.votes}
            assert not replies & self.deleted_replies, (name, "holds a deleted reply")
            assert not votes & self.deleted_votes, (name, "holds a deleted rating")
            whose = members_of(nights / name)
            refusing = self.refusing | self.opted_out
            assert whose is not None and not whose & refusing, (name, "holds data of who refused")
            for reply in snapshot.replies:
                said = self._kept_words([*reply.prompt_token_ids, *reply.completion_token_ids])
                assert said <= whose, (name, "doesn't say whose words it holds")
                agreed = said if reply.provenance == Provenance.DEMO else self.consenting
                assert said <= agreed, (name, "holds words, repeated or read, that nobody agreed to")
            for reply, rater in votes & self.votes:
                provenance, author = self.replies[reply]
                if provenance is not Provenance.DEMO:
                    assert rater in self.consenting, (name, "holds a rating that nobody agreed to")
                if provenance is Provenance.DISCORD:
                    assert author in self.consenting, (name, "holds words that nobody agreed to")
        for adapter in {*self.h.adapters.names(), *self.h.engine.adapters}:
            assert adapter.removesuffix("-kto") in held, (adapter, "learned from what isn't there to be looked at")
        answering = self.h.adapters.serving().adapter
        assert answering == self.h.promotion.serving.adapter
        assert answering is None or answering in self.h.engine.adapters


Policy.TestCase.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPolicy = Policy.TestCase
