"""One person played from the page: turns its requests into actions in the world, and errors into a sentence.

Requests come from a browser: every field is checked here before SimCord sees it.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from simcord.actors import MemberActor
from simcord.backend.errors import BackendError, OptionError, SetupError
from simcord.builders import RoleHandle, UserHandle
from simcord.components import walk_components
from simcord.enums import SELECT_TYPES, ComponentType, OptionType
from simcord.interactions import command_leaves, parse_option_input

from bot.demo.views import EMOJI, Json, View, find_component
from bot.demo.world import LiveWorld, Member

_MODALS_KEPT = 8
_TEXT_LIMIT = 4000  # a modal's longest field; messages have their own limit
_SENTENCES = {
    50001: "You can't see that.",
    50013: "You don't have the permission to do that here.",
    10003: "That channel is gone.",
    10008: "That message is gone.",
}
_ENTITY_OPTIONS = {OptionType.USER, OptionType.CHANNEL, OptionType.ROLE, OptionType.MENTIONABLE}


class BadRequest(Exception):
    """The page asked for something that makes no sense; `str()` is fit for a person."""


class Player:
    """Acts as `member`. Keeps the newest modals that the bot showed them."""

    def __init__(self, world: LiveWorld, member: Member) -> None:
        self.world = world
        self.member = member
        self.view = View(world, member)
        self._modals: dict[str, Any] = {}

    async def act(self, request: Json) -> Json:
        """Do what the page asks and return what it needs to know; raises BadRequest with one sentence."""
        action = _ACTIONS.get(str(request.get("do")))
        if action is None:
            raise BadRequest("The page asked for something that this server doesn't know; reload it.")
        try:
            return await action(self, request) or {}
        except TimeoutError:
            raise BadRequest("The application did not respond.") from None
        except BackendError as error:
            raise BadRequest(_SENTENCES.get(error.code, f"Discord refuses that: {error.message}.")) from None
        except OptionError as error:
            raise BadRequest(f"{error}.") from None
        except SetupError as error:
            # SimCord's sentence goes on to say what a test's author should do, after a dash.
            raise BadRequest(str(error).split(" — ")[0].rstrip(".") + ".") from None

    # ------------------------------------------------------------------ messages

    async def _send(self, request: Json) -> None:
        channel, reply = self._channel(request), request.get("reply")
        target = self._stored(channel.id, reply) if reply is not None else None
        await self.world.say(self.member, channel, self._with_mentions(_text(request, "text")), reply_to=target)

    async def _delete(self, request: Json) -> None:
        await self.world.delete(self.member, self._message(request))

    async def _react(self, request: Json) -> None:
        message, emoji = self._message(request), _text(request, "emoji")
        if emoji not in EMOJI and message.reaction_for(emoji) is None:
            raise BadRequest("That emoji isn't in the picker.")
        if request.get("on") is True:
            await self.world.react(self.member, message, emoji)
        else:
            await self.world.unreact(self.member, message, emoji)

    async def _thread(self, request: Json) -> Json:
        name = _text(request, "name").strip()
        message = self._message(request) if request.get("message") is not None else None
        thread = await self.world.create_thread(self.member, name, channel=self._channel(request), message=message)
        return {"channel": str(thread.id)}

    # ------------------------------------------------------------------ interactions

    async def _click(self, request: Json) -> Json:
        message, custom_id = self._message(request), _text(request, "custom_id")
        return await self._answer(await self.world.click(self.member, message, custom_id=custom_id))

    async def _select(self, request: Json) -> Json:
        message, custom_id = self._message(request), _text(request, "custom_id")
        menu = find_component(message, custom_id)
        if menu is None:
            raise BadRequest("That menu is gone.")
        values = self._values(ComponentType(menu["type"]), request.get("values"))
        return await self._answer(await self.world.select(self.member, message, values, custom_id=custom_id))

    async def _menu(self, request: Json) -> Json:
        message, name = self._message(request), _text(request, "name")
        return await self._answer(await self.world.context_menu(self.member, name, message))

    async def _slash(self, request: Json) -> Json:
        channel, name = self._channel(request), _text(request, "name")
        options = self._options(channel.id, name, request.get("options"))
        return await self._answer(await self.world.slash(self.member, channel, name, **options))

    async def _autocomplete(self, request: Json) -> Json:
        channel, name, option = self._channel(request), _text(request, "name"), _text(request, "option")
        filled = self._options(channel.id, name, request.get("filled"), partial=True)
        filled.pop(option, None)
        value = _text(request, "value")
        return {"choices": await self.world.autocomplete(self.member, channel, name, option, value, **filled)}

    async def _submit(self, request: Json) -> Json:
        shown = self._modals.get(_text(request, "token"))
        given = request.get("values")
        if shown is None or not isinstance(given, dict):
            raise BadRequest("That form is out of date; open it again.")
        kinds = {
            part["custom_id"]: ComponentType(part["type"])
            for part in walk_components(shown.modal["components"])
            if part.get("custom_id")
        }
        values = {key: self._values(kinds[key], value) for key, value in given.items() if key in kinds}
        result = await self.world.submit_modal(self.member, shown, values)
        del self._modals[request["token"]]
        return await self._answer(result)

    async def _answer(self, result: Any) -> Json:
        """Wait for the bot's first answer; a modal goes back to the page, messages reach it by themselves."""
        await self.world.answered(result)
        if result.modal is None:
            return {}
        token = secrets.token_urlsafe(12)
        self._modals[token] = result
        while len(self._modals) > _MODALS_KEPT:
            del self._modals[next(iter(self._modals))]
        return {"modal": self.view.modal(token, result.modal)}

    # ------------------------------------------------------------------ reading requests

    def _channel(self, request: Json) -> Any:
        return self.world.channel(_snowflake(request.get("channel")))

    def _message(self, request: Json) -> Any:
        return self._stored(_snowflake(request.get("channel")), request.get("message"))

    def _stored(self, channel_id: int, message_id: Any) -> Any:
        stored = self.world.backend.get_message(channel_id, _snowflake(message_id))
        if not self.world.can_read(self.member, stored):
            raise BadRequest("You can't see that.")
        return stored

    def _values(self, kind: ComponentType, value: Any) -> Any:
        """Read what was filled in: text, a flag, or a list whose entities become SimCord's handles."""
        if kind in SELECT_TYPES or kind == ComponentType.CHECKBOX_GROUP:
            if not isinstance(value, list) or len(value) > 25 or not all(isinstance(item, str) for item in value):
                raise BadRequest("That choice makes no sense.")
            if kind in (ComponentType.STRING_SELECT, ComponentType.CHECKBOX_GROUP):
                return value
            return [self._entity(item) for item in value]
        if kind == ComponentType.CHECKBOX:
            return value is True
        return _text({"value": value}, "value")

    def _options(self, channel_id: int, name: str, given: Any, *, partial: bool = False) -> dict[str, Any]:
        spec = next(
            (
                leaf
                for command in self.world.backend.visible_commands(user_id=self.member.id, channel_id=channel_id)
                for path, leaf in command_leaves(command)
                if " ".join(path) == name
            ),
            None,
        )
        if spec is None:
            raise BadRequest("You can't use that command here.")
        if not isinstance(given, dict):
            raise BadRequest("That command's options make no sense.")
        declared = {option["name"]: option for option in spec.get("options") or []}
        values = {}
        for key, raw in given.items():
            if (option := declared.get(key)) is None:
                raise BadRequest(f"That command has no option {key!r}.")
            try:
                entity = option["type"] in _ENTITY_OPTIONS
                values[key] = self._entity(raw) if entity else parse_option_input(name, option, raw)
            except OptionError:
                if not partial:
                    raise
        return values

    def _entity(self, raw: Any) -> Any:
        """Return the SimCord handle of a person, the bot, a role or a channel by id."""
        identity, env, guild = _snowflake(raw), self.world.env, self.world.guild
        if identity in guild._guild.roles:
            return RoleHandle(env, guild, guild._guild.roles[identity])
        if identity in guild._guild.members:
            return MemberActor(env, guild, UserHandle(env, self.world.backend.get_user(identity)))
        return self.world.channel(identity)

    def _with_mentions(self, text: str) -> str:
        """Turn `@Name` and `#channel` of people and channels that the member sees into mentions."""
        names = {f"@{person['name']}": f"<@{person['id']}>" for person in self.view.mentionable()}
        names |= {f"#{channel['name']}": f"<#{channel['id']}>" for channel in self.view.channels()}
        longest_first = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        # Latin letters end a word, Chinese ones don't: "@Encore你好" mentions Encore, "@Encores" does not.
        return re.sub(rf"(?<![A-Za-z0-9_])(?:{longest_first})(?![A-Za-z0-9_])", lambda found: names[found[0]], text)


_ACTIONS = {
    "send": Player._send,
    "delete": Player._delete,
    "react": Player._react,
    "thread": Player._thread,
    "click": Player._click,
    "select": Player._select,
    "menu": Player._menu,
    "slash": Player._slash,
    "autocomplete": Player._autocomplete,
    "submit": Player._submit,
}


def _text(request: Json, key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str):
        raise BadRequest("The page left something out; reload it.")
    if len(value) > _TEXT_LIMIT:
        raise BadRequest(f"That text is longer than {_TEXT_LIMIT:,} characters.")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise BadRequest("That text has half a character in it.")  # JSON can carry what UTF-8 and Discord can't
    return value


def _snowflake(value: Any) -> int:
    if not isinstance(value, str) or not value.isascii() or not value.isdecimal() or len(value) > 20:
        raise BadRequest("The page named something that does not exist; reload it.")
    return int(value)
