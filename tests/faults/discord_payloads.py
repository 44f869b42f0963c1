"""The few objects of Discord's API that the stub sends, as JSON-ready dictionaries; no state, no I/O."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

BOT_ID = 1100000000000000001
GUILD_ID = 1100000000000000100
CHANNELS = tuple(range(1100000000000000200, 1100000000000000206))  # text channels of the server
CHANNEL_ID, OTHER_CHANNEL_ID = CHANNELS[:2]
DM_ID = 1100000000000000300
MIRA_ID = 1100000000000000002
THEO_ID = 1100000000000000003

# Shaped like a real token (id, time, signature), so that whatever masks tokens by their form is put to the test.
TOKEN = f"{base64.b64encode(str(BOT_ID).encode()).decode().rstrip('=')}.GfAke0.{'not-a-secret-' + 'x' * 25}"

EVERYTHING = str((1 << 50) - 1 & ~(1 << 3))  # permissions of @everyone: all but administrator, which would imply all


def now() -> str:
    return datetime.now(UTC).isoformat()


def user(user_id: int, name: str, *, bot: bool = False) -> Json:
    return {
        "id": str(user_id),
        "username": name.lower(),
        "global_name": name,
        "discriminator": "0",
        "avatar": None,
        "bot": bot,
        "public_flags": 0,
    }


USERS = {
    BOT_ID: user(BOT_ID, "Encore", bot=True),
    MIRA_ID: user(MIRA_ID, "Mira"),
    THEO_ID: user(THEO_ID, "Theo"),
}


def member(user_id: int | None = None) -> Json:
    data: Json = {
        "nick": None,
        "avatar": None,
        "roles": [],
        "joined_at": "2026-01-01T00:00:00+00:00",
        "deaf": False,
        "mute": False,
        "flags": 0,
        "pending": False,
        "premium_since": None,
        "communication_disabled_until": None,
    }
    return data if user_id is None else {**data, "user": USERS.get(user_id) or user(user_id, f"member{user_id}")}


def application(flags: int) -> Json:
    return {
        "id": str(BOT_ID),
        "name": "Encore",
        "icon": None,
        "description": "",
        "bot_public": False,
        "bot_require_code_grant": False,
        "verify_key": "0" * 64,
        "owner": USERS[MIRA_ID],
        "team": None,
        "flags": flags,
    }


def text_channel(channel_id: int, name: str) -> Json:
    return {
        "id": str(channel_id),
        "guild_id": str(GUILD_ID),
        "type": 0,
        "name": name,
        "position": 0,
        "permission_overwrites": [],
        "topic": None,
        "nsfw": False,
        "last_message_id": None,
        "rate_limit_per_user": 0,
        "parent_id": None,
        "flags": 0,
    }


def dm_channel() -> Json:
    return {"id": str(DM_ID), "type": 1, "recipients": [USERS[MIRA_ID]], "last_message_id": None, "flags": 0}


def everyone_role(permissions: str) -> Json:
    return {
        "id": str(GUILD_ID),
        "name": "@everyone",
        "permissions": permissions,
        "position": 0,
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "managed": False,
        "mentionable": False,
        "flags": 0,
    }


def guild(channels: list[Json], permissions: str) -> Json:
    return {
        "id": str(GUILD_ID),
        "name": "Fans",
        "icon": None,
        "splash": None,
        "owner_id": str(MIRA_ID),
        "afk_timeout": 300,
        "afk_channel_id": None,
        "verification_level": 0,
        "default_message_notifications": 0,
        "explicit_content_filter": 0,
        "mfa_level": 0,
        "nsfw_level": 0,
        "premium_tier": 0,
        "preferred_locale": "en-US",
        "system_channel_id": None,
        "system_channel_flags": 0,
        "features": [],
        "emojis": [],
        "stickers": [],
        "roles": [everyone_role(permissions)],
        "joined_at": "2026-01-01T00:00:00+00:00",
        "large": False,
        "unavailable": False,
        "member_count": len(USERS),
        "members": [member(user_id) for user_id in USERS],
        "channels": channels,
        "threads": [],
        "voice_states": [],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    }


def ready(session_id: str, gateway: str) -> Json:
    return {
        "v": 10,
        "user": USERS[BOT_ID],
        "guilds": [{"id": str(GUILD_ID), "unavailable": True}],
        "session_id": session_id,
        "resume_gateway_url": gateway,
        "application": {"id": str(BOT_ID), "flags": 0},
        "private_channels": [],
    }


def without_content(message: Json) -> Json:
    """Return a message as a bot without the message-content intent gets it."""
    is_own = message["author"]["id"] == str(BOT_ID)
    if is_own or message["channel_id"] == str(DM_ID) or any(u["id"] == str(BOT_ID) for u in message["mentions"]):
        return message
    return {**message, "content": "", "embeds": [], "attachments": [], "components": []}
