"""What a feature store looks like on disk: its files, to the byte."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from moola import _core
from moola.files.publishing import write_new_file
from moola.store.segments import Segment

__all__ = [
    "CHECKSUMS",
    "DROPPINGS",
    "DROPPING_PREFIXES",
    "FORMAT_VERSION",
    "METADATA",
    "SPLITS",
    "Array",
    "Description",
    "arrays_of",
    "describe",
    "dump_checksums",
    "features_file",
    "is_dropping",
    "parse_checksums",
    "write_checksums",
]

FORMAT_VERSION = 1

METADATA = "metadata.json"
SPLITS = "splits.json"
CHECKSUMS = "checksums.b3"

DROPPINGS = (".DS_Store", ".directory", "Thumbs.db", "desktop.ini")
"""Files that desktops leave in every directory they show. A store may hold them; nothing reads them."""

DROPPING_PREFIXES = ("._", ".nfs")
"""The same for macOS on foreign disks (`._NAME`), and for NFS, which keeps a file that is removed while it is open."""

_HEADER = 128
_LARGEST = (1 << 63) - 1


def is_dropping(name: str) -> bool:
    """Whether an operating system left this file in the store, so that it says nothing about the store."""
    return name in DROPPINGS or name.startswith(DROPPING_PREFIXES)


# Checksums, as `b3sum` prints and checks them.


def dump_checksums(hashes: Mapping[str, str]) -> bytes:
    """A line `HASH  NAME` for each file, sorted by name."""
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()


def parse_checksums(data: bytes) -> dict[str, str]:
    """The hash of each name. Raises `ValueError` for anything that :func:`dump_checksums` does not write."""
    hashes = {}
    for number, line in enumerate(data.decode().splitlines(), 1):
        match = re.fullmatch(r"([0-9a-f]{64})  ([\w.]+)", line, re.ASCII)
        if match is None:
            raise ValueError(f"line {number} is not a BLAKE3 hash and a name")
        hashes[match[2]] = match[1]
    if dump_checksums(hashes) != data:
        raise ValueError("its lines are not sorted by name, each with its own")
    return hashes


def write_checksums(path: str | os.PathLike[str], hashes: Mapping[str, str]) -> int:
    """Writes :func:`dump_checksums` into a new file and returns its size in bytes."""
    return write_new_file(path, dump_checksums(hashes))


# The arrays.


class Array(NamedTuple):
    """One `.npy` file: C-ordered, little-endian, format 1.0."""

    descr: str
    """NumPy's name of the type: `<f4`, `<f8`, `<i8` or `|b1`."""
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The file's size."""
        return _HEADER + math.prod(self.shape) * int(self.descr[2:])

    @property
    def header(self) -> bytes:
        """The file's first 128 bytes."""
        return _core.npy_header(self.descr, self.shape)

    def record(self) -> dict[str, Any]:
        """Its entry in the metadata."""
        return {"shape": list(self.shape), "dtype": self.descr, "bytes": self.nbytes}


def features_file(layout: str, width: int) -> str:
    """The name of the file that holds the features, `width` of them a bar."""
    return "features.npy" if layout == "bars" else f"features_{width}d.npy"


def arrays_of(
    layout: str, *, bars: int, width: int, extra: int = 0, windows: int = 0, window_length: int = 0
) -> dict[str, Array]:
    """The arrays of a store, by file name.

    Args:
        layout: `bars` (rows are bars) or `windows` (the dense layout).
        bars: N.
        width: D, features a bar.
        extra: E, kept columns.
        windows: W, in the dense layout.
        window_length: K, in the dense layout.
    """
    name = features_file(layout, width)
    if layout == "bars":
        arrays = {name: Array("<f4", (bars, width)), "valid.npy": Array("|b1", (bars,))}
    else:
        arrays = {
            name: Array("<f4", (windows, window_length, width)),
            "valid_mask.npy": Array("|b1", (windows, window_length)),
            "window_starts.npy": Array("<i8", (windows,)),
        }
    arrays["timestamps.npy"] = Array("<i8", (bars,))
    arrays["bars.npy"] = Array("<f8", (bars, 4))
    if extra:
        arrays["extra.npy"] = Array("<f4", (bars, extra))
    return arrays


# The metadata.


class Description(NamedTuple):
    """The metadata, checked."""

    store_id: str
    layout: str
    """`bars` or `windows`."""
    bars: int
    window_length: int
    feature_names: tuple[str, ...]
    arrays: dict[str, Array]
    splits_bytes: int
    """The size of `splits.json`."""
    segments: list[Segment]


class NewerFormatError(ValueError):
    """The store was written by a moola newer than this one."""


