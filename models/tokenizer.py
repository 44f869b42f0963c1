"""Text to token ids and back, and a conversation to ids as the model's chat template lays it out.

A member's text can never become a control token: it passes through an encoder that knows none, and the template sees
placeholders in its place. Imports neither torch nor transformers: models/convert_tokenizer runs in its own process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import groupby, takewhile
from pathlib import Path

from filelock import FileLock
from tokenizers import Tokenizer, decoders

from models.chat_template import ChatTemplate, Said
from models.convert_tokenizer import META_FORMAT
from models.errors import ModelUnavailable
from models.spec import ECHO, ModelSpec
from models.types import Role, Turn

_CONVERSION_SECONDS = 600
_CACHED_RUNS = 2048  # a run is one turn's text with the template's words around it
_ECHO_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the ids mean beyond text: control tokens by spelling, and those that end a turn."""

    control: dict[str, int]
    bos_token: str
    eos_token: str
    end_ids: tuple[int, ...]


class ModelTokenizer:
    """A model's vocabulary and chat template; safe to use from several threads."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: str,
        vocabulary: Vocabulary,
        *,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._control_ids = frozenset(vocabulary.control.values())
        spellings = sorted(vocabulary.control, key=len, reverse=True)
        self._control_pattern = re.compile("|".join(map(re.escape, spellings)) or r"(?!)")
        self._unspellable = re.compile(_unspellable(tokenizer) or r"(?!)")
        self._encode = lru_cache(maxsize=_CACHED_RUNS)(self._encode_uncached)
        self._template = ChatTemplate(template, bos_token=vocabulary.bos_token, eos_token=vocabulary.eos_token, now=now)
        self._generation_words = self._words_before_a_reply()

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end a turn; the model's own end-of-text token first."""
        return self._vocabulary.end_ids

    def is_control(self, token_id: int) -> bool:
        return token_id in self._control_ids

    def control_id(self, spelling: str) -> int | None:
        """Return the id of a control token by its spelling, or None if the vocabulary has none so spelled."""
        return self._vocabulary.control.get(spelling)

    def encode_text(self, text: str) -> list[int]:
        """Encode untrusted text: no control token, no BOS, no prefix space.

        Lone surrogates, and characters whose bytes the vocabulary lacks, become U+FFFD.
        """
        return list(self._encode_uncached(text))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids; control tokens have none, and broken UTF-8 becomes U+FFFD."""
        return self._tokenizer.decode([i for i in ids if i not in self._control_ids], skip_special_tokens=False)

    def spell(self, ids: Iterable[int]) -> str:
        """Return the text of the ids with their control tokens in it, each two surrogates: no text holds any."""
        parts: list[int | str] = []
        for is_control, run in groupby(ids, key=self.is_control):
            parts.extend(run if is_control else [self.decode(run)])  # noqa: B031 - one of the two
        return _spelled(parts)

    def spelled_around(self, turns: Sequence[Turn], index: int) -> tuple[str, str]:
        """Return what the template puts before and after the content of turn `index`, up to the next ones, spelled."""
        parts = self._layout(turns, add_generation_prompt=True)
        at = parts.index(Said(index))
        before = list(takewhile(_is_templates, reversed(parts[:at])))
        return _spelled(reversed(before)), _spelled(takewhile(_is_templates, parts[at + 1 :]))

    def render(self, turns: Sequence[Turn], add_generation_prompt: bool = True) -> list[int]:
        """Return the conversation's ids as the model's chat template lays it out.

        Raises TemplateRejected if the template refuses these turns or does not show each of them exactly once.
        """
        return self._encode_parts(self._layout(turns, add_generation_prompt), turns)

    def render_after(self, turns: Sequence[Turn], index: int, add_generation_prompt: bool = True) -> list[int]:
        """Return the ids that follow the content of turn `index` in `render`, split from that content."""
        parts = self._layout(turns, add_generation_prompt)
        return self._encode_parts(parts[parts.index(Said(index)) + 1 :], turns)

    def _encode_parts(self, parts: Sequence[int | str | Said], turns: Sequence[Turn]) -> list[int]:
        ids: list[int] = []
        words = ""  # text since the last control token: encoded in one piece, as the model was trained to see it
        for part in parts:
            if isinstance(part, int):
                ids += self._encode(words)
                ids.append(part)
                words = ""
            elif isinstance(part, str):
                words += part
            else:
                turn = turns[part.index]
                if turn.role is Role.ASSISTANT and words == self._generation_words:
                    # The reply was generated after exactly these words, so the ids must split here: otherwise a
                    # reply that starts with a newline merges with them and the prefix cache misses.
                    ids += self._encode(words)
                    words = ""
                words += turn.content
        return [*ids, *self._encode(words)]

    def _encode_uncached(self, text: str) -> tuple[int, ...]:
        if not text:
            return ()
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        text = self._unspellable.sub("\ufffd", text)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        if self._control_ids.isdisjoint(ids):
            return tuple(ids)
        # Some vocabularies reach a control token by plain merges ("</" + "s>"): spell those places letter by letter.
        spelled: list[int] = []
        for token_id, (start, end) in zip(ids, encoding.offsets, strict=True):
            if token_id in self._control_ids:
                for letter in text[start:end]:
                    spelled += self._tokenizer.encode(letter, add_special_tokens=False).ids
            else:
                spelled.append(token_id)
        return tuple(i for i in spelled if i not in self._control_ids)

    def _layout(self, turns: Sequence[Turn], add_generation_prompt: bool) -> list[int | str | Said]:
        """Return control tokens, the template's other words and the places of contents, in order."""
        parts: list[int | str | Said] = []
        for part in self._template.layout(turns, add_generation_prompt):
            parts += [part] if isinstance(part, Said) else self._split_control(part)
        return parts

    def _split_control(self, words: str) -> list[int | str | Said]:
        parts: list[int | str | Said] = []
        end = 0
        for match in self._control_pattern.finditer(words):
            parts += [words[end : match.start()], self._vocabulary.control[match[0]]]
            end = match.end()
        return [part for part in [*parts, words[end:]] if part != ""]

    def _words_before_a_reply(self) -> str | None:
        """Return the words that end a prompt (ChatML: `assistant` and a newline), None if they are not constant."""
        parts = self._layout([Turn(Role.USER, "")], add_generation_prompt=True)
        words = ""
        for part in reversed(parts):
            if not isinstance(part, str):
                return None if isinstance(part, Said) else words
            words = part + words
        return words


