"""Frozen rows and values that the services hand each other; no behaviour, no I/O.

Ids named `*_id` of members, messages, channels and guilds are Discord snowflakes; `reply_id` is the store's own.
Times are UTC seconds since the epoch (float).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from models.arms import Arm
from models.types import Sampling

DISCORD_EPOCH_SECONDS = 1_420_070_400  # from which on the upper bits of Discord's ids count milliseconds


class Provenance(StrEnum):
    """Where a text came from; decides whether a night may learn from it (Discord's developer policy)."""

    DISCORD = "discord"
    OPERATOR = "operator"
    DEMO = "demo"
    IMPORT = "import"


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the conversation sees it.

    `author_name` is the display name (untrusted, may be shared by two members; `author_id` tells them apart).
    `role_ids` are the author's in the server, where Discord says them: it doesn't of messages that are read back.
    `is_self` marks the bot's own messages; for those `content` is the completion as generated, not as displayed.
    """

    id: int
    channel_id: int
    author_id: int
    author_name: str
    content: str
    is_self: bool = False
    is_bot: bool = False
    reply_to_id: int | None = None
    role_ids: tuple[int, ...] = ()

    @property
    def said_at(self) -> float:
        return (self.id >> 22) / 1000 + DISCORD_EPOCH_SECONDS


class ReplyState(StrEnum):
    WAITING = "waiting"  # claimed, in the queue
    STREAMING = "streaming"  # at least one Discord message is out
    DONE = "done"
    STOPPED = "stopped"  # by a member's button, since the asking message was deleted, or for what it said
    FAILED = "failed"  # the engine or Discord broke; the member was told where possible
    INTERRUPTED = "interrupted"  # the process died while it was unfinished


@dataclass(frozen=True, slots=True)
class Ask:
    """What a reply answers. (asked_message_id, variant) is unique: nothing is answered twice.

    `variant` counts regenerations from 0; `continues_reply_id` names the reply that this one carries on.
    `conversation_id` says which replies belong together, where the channel doesn't: each prompt of a rating room is a
    conversation of its own. None: the talk under way in the channel.
    """

    asked_message_id: int
    channel_id: int
    guild_id: int | None
    member_id: int
    provenance: Provenance
    variant: int = 0
    continues_reply_id: int | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """The conversation a reply belongs to and, while a canary runs, the arm that answers it; members never see it.

    `canary` names the adapter under test; `propensity` is the probability with which the conversation came to `arm`.
    """

    conversation_id: str
    canary: str | None = None
    arm: Arm | None = None
    propensity: float | None = None


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """How a reply's prompt was made: enough to rebuild it, and its exact ids."""

    token_ids: tuple[int, ...]
    prompt_version: int
    message_ids: tuple[int, ...]  # messages whose text is in the prompt, oldest first
    # Members whose text is in the prompt, by their first words in it, then those whose text may be in it through what
    # the character said; once the reply has ended, as `bot.privacy.passed_on` settles it.
    member_ids: tuple[int, ...]
    dropped_messages: int  # left out because the context was full
    system_sha256: str
    inherited_ids: tuple[int, ...] = ()  # of those, who is in it through what the character said alone


@dataclass(frozen=True, slots=True)
class Generation:
    """With what a reply was generated."""

    model: str
    model_sha256: str
    adapter: str | None
    sampling: Sampling
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply ended. `completion` is the raw text, hidden reasoning included.

    Where the rest of an answer may not be shown, it ends with what was, and `finish_reason` is "hidden:" and why.
    """

    state: ReplyState
    completion: str
    completion_token_ids: tuple[int, ...] = ()
    finish_reason: str | None = None
    cached_tokens: int = 0
    queue_milliseconds: float = 0.0
    first_token_milliseconds: float | None = None
    total_milliseconds: float = 0.0

    @property
    def hidden_for(self) -> str | None:
        """The category for which the rest may not be shown."""
        kind, _, why = (self.finish_reason or "").partition(":")
        return why if kind == "hidden" else None


@dataclass(frozen=True, slots=True)
class Reply:
    """A row of `replies` with the Discord messages that show it, in order."""

    id: int
    ask: Ask
    state: ReplyState
    prompt: PromptRecord | None
    generation: Generation | None
    outcome: Outcome | None
    message_ids: tuple[int, ...]
    created_at: float
    placement: Placement | None = None


@dataclass(frozen=True, slots=True)
class UnfinishedReply:
    """A reply that the last process left waiting or streaming, with where it shows."""

    id: int
    ask: Ask
    message_ids: tuple[int, ...]


class ReactionKind(StrEnum):
    ADD = "add"
    REMOVE = "remove"
    CLEAR = "clear"  # every reaction of a message
    CLEAR_EMOJI = "clear_emoji"  # every reaction of one emoji


@dataclass(frozen=True, slots=True)
class ReactionEvent:
    """One raw reaction event. `emoji` is the unicode emoji or `name:id`; `value` its signed weight in this server.

    `member_id` is None for CLEAR and CLEAR_EMOJI; `value` is only read for ADD.
    """

    kind: ReactionKind
    message_id: int
    member_id: int | None = None
    emoji: str | None = None
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Vote:
    """A member's one current vote on a reply: the newest signal that still stands."""

    reply_id: int
    member_id: int
    source: str  # "reaction:👍", "button", "words"
    value: float
    rated_at: float


class Preference(StrEnum):
    """Which of two versions is better."""

    A = "a"
    B = "b"
    BOTH = "both"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Correction:
    """Why a reply was bad and what it should have said, in a member's words."""

    reply_id: int
    member_id: int
    reasons: tuple[str, ...]
    comment: str
    should_have_said: str


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What moderators set for one server (or for direct messages: guild_id 0); every field has its default here."""

    paused: bool = False
    locked: bool = False  # by /lock, which pauses too; only /unlock ends it
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None  # None: a fresh seed a reply
    emoji: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_EMOJI))
    answer_bots: bool = False
    unprompted_chance: float = 0.0  # 0 to 1, per message, halved after each unprompted reply
    unprompted_channel_id: int | None = None
    moderators_channel_id: int | None = None  # where nights and cases are reported
    system_prompt: str | None = None  # None: SYSTEM_PROMPT of the operator's settings
    filter_words: list[str] = field(default_factory=list)
    filter_patterns: list[str] = field(default_factory=list)
    filter_lists: list[str] = field(default_factory=list)  # languages of the lists that Encore brings
    filter_sites: list[str] = field(default_factory=list)  # whose links may be shown, beside those that always may
    filter_actions: dict[str, str] = field(default_factory=dict)  # "answers.link" or "messages.link" -> "hide"
    filter_general_channels: list[int] = field(default_factory=list)  # for everybody, though Discord restricts them
    filter_thresholds: dict[str, float] = field(default_factory=dict)  # category of the classifier -> score
    explain_refusals: bool = True  # say why a message isn't answered
    # "member", "channel", "role:ID" or "channel:ID" -> fields of bot.moderation.limits.Limit
    quotas: dict[str, dict[str, float]] = field(default_factory=lambda: {"member": {"messages_per_minute": 30}})


DEFAULT_EMOJI: dict[str, float] = {
    "👍": 1.0, "❤️": 1.0, "😂": 1.0, "🔥": 1.0, "⭐": 1.0,
    "👎": -1.0, "😡": -1.0, "💤": -1.0, "🤮": -1.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AuditEntry:
    id: int
    guild_id: int | None
    actor_id: int
    action: str
    detail: dict[str, Any]
    created_at: float


@dataclass(frozen=True, slots=True)
class ReplyCounts:
    """Aggregates for `/encore stats`."""

    replies: int
    rated_replies: int
    votes_up: int
    votes_down: int
    raters: int
    comparisons: int
    corrections: int


class CaseSource(StrEnum):
    """What brought a case before the moderators."""

    REPORT = "report"
    FILTER = "filter"  # this server's rules on text hid something, or sent it here
    AUTOMOD = "automod"  # Discord's own moderation acted on a message to the bot


class Decision(StrEnum):
    """What a moderator decides on a case; the first closes it, and others may follow unless it was dismissed."""

    DISMISS = "dismiss"
    DELETE = "delete"  # the reply's messages, which teach no night then
    MUTE = "mute"  # whom it is about isn't answered any more
    BAN = "ban"  # nor do their votes count
    UNLEARN = "unlearn"  # the reply teaches no night


@dataclass(frozen=True, slots=True)
class Report:
    """Why a member reported a reply."""

    member_id: int
    reason: str
    reported_at: float


@dataclass(frozen=True, slots=True)
class Case:
    """One matter for the moderators. `message_id` and `subject_id` are None where there is none to name.

    `subject_id` is who asked for the reply, or who wrote the message; `quote` what it is about, where the reply's own
    text doesn't say it.
    `report_count` counts reports of members who opted out too, of which `reports` has nothing.
    """

    id: int
    guild_id: int
    source: CaseSource
    channel_id: int
    message_id: int | None
    reply_id: int | None
    subject_id: int | None
    quote: str
    report_count: int
    opened_at: float
    card: tuple[int, int] | None = None  # channel, message
    decision: Decision | None = None
    decided_by: int | None = None
    further: tuple[Decision, ...] = ()  # after the one that closed it
    reports: tuple[Report, ...] = ()
