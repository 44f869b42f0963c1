"""The Discord client: intents, caches, which cogs run, the command tree's sync, and an orderly end.

Composes; what the bot does is in the cogs and the services they call. It answers nothing by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import sys
from typing import TYPE_CHECKING, Any

import discord
import yarl
from discord.ext import commands
from discord.gateway import DiscordWebSocket
from discord.http import Route

from bot import case_ui
from bot.attention import Attention
from bot.cases import Cases
from bot.error_handler import CommandTree
from bot.gate import Gate, direct_messages
from bot.moderation.findings import Audience
from bot.moderation.patterns import RESTS
from bot.ratings import Ratings
from bot.records import Provenance
from bot.responder import Responder
from bot.screening import Screening
from cogs.chat import Chat
from cogs.feedback import Feedback
from cogs.filters import Filters, Quota
from cogs.moderation import Moderation
from cogs.moderators import Moderators
from cogs.privacy import Privacy
from cogs.raters import Raters
from cogs.reports import Reports
from cogs.room import Room
from cogs.training import Training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.composition import Learning
    from bot.moderation.findings import Finding
    from bot.records import Ask, ServerSettings
    from bot.settings import Settings
    from bot.store import Store
    from models.loading import LoadedModel

log = logging.getLogger(__name__)

_RESTRICTABLE = (
    discord.TextChannel | discord.VoiceChannel | discord.StageChannel | discord.ForumChannel | discord.Thread
)
_MESSAGES_CACHED = 200  # discord.py's own cache; the cogs work on raw events and keep what they need


class EncoreBot(commands.Bot):
    """The bot with the services that its cogs are built from.

    The store and the model stay the caller's to close; the responder and the ratings end with the bot.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        model: LoadedModel,
        responder: Responder,
        ratings: Ratings,
        gate: Gate,
        *,
        learning: Learning | None = None,
        provenance: Provenance = Provenance.DISCORD,
        draw: random.Random | None = None,
    ) -> None:
        super().__init__(
            command_prefix=commands.when_mentioned,  # never looked at: see on_message
            help_command=None,
            tree_cls=CommandTree,
            intents=intents(settings),
            allowed_mentions=discord.AllowedMentions.none(),
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            max_messages=_MESSAGES_CACHED,
        )
        self.settings = settings
        self.store = store
        self.model = model
        self.responder = responder
        self.ratings = ratings
        self.gate = gate
        self.cases = Cases(store, responder)
        self.learning = learning  # None: nothing is learned or forgotten, and there are no commands for it
        self.attention = Attention(self, store, draw=draw or random.Random())
        self._provenance = provenance
        self._closing = asyncio.Lock()

    @property
    def provenance(self) -> Provenance:
        """Return where the texts come from that members write here."""
        return self._provenance

    async def review(self, ask: Ask, reply_id: int | None, said: str, findings: Sequence[Finding]) -> None:
        """Bring what was said before a server's moderators, with what was found in it."""
        kinds = {found.rule if found.rule == RESTS else found.category for found in findings}
        if ask.guild_id is not None and self.gate.is_new_case(ask.guild_id, ask.member_id, kinds):
            await case_ui.review(self, ask, reply_id, said, findings)

    def audience(self, channel_id: int, server: ServerSettings) -> Audience:
        """Return whom a channel is for: adults where Discord restricts it and its server doesn't say otherwise."""
        channel = self.get_channel(channel_id)
        if not isinstance(channel, _RESTRICTABLE) or not channel.is_nsfw():
            return Audience.GENERAL
        own = channel.parent_id if isinstance(channel, discord.Thread) else channel_id
        return Audience.GENERAL if own in server.filter_general_channels else Audience.ADULT

    async def setup_hook(self) -> None:
        self.responder.audience_of = self.audience
        self.responder.review = self.review
        await self.gate.open()
        if self.user is not None:
            self.responder.name_character(self.user.display_name)
        await self.ratings.__aenter__()
        await self.add_cog(Chat(self, self.responder, self.store))
        await self.add_cog(Feedback(self))
        await self.add_cog(Moderators(self))
        await self.add_cog(Moderation(self, Filters(self), Quota(self)))
        await self.add_cog(Raters(self))
        await self.add_cog(Reports(self))
        await self.add_cog(Room(self))
        if self.learning is not None:
            await self.add_cog(Training(self, self.learning.nightly))
            await self.add_cog(Privacy(self, self.learning.forget, self.learning.retention))
        await self._sync_commands()

    async def _sync_commands(self) -> None:
        """Register the commands where they differ from what was registered last: Discord counts every registration."""
        commands = [command.to_dict(self.tree) for command in self.tree.get_commands()]
        digest = hashlib.sha256(json.dumps(commands, sort_keys=True, default=str).encode()).hexdigest()
        key = f"commands_sha256:{self.application_id}"
        # The demo's Discord is new at every start and has forgotten what the store remembers.
        if self.provenance is Provenance.DISCORD and await self.store.meta(key) == digest:
            return
        try:
            await self.tree.sync()
        except (discord.HTTPException, discord.app_commands.CommandSyncFailure) as error:
            log.warning("the slash commands could not be registered; the next start tries again: %s", error)
            return
        await self.store.set_meta(key, digest)

    async def on_message(self, message: discord.Message, /) -> None:
        """Do nothing: the cogs listen for themselves, and there are no prefix commands to look for."""

    async def on_error(self, event_method: str, /, *args: Any, **kwargs: Any) -> None:
        log.error("%s failed", event_method, exc_info=sys.exc_info())

    async def close(self) -> None:
        """End in order: replies under way are shown as stopped, ratings are written, then Discord is left."""
        async with self._closing:
            if not self.is_closed():
                await self.responder.aclose()
                await self.ratings.aclose()
            await super().close()


def build_bot(
    settings: Settings,
    store: Store,
    model: LoadedModel,
    *,
    learning: Learning | None = None,
    screening: Screening | None = None,
    provenance: Provenance = Provenance.DISCORD,
    draw: random.Random | None = None,
) -> EncoreBot:
    """Build the bot with its services and point discord.py to the addresses of `settings`; `draw` is for tests.

    Without `learning` the base model answers everywhere; without `screening` the rules on text do without a classifier.
    """
    if settings.discord_api_base:
        Route.BASE = settings.discord_api_base
    if settings.discord_gateway:
        DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(settings.discord_gateway)
    discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False  # Encore never speaks in voice channels
    screening = screening or Screening()
    arms = learning.arms if learning is not None else None
    responder = Responder(store, model, settings=settings, arms=arms, screening=screening)
    store.ban(settings.banned_members)
    gate = Gate(
        store, screening, answer_tokens=model.engine.info.context_tokens, direct_messages=direct_messages(settings)
    )
    return EncoreBot(
        settings,
        store,
        model,
        responder,
        Ratings(store),
        gate,
        learning=learning,
        provenance=provenance,
        draw=draw,
    )


def intents(settings: Settings) -> discord.Intents:
    """Return what the bot asks to be told: servers, messages, reactions, bans, AutoMod's acts; not who is online."""
    wanted = discord.Intents.none()
    wanted.guilds = True
    wanted.messages = True
    wanted.reactions = True
    wanted.moderation = True  # who is banned from a server is no rater there any more
    wanted.auto_moderation_execution = True  # what it did to messages for the bot is a case for the moderators
    wanted.message_content = settings.message_content_intent
    return wanted
