"""Read the head of a GGUF file: its metadata, its tensor table, and how many bytes the whole file must have.

Never touches tensor data. gguf's own reader takes four seconds on a vocabulary of 49,152 tokens; this one walks over
what nobody asked for. Every length comes from an untrusted file, so each is checked against the file's size.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_SHORT_ARRAY = 64  # longer arrays are vocabularies, read only when asked for


class NotGguf(ValueError):
    """The file does not start as a GGUF file does."""


class DamagedGguf(ValueError):
    """The file starts as a GGUF file but can't be read to the end."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """`needed_bytes` is the least size of a file that holds all its tensors."""

    metadata: dict[str, Any]
    needed_bytes: int
    tensor_types: tuple[int, ...]

    @property
    def name(self) -> str:
        return str(self.metadata.get("general.name") or "")

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture") or "")

    @property
    def languages(self) -> tuple[str, ...]:
        given = self.metadata.get("general.languages")
        return tuple(str(language) for language in given) if isinstance(given, list) else ()

    @property
    def quantization(self) -> str:
        """Name the file's type as llama.cpp does (`Q4_1`); of a file that does not say, its commonest tensor type."""
        import gguf

        try:
            name = gguf.LlamaFileType(self.metadata["general.file_type"]).name
        except (KeyError, ValueError):
            known = {kind.value: kind.name for kind in gguf.GGMLQuantizationType}
            commonest = Counter(self.tensor_types).most_common(1)
            return known.get(commonest[0][0], "unknown") if commonest else "unknown"
        return str(name).removeprefix("MOSTLY_").removeprefix("ALL_")


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.end = data, 0, len(data)

    def take(self, count: int) -> bytes:
        if count > self.end - self.at:
            raise DamagedGguf("the header ends early")
        start, self.at = self.at, self.at + count
        return self.data[start : self.at]

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def text(self) -> str:
        (length,) = self.unpack("Q")
        return self.take(length).decode("utf-8", "replace")

    def skip_texts(self, count: int) -> None:
        read, data, at = struct.Struct("<Q").unpack_from, self.data, self.at
        try:
            for _ in range(count):
                at += 8 + read(data, at)[0]
        except (struct.error, OverflowError):
            raise DamagedGguf("the header ends early") from None
        self.at = at

    def value(self, kind: int, whole: bool) -> Any:
        """Return one value; an array that is long and not asked for is walked over and returned as None."""
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])[0]
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise DamagedGguf(f"a value has the unknown type {kind}")
        element, count = self.unpack("IQ")
        wanted = whole or count <= _SHORT_ARRAY
        if element in _SCALARS:
            raw = self.take(count * struct.calcsize("<" + _SCALARS[element]))
            return list(struct.unpack(f"<{count}{_SCALARS[element]}", raw)) if wanted else None
        if element != _STRING:
            raise DamagedGguf(f"an array has elements of the unknown type {element}")
        if wanted:
            return [self.text() for _ in range(count)]
        self.skip_texts(count)
        return None


def _tensor_bytes(kind: int, elements: int) -> int:
    """Return a tensor's size in bytes; 0 for a type that the installed gguf does not know yet."""
    import gguf

    try:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    except (KeyError, ValueError):
        return 0
    return int(-(-elements // block) * size)


def read_header(path: Path, *, arrays: Container[str] = ()) -> GgufHeader:
    """Read the header of `path`, with the long arrays named in `arrays`.

    Raises NotGguf, DamagedGguf, OSError.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise NotGguf("the file does not start with GGUF")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            cursor = _Cursor(data)
            cursor.at = len(MAGIC)
            version, tensor_count, value_count = cursor.unpack("IQQ")
            if version not in (2, 3):
                raise DamagedGguf(f"it is of version {version}, and versions 2 and 3 can be read")
            metadata: dict[str, Any] = {}
            for _ in range(value_count):
                key = cursor.text()
                (kind,) = cursor.unpack("I")
                metadata[key] = cursor.value(kind, key in arrays)
            needed, types = 0, []
            for _ in range(tensor_count):
                cursor.text()
                (dimensions,) = cursor.unpack("I")
                shape = cursor.unpack(f"{min(dimensions, 16)}Q")
                kind, offset = cursor.unpack("IQ")
                types.append(kind)
                needed = max(needed, offset + _tensor_bytes(kind, prod(shape)))
            alignment = metadata.get("general.alignment", 32)
            if not isinstance(alignment, int) or alignment < 1:
                raise DamagedGguf("its alignment is no positive number")
            return GgufHeader(metadata, -(-cursor.at // alignment) * alignment + needed, tuple(types))
