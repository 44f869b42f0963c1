"""Words and phrases that a server does not want, found in their disguises too.

An entry is a word or a phrase; `*` at the beginning or end of a word stands for more letters, as in Discord's AutoMod.
Words of spaced scripts match whole words alone ("ass" is not in "classic"); Chinese and Japanese match anywhere. Found
are words as written, in leetspeak ("sh1t"), with letters repeated ("shiiit") and parted ("s.h.i.t", "s h i t"), and
with Discord's markup inside ("s||hi||t"). Not found: misspellings ("phuck"), letters left out ("f*ck"), words parted in
two by a space ("fu ck"), Chinese ones by a line's end where the next line goes on without a mark ("他真傻\\n逼近了").
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from bot.moderation import readings
from bot.moderation.findings import Category, Finding
from bot.moderation.normalise import SPACELESS, Forms, Plain, fold, is_spaceless, letters_of
from bot.moderation.readings import Run, Word

LONGEST_ENTRY = 60  # characters, as in Discord's AutoMod
LANGUAGES = ("en", "zh")  # of the lists that Encore brings
_DATA = Path(__file__).parent / "tables"
_SHORTEST_INSIDE = 4  # letters of a word that is found among other parted letters
_SHORTEST_JOINED = 6  # letters of a phrase that is found written as one word
_LONGEST_TAIL = 160  # characters in which an entry that has only begun is looked for
_CACHED_CHUNKS = 4096
_WIDE_GAP = re.compile(r"[^\w]{5,}|[\n。！？；，]")  # ends a Chinese word
_HAS_SPACELESS = re.compile(f"[{SPACELESS}]")


@dataclass(frozen=True, slots=True)
class _Exact:
    """A word of an entry by its runs."""

    runs: tuple[Run, ...]

    def fits(self, word: Word) -> bool:
        return _covers(word.runs, self.runs) and not word.letters.isdecimal()


@dataclass(frozen=True, slots=True)
class _Open:
    """A word of an entry with `*` at an end, or both."""

    pattern: re.Pattern[str]

    def fits(self, word: Word) -> bool:
        return self.pattern.fullmatch(word.letters) is not None


@dataclass(frozen=True, slots=True)
class _Entry:
    written: str
    words: tuple[_Exact | _Open, ...]

    @property
    def key(self) -> str | None:
        """The letters of the first word, None when it is open."""
        first = self.words[0]
        return _letters(first.runs) if isinstance(first, _Exact) else None


class Blocklist:
    """Entries by which texts are searched; does not change. Raises ValueError for an entry that can't be used.

    What is found is of `category`.
    """

    def __init__(self, entries: Iterable[str], category: Category = Category.WORD) -> None:
        self._category = category
        self.entries = tuple(dict.fromkeys(entry.strip() for entry in entries))
        self._words: defaultdict[str | None, list[_Entry]] = defaultdict(list)
        self._phrases: defaultdict[str | None, list[_Entry]] = defaultdict(list)
        self._solid = _Trie()  # what is also found with its letters parted
        self._anywhere = _Trie()
        self._symbols: list[tuple[str, str]] = []
        for written in self.entries:
            self._add(written)
        self._longest_phrase = max((len(e.words) for found in self._phrases.values() for e in found), default=1)
        self._in_chunk = lru_cache(maxsize=_CACHED_CHUNKS)(self._search_chunk)

    def _add(self, written: str) -> None:
        if not written or len(written) > LONGEST_ENTRY:
            raise ValueError(f"A word or phrase has 1 to {LONGEST_ENTRY} characters; {written[:80]!r} has not.")
        folded = fold(written).text
        letters = "".join(sign for sign in folded if sign.isalnum())
        if not letters:
            if not folded.strip("* "):
                raise ValueError(f"{written!r} would match every message; write a word beside the *.")
            self._symbols.append((folded, written))
        elif any(map(is_spaceless, letters)):
            self._anywhere.add(written, readings.runs(letters, range(len(letters))))
        else:
            words = tuple(word for part in folded.split() if (word := _entry_word(part)))
            entry = _Entry(written, words)
            (self._words if len(words) == 1 else self._phrases)[entry.key].append(entry)
            if "*" not in folded and not letters.isdecimal() and (len(words) == 1 or len(letters) >= _SHORTEST_JOINED):
                self._solid.add(written, readings.runs(letters, range(len(letters))))

    def find(self, forms: Forms) -> list[Finding]:
        """Return what a text holds of the list, each place and entry once."""
        found = self._find(forms, forms.folded, forms.letters)
        if forms.unmarked is not forms.folded:
            found += self._find(forms, forms.unmarked, letters_of(forms.unmarked))
        return list(dict.fromkeys(found))

    def _find(self, forms: Forms, plain: Plain, letters: Plain) -> list[Finding]:
        text = plain.text
        hits = {*self._in_words(text), *self._in_parted_letters(text), *self._in_symbols(text)}
        if _HAS_SPACELESS.search(text):
            hits |= set(self._in_spaceless(text, letters))
        return [
            Finding.at("word", self._category, forms, plain, start, end, written)
            for start, end, written in sorted(hits)
        ]

    def open_from(self, forms: Forms) -> int | None:
        """Return the first place of the folded text from which on something of the list may still complete."""
        text = forms.folded.text
        places = [readings.parted_tail(text)]
        if self._phrases:
            tail = max(0, len(text) - _LONGEST_TAIL)
            places.append(self._open_phrase(list(readings.words(text[tail:])), tail))
        if _HAS_SPACELESS.search(text, max(0, len(text) - LONGEST_ENTRY)):
            tail = max(0, len(forms.letters.text) - 2 * self._anywhere.longest)
            run = readings.runs(forms.letters.text[tail:], forms.letters.origins[tail:])
            places.append(self._anywhere.open_from(run))
        return min((place for place in places if place is not None), default=None)

    def _in_words(self, text: str) -> Iterator[tuple[int, int, str]]:
        for chunk in readings.CHUNK.finditer(text):
            hits, begins_phrase = self._in_chunk(chunk[0])
            for start, end, written in hits:
                yield chunk.start() + start, chunk.start() + end, written
            if begins_phrase:
                near = text[chunk.start() : chunk.end() + _LONGEST_TAIL]
                for start, end, written in self._in_phrases(list(readings.words(near)), len(chunk[0])):
                    yield chunk.start() + start, chunk.start() + end, written

    def _search_chunk(self, chunk: str) -> tuple[tuple[tuple[int, int, str], ...], bool]:
        """Return the words in what stands between two spaces, and whether a phrase may begin there."""
        ways = [way for word in readings.words(chunk) for way in word]
        hits = [(way.start, way.end, entry.written) for way in ways for entry in _beginning_with(way, self._words)]
        for run in readings.joined(chunk):
            hits += (hit for hit in self._solid.find(run, chunk) if hit[:2] == (run[0].start, run[-1].end))
        return tuple(hits), any(True for way in ways for _ in _beginning_with(way, self._phrases))

    def _in_phrases(self, words: Sequence[tuple[Word, ...]], before: int) -> Iterator[tuple[int, int, str]]:
        for index, ways in enumerate(words):
            if ways[0].start >= before:
                return
            for way in ways:
                for entry in _beginning_with(way, self._phrases):
                    rest = words[index + 1 : index + len(entry.words)]
                    if len(rest) == len(entry.words) - 1 and _follow(entry.words[1:], rest):
                        yield way.start, rest[-1][-1].end, entry.written

    def _open_phrase(self, words: Sequence[tuple[Word, ...]], shift: int) -> int | None:
        """Return where a phrase begins of which the text ends before the last word, or inside a word."""
        for index in range(max(0, len(words) - self._longest_phrase), len(words)):
            for way in words[index]:
                for entry in _beginning_with(way, self._phrases):
                    rest = words[index + 1 :]
                    if len(rest) < len(entry.words) and _follow(entry.words[1:], rest[:-1]):
                        return way.start + shift
        return None

    def _in_parted_letters(self, text: str) -> Iterator[tuple[int, int, str]]:
        for run in readings.parted(text):
            for start, end, written in self._solid.find(run, text):
                whole = (start, end) == (run[0].start, run[-1].end)
                if whole or sum(sign.isalnum() for sign in written) >= _SHORTEST_INSIDE:
                    yield start, end, written

    def _in_spaceless(self, text: str, letters: Plain) -> Iterator[tuple[int, int, str]]:
        for start, end, written in self._anywhere.find(readings.runs(letters.text, letters.origins), text):
            gaps = set(_WIDE_GAP.findall(text[start:end]))
            if not gaps or (gaps == {"\n"} and (_ends_there(text, end) or _is_a_column(text, start, end))):
                yield start, end, written

    def _in_symbols(self, text: str) -> Iterator[tuple[int, int, str]]:
        for symbols, written in self._symbols:
            if (at := text.find(symbols)) >= 0:
                yield at, at + len(symbols), written


class _Trie:
    """Words by their runs, found at any run of others."""

    def __init__(self) -> None:
        self._words: defaultdict[str, list[tuple[str, tuple[Run, ...]]]] = defaultdict(list)
        self._beginnings: set[str] = set()
        self.longest = 0

    def add(self, written: str, word: tuple[Run, ...]) -> None:
        letters = _letters(word)
        self._words[letters].append((written, word))
        self.longest = max(self.longest, sum(run.times for run in word))
        self._beginnings.update(letters[:end] for end in range(1, len(letters) + 1))

    def find(self, run: Sequence[Run], text: str) -> Iterator[tuple[int, int, str]]:
        """Yield every word in `run`, whose places are those of `text`; digits alone spell nothing."""
        for first in range(len(run)):
            letters = ""
            for last in range(first, len(run)):
                letters += run[last].letter
                if letters not in self._beginnings:
                    break
                for written, word in self._words.get(letters, ()):
                    start, end = run[first].start, run[last].end
                    if _covers(run[first : last + 1], word) and any(map(str.isalpha, text[start:end])):
                        yield start, end, written

    def open_from(self, run: Sequence[Run]) -> int | None:
        """Return where the last runs begin a word that is not complete."""
        for first in range(len(run)):
            if _letters(run[first:]) in self._beginnings:
                return run[first].start
        return None


def built_in(languages: Iterable[str]) -> tuple[str, ...]:
    """Return the entries of Encore's own lists (see tables/NOTICE); raises ValueError for a language without one."""
    return tuple(entry for language in languages for entry in _built_in(language))