def _is_templates(part: int | str | Said) -> bool:
    return not isinstance(part, Said)


def _spelled(parts: Iterable[int | str | Said]) -> str:
    return "".join(_surrogates(part) if isinstance(part, int) else str(part) for part in parts)


def _surrogates(token_id: int) -> str:
    return chr(0xD800 + token_id // 0x400) + chr(0xDC00 + token_id % 0x400)


def _unspellable(tokenizer: Tokenizer) -> str:
    """Return a pattern of the characters for whose first byte a byte-level vocabulary has no token.

    Some were trained on text that lacked a few control characters and the empty planes; the tokenizer would drop such
    a byte in silence and leave the others of its character behind.
    """
    if not isinstance(tokenizer.decoder, decoders.ByteLevel):
        return ""
    one, two = [(code, code) for code in range(0x80)], [(code, code + 0x3F) for code in range(0x80, 0x800, 0x40)]
    three = [(0x800, 0xFFF), *((code, code + 0xFFF) for code in range(0x1000, 0x10000, 0x1000))]
    four = [(0x10000, 0x3FFFF), (0x40000, 0x7FFFF), (0x80000, 0xBFFFF), (0xC0000, 0xFFFFF), (0x100000, 0x10FFFF)]
    missing = []
    for first, last in [*one, *two, *three, *four]:
        ids = tokenizer.encode(chr(first), add_special_tokens=False).ids
        if tokenizer.decode(ids, skip_special_tokens=False) != chr(first):
            missing.append(f"\\U{first:08x}-\\U{last:08x}")
    return f"[{''.join(missing)}]" if missing else ""


def _echo_tokenizer() -> ModelTokenizer:
    """Return a tokenizer of bytes with a ChatML template, for the engine that needs no model."""
    from tokenizers import models, pre_tokenizers

    control = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {**control, **{letter: len(control) + index for index, letter in enumerate(letters)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return ModelTokenizer(tokenizer, _ECHO_TEMPLATE, Vocabulary(control, "", "<|im_end|>", (2, 0)))


def _load(folder: Path) -> ModelTokenizer | None:
    """Return the cached tokenizer, or None if the cache has none or a damaged one."""
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        if meta["format"] != META_FORMAT:
            return None
        vocabulary = Vocabulary(meta["control"], meta["bos_token"], meta["eos_token"], tuple(meta["end_ids"]))
        template = (folder / "chat_template.jinja").read_text("utf-8")
        text = (folder / "tokenizer.json").read_text("utf-8")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception:
        return None  # tokenizers raises bare Exception for a file that it can't parse
    return ModelTokenizer(tokenizer, template, vocabulary)


def prepare(
    spec: ModelSpec, cache_dir: Path, *, progress: Callable[[str, int, int], None] | None = None
) -> ModelTokenizer:
    """Return the model's tokenizer; the first time, convert it in a subprocess (10 to 30 seconds). Blocks.

    Raises ModelUnavailable.
    """
    if spec.path is None:
        return _echo_tokenizer()
    root = cache_dir / "tokenizers"
    folder = root / spec.sha256
    if loaded := _load(folder):
        return loaded
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".convert.lock"):
            if loaded := _load(folder):  # another process converted it while this one waited
                return loaded
            if progress:
                progress("Converting the tokenizer", 0, 1)
            for stale in root.glob(".convert-*"):
                shutil.rmtree(stale, ignore_errors=True)
            scratch = Path(tempfile.mkdtemp(prefix=".convert-", dir=root))
            try:
                _convert(spec.path, scratch)
                shutil.rmtree(folder, ignore_errors=True)
                scratch.replace(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            if progress:
                progress("Converting the tokenizer", 1, 1)
    except (FileExistsError, NotADirectoryError) as error:
        raise ModelUnavailable(
            f"The model's tokenizer can't be kept in {root}: a file lies in the way; "
            "move it away, or set another DATA_DIR."
        ) from error
    except OSError as error:
        raise ModelUnavailable(
            f"The model's tokenizer can't be kept in {root} ({error.strerror}); "
            "make room and let this account write there, or set another DATA_DIR."
        ) from error
    loaded = _load(folder)
    if loaded is None:
        raise ModelUnavailable(f"The tokenizer of {spec.path} can't be used; choose another MODEL.")
    return loaded


def cached(model_sha256: str, cache_dir: Path) -> ModelTokenizer | None:
    """Return the tokenizer of a model that was used once, None if it is kept no more. Blocks."""
    return _echo_tokenizer() if model_sha256 == ECHO.sha256 else _load(cache_dir / "tokenizers" / model_sha256)


def _convert(gguf: Path, folder: Path) -> None:
    source = str(Path(__file__).resolve().parent.parent)
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "models.convert_tokenizer", str(gguf.resolve()), str(folder.resolve())]
    reason = f"it took longer than {_CONVERSION_SECONDS} seconds"
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=_CONVERSION_SECONDS
        )
        if done.returncode == 0:
            return
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
        reason = lines[-1].rstrip(".")[:300]
    raise ModelUnavailable(
        f"The tokenizer of {gguf} can't be converted ({reason}); choose an instruction-tuned GGUF of a known kind."
    )
