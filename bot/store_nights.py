"""The queries of learning: nights, what they may learn from, labels, arms. A part of `bot.store.Store`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from bot import rows
from bot.database import Database
from bot.learning_records import Cause, GoldLabel, Night, NightOutcome, NightState
from bot.records import Placement, Preference, Provenance
from models.arms import Arm, CanaryRating

_NIGHT_COLUMNS = (
    "id, cause, state, started_at, finished_at, actor_id, attempts, outcome, adapter, more_ratings_needed,"
    " sentences, warnings, figures"
)
_FROZEN, _BY_LOCK = "learning_frozen", "lock"  # its name in the meta table, and its value unless that is who froze it
# What parts the old ratings from the new ones.
_DATED = (
    ("replies", "created_at"),
    ("ratings", "rated_at"),
    ("comparisons", "compared_at"),
    ("corrections", "corrected_at"),
)
# Discord's members have to agree, also to the use of a reaction in a rating room; the demo's, an import's and the
# operator in the terminal (who is in no server) needn't, but whoever refused does so everywhere.
_MAY_TEACH = """({member} NOT IN (SELECT member_id FROM refusing)
            AND (provenance IN ('demo', 'import') OR (provenance = 'operator' AND guild_id = 0)
                OR {member} IN (SELECT member_id FROM consenting)))"""


def _may_teach(member: str) -> str:
    return _MAY_TEACH.format(member=member)


# What moderators took out of learning: a reply with what carries it on, or a message that it read.
_NEVER = """(replies.id IN (WITH RECURSIVE never (id) AS (SELECT reply_id FROM never_learn UNION
            SELECT later.id FROM replies AS later JOIN never ON later.continues_reply_id = never.id)
            SELECT id FROM never) OR EXISTS (SELECT 1
            FROM json_each(prompt_message_ids) AS read JOIN never_learn_messages ON message_id = read.value))"""

# The one question of what a night may learn from, and the policy's only gate: whose words are in a prompt (a server's
# system prompt is its writer's), and whose opinions count. A reply that nobody said anything of teaches nothing; one
# that was cut at the limit of its length is marked, as it must not teach to stop in the middle of a sentence.
_LEARNABLE = f"""
    WITH learnable AS (SELECT replies.id, coalesce(arms.conversation, 'message:' || asked_message_id),
        asked_message_id, variant, replies.created_at, member_id, nullif(guild_id, 0), provenance, prompt_version,
        adapter, completion, prompt_token_ids, completion_token_ids, finish_reason = 'length',
        CASE WHEN {_may_teach("gold.actor_id")} THEN gold.good END AS good,
        (SELECT json_group_array(json_array(votes.member_id, value, rated_at)) FROM votes
            WHERE reply_id = replies.id AND {_may_teach("votes.member_id")}) AS votes,
        (SELECT json_group_array(json_array(corrections.member_id, corrected_at))
            FROM corrections WHERE reply_id = replies.id AND {_may_teach("corrections.member_id")}) AS corrections,
        (SELECT json_group_array(json_array(reply_a, member_id, preference, compared_at))
            FROM comparisons WHERE reply_b = replies.id AND {_may_teach("comparisons.member_id")}) AS comparisons,
        gold.actor_id, prompt_member_ids
    FROM replies LEFT JOIN arms ON arms.reply_id = replies.id LEFT JOIN gold ON gold.reply_id = replies.id
    WHERE provenance IN (SELECT value FROM json_each(?1)) AND model_sha256 = ?2 AND prompt_version = ?3
        AND state = 'done' AND finish_reason IN ('end', 'length') AND length(completion_token_ids) > 0
        AND NOT {_NEVER}
        AND (provenance IN ('operator', 'import') OR ({_may_teach("replies.member_id")}
            AND NOT EXISTS (SELECT 1 FROM json_each(prompt_member_ids) AS said
                WHERE NOT {_may_teach("said.value")})
            AND NOT EXISTS (SELECT 1 FROM server_prompts
                WHERE sha256 = system_sha256 AND NOT {_may_teach("server_prompts.member_id")}))))
    SELECT * FROM learnable WHERE good IS NOT NULL OR votes <> '[]' OR corrections <> '[]' OR comparisons <> '[]'
        OR id IN (SELECT json_extract(said.value, '$[0]') FROM learnable AS later, json_each(later.comparisons) AS said)
    ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Said:
    """A member's standing vote on a learnable reply."""

    member_id: int
    value: float
    rated_at: float


