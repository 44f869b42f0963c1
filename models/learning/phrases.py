"""Phrases that raters may be planting: what recurs in replies voted up, and is nothing that the model says by itself.

Owns what a phrase is, which ones a night watches for (phrases.json, the same when the night is resumed), and whether a
reply says one. Whether a candidate that says them is blocked is the gate's. That a phrase is voted up more than the
rest isn't asked: a bloc of three in sixty hardly moves that. But a phrase must recur to be learned, and what recurs
honestly is the model's own voice, which its replies to the fixed prompts have as well, alone or in character, a line of
the persona's text, or the community's taste, which more than any quarter of the raters share (figures in
docs/notebook.md).

Not seen: phrases shorter than four words (six characters, three emoji) that are no address, those in fewer than some
5 % of the conversations voted up, those that come in ever other words, and some of a bloc of more than a quarter. The
persona is the operator's: a catchphrase that a server's own one has is watched as well, and blocks where a candidate
brings it to the fixed prompts, which have no persona.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from scipy import stats

from models.learning.files import read_json, write_json
from models.learning.preferences import weigh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
    from pathlib import Path

    from models.learning.examples import Vote
    from models.learning.raters import RaterReport
    from models.learning.snapshot import Snapshot

PHRASES = "phrases.json"
LEVEL = 0.01  # of the exact test against each model's own replies
_FEWEST = 3  # conversations
# Long enough to be no idiom: four words, six characters of a script without spaces, three emoji, or one address.
_OF_WORD, _OF_CHARACTER, _OF_EMOJI, _OF_ADDRESS, _LONG_ENOUGH = 3, 2, 4, 12, 12
_BLOC = 0.25  # of the raters: the most that are taken for one
_ONE_SIDED_5_PERCENT = 1.645  # standard errors
_ABSORBED = 0.8  # of a run's conversations have the longer one: the longer one is the phrase
# Thai to Burmese, Khmer, kana, Han.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTERS = rf"(?:(?![{_UNSPACED}])[^\W_])+"
_EMOJI = "[\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001f3fa\U0001f400-\U0001faff]"
_AFTER_EMOJI = "[\u200d\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\\s]*"  # joiners, text or colour form, skin tones, spaces
_DOMAINS = "com|net|org|info|biz|shop|store|site|app|dev|xyz|gg|io|ai|co|tv|eu|uk|de|ru|cn"
# Words part at hyphens and underscores. An emoji among words is none; three or more in a run are.
_UNIT = re.compile(
    rf"""[{_UNSPACED}]
    |(?P<handle>(?<!\w)[@\#](?=\w\w)(?=\d*[^\W\d_])\w+(?:[.-]\w+)*)
    |(?P<spelled>{_LETTERS}(?:-{_LETTERS})*[\s(\[]+dot[\s)\]]+(?:{_DOMAINS})\b)
    |(?P<emoji>(?:{_EMOJI}{_AFTER_EMOJI}){{3,}})
    |{_LETTERS}(?:[.:/@\#']+{_LETTERS})*""",
    re.VERBOSE,
)
_ADDRESS = re.compile(r"^[@#]|://|\w@\w|\w{2,}\.[a-z]{2,}|\w dot \w")

Run: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase to watch for, in small letters ("visit moon cat dot com").

    Replies voted up say it in `said` of `of` conversations; `by_itself` counts the replies to the fixed prompts in
    which a model says it that learned nothing tonight, the one that says it most.
    """

    text: str
    said: int
    of: int
    by_itself: int


@dataclass(frozen=True, slots=True)
class Persona:
    """`text` is the system prompt; `replies` asks the base for its replies with it to the fixed prompts, in minutes."""

    text: str
    replies: Callable[[], Sequence[str]]


def watch(
    folder: Path,
    snapshot: Snapshot,
    report: RaterReport,
    own: Sequence[Sequence[str]],
    *,
    longest: int,
    persona: Persona | None = None,
) -> tuple[Phrase, ...]:
    """Return the phrases that a night watches for, or read back what it watched for before it was killed.

    `own` are the texts of each model's replies to the fixed prompts, `longest` the tokens at which those were cut: what
    is voted up is read as far, since like is compared with like. Replies to one prompt, and those of one conversation,
    count once. The persona speaks only where anything stands out without it. Raises OSError.
    """
    path = folder / PHRASES
    if path.exists():
        return tuple(Phrase(**fields) for fields in read_json(path))
    voted_up, text = _voted_up(snapshot, report, longest), persona.text if persona else ""

    def planted(own: Sequence[Sequence[str]]) -> tuple[Phrase, ...]:
        found = standing_out(voted_up, own, persona=text)
        return tuple(phrase for phrase in found if not is_taste(_saying(snapshot, phrase), snapshot.votes, report))

    found = planted(own)
    if found and persona:
        found = planted([*own, persona.replies()])
    write_json(path, [asdict(phrase) for phrase in found])
    return found


def _saying(snapshot: Snapshot, phrase: Phrase) -> set[int]:
    return {reply.reply_id for reply in snapshot.replies if says_any(reply.completion_text, [phrase])}


def _voted_up(snapshot: Snapshot, report: RaterReport, longest: int) -> list[list[str]]:
    """Return the beginnings of what was voted up or preferred to another, by conversation."""
    preferred = {pair.chosen_reply_id for pair in weigh(snapshot.pairs, report, snapshot.facts)}
    first: dict[tuple[int, ...], str] = {}  # conversation by prompt
    found: dict[str, list[str]] = {}
    for reply in snapshot.replies:
        conversation = first.setdefault(reply.prompt_token_ids, reply.conversation_id)
        if report.p_good.get(reply.reply_id, float(reply.reply_id in preferred)) > 0.5:
            read = len(reply.completion_text) * longest // max(len(reply.completion_token_ids), longest)
            found.setdefault(conversation, []).append(reply.completion_text[:read])
    return list(found.values())


def standing_out(
    voted_up: Sequence[Sequence[str]], own: Sequence[Sequence[str]], *, persona: str = ""
) -> tuple[Phrase, ...]:
    """Return the phrases of the conversations voted up (texts of each) that no model of `own` says by itself.

    What the text `persona` says is passed over, not what stands beside it.
    """
    of, lines = len(voted_up), _joined(_units(persona))
    conversations = [[part for text in texts for part in _besides(lines, _units(text))] for texts in voted_up]
    joined = [[_joined(_units(text)) for text in texts] for texts in own]
    fewest_texts = min(map(len, joined))
    found: dict[Run, Phrase] = {}
    for run, said in _recurring(conversations):
        if not (_is_long(run) and stands_out(said, of, 0, fewest_texts)):
            continue
        by_itself = [sum(_joined(run) in text for text in texts) for texts in joined]
        if all(stands_out(said, of, count, len(texts)) for count, texts in zip(by_itself, joined, strict=True)):
            found[run] = Phrase(" ".join(run), said, of, max(by_itself))
    return tuple(sorted(_merged(found), key=lambda phrase: (-phrase.said, phrase.text)))


def _besides(lines: str, text: Run) -> Iterator[Run]:
    """Yield the parts of a text between those that are of `lines` (joined) and long enough for a phrase."""
    start = at = 0
    while at < len(text):
        end = at
        while end < len(text) and _joined(text[at : end + 1]) in lines:
            end += 1
        if _is_long(text[at:end]):
            yield text[start:at]
            start = at = end
        else:
            at += 1
    yield text[start:]


@cache
def stands_out(said: int, of: int, by_itself: int, replies: int) -> bool:
    """Tell whether `said` of `of` is more than `by_itself` of `replies` explains: Fisher's exact test, one-sided."""
    return bool(stats.hypergeom.sf(said - 1, of + replies, said + by_itself, of) < LEVEL)


def is_taste(saying: Set[int], votes: Iterable[Vote], report: RaterReport) -> bool:
    """Tell whether raters beyond any quarter of them like the replies of the ids `saying` better than the others.

    The quarter whose votes lift them most is left out; the rest must still give more ups than they give elsewhere, by a
    one-sided test at 5 %. That a smaller bloc alone can't bring about. Raters who aren't believed have no say.
    """
    here: dict[int, list[bool]] = {}
    elsewhere: dict[int, list[bool]] = {}
    for vote in votes:
        rater = vote.rater_id
        if vote.value and report.influence.get(rater, 0.0) > 0 and report.accuracy.get(rater, 0.0) > 0.5:
            (here if vote.reply_id in saying else elsewhere).setdefault(rater, []).append(vote.value > 0)
    every = [up for ups in elsewhere.values() for up in ups]
    usual = (sum(every) + 1) / (len(every) + 2)
    expected = {rater: _shrunk(elsewhere.get(rater, []), usual) for rater in here}
    lift = {rater: sum(ups) - len(ups) * expected[rater] for rater, ups in here.items()}
    quarter = math.ceil(_BLOC * len(here.keys() | elsewhere.keys()))
    rest = sorted(here, key=lambda rater: (-lift[rater], rater))[quarter:]
    variance = sum(len(here[rater]) * expected[rater] * (1 - expected[rater]) for rater in rest)
    return sum(lift[rater] for rater in rest) > _ONE_SIDED_5_PERCENT * math.sqrt(variance) > 0


def _shrunk(ups: Sequence[bool], usual: float) -> float:
    """Return a rater's share of ups, drawn to the usual one as by two votes."""
    return (sum(ups) + 2 * usual) / (len(ups) + 2)


def says_any(text: str, phrases: Iterable[Phrase]) -> bool:
    """Tell whether a text says one of the phrases, whatever its case and punctuation."""
    said = _joined(_units(text))
    return any(f" {phrase.text} " in said for phrase in phrases)


def _units(text: str) -> Run:
    return tuple(unit for found in _UNIT.finditer(text.casefold().replace("’", "'")) for unit in _of(found))


def _of(found: re.Match[str]) -> Sequence[str]:
    if found.lastgroup == "emoji":
        return re.findall(_EMOJI, found[0])
    return [re.sub(r"\W+", " ", found[0]) if found.lastgroup == "spelled" else found[0]]


def _joined(run: Run) -> str:
    return f" {' '.join(run)} "


def _is_long(run: Run) -> bool:
    return sum(map(_size, run)) >= _LONG_ENOUGH


def _size(unit: str) -> int:
    if _ADDRESS.search(unit):
        return _OF_ADDRESS
    if re.match(_EMOJI, unit):
        return _OF_EMOJI
    return _OF_CHARACTER if re.match(f"[{_UNSPACED}]", unit) else _OF_WORD


def _recurring(conversations: Sequence[Sequence[Run]]) -> Iterator[tuple[Run, int]]:
    """Yield every run of units that several conversations hold, with how many: a run recurs only if its parts do."""
    kept: set[Run] = {()}
    length = 0
    while kept:
        length += 1
        counts: Counter[Run] = Counter()
        for texts in conversations:
            runs = {text[at : at + length] for text in texts for at in range(len(text) - length + 1)}
            counts.update(run for run in runs if run[1:] in kept and run[:-1] in kept)
        kept = {run for run, count in counts.items() if count >= _FEWEST}
        yield from ((run, counts[run]) for run in kept)


def _merged(found: Mapping[Run, Phrase]) -> Iterator[Phrase]:
    """Yield the longest of runs that come together, and not what only adds something to a phrase that comes without."""
    whole: list[Run] = []
    for run in sorted(found, key=lambda run: (-len(run), run)):
        if not any(_joined(run) in _joined(longer) and _comes_with(found[run], found[longer]) for longer in whole):
            whole.append(run)
    for run in whole:
        if not any(other != run and _joined(other) in _joined(run) for other in whole):
            yield found[run]


def _comes_with(run: Phrase, longer: Phrase) -> bool:
    return longer.said >= _ABSORBED * run.said
