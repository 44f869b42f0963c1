"""Links whose host is not on the allow list, however they are written.

They are looked for in the folded text and judged by the host as it was written: "wikipedia.org" with one Cyrillic
letter is another host. Programs disagree on where a host ends, so each of them must end at an allowed one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from bot.moderation.findings import Category, Finding
from bot.moderation.normalise import SPACELESS, Forms

_HOST_END = r"\s/?#<>()\[\]\"'`|*，。！？；、"
_LINK = re.compile(
    rf"(?P<scheme>(?:https?|hxxps?|ftp):[/\\]+)(?P<host>\[[0-9a-f:.]{{2,45}}\]|[^{_HOST_END}]+)[^\s<>()\[\]]*|(?<![a-z0-9.@/_-])www\.[^{_HOST_END}:]+[^\s<>()\[\]]*"
)
_MASK = re.compile(r"\[[^\]\n]{0,100}\]\( ?<?\Z")
# What opens a program: Discord's own everywhere, any other below a text of its own.
_PROGRAM = re.compile(
    r"(?:\[[^\]\n]{0,100}\]\( ?<?(?!(?:https?|hxxps?|ftp):)[a-z][a-z0-9+.-]{1,20}|(?<![a-z0-9+.-])discord):[/\\]+"
    r"[^\s<>()\[\]]+"
)
_INVITE = re.compile(  # of a member to a server, or of a bot
    r"(?<![a-z0-9-])(?:discord(?:app)?\.(?:com ?/ ?(?:api ?/ ?(?:v\d{1,2} ?/ ?)?)?(?:invite|oauth2)|gg|io|me|li)"
    r"|dsc\.gg|invite\.gg) ?/ ?(?P<code>[\w-]{2,})"
)
# What stands between a link's slashes and its path, for a program that reads on as far as any does.
_AUTHORITY = re.compile(r"[^ \t\r\n</?#]*")
_HOST = re.compile(r"(?P<host>[a-z0-9.-]+)(?::\d{0,5})?(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_BREAKS = "\"'`*_~|()[]{}>,;:!，。！？；、：（）【】「」『』《》“”‘’"  # behind these a host goes on after a dot alone
_DOTS = re.compile("[.。．｡]")
_ENDS = ".。．｡,:;\"')]"  # are left out of a link at its end
_LAST_LABEL = re.compile(rf"[{SPACELESS}]{{1,6}}|(?=\w*[^\W{SPACELESS}])[\w-]+")  # longer words of Chinese are prose
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
    re.compile(r"(?:discord(?:app)?\.|dsc\.|invite\.)[a-z]{0,3}[ /a-z0-9]{0,20}\Z"),
)
_LONGEST_TAIL = 240


def find(forms: Forms, allowed: frozenset[str]) -> list[Finding]:
    """Return links to other hosts, and other hosts' bare names. An invitation is allowed by "discord.gg" alone."""
    plain = forms.folded
    found: dict[int, Finding] = {}
    for rule, category, start, end, host in _links(plain.text):
        if rule == "invitation":
            written = "discord.gg"
        elif rule == "bare host":
            written = forms.text[plain.origins[host[0]] : plain.origins[host[1] - 1] + 1]
        else:
            written = _authority(forms, host[0])
        if not is_allowed(written, allowed):
            found.setdefault(end, Finding.at(rule, category, forms, plain, start, end, written))
    return list(found.values())


def open_from(forms: Forms) -> int | None:
    """Return the first place of the folded text at which a masked link or an invitation may begin that goes on."""
    text = forms.folded.text
    tail = max(0, len(text) - _LONGEST_TAIL)
    matches = (pattern.search(text, tail) for pattern in _TAILS)
    return min((match.start() for match in matches if match), default=None)


def is_allowed(authority: str, allowed: frozenset[str]) -> bool:
    """Return whether what was written behind a link's slashes is one of `allowed`, or below one, for every program.

    Hosts in other letters than ASCII's never are, nor what names a user.
    """
    match = _HOST.fullmatch(authority)
    if match is None or "@" in unicodedata.normalize("NFKC", authority):
        return False
    name, rest = match["host"].lower().rstrip("."), match["rest"].rstrip(_ENDS)
    if rest:
        *before, last = _DOTS.split(rest)
        if not (rest[0].isspace() or rest[0] in _BREAKS) or (before and _LAST_LABEL.fullmatch(last)):
            return False
    return any(name == other or name.endswith(f".{other}") for other in allowed)


def _authority(forms: Forms, host: int) -> str:
    """Return a link's authority as it was written, what can't be seen at its beginning included."""
    origins = forms.folded.origins
    match = _AUTHORITY.match(forms.text, origins[host - 1] + 1 if host else 0)
    assert match is not None
    return match[0]


def _links(text: str) -> Iterator[tuple[str, Category, int, int, tuple[int, int]]]:
    """Yield rule, category, the link's place and the host's place."""
    if "." not in text and ":" not in text:
        return
    for match in _INVITE.finditer(text):
        yield "invitation", Category.LINK, *match.span(), match.span()
    for match in _PROGRAM.finditer(text):
        yield "program", Category.LINK, *match.span(), match.span()
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