@cache
def _built_in(language: str) -> tuple[str, ...]:
    if language not in LANGUAGES:
        raise ValueError(f"There is no list of words for {language!r}; choose of {', '.join(LANGUAGES)}.")
    return tuple((_DATA / f"words_{language}.txt").read_text("utf-8").splitlines())


@cache
def explicit() -> Blocklist:
    """Return Encore's list of sexual words, English and Chinese, which channels for everybody are kept free of."""
    return Blocklist((_DATA / "explicit.txt").read_text("utf-8").splitlines(), Category.SEXUAL)


@lru_cache(maxsize=1 << 14)
def _key(letters: str) -> str:
    return _letters(readings.runs(letters, range(len(letters))))


def _ends_there(text: str, end: int) -> bool:
    """Return whether no longer word may go on: the second half of 傻 and 逼 is not the first of 逼近."""
    return end == len(text) or not is_spaceless(text[end])


def _is_a_column(text: str, start: int, end: int) -> bool:
    """Return whether each letter has a line of its own, with nothing else in it."""
    lines = text[start:end].split("\n")
    first, last = text.rfind("\n", 0, start) + 1, text.find("\n", end)
    around = text[first:start] + text[end : last if last >= 0 else len(text)]
    return all(sum(map(str.isalnum, line)) == 1 for line in lines) and not any(map(str.isalnum, around))


