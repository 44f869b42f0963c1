"""Write bot/moderation/tables/{look_alikes,simplified}.txt; run once, outside Encore's environment.

    python -m venv throwaway
    throwaway/bin/pip install confusable-homoglyphs==3.3.1 opencc-python-reimplemented==0.1.7
    throwaway/bin/python scripts/export_look_alikes.py

Of Unicode's 6,000 confusables those are kept that read like a Latin letter or a digit once NFKC, case folding and the
removal of marks have done their part, and of OpenCC's table the characters with one simplified form of one character.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "bot" / "moderation" / "tables"
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "KANGXI", "IDEOGRAPHIC", "ARABIC", "HALFWIDTH")
# Letters that NFKC leaves alone and the confusables do not list: their own names say how they read.
_NAMED = re.compile(
    r"(?:LATIN (?:SMALL|CAPITAL) LETTER ([A-Z]) WITH .*|LATIN LETTER SMALL CAPITAL ([A-Z])"
    r"|NEGATIVE (?:SQUARED|CIRCLED) LATIN CAPITAL LETTER ([A-Z])|REGIONAL INDICATOR SYMBOL LETTER ([A-Z]))"
)


def _plain(character: str) -> str:
    """Return what normalise.fold makes of a character without the tables."""
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", character).casefold())
    return "".join(letter for letter in folded if not unicodedata.combining(letter))


def _reading(character: str, confusables: dict[str, list[dict[str, str]]]) -> str | None:
    if named := _NAMED.fullmatch(unicodedata.name(character, "")):
        return next(filter(None, named.groups())).lower()
    others = {other["c"].casefold() for other in confusables.get(character, ())}
    letters = sorted(other for other in others if re.fullmatch("[a-z]{1,3}", other))
    digits = sorted(other for other in others if re.fullmatch("[0-9]", other))
    return next(iter([*sorted(letters, key=len), *digits]), None)


def look_alikes() -> dict[str, str]:
    """Return character -> how it reads, in lower case."""
    package = Path(find_spec("confusable_homoglyphs").origin).parent  # type: ignore[union-attr, arg-type]
    confusables = json.loads((package / "confusables.json").read_text("utf-8"))
    table: dict[str, str] = {}
    for point in range(0x80, 0x20000):
        character = chr(point)
        plain = _plain(character)
        if len(plain) != 1 or plain.isascii() or unicodedata.name(plain, "").startswith(_EAST_ASIAN):
            continue
        if unicodedata.category(plain)[0] in "LNS" and plain not in table:
            reading = _reading(plain, confusables) or _reading(character, confusables)
            if reading:
                table[plain] = reading
        # What NFKC makes another letter of reads as it looks: the lunate sigma is a c.
        if unicodedata.normalize("NFKC", character) != character and (raw := _reading(character, confusables)):
            table.setdefault(character, raw)
    return table


def simplified() -> dict[str, str]:
    """Return traditional character -> simplified character."""
    package = Path(find_spec("opencc").origin).parent  # type: ignore[union-attr, arg-type]
    lines = (package / "dictionary" / "TSCharacters.txt").read_text("utf-8").splitlines()
    pairs = (line.split("\t") for line in lines if "\t" in line)
    return {old: new for old, new in pairs if len(old) == len(new) == 1 and old != new}


def main() -> None:
    """Write one line a reading: the reading, a tab, the characters; sorted, so that a change is easy to see."""
    by_reading: defaultdict[str, list[str]] = defaultdict(list)
    for character, reading in look_alikes().items():
        by_reading[reading].append(character)
    lines = [f"{reading}\t{''.join(sorted(characters))}" for reading, characters in sorted(by_reading.items())]
    (OUT / "look_alikes.txt").write_text("\n".join(lines) + "\n", "utf-8")
    table = sorted(simplified().items())
    both = ("".join(old for old, _ in table), "".join(new for _, new in table))
    (OUT / "simplified.txt").write_text("\n".join(both) + "\n", "utf-8")


if __name__ == "__main__":
    main()
