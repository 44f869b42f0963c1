"""Text in and out: what members write is made clean, what the character says is made harmless and fits Discord.

Pure functions; knows nothing of Discord's objects, the model or the store.
"""

from __future__ import annotations

import re
import unicodedata

from bot.moderation.normalise import is_hidden

MESSAGE_LIMIT = 2000  # characters in one Discord message
_MARKS_IN_A_ROW = 4  # Vietnamese stacks two, Hebrew and Thai three; zalgo dozens

# Bidirectional overrides and invisible format characters; ZWJ and ZWNJ stay, as emoji and Persian need them.
_INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK_RUN = re.compile(r"\n{3,}")
_PING = re.compile(r"@(?=everyone|here)|<(?=@[!&]?\d)", re.IGNORECASE)  # as wide as Discord: "@here__" counts
_FENCE = re.compile(r"^[ ]{0,3}```")
_THINK = re.compile(r"<think>.*?(?:</think>\s*|\Z)", re.DOTALL | re.IGNORECASE)
_LEADING_THINK = re.compile(r"(?:\s*<think>.*?</think>)*\s*", re.DOTALL | re.IGNORECASE)
_PARTIAL_TAG = re.compile(r"<(?:t(?:h(?:i(?:n(?:k)?)?)?)?)?\Z", re.IGNORECASE)
# Where a message may be cut, best first, and how many characters of the mark stay before the cut.
_CUTS = (("\n\n", 0), ("\n", 0), ("。", 1), ("！", 1), ("？", 1), (". ", 1), ("! ", 1), ("? ", 1), (" ", 0))
_LABEL_NOISE = re.compile(r"[\s:：\[\]<>|`*_~#@]+")


def normalise(text: str) -> str:
    """Return a member's text as the model should read it: NFC, no invisible controls, no zalgo, no blank runs."""
    text = _SURROGATE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n"))
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    kept: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MARKS_IN_A_ROW:
            kept.append(character)
    return _BLANK_RUN.sub("\n\n", "".join(kept)).strip()


def label(name: str, limit: int = 32) -> str:
    """Return a display name fit to stand before a colon: one line, no markup, nothing unseen, at most `limit` long."""
    # What shows as nothing would make two labels of one look; an accent is part of a name in many languages.
    shown = (letter for letter in normalise(name) if unicodedata.combining(letter) or not is_hidden(letter))
    return _LABEL_NOISE.sub(" ", "".join(shown)).strip()[:limit].strip() or "member"


def visible(completion: str, *, growing: bool = False) -> str:
    """Return a completion without hidden reasoning, finished or not.

    While it is `growing`, a tag that has only begun is held back. A `</think>` that nothing opened is text: what a
    prompt opened stands at the beginning of the completion.
    """
    shown = _THINK.sub("", completion)
    return (_PARTIAL_TAG.sub("", shown) if growing else shown).strip()


def is_reasoning(completion: str) -> bool:
    """Return whether a completion ends inside hidden reasoning."""
    hidden = "".join(match[0] for match in _THINK.finditer(completion))
    return bool(hidden) and not hidden.rstrip().casefold().endswith("</think>")


def reasoning_ends(completion: str) -> int | None:
    """Return where the text begins behind the hidden reasoning at the beginning, None while that goes on."""
    match = _LEADING_THINK.match(completion)
    assert match is not None  # it matches nothing, too
    tag = completion[match.end() : match.end() + len("<think>")].casefold()
    return None if tag and "<think>".startswith(tag) else match.end()


def close_fence(text: str) -> str:
    """Return the text with an open code fence closed, so that what follows stands outside it."""
    return f"{text}\n```" if _open_fence(text, "") else text


def harmless(text: str) -> str:
    """Return text that pings nobody even where allowed mentions fail: a zero-width space breaks each mention."""
    text = _SURROGATE.sub("\ufffd", text).replace("\x00", "")
    return _PING.sub(lambda match: match.group() + "\u200b", text)


def subtext(sentence: str) -> str:
    """Return Discord's small print."""
    return f"-# {sentence}"


def split(text: str, limit: int = MESSAGE_LIMIT) -> list[str]:
    """Cut text into messages of at most `limit` characters; a code fence that is cut is closed and opened again.

    A cut depends only on the text before it, so that a growing text never moves the cuts already made. It falls at a
    paragraph, else a line, else a sentence, else a space, else anywhere.
    """
    parts: list[str] = []
    fence = ""  # the line that opened the fence we are in
    rest = text
    while True:
        opening = f"{fence}\n" if fence else ""
        closing = "\n```" if _open_fence(rest, fence) else ""
        if len(opening) + len(rest) + len(closing) <= limit:
            parts.append(opening + rest + closing)
            break
        room = limit - len(opening) - len("\n```")
        cut = _cut(rest, room)
        head, rest = rest[:cut], rest[cut:].lstrip("\n")
        closes = _open_fence(head, fence)
        parts.append(opening + head.rstrip() + ("\n```" if closes else ""))
        fence = closes
    return [part for part in parts if part.strip()] or [""]


def _cut(text: str, room: int) -> int:
    window = text[:room]
    for pattern, keep in _CUTS:
        found = window.rfind(pattern)
        if found >= room // 3:
            return found + keep
    return room


def _open_fence(text: str, fence: str) -> str:
    """Return the opening line of the fence still open after `text`, empty when none is."""
    for line in text.split("\n"):
        if _FENCE.match(line):
            fence = "" if fence else line.strip()[:40]
    return fence
