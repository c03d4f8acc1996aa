"""Opens text of any usual encoding as a stream of UTF-8 bytes without byte order marks."""

from __future__ import annotations

import codecs
from typing import Any

__all__ = ["Utf8Stream", "encoding_of"]

_MARK = codecs.BOM_UTF8
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def encoding_of(start: bytes) -> str:
    """The encoding of a text by its first bytes: UTF-16 by its mark or its zero bytes, else UTF-8."""
    for mark, encoding in _UTF16.items():
        if start.startswith(mark):
            return encoding
    # Prices and times are ASCII, so that every other byte of UTF-16 is zero.
    pairs = start[: len(start) // 2 * 2]
    if len(pairs) >= 10 and b"\0" in pairs:
        for encoding, zeros, others in (
            ("utf-16-le", pairs[1::2], pairs[::2]),
            ("utf-16-be", pairs[::2], pairs[1::2]),
        ):
            if zeros.count(0) > 0.9 * len(zeros) and not others.count(0):
                return encoding
    return "utf-8"


class Utf8Stream:
    """A stream of UTF-8 over one in another encoding. It counts the quotes that it gives.

    Byte order marks are left out wherever they stand: where files were joined, one stands in the middle.
    """

    def __init__(self, stream: Any, encoding: str) -> None:
        self._stream = stream
        self._decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("replace")
        self._kept = self._ready = b""
        self.quotes = 0

    @property
    def closed(self) -> bool:
        return bool(self._stream.closed)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; none only at the end."""
        while True:
            if self._ready:
                return self._give(size)
            raw: bytes = self._stream.read(size)
            data = self._kept + self._decoded(raw)
            self._kept = b""
            if b"\xef" in data:
                data = data.replace(_MARK, b"")
                for length in (2, 1):
                    if raw and data.endswith(_MARK[:length]):
                        self._kept, data = data[-length:], data[:-length]
                        break
            self._ready = data
            if not raw:
                return self._give(size)

    def _give(self, size: int) -> bytes:
        data = self._ready if size < 0 or len(self._ready) <= size else self._ready[:size]
        self._ready = self._ready[len(data) :]
        self.quotes += data.count(b'"')
        return data

    def _decoded(self, raw: bytes) -> bytes:
        return raw if self._decoder is None else self._decoder.decode(raw, not raw).encode()

    def read_start(self, size: int) -> bytes:
        """The first `size` bytes, or all where there are fewer."""
        parts: list[bytes] = []
        left = size
        while left > 0 and (data := self.read(left)):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Utf8Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
