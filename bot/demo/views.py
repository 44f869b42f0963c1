"""What one person sees of the world, as JSON for the page: people, channels, messages, commands, modals.

Reads SimCord's state and never changes it; whatever the person may not see is left out here, by SimCord's own checks.
Ids are strings, since a snowflake is larger than JavaScript's whole numbers.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from simcord.backend import permissions
from simcord.components import walk_components
from simcord.enums import AppCommandType, ChannelType, MessageType
from simcord.interactions import command_leaves

from bot.demo import markup
from bot.demo.world import LiveWorld, Member
from bot.records import DEFAULT_EMOJI

EMOJI = (*DEFAULT_EMOJI, *"😊🥰😭🤔👏🎉✨💯👀🙏😮🥱")
HISTORY_SHOWN = 100
_THINKING_FLAG = 1 << 7
_HUES = 8
_TALK = {MessageType.DEFAULT, MessageType.REPLY, MessageType.CHAT_INPUT_COMMAND, MessageType.CONTEXT_MENU_COMMAND}

Json = dict[str, Any]


class View:
    """The world in the eyes of `member`."""

    def __init__(self, world: LiveWorld, member: Member) -> None:
        self.world = world
        self.member = member
        self._backend = world.backend

    def state(self, channel_id: int | None) -> Json:
        """Return all that the page needs to start afresh; a channel that can't be seen becomes #general."""
        if channel_id is None or not self._sees(channel_id):
            channel_id = self.world.general.id
        return {
            "server": self.world.guild.name,
            "bot": self._identity(self._backend.bot_user.id),
            "me": str(self.member.id),
            "people": [self._person(member) for member in self.world.people],
            "roles": [
                {"id": str(role.id), "name": role.name}
                for role in self.world.guild._guild.roles.values()
                if role.id != self.world.guild.id
            ],
            "emoji": list(EMOJI),
            "channels": self.channels(),
            "channel": str(channel_id),
            "commands": self.commands(channel_id),
            "messages": [
                self._message(stored) for stored in self.world.messages(channel_id, viewer=self.member)[-HISTORY_SHOWN:]
            ],
        }

    # ------------------------------------------------------------------ people and channels

    def mentionable(self) -> list[Json]:
        """List the people and the bot, as `@Name` may mean them."""
        return [self._identity(member.id) for member in self.world.people] + [self._identity(self._backend.bot_user.id)]

    def _person(self, member: Member) -> Json:
        kinds = {self.world.moderator.id: "Moderator", self.world.troll.id: "Troll"}
        return {**self._identity(member.id), "role": kinds.get(member.id, "Member")}

    def _identity(self, user_id: int) -> Json:
        user = self._backend.users.get(user_id)
        name = (user.global_name or user.name) if user is not None else "Somebody"
        known = [*(person.id for person in self.world.people), self._backend.bot_user.id]
        hue = known.index(user_id) if user_id in known else crc32(name.encode()) % _HUES
        return {"id": str(user_id), "name": name, "hue": hue, "tag": self._tag(user_id)}

    def _tag(self, user_id: int) -> str:
        if user_id == self._backend.bot_user.id:
            return "AI"
        user = self._backend.users.get(user_id)
        return "BOT" if user is not None and user.bot else ""

    def channels(self) -> list[Json]:
        """List the channels and open threads that the member sees, then their direct messages."""
        guild = self.world.guild._guild
        places = [*guild.channel_ids, *(thread.id for thread in self._backend.active_threads(guild.id))]
        places.append(self.world.dm_channel(self.member).id)
        return [self._channel(self._backend.channels[place]) for place in places if self._sees(place)]

    def _channel(self, channel: Any) -> Json:
        kind = "dm" if channel.type == ChannelType.DM else "thread" if channel.is_thread else "text"
        writing = "send_messages_in_threads" if kind == "thread" else "send_messages"
        return {
            "id": str(channel.id),
            "kind": kind,
            "name": self._identity(self._backend.bot_user.id)["name"] if kind == "dm" else channel.name,
            "topic": channel.topic or "",
            "parent": str(channel.parent_id) if channel.parent_id else None,
            "private": kind == "text" and not self._everyone_sees(channel),
            "writable": kind == "dm" or self._may(channel, writing),
        }

    def _sees(self, channel_id: int) -> bool:
        return self.world.can_see(self.member, channel_id)

    def _may(self, channel: Any, permission: str) -> bool:
        value = self._backend.compute_permissions(channel.guild_id, self.member.id, channel.id)
        return bool(value & permissions.flag(permission))

    def _everyone_sees(self, channel: Any) -> bool:
        denied = permissions.flag("view_channel")
        return not any(entry.target_id == self.world.guild.id and entry.deny & denied for entry in channel.overwrites)

    # ------------------------------------------------------------------ messages

    def message(self, channel_id: int, message_id: int) -> Json | None:
        """Return a message as the member sees it, or None if it is gone or hidden."""
        stored = self._backend.messages.get(channel_id, {}).get(message_id)
        if stored is None or not self.world.can_read(self.member, stored):
            return None
        return self._message(stored)

    def _message(self, stored: Any) -> Json:
        author = self._identity(stored.author_id)
        if stored.author_name is not None:
            author |= {"name": stored.author_name, "hue": crc32(stored.author_name.encode()) % _HUES}
        if stored.webhook_id is not None:
            author["tag"] = "AI"
        own = stored.author_id == self.member.id
        channel = self._backend.channels[stored.channel_id]
        pinged = self.member.id in stored.ping_user_ids or stored.mention_everyone
        return {
            "id": str(stored.id),
            "channel": str(stored.channel_id),
            "author": author,
            "time": stored.timestamp,
            "edited": stored.edited_timestamp is not None,
            "own": own,
            "pinged": pinged and not own,
            "deletable": own or (channel.guild_id is not None and self._may(channel, "manage_messages")),
            "system": stored.type not in _TALK,
            "ephemeral": stored.is_ephemeral,
            "thinking": bool(stored.flags & _THINKING_FLAG),
            "html": markup.render(stored.content, self.naming) if stored.content else "",
            "text": markup.plain(stored.content, self.naming, limit=2000),
            "reply": self._reply(stored),
            "command": self._command(stored),
            "embeds": [self._embed(embed) for embed in stored.embeds],
            "components": self._components(stored.components),
            "files": [attachment["filename"] for attachment in stored.attachments],
            "reactions": [self._reaction(reaction) for reaction in stored.reactions if reaction.user_ids],
            "thread": self._thread(stored),
        }

    def naming(self, sigil: str, identity: int) -> str:
        if sigil == "#":
            return str(self._backend.channels[identity].name) if self._sees(identity) else "unknown"
        if sigil == "@&":
            role = self.world.guild._guild.roles.get(identity)
            return str(role.name) if role is not None else "unknown-role"
        return str(self._identity(identity)["name"])

    def _reply(self, stored: Any) -> Json | None:
        if stored.type != MessageType.REPLY or stored.reference is None:
            return None
        target = self._backend.messages.get(stored.channel_id, {}).get(int(stored.reference["message_id"]))
        if target is None or not self.world.can_read(self.member, target):
            return {"id": None, "name": "", "text": "The message is gone."}
        name = target.author_name or self._identity(target.author_id)["name"]
        return {"id": str(target.id), "name": name, "text": markup.plain(target.content, self.naming)}

    def _command(self, stored: Any) -> Json | None:
        asked = stored.interaction_metadata
        if not asked or "name" not in asked:
            return None
        slash = asked.get("command_type") == AppCommandType.CHAT_INPUT
        who = self._identity(int(asked["user"]["id"]))["name"]
        return {"who": who, "name": ("/" if slash else "") + asked["name"]}

    def _embed(self, embed: Json) -> Json:
        return {
            "title": markup.plain(embed.get("title") or "", self.naming, limit=256),
            "html": markup.render(embed.get("description") or "", self.naming),
            "colour": int(embed.get("color") or 0),
            "fields": [
                {
                    "name": markup.plain(field["name"], self.naming, limit=256),
                    "html": markup.render(field["value"], self.naming),
                    "inline": bool(field.get("inline")),
                }
                for field in embed.get("fields") or []
            ],
            "footer": (embed.get("footer") or {}).get("text") or "",
        }

    def _components(self, components: list[Json]) -> list[Json]:
        shown = []
        for component in components:
            part = {key: value for key, value in component.items() if key not in ("components", "accessory")}
            if "content" in part:
                part["html"] = markup.render(part.pop("content"), self.naming)
            if "components" in component:
                part["components"] = self._components(component["components"])
            if "accessory" in component:
                part["accessory"] = self._components([component["accessory"]])[0]
            if not str(part.get("url", "https://")).startswith(("https://", "http://")):
                del part["url"]
            shown.append(part)
        return shown

    def _reaction(self, reaction: Any) -> Json:
        return {
            "emoji": reaction.emoji.split(":")[0] if ":" in reaction.emoji else reaction.emoji,
            "key": reaction.emoji,
            "count": len(reaction.user_ids),
            "mine": self.member.id in reaction.user_ids,
            "names": [self._identity(user_id)["name"] for user_id in reaction.user_ids[:20]],
        }

    def _thread(self, stored: Any) -> Json | None:
        target = stored.system_metadata.channel_id if stored.system_metadata is not None else stored.id
        thread = self._backend.channels.get(target) if target is not None else None
        if thread is None or not thread.is_thread or not self._sees(thread.id):
            return None
        return {"id": str(thread.id), "name": thread.name, "count": thread.message_count}

    # ------------------------------------------------------------------ commands

    def commands(self, channel_id: int) -> Json:
        """List what the member may run here: `slash` by full name with options, `message` by name."""

        def visible(kind: AppCommandType) -> list[Json]:
            return list(self._backend.visible_commands(user_id=self.member.id, channel_id=channel_id, type=kind))

        in_server = self._backend.channels[channel_id].guild_id is not None
        return {
            "slash": [
                {"name": " ".join(path), "description": leaf["description"], "options": leaf.get("options") or []}
                for command in visible(AppCommandType.CHAT_INPUT)
                for path, leaf in command_leaves(command)
            ],
            "message": [command["name"] for command in visible(AppCommandType.MESSAGE)] if in_server else [],
        }

    def modal(self, token: str, spec: Json) -> Json:
        """Return a modal's fields in order, each with its label; `token` names it when it is submitted."""
        fields = []
        for part in spec["components"]:
            if "content" in part:
                fields.append({"type": part["type"], "html": markup.render(part["content"], self.naming)})
                continue
            inner = part.get("component") or (part.get("components") or [part])[0]
            label = part.get("label") or inner.get("label") or ""
            fields.append({**inner, "label": label, "description": part.get("description") or ""})
        return {"token": token, "title": spec["title"], "fields": fields}


def find_component(stored: Any, custom_id: str) -> Json | None:
    """Return a message's component by its custom_id."""
    return next((part for part in walk_components(stored.components) if part.get("custom_id") == custom_id), None)