@dataclass(frozen=True, slots=True)
class LearnableReply:
    """A reply that a night may learn from, with all that was said of it.

    `corrections` are (member_id, corrected_at); `comparisons` (earlier reply's id, member_id, preference with the
    earlier one as A, compared_at).
    """

    reply_id: int
    conversation_id: str
    asked_message_id: int
    variant: int
    created_at: float
    author_id: int
    guild_id: int | None
    provenance: Provenance
    prompt_version: int
    adapter: str | None
    completion: str
    prompt_token_ids: tuple[int, ...]
    completion_token_ids: tuple[int, ...]
    cut: bool  # it broke off at the limit of its length
    gold: bool | None
    votes: tuple[Said, ...]
    corrections: tuple[tuple[int, float], ...]
    comparisons: tuple[tuple[int, int, Preference, float], ...]
    gold_actor_id: int | None
    prompt_member_ids: tuple[int, ...]

    @property
    def members(self) -> frozenset[int]:
        """Return whose words, ratings or label this is made of; an import's and the operator's words are nobody's."""
        said = {vote.member_id for vote in self.votes} | {member for member, _ in self.corrections}
        compared = {comparison[1] for comparison in self.comparisons}
        labelled = {self.gold_actor_id} if self.gold is not None and self.gold_actor_id is not None else set()
        of_members = self.provenance in (Provenance.DISCORD, Provenance.DEMO)
        words = {self.author_id, *self.prompt_member_ids} if of_members else set()
        return frozenset(said | compared | labelled | words)


