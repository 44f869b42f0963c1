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
_SHOWN_OTHERWISE = re.compile(r"(?P<link>https?://[^\s<>\[\]()|`]+)|[\\*_~|`<>#\[\]()-]")
# A fence as Discord's renderer sees it: anywhere in a line; a language must be the rest of that line.
_MARK = "```"
_FENCE = re.compile(r"```(?:([a-z0-9_+\-.#]{1,20})\n)?", re.IGNORECASE)
_BEGUN_FENCE = re.compile(r"(?<!`)```[a-z0-9_+\-.#]{0,20}\s*\Z", re.IGNORECASE)
_CLOSING = f"\n{_MARK}"
_THINK = re.compile(r"<think>.*?(?:(?P<closed></think>\s*)|\Z)", re.DOTALL | re.IGNORECASE)
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
    """Return a completion without hidden reasoning.

    That is `<think>` ... `</think>` anywhere, and what an unclosed `<think>` begins the completion with, as a prompt
    that opened it does; a tag without its other half is text elsewhere. While the completion is `growing`, what may
    still become hidden is held back.
    """
    if is_reasoning(completion):
        return ""
    shown = _THINK.sub(lambda match: "" if growing or match["closed"] else match[0], completion)
    return (_PARTIAL_TAG.sub("", shown) if growing else shown).strip()


def is_reasoning(completion: str) -> bool:
    """Return whether a completion is hidden reasoning that has not ended."""
    return completion[_closed_reasoning(completion) :].casefold().startswith("<think>")


def is_hidden_between(before: str, after: str) -> bool | None:
    """Return whether the place between two halves of a completion is hidden; None while only what comes can tell."""
    if is_reasoning(before):
        return True
    last = next(reversed(list(_THINK.finditer(before))), None)
    if last is None or last["closed"]:
        return False
    return True if "</think>" in after.casefold() else None


def reasoning_ends(completion: str) -> int | None:
    """Return where the text begins behind the hidden reasoning at the beginning, None while that goes on."""
    end = _closed_reasoning(completion)
    tag = completion[end : end + len("<think>")].casefold()
    return None if tag and "<think>".startswith(tag) else end


def close_fence(text: str) -> str:
    """Return the text with an open code fence closed, so that what follows stands outside it."""
    return text + _CLOSING if _open_fence(text, "") else text


def harmless(text: str) -> str:
    """Return text that pings nobody even where allowed mentions fail: a zero-width space breaks each mention."""
    text = _SURROGATE.sub("\ufffd", text).replace("\x00", "")
    return _PING.sub(lambda match: match.group() + "\u200b", text)


def as_written(text: str) -> str:
    """Return text that shows in Discord as it was typed: no markup, no ping, and no link under other words."""
    return _SHOWN_OTHERWISE.sub(lambda match: match["link"] or f"\\{match[0]}", harmless(text))


def subtext(sentence: str) -> str:
    """Return Discord's small print."""
    return f"-# {sentence}"


def split(text: str, limit: int = MESSAGE_LIMIT) -> list[str]:
    """Cut text into messages of at most `limit` characters (40 or more).

    A code fence that is cut is closed and opened again, so that every message has an even number of marks. A cut
    depends only on the text before it, so that a growing text never moves the cuts already made. It falls at a
    paragraph, else a line, else a sentence, else a space, else anywhere; white space there is dropped.
    """
    parts: list[str] = []
    fence = ""  # the line that opened the fence we are in
    rest = text
    while rest.strip():
        opening = f"{fence}\n" if fence else ""
        room = limit - len(opening) - len(_CLOSING)
        fits = len(rest) <= (room if fence or _MARK in rest else limit)
        cut = len(rest) if fits else _cut(rest, room, fence)
        head, rest = rest[:cut], rest[cut:].lstrip("\n")
        fence = _open_fence(head, fence)
        if head.strip():
            parts.append(opening + head.rstrip() + (_CLOSING if fence else ""))
        if fence and rest.lstrip().startswith(_MARK):  # it ended right here, with the mark that we just set
            fence, rest = "", rest.lstrip().removeprefix(_MARK).lstrip("\n")
    return parts or [""]


def _cut(text: str, room: int, fence: str) -> int:
    window = text[:room]
    places = ((window.rfind(pattern), keep) for pattern, keep in _CUTS)
    loose = (room - len(window.rstrip("`"))) % len(_MARK)  # of a mark that may stand across the end
    cut = next((found + keep for found, keep in places if found >= room // 3), room - loose)
    begun = _BEGUN_FENCE.search(window, 0, cut)
    if begun and window[: begun.start()].strip() and _open_fence(window[:cut], fence):
        return begun.start()  # not between a fence's mark and what stands in it
    return cut


def _open_fence(text: str, fence: str) -> str:
    """Return the opening line of the fence still open after `text`, empty when none is."""
    for match in _FENCE.finditer(text):
        fence = "" if fence else _MARK + (match[1] or "")
    return fence


def _closed_reasoning(completion: str) -> int:
    match = _LEADING_THINK.match(completion)
    assert match is not None  # it matches nothing, too
    return match.end()
