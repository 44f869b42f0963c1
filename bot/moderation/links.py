"""Links whose host is not on the allow list, however they are written.

They are looked for in the folded text and judged by the host as it was written: "wikipedia.org" with one Cyrillic
letter is another host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bot.moderation.findings import Category, Finding
from bot.moderation.normalise import Forms, clean

_HOST_END = r"\s/?#<>()\[\]\"'`|*，。！？；、"
_LINK = re.compile(
    rf"(?P<scheme>(?:https?|hxxps?|ftp)://)(?P<host>\[[0-9a-f:.]{{2,45}}\]|[^{_HOST_END}]+)[^\s<>()\[\]]*|(?<![a-z0-9.@/_-])www\.[^{_HOST_END}:]+[^\s<>()\[\]]*"
)
_MASK = re.compile(r"\[[^\]\n]{0,100}\]\(<?\Z")
_INVITE = re.compile(
    r"(?<![a-z0-9-])(?:discord(?:app)?\.(?:com ?/ ?invite|gg|io|me|li)|dsc\.gg|invite\.gg) ?/ ?(?P<code>[\w-]{2,})"
)
# Names that are rarely anything but hosts: "main.py", "README.md" and "e.g" are none.
_TOP = (
    "com|net|org|gg|io|co|dev|app|xyz|top|info|biz|ru|cn|uk|de|fr|jp|kr|tw|hk|us|eu|shop|site|online|club|vip|live|"
    "link|click|store|fun|icu|cc|tv|me|ly|gift|zip"
)
_BARE = re.compile(
    rf"(?<![a-z0-9@./:_-])(?P<host>(?:[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?\.){{1,6}}(?:{_TOP}))(?![a-z0-9_-]|\.[a-z0-9])"
    r"(?P<path>/[^\s<>()\[\]]*)?"
)
_TAILS = (
    re.compile(r"\[[^\]\n]{0,100}(?:\](?:\([^)\s]{0,100})?)?\Z"),
    re.compile(r"(?:discord(?:app)?\.|dsc\.|invite\.)[a-z]{0,3}[ /a-z]{0,10}\Z"),
)
_LONGEST_TAIL = 240


def find(forms: Forms, allowed: frozenset[str]) -> list[Finding]:
    """Return links to other hosts, and other hosts' bare names. An invitation is allowed by "discord.gg" alone."""
    plain = forms.folded
    found: dict[int, Finding] = {}
    for rule, category, start, end, host in _links(plain.text):
        written = forms.text[plain.origins[host[0]] : plain.origins[host[1] - 1] + 1]
        if rule == "invitation":
            written = "discord.gg"
        if not is_allowed(written, allowed):
            found.setdefault(end, Finding.at(rule, category, forms, plain, start, end, written))
    return list(found.values())


def open_from(forms: Forms) -> int | None:
    """Return the first place of the folded text at which a masked link or an invitation may begin that goes on."""
    text = forms.folded.text
    tail = max(0, len(text) - _LONGEST_TAIL)
    matches = (pattern.search(text, tail) for pattern in _TAILS)
    return min((match.start() for match in matches if match), default=None)


def is_allowed(host: str, allowed: frozenset[str]) -> bool:
    """Return whether a host, as it was written, is one of `allowed` or below one. Programs disagree on backslashes."""
    if "\\" in host:
        return False
    try:
        name = clean(host).text.rpartition("@")[2].partition(":")[0].rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        return False
    return any(name == other or name.endswith(f".{other}") for other in allowed)


def _links(text: str) -> Iterator[tuple[str, Category, int, int, tuple[int, int]]]:
    """Yield rule, category, the link's place and the host's place."""
    if "." not in text and "://" not in text:
        return
    for match in _INVITE.finditer(text):
        yield "invitation", Category.LINK, *match.span(), match.span()
    for match in _LINK.finditer(text):
        start, end = match.span()
        host = (
            match.span("host") if match["scheme"] else (start, start + len(re.split(rf"[{_HOST_END}:]", match[0])[0]))
        )
        mask = _MASK.search(text, max(0, start - 104), start)
        yield ("masked link" if mask else "link"), Category.LINK, (mask.start() if mask else start), end, host
    for match in _BARE.finditer(text):
        category = Category.LINK if match["path"] and len(match["path"]) > 1 else Category.DOMAIN
        yield "bare host", category, *match.span(), match.span("host")
