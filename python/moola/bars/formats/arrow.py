"""Reads bars from Arrow IPC files and streams, Feather included."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from moola.bars.formats.files import FileInput
from moola.bars.formats.inputs import BATCH_ROWS

__all__ = ["IpcInput"]


class IpcInput(FileInput):
    """Arrow IPC, the file format (also called Feather) or the stream format.

    The file is mapped, and a record batch of any size is a view of it. A compressed batch must be unpacked whole, so it
    may have at most `MAX_COMPRESSED_ROWS`.
    """

    def __init__(self, path: Path, contents: str = "bars", *, stream: bool) -> None:
        self._stream = stream
        super().__init__(path, contents)

    def _map(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _reader(self, mapped: mmap.mmap, columns: Sequence[int] | None = None) -> Any:
        import pyarrow as pa

        open_reader = pa.ipc.open_stream if self._stream else pa.ipc.open_file
        return open_reader(pa.py_buffer(mapped), options=pa.ipc.IpcReadOptions(included_fields=columns))

    def prepare(self) -> None:
        self.take_schema(self._reader(self._map()).schema)

    def batches(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        mapped = self._map()
        reader = self._reader(mapped)
        compressed = self._is_compressed(mapped)
        # A compressed batch is unpacked by column; for others, a reader of some columns would copy them.
        if compressed:
            reader = self._reader(mapped, list(columns))
        for raw in reader if self._stream else map(reader.get_batch, range(reader.num_record_batches)):
            wanted = raw if compressed else raw.select(list(columns))
            for start in range(0, raw.num_rows, BATCH_ROWS):
                yield wanted.slice(start, BATCH_ROWS)
                # The pages stay in the system's cache for later readers, but no longer count as memory of this process.
                mapped.madvise(mmap.MADV_DONTNEED)

    def _is_compressed(self, mapped: mmap.mmap) -> bool:
        """Whether a batch is compressed. Refuses the file when a compressed batch is too large."""
        import pyarrow as pa

        if self._stream:
            messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(mapped))
            headers = ((message.metadata, 0) for message in messages if message.type == "record batch")
        else:
            headers = ((mapped, at) for at in _batches_of_file(mapped))
        most = max((_rows_if_compressed(data, start) for data, start in headers), default=0)
        if most > MAX_COMPRESSED_ROWS:
            raise self.refusal(
                f"has a compressed record batch of {most:,} rows, which must be unpacked whole; "
                f"{MAX_COMPRESSED_ROWS:,} are the most",
                "Write it in smaller batches, without compression, or as Parquet",
            )
        return most > 0


MAX_COMPRESSED_ROWS = 1 << 23
"""Rows of a compressed Arrow record batch: 400 MB of a timestamp, four prices and one more column. Unpacking them takes
0.2 to 0.3 s, during which signals wait."""


class _Flatbuffer:
    """Numbers and tables at their places in a flatbuffer: https://flatbuffers.dev/internals/."""

    def __init__(self, data: Any, start: int) -> None:
        self._data = data
        self.root = start + self.number(start, "I")

    def number(self, at: int, kind: str) -> int:
        return int(struct.unpack_from(f"<{kind}", self._data, at)[0])

    def field(self, table: int, index: int) -> int | None:
        """The place of a field of a table; None where the table lacks it."""
        vtable = table - self.number(table, "i")
        place = 4 + 2 * index
        offset = self.number(vtable + place, "H") if place < self.number(vtable, "H") else 0
        return table + offset if offset else None

    def target(self, at: int) -> int:
        """The place that a reference points to."""
        return at + self.number(at, "I")


# pyarrow says nothing about a record batch before it has unpacked it. The numbers of the fields are those of
# Message.fbs and File.fbs in https://github.com/apache/arrow/tree/main/format.


def _rows_if_compressed(data: Any, start: int) -> int:
    """The rows of the record batch whose message starts at `start`; 0 unless its buffers are compressed."""
    message = _Flatbuffer(data, start)
    header = message.field(message.root, 2)
    if header is None:
        return 0
    batch = message.target(header)
    rows, compression = message.field(batch, 0), message.field(batch, 3)
    return 0 if rows is None or compression is None else message.number(rows, "q")


def _batches_of_file(mapped: mmap.mmap) -> Iterator[int]:
    """The place of each record batch's message, as the end of the file lists them."""
    (size,) = struct.unpack_from("<i", mapped, len(mapped) - 10)
    footer = _Flatbuffer(mapped, len(mapped) - 10 - size)
    blocks = footer.field(footer.root, 3)
    if blocks is None:
        return
    vector = footer.target(blocks)
    for i in range(footer.number(vector, "I")):
        at = footer.number(vector + 4 + 24 * i, "q")
        # A length precedes the message, and in all but the oldest files a mark precedes the length.
        yield at + (8 if mapped[at : at + 4] == b"\xff\xff\xff\xff" else 4)
