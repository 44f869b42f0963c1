"""How the records become columns, and columns records; no connection, no queries."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from bot.records import (
    Ask,
    AuditEntry,
    Correction,
    Generation,
    Outcome,
    Placement,
    PromptRecord,
    Provenance,
    Reply,
    ReplyState,
    ServerSettings,
)
from models.arms import Arm
from models.types import Sampling

# In the order that `reply` reads; the last two are JSON arrays, of message ids and of the placement.
REPLY_COLUMNS = """
    replies.id, asked_message_id, channel_id, guild_id, member_id, provenance, variant, continues_reply_id,
    state, created_at,
    prompt_token_ids, prompt_version, prompt_message_ids, prompt_member_ids, inherited_member_ids, dropped_messages,
    system_sha256,
    model, model_sha256, adapter, sampling, seed,
    completion, completion_token_ids, finish_reason, cached_tokens, queue_milliseconds, first_token_milliseconds,
    total_milliseconds,
    (SELECT json_group_array(message_id) FROM (
        SELECT message_id FROM reply_messages WHERE reply_id = replies.id ORDER BY part, message_id
    )),
    (SELECT json_array(conversation, canary, arm, propensity) FROM arms WHERE reply_id = replies.id)
"""

# Of a reply that a deletion took the prompt from: it may repeat words of a member who was behind it.
SCRUBBED = "started_at IS NOT NULL AND prompt_token_ids IS NULL"

_SAMPLING_NAMES = tuple(field.name for field in fields(Sampling))
_SERVER_NAMES = tuple(field.name for field in fields(ServerSettings) if field.name != "sampling")


def pack_tokens(ids: Sequence[int]) -> bytes:
    """Pack token ids as little-endian uint32, 4 bytes each."""
    return struct.pack(f"<{len(ids)}I", *ids)


def unpack_tokens(blob: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(blob) // 4}I", blob)


def storable(text: str) -> str:
    """Return `text` without lone surrogates (JSON from outside may carry them, UTF-8 can't); nothing else changes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def guild_key(guild_id: int | None) -> int:
    """Return the key of a guild; 0 stands for direct messages."""
    return guild_id or 0


def ask(row: Sequence[Any]) -> Ask:
    """Read asked_message_id, channel_id, guild_id, member_id, provenance, variant, continues_reply_id."""
    asked_message_id, channel_id, guild_id, member_id, provenance, variant, continues_reply_id = row
    return Ask(
        asked_message_id=asked_message_id,
        channel_id=channel_id,
        guild_id=guild_id or None,
        member_id=member_id,
        provenance=Provenance(provenance),
        variant=variant,
        continues_reply_id=continues_reply_id,
    )


def reply(row: Sequence[Any]) -> Reply:
    """Read a row of REPLY_COLUMNS."""
    return Reply(
        id=row[0],
        ask=ask(row[1:8]),
        state=ReplyState(row[8]),
        created_at=row[9],
        prompt=_prompt(row[10:17]),
        generation=_generation(row[17:22]),
        outcome=_outcome(ReplyState(row[8]), row[22:29]),
        message_ids=tuple(json.loads(row[29])),
        placement=placement(json.loads(row[30])) if row[30] else None,
    )


def placement(row: Sequence[Any]) -> Placement:
    """Read conversation, canary, arm, propensity."""
    conversation, canary, arm, propensity = row
    return Placement(conversation, canary, Arm(arm) if arm else None, propensity)


def placement_values(placement: Placement) -> tuple[Any, ...]:
    """Give conversation, canary, arm, propensity."""
    return placement.conversation_id, placement.canary, placement.arm, placement.propensity


def prompt_values(prompt: PromptRecord) -> tuple[Any, ...]:
    """Give the columns of a prompt, in the order of REPLY_COLUMNS."""
    return (
        pack_tokens(prompt.token_ids),
        prompt.prompt_version,
        json.dumps(prompt.message_ids),
        json.dumps(prompt.member_ids),
        json.dumps(prompt.inherited_ids),
        prompt.dropped_messages,
        prompt.system_sha256,
    )


def _prompt(row: Sequence[Any]) -> PromptRecord | None:
    token_ids, version, message_ids, member_ids, inherited_ids, dropped, system_sha256 = row
    if token_ids is None:
        return None
    return PromptRecord(
        token_ids=unpack_tokens(token_ids),
        prompt_version=version,
        message_ids=tuple(json.loads(message_ids)),
        member_ids=tuple(json.loads(member_ids)),
        dropped_messages=dropped,
        system_sha256=system_sha256,
        inherited_ids=tuple(json.loads(inherited_ids)),
    )


def generation_values(generation: Generation) -> tuple[Any, ...]:
    """Give model, model_sha256, adapter, sampling, seed."""
    return (
        generation.model,
        generation.model_sha256,
        generation.adapter,
        json.dumps(asdict(generation.sampling)),
        generation.seed,
    )


def _generation(row: Sequence[Any]) -> Generation | None:
    model, model_sha256, adapter, sampling, seed = row
    if model is None:
        return None
    return Generation(model, model_sha256, adapter, Sampling(**json.loads(sampling)), seed)


def outcome_values(outcome: Outcome) -> tuple[Any, ...]:
    """Give state, completion, completion_token_ids, finish_reason, cached_tokens and the three times."""
    return (
        outcome.state.value,
        storable(outcome.completion),
        pack_tokens(outcome.completion_token_ids),
        outcome.finish_reason,
        outcome.cached_tokens,
        outcome.queue_milliseconds,
        outcome.first_token_milliseconds,
        outcome.total_milliseconds,
    )


def _outcome(state: ReplyState, row: Sequence[Any]) -> Outcome | None:
    completion, token_ids, *rest = row
    if completion is None:
        return None
    return Outcome(state, completion, unpack_tokens(token_ids), *rest)


def flat_settings(settings: ServerSettings) -> dict[str, Any]:
    """Return every setting by name; those of the sampling stand beside the others."""
    own = {name: getattr(settings, name) for name in _SERVER_NAMES}
    return own | asdict(settings.sampling)


def server_settings(values: Mapping[str, Any], base: ServerSettings | None = None) -> ServerSettings:
    """Return `base` (None: the defaults) with the named values; raises TypeError for a name that is no setting."""
    base = base or ServerSettings()
    given = dict(values)
    sampling = given.pop("sampling", base.sampling)
    drawn = {name: given.pop(name) for name in _SAMPLING_NAMES if name in given}
    return replace(base, sampling=replace(sampling, **drawn), **given)


def correction(row: Sequence[Any]) -> Correction:
    """Read reply_id, member_id, reasons, comment, should_have_said."""
    reply_id, member_id, reasons, comment, should_have_said = row
    return Correction(reply_id, member_id, tuple(json.loads(reasons)), comment, should_have_said)


def audit_entry(row: Sequence[Any]) -> AuditEntry:
    """Read id, guild_id, actor_id, action, detail, created_at."""
    entry_id, guild_id, actor_id, action, detail, created_at = row
    return AuditEntry(entry_id, guild_id or None, actor_id, action, json.loads(detail), created_at)