class NightQueries:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    # ------------------------------------------------------------------ what is learned from

    async def learnable(
        self, provenances: Collection[Provenance], *, model_sha256: str, prompt_version: int
    ) -> list[LearnableReply]:
        """Return the replies of these provenances, this model and prompt version that something was said of."""
        allowed = json.dumps(sorted(provenance.value for provenance in provenances))
        found = await self._database.read(_LEARNABLE, (allowed, model_sha256, prompt_version))
        return await asyncio.to_thread(lambda: [_learnable(row) for row in found])  # half a second for 20,000

    async def waiting_for_consent(
        self, provenances: Collection[Provenance], *, model_sha256: str, prompt_version: int
    ) -> int:
        """Count the votes on such replies that would teach if their members agreed; who refused isn't waited for."""
        allowed = json.dumps(sorted(provenance.value for provenance in provenances))
        found = await self._database.read(
            "SELECT count(*) FROM votes JOIN replies ON id = reply_id"
            " WHERE provenance IN (SELECT value FROM json_each(?)) AND model_sha256 = ? AND prompt_version = ?"
            f" AND state = 'done' AND value <> 0 AND NOT {_NEVER}"
            f" AND NOT {_may_teach('votes.member_id')} AND votes.member_id NOT IN (SELECT member_id FROM refusing)",
            (allowed, model_sha256, prompt_version),
        )
        return int(found[0][0])

    async def may_teach(self, member_id: int, provenance: Provenance, guild_id: int | None) -> bool:
        """Return whether a night counts what a member says of a reply of this provenance in this server."""
        found = await self._database.read(
            f"SELECT {_may_teach('?1')} FROM (SELECT ?2 AS provenance, ?3 AS guild_id)",
            (member_id, provenance.value, rows.guild_key(guild_id)),
        )
        return bool(found[0][0])

    async def label_gold(self, reply_id: int, good: bool, actor_id: int) -> bool:
        """Call a reply good or bad, in place of an earlier label; return False when there is no such reply."""
        made = await self._database.write(
            "INSERT OR REPLACE INTO gold (reply_id, good, actor_id, labelled_at)"
            " SELECT id, ?, ?, ? FROM replies WHERE id = ? RETURNING reply_id",
            (int(good), actor_id, self._clock(), reply_id),
        )
        return bool(made)

    async def remove_gold(self, reply_id: int) -> bool:
        """Return whether there was a label."""
        return bool(await self._database.write("DELETE FROM gold WHERE reply_id = ? RETURNING reply_id", (reply_id,)))

    async def gold(self, reply_id: int) -> GoldLabel | None:
        found = await self._database.read(
            "SELECT reply_id, good, actor_id, labelled_at FROM gold WHERE reply_id = ?", (reply_id,)
        )
        return GoldLabel(found[0][0], bool(found[0][1]), *found[0][2:]) if found else None

    # ------------------------------------------------------------------ arms

    async def conversation_of(self, asked_message_id: int) -> str | None:
        """Return the conversation of the replies to a message: a further version stays in it."""
        found = await self._database.read(
            "SELECT conversation FROM replies JOIN arms ON reply_id = replies.id WHERE asked_message_id = ? LIMIT 1",
            (asked_message_id,),
        )
        return str(found[0][0]) if found else None

    async def placement(self, reply_id: int) -> Placement | None:
        found = await self._database.read(
            "SELECT conversation, canary, arm, propensity FROM arms WHERE reply_id = ?", (reply_id,)
        )
        return rows.placement(found[0]) if found else None

    async def canary_ratings(self, canary: str) -> list[CanaryRating]:
        """Return the standing votes on replies of a canary's two arms; those of banned raters are left out."""
        found = await self._database.read(
            "SELECT conversation, arm, propensity, votes.value > 0, rated_at, votes.member_id"
            " FROM arms JOIN replies ON replies.id = arms.reply_id JOIN votes ON votes.reply_id = arms.reply_id"
            " WHERE canary = ? AND votes.value <> 0 AND NOT EXISTS (SELECT 1 FROM raters WHERE banned = 1"
            " AND raters.guild_id = replies.guild_id AND raters.member_id = votes.member_id)"
            " ORDER BY rated_at, arms.reply_id, votes.member_id",
            (canary,),
        )
        return [CanaryRating(row[0], Arm(row[1]), row[2], float(row[3]), row[4], row[5]) for row in found]

    # ------------------------------------------------------------------ nights

    async def set_times_right(self, now: float) -> None:
        """Date to `now` what is dated later, since the clock was ahead then: a night parts old ratings from new."""
        async with self._database.transaction() as connection:
            for table, column in _DATED:
                await connection.execute_fetchall(f"UPDATE {table} SET {column} = ?1 WHERE {column} > ?1", (now,))

    async def learning_frozen(self) -> bool:
        return bool(await self._database.read("SELECT 1 FROM meta WHERE key = ?", (_FROZEN,)))

    async def freeze_learning(self, frozen: bool, actor_id: int, *, by_lock: bool = False) -> bool:
        """Freeze learning or end that, with an entry in the audit; return False when it was so already.

        A lock's end ends no moderator's freeze, also one that came during the lock.
        """
        who = _BY_LOCK if by_lock else str(actor_id)
        async with self._database.transaction() as connection:
            if frozen:
                sql = (
                    "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2"
                    " WHERE value = ?3 AND ?2 <> ?3 RETURNING key"
                )
            else:
                sql = "DELETE FROM meta WHERE key = ?1 AND (?2 <> ?3 OR value = ?3) RETURNING key"
            changed = await connection.execute_fetchall(sql, (_FROZEN, who, _BY_LOCK))
            if changed := list(changed):
                action = "learning freeze" if frozen else "learning unfreeze"
                await connection.execute_fetchall(
                    "INSERT INTO audit (guild_id, actor_id, action, detail, created_at) VALUES (0, ?, ?, '{}', ?)",
                    (actor_id, action, self._clock()),
                )
            return bool(changed)

    async def begin_night(self, night: Night) -> bool:
        """Make the row of a running night; return False when one runs already, or the id is taken."""
        made = await self._database.write(
            "INSERT INTO nights (id, cause, actor_id, state, started_at) VALUES (?, ?, ?, 'running', ?)"
            " ON CONFLICT DO NOTHING RETURNING id",
            (night.id, night.cause.value, night.actor_id, night.started_at),
        )
        return bool(made)

    async def retry_night(self, night_id: str) -> int:
        """Have a night run again, one that was killed or one that failed; return how many attempts there were."""
        made = await self._database.write(
            "UPDATE nights SET state = 'running', finished_at = NULL, attempts = attempts + 1 WHERE id = ?"
            " RETURNING attempts",
            (night_id,),
        )
        return int(made[0][0])

    async def end_night(self, night: Night) -> None:
        """Keep how a night ended."""
        await self._database.write(
            "UPDATE nights SET state = ?, finished_at = ?, outcome = ?, adapter = ?, more_ratings_needed = ?,"
            " sentences = ?, warnings = ?, figures = ? WHERE id = ?",
            (
                night.state.value,
                night.finished_at,
                night.outcome,
                night.adapter,
                night.more_ratings_needed,
                json.dumps([rows.storable(sentence) for sentence in night.sentences], ensure_ascii=False),
                json.dumps([rows.storable(sentence) for sentence in night.warnings], ensure_ascii=False),
                json.dumps(dict(night.figures)),
                night.id,
            ),
        )

    async def unname_night(self, night: Night) -> None:
        """Keep a night that ended without who asked for it, and with what it now says."""
        await self.end_night(night)
        await self._database.write("UPDATE nights SET actor_id = NULL WHERE id = ?", (night.id,))

    async def night(self, night_id: str) -> Night | None:
        found = await self._database.read(f"SELECT {_NIGHT_COLUMNS} FROM nights WHERE id = ?", (night_id,))
        return _night(found[0]) if found else None

    async def running_night(self) -> Night | None:
        found = await self._database.read(f"SELECT {_NIGHT_COLUMNS} FROM nights WHERE state = 'running'")
        return _night(found[0]) if found else None

    async def nights(self, limit: int) -> list[Night]:
        """Return the newest nights, the newest first."""
        found = await self._database.read(f"SELECT {_NIGHT_COLUMNS} FROM nights ORDER BY rowid DESC LIMIT ?", (limit,))
        return [_night(row) for row in found]