def _letters(word: Sequence[Run]) -> str:
    return "".join(run.letter for run in word)


def _covers(found: Sequence[Run], wanted: Sequence[Run]) -> bool:
    return len(found) == len(wanted) and all(map(Run.covers, found, wanted))


def _beginning_with(word: Word, entries: Mapping[str | None, Sequence[_Entry]]) -> Iterator[_Entry]:
    for found in (entries.get(_key(word.letters)), entries.get(None)):
        yield from (entry for entry in found or () if entry.words[0].fits(word))


def _follow(wanted: Sequence[_Exact | _Open], found: Sequence[tuple[Word, ...]]) -> bool:
    return all(any(map(word.fits, ways)) for word, ways in zip(wanted, found, strict=False))


def _entry_word(written: str) -> _Exact | _Open | None:
    letters = "".join(sign for sign in written if sign.isalnum())
    if not letters:
        return None
    if letters.isdecimal():
        return _Open(re.compile(re.escape(letters)))  # a number is no leetspeak
    word = readings.runs(letters, range(len(letters)))
    before, after = (r"[^\W_]*" if star else "" for star in (written.startswith("*"), written.endswith("*")))
    if not before and not after:
        return _Exact(word)
    middle = "".join(f"[{re.escape(readings.signs_of(run.letter))}]{{{run.times},}}" for run in word)
    return _Open(re.compile(before + middle + after))
