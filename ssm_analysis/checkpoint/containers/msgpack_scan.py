"""The structure of a msgpack file without its long values: only where those lie.

Source: https://github.com/msgpack/msgpack/blob/master/spec.md, "Formats". The msgpack library would copy every tensor to memory to
tell its name; this reads the headers and jumps over the rest.
"""

import struct
from dataclasses import dataclass
from typing import Any

from ssm_analysis.checkpoint.containers.binary_file import BinaryFile
from ssm_analysis.checkpoint.containers.trees import DEEPEST, MOST_NAMES
from ssm_analysis.checkpoint.store import CheckpointError

LONGEST_STRING = 2**16
"""Bytes; names of tensors have a hundred."""


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """Where a value of the types "bin" or "ext" lies; ``code`` is the application's type of an ext, None of a bin."""

    offset: int
    size: int
    code: int | None


_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_LENGTHS = {
    0xC4: ("bin", ">B"), 0xC5: ("bin", ">H"), 0xC6: ("bin", ">I"), 0xC7: ("ext", ">B"), 0xC8: ("ext", ">H"), 0xC9: ("ext", ">I"),
    0xD9: ("str", ">B"), 0xDA: ("str", ">H"), 0xDB: ("str", ">I"), 0xDC: ("array", ">H"), 0xDD: ("array", ">I"),
    0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def scan(file: BinaryFile, start: int = 0, end: int | None = None) -> tuple[Any, int]:
    """Return the value that begins at ``start`` with ``Bytes`` in place of its long values, and where it ends."""
    scanner = _Scanner(file, start, file.size if end is None else end)
    return scanner.value(0), scanner.position


class _Scanner:
    def __init__(self, file: BinaryFile, start: int, end: int) -> None:
        self.file = file
        self.position = start
        self.end = end
        self.left = MOST_NAMES

    def value(self, depth: int) -> Any:
        self.left -= 1
        if depth > DEEPEST or self.left < 0:
            raise CheckpointError(
                f"is nested more than {DEEPEST} levels deep or has more than {MOST_NAMES:,} entries: not a tree of weights",
                path=self.file.path,
            )
        head = self.take(1)[0]
        if head < 0x80 or head >= 0xE0:
            return head if head < 0x80 else head - 0x100
        if head in _CONSTANTS:
            return _CONSTANTS[head]
        if head in _NUMBERS:
            return self.number(_NUMBERS[head])
        kind, size = self.kind_and_size(head)
        return self.collection(kind, size, depth) if kind in ("array", "map") else self.span(kind, size)

    def kind_and_size(self, head: int) -> tuple[str, int]:
        if head < 0xC0:
            return ("map", head & 0x0F) if head < 0x90 else ("array", head & 0x0F) if head < 0xA0 else ("str", head & 0x1F)
        if 0xD4 <= head <= 0xD8:
            return "ext", 1 << (head - 0xD4)
        if head not in _LENGTHS:  # 0xC1 alone is never used
            raise self.damaged(f"has the byte {head:#x} where a value should begin")
        kind, layout = _LENGTHS[head]
        return kind, self.number(layout)

    def collection(self, kind: str, size: int, depth: int) -> Any:
        if size * (2 if kind == "map" else 1) > self.end - self.position:
            raise self.damaged(f"claims {size} entries in {self.end - self.position} bytes")
        if kind == "array":
            return [self.value(depth + 1) for _ in range(size)]
        result: dict[Any, Any] = {}
        for _ in range(size):
            key = self.value(depth + 1)
            if not isinstance(key, str | int) or key in result:
                raise self.damaged(f"has {'the key twice' if isinstance(key, str | int) else 'a key that is no name'}: {key!r:.80}")
            result[key] = self.value(depth + 1)
        return result

    def span(self, kind: str, size: int) -> Any:
        if kind == "str":
            if size > LONGEST_STRING:
                raise self.damaged(f"claims a name of {size} bytes")
            return self.take(size).decode("utf-8", "backslashreplace")
        code = self.number(">b") if kind == "ext" else None
        if size > self.end - self.position:
            raise self.damaged(f"claims a value of {size} bytes where {self.end - self.position} are left")
        self.position += size
        return Bytes(offset=self.position - size, size=size, code=code)

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def take(self, size: int) -> bytes:
        if size > self.end - self.position:
            raise self.damaged("ends in the middle of a value")
        self.position += size
        return self.file.read(self.position - size, size)

    def damaged(self, complaint: str) -> CheckpointError:
        return CheckpointError(f"is damaged or no msgpack file: byte {self.position}: {complaint}", path=self.file.path)
