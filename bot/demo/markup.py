"""Discord's markdown as safe HTML for the page: no raw HTML, links to http and https only, unknown syntax as text.

Knows emphasis, underline, strikethrough, spoilers, code, quotes, lists, headings, `-#` subtext, masked and bare links,
mentions, times and custom emoji. Loads nothing: images and embeds of links are left out on purpose.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, MutableMapping, Sequence
from datetime import datetime
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

Naming = Callable[[str, int], str]  # ("@" | "@&" | "#", id) -> what to show

_REFERENCE = re.compile(r"<(@&|@!?|#)(\d{1,20})>")
_CUSTOM_EMOJI = re.compile(r"<a?:(\w{2,32}):\d{1,20}>")
_TIME = re.compile(r"<t:(-?\d{1,12})(?::([tTdDfFR]))?>")
_FORMS = {"t": "%H:%M", "T": "%H:%M:%S", "d": "%d/%m/%Y", "D": "%d %B %Y", "F": "%A, %d %B %Y %H:%M"}
_UNITS = (("year", 31_536_000), ("month", 2_592_000), ("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
_BARE_LINK = re.compile(r"https?://[^\s<>\"]+[^\s<>\"'.,:;!?)\]*_|]")
_RULES = (
    "autolink", "backticks", "blockquote", "emphasis", "escape", "fence", "heading", "link", "list", "newline",
    "strikethrough",
)  # fmt: skip


def render(content: str, naming: Naming) -> str:
    """Return the HTML of one message's content."""
    return str(_MARKDOWN.render(content, {"naming": naming}))


def plain(content: str, naming: Naming, *, limit: int = 120) -> str:
    """Return content as one line of plain text, for previews and screen readers."""
    text = _REFERENCE.sub(lambda found: _shown(found, naming), content)
    text = _TIME.sub(lambda found: _moment(int(found[1]), found[2]), text)
    text = _CUSTOM_EMOJI.sub(r":\1:", text)
    text = re.sub(r"(?m)^(-#|#{1,3}|>) ", "", text)
    text = " ".join(re.sub(r"\*\*|__|~~|\|\||`+", "", text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _shown(found: re.Match[str], naming: Naming) -> str:
    sigil = found[1].replace("!", "")
    return ("#" if sigil == "#" else "@") + naming(sigil, int(found[2]))


def _moment(seconds: int, form: str | None) -> str:
    """Return a time as Discord shows it, in this machine's zone, which is the one of whoever looks."""
    if form == "R":
        away = seconds - round(time.time())
        unit, size = next(((name, size) for name, size in _UNITS if abs(away) >= size), _UNITS[-1])
        count = round(abs(away) / size)
        told = f"{count} {unit}{'s' * (count != 1)}"
        return f"in {told}" if away > 0 else f"{told} ago"
    try:
        return datetime.fromtimestamp(seconds).strftime(_FORMS.get(form or "f", "%d %B %Y %H:%M"))
    except (ValueError, OverflowError, OSError):
        return f"<t:{seconds}>"


def _reference(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] != "<":
        return False
    if found := _REFERENCE.match(state.src, state.pos):
        text, kind = _shown(found, state.env["naming"]), "mention"
    elif found := _CUSTOM_EMOJI.match(state.src, state.pos):
        text, kind = f":{found[1]}:", "emoji"
    elif found := _TIME.match(state.src, state.pos):
        text, kind = _moment(int(found[1]), found[2]), "moment"
    else:
        return False
    if not silent:
        state.push(kind, "", 0).content = text
    state.pos = found.end()
    return True


def _spoiler(state: StateInline, silent: bool) -> bool:
    if not state.src.startswith("||", state.pos):
        return False
    end = state.src.find("||", state.pos + 2)
    if end <= state.pos + 2:
        return False
    if not silent:
        state.push("spoiler", "", 0).content = state.src[state.pos + 2 : end]
    state.pos = end + 2
    return True


def _subtext(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    if not line.startswith("-# "):
        return False
    if silent:
        return True
    state.line = start + 1
    state.push("subtext_open", "p", 1).attrSet("class", "subtext")
    inline = state.push("inline", "", 0)
    inline.content, inline.map, inline.children = line[3:], [start, state.line], []
    state.push("subtext_close", "p", -1)
    return True


def _bare_links(state: StateCore) -> None:
    for block in state.tokens:
        if block.children is None:
            continue
        inside, children = 0, []
        for token in block.children:
            inside += token.nesting if token.type.startswith("link_") else 0
            children.extend([token] if inside or token.type != "text" else _linked(token.content))
        block.children = children


def _linked(text: str) -> list[Token]:
    tokens: list[Token] = []

    def add(kind: str, tag: str, nesting: Any, content: str = "") -> Token:
        tokens.append(Token(kind, tag, nesting, content=content))
        return tokens[-1]

    at = 0
    for found in _BARE_LINK.finditer(text):
        add("text", "", 0, text[at : found.start()])
        add("link_open", "a", 1).attrSet("href", _MARKDOWN.normalizeLink(found[0]))
        add("text", "", 0, found[0])
        add("link_close", "a", -1)
        at = found.end()
    add("text", "", 0, text[at:])
    return tokens


class _Renderer(RendererHTML):
    def link_open(self, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]) -> str:
        tokens[index].attrSet("rel", "noopener noreferrer nofollow")
        tokens[index].attrSet("target", "_blank")
        return str(self.renderToken(tokens, index, options, env))

    def strong_open(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        return "<u>" if tokens[index].markup == "__" else "<strong>"

    def strong_close(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        return "</u>" if tokens[index].markup == "__" else "</strong>"

    def heading_open(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        # The page has its own outline: a member's heading is only large text.
        return f'<p class="h{min(len(tokens[index].markup), 3)}">'

    def heading_close(self, *_: Any) -> str:
        return "</p>"

    def mention(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        return f'<span class="mention">{escapeHtml(tokens[index].content)}</span>'

    def emoji(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        return escapeHtml(tokens[index].content)

    def moment(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        return f'<span class="moment">{escapeHtml(tokens[index].content)}</span>'

    def spoiler(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        return f'<button type="button" class="spoiler" title="Show">{escapeHtml(tokens[index].content)}</button>'


def _link_allowed(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _build() -> MarkdownIt:
    markdown = MarkdownIt("zero", {"html": False, "breaks": True, "maxNesting": 20}, renderer_cls=_Renderer)
    markdown.enable(list(_RULES))
    markdown.validateLink = _link_allowed  # type: ignore[method-assign]
    markdown.inline.ruler.before("autolink", "reference", _reference)
    markdown.inline.ruler.push("spoiler", _spoiler)
    markdown.inline.add_terminator_char("|")
    markdown.block.ruler.before("list", "subtext", _subtext, {"alt": ["paragraph", "blockquote", "list"]})
    markdown.core.ruler.push("bare_links", _bare_links)
    return markdown


_MARKDOWN = _build()