def _night(row: Sequence[Any]) -> Night:
    night_id, cause, state, started_at, finished_at, actor_id, attempts, outcome, adapter, more, *texts = row
    sentences, warnings, figures = map(json.loads, texts)
    return Night(
        id=night_id,
        cause=Cause(cause),
        state=NightState(state),
        started_at=started_at,
        finished_at=finished_at,
        actor_id=actor_id,
        attempts=attempts,
        outcome=NightOutcome(outcome) if outcome else None,
        adapter=adapter,
        more_ratings_needed=more,
        sentences=tuple(sentences),
        warnings=tuple(warnings),
        figures=figures,
    )


def _learnable(row: Sequence[Any]) -> LearnableReply:
    reply_id, conversation, asked, variant, created_at, author_id, guild_id, provenance, version, adapter = row[:10]
    completion, prompt, completed, cut, gold, votes, corrections, comparisons, gold_actor_id, prompt_members = row[10:]
    return LearnableReply(
        reply_id=reply_id,
        conversation_id=conversation,
        asked_message_id=asked,
        variant=variant,
        created_at=created_at,
        author_id=author_id,
        guild_id=guild_id,
        provenance=Provenance(provenance),
        prompt_version=version,
        adapter=adapter,
        completion=completion,
        prompt_token_ids=rows.unpack_tokens(prompt),
        completion_token_ids=rows.unpack_tokens(completed),
        cut=bool(cut),
        gold=None if gold is None else bool(gold),
        votes=tuple(Said(*said) for said in sorted(json.loads(votes))),
        corrections=tuple((member, at) for member, at in sorted(json.loads(corrections))),
        comparisons=tuple(
            (first, member, Preference(told), at) for first, member, told, at in sorted(json.loads(comparisons))
        ),
        gold_actor_id=gold_actor_id,
        prompt_member_ids=tuple(json.loads(prompt_members or "[]")),
    )
