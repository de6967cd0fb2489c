"""Read the dialect of UBJSON that XGBoost writes, and nothing else.

XGBoost trusts the trees in a file: a child out of range makes it read beyond its
memory. What is read here can be checked before XGBoost sees it. Anything that XGBoost
itself does not write is refused, so that the two can't read one file in two ways.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

__all__ = ["parse_ubjson"]

_NUMBERS = {
    b"i": ">i1",
    b"U": ">u1",
    b"I": ">i2",
    b"l": ">i4",
    b"L": ">i8",
    b"d": ">f4",
    b"D": ">f8",
}
_MAX_DEPTH = 32


def parse_ubjson(data: bytes) -> Any:
    r"""Return what a UBJSON document holds; arrays of one type as ndarrays.

    Raises
    ------
    ValueError
        If it is damaged, or not as XGBoost writes it.

    Examples
    --------
    >>> parse_ubjson(b"{L" + bytes(7) + b"\x01a[$U#L" + bytes(7) + b"\x02\x05\x06}")
    {'a': array([5, 6], dtype=uint8)}
    """
    reader = _Reader(data)
    document = reader.value(reader.take(1), 0)
    if reader.place != len(data):
        msg = "bytes after the end"
        raise ValueError(msg)
    return document


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, n_bytes: int) -> bytes:
        piece = self.data[self.place : self.place + n_bytes]
        if n_bytes < 0 or len(piece) < n_bytes:
            msg = "the end is missing"
            raise ValueError(msg)
        self.place += n_bytes
        return piece

    def value(self, marker: bytes, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            msg = "nested too deeply"
            raise ValueError(msg)
        if marker == b"{":
            return self._object(depth)
        if marker == b"[":
            return self._array(depth)
        if marker == b"S":
            return self._text()
        if marker in (b"T", b"F", b"Z"):
            return {b"T": True, b"F": False, b"Z": None}[marker]
        if marker in _NUMBERS:
            return self._numbers(marker, 1)[0].item()
        msg = f"unknown marker {marker!r}"
        raise ValueError(msg)

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while (marker := self.take(1)) != b"}":
            self.place -= len(marker)
            key = self._text()
            if key in found:
                msg = f"the key {key!r} stands twice"
                raise ValueError(msg)
            found[key] = self.value(self.take(1), depth + 1)
        return found

    def _array(self, depth: int) -> Any:
        marker = self.take(1)
        if marker == b"$":
            kind = self.take(1)
            self._expect(b"#")
            if kind not in _NUMBERS:
                msg = f"array of {kind!r}"
                raise ValueError(msg)
            return self._numbers(kind, self._length())
        if marker != b"#":
            msg = "array without a length"
            raise ValueError(msg)
        return [self.value(self.take(1), depth + 1) for _ in range(self._length())]

    def _numbers(self, kind: bytes, n_values: int) -> Any:
        dtype = np.dtype(_NUMBERS[kind])
        raw = self.take(n_values * dtype.itemsize)
        return np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="))

    def _text(self) -> str:
        return self.take(self._length()).decode()

    def _length(self) -> int:
        self._expect(b"L")
        (length,) = struct.unpack(">q", self.take(8))
        return length

    def _expect(self, marker: bytes) -> None:
        if self.take(1) != marker:
            msg = f"{marker!r} is missing"
            raise ValueError(msg)