def describe(metadata: object) -> Description:
    """Checks the metadata that opening a store depends on. Raises `ValueError`, which names the place."""
    meta = _typed(metadata, dict, "it")
    version = _number(meta.get("format_version"), "format_version", 1)
    if version > FORMAT_VERSION:
        raise NewerFormatError(f"format {version} is newer than {FORMAT_VERSION}, which this moola reads")
    for name, kind in _KINDS.items():
        _typed(meta.get(name), kind, name)
    store_id, layout = meta["store_id"], meta["layout"]
    if not re.fullmatch("[0-9a-f]{32}", store_id):
        raise ValueError("store_id is not 32 hexadecimal digits")
    if layout not in ("bars", "windows"):
        raise ValueError("layout is neither bars nor windows")
    window_length = _number(meta.get("window_length"), "window_length", 1)
    names = []
    for i, feature in enumerate(meta["features"]):
        _typed(feature, dict, f"features[{i}]")
        names.append(_typed(feature.get("name"), str, f"features[{i}].name"))
        for end in ("low", "high"):
            if feature.get(end) is not None:
                _typed(feature[end], int | float, f"features[{i}].{end}")
    if not names:
        raise ValueError("features is empty")

    files = meta["files"]
    bars = _shape(files, "timestamps.npy")[0]
    extra = _shape(files, "extra.npy")[-1] if "extra.npy" in files else 0
    windows = _shape(files, "window_starts.npy")[0] if layout == "windows" else 0
    arrays = arrays_of(
        layout, bars=bars, width=len(names), extra=extra, windows=windows, window_length=window_length
    )
    wanted = {*arrays, SPLITS}
    if set(files) != wanted:
        raise ValueError(f"files lists {_names(set(files))}; this layout has {_names(wanted)}")
    for name, array in arrays.items():
        # Compared as text, because 1, 1.0 and True are equal in Python.
        if array.nbytes > _LARGEST or _text(files[name]) != _text(array.record()):
            raise ValueError(
                f"files[{name!r}] is {files[name]}; the rest of the metadata give {array.record()}"
            )
    splits = _typed(files[SPLITS], dict, f"files[{SPLITS!r}]")
    splits_bytes = _number(splits.get("bytes"), f"files[{SPLITS!r}].bytes", 1)
    segments = _segments(meta["segments"], bars)
    return Description(store_id, layout, bars, window_length, tuple(names), arrays, splits_bytes, segments)


_KINDS: Mapping[str, Any] = {
    "store_id": str,
    "moola_version": str,
    "created": str,
    "feature_set": str,
    "features": list,
    "parameters": dict,
    "layout": str,
    "files": dict,
    "segments": list,
    "sources": list,
    "read_options": dict,
    "quality": dict,
    "timings": dict,
    "known_after": dict,
}


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _typed(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        what = "missing" if value is None else f"a {type(value).__name__}"
        raise ValueError(f"{where} is {what}, not a {getattr(kind, '__name__', 'number')}")
    return value


def _number(value: object, where: str, least: int) -> int:
    if type(value) is not int or not least <= value <= _LARGEST:
        raise ValueError(f"{where} is {value!r}, not a whole number from {least} on")
    return value


def _shape(files: dict[str, Any], name: str) -> list[int]:
    where = f"files[{name!r}]"
    shape = _typed(_typed(files.get(name), dict, where).get("shape"), list, f"{where}.shape")
    if not shape:
        raise ValueError(f"{where}.shape is empty")
    return [_number(size, f"{where}.shape", 1) for size in shape]


def _segments(records: list[Any], bars: int) -> list[Segment]:
    fields = set(Segment._fields)
    segments = []
    row = 0
    for i, record in enumerate(records):
        if not isinstance(record, dict) or record.keys() != fields:
            raise ValueError(f"segments[{i}] does not have {', '.join(Segment._fields)}")
        segment = Segment(**record)
        numbers = segment[1:6] if segment.first_valid is None else segment[1:]
        if type(segment.symbol) is not str or not all(type(n) is int and abs(n) <= _LARGEST for n in numbers):
            raise ValueError(f"segments[{i}] has a value of the wrong type")
        if segment.first_row != row or not row <= segment.last_row < bars:
            rows = f"{segment.first_row} to {segment.last_row}"
            raise ValueError(f"segments[{i}] has rows {rows}; it should begin at {row} and end before {bars}")
        if segment.first_valid is not None and not row <= segment.first_valid <= segment.last_row:
            raise ValueError(f"segments[{i}].first_valid is {segment.first_valid}, outside its rows")
        span = segment.last_timestamp - segment.first_timestamp
        if span < segment.last_row - segment.first_row or segment.bar_interval < 0:
            raise ValueError(f"segments[{i}] has times that do not ascend")
        segments.append(segment)
        row = segment.last_row + 1
    if row != bars:
        raise ValueError(f"segments end at row {row}, but there are {bars} bars")
    return segments
