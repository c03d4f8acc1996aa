"""The open feature store: its arrays are mapped, nothing is copied, and no code from it is run."""

from __future__ import annotations

import errno
import operator
import os
import stat
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.errors import ConfigError, DamagedStoreError, StaleStoreError, StoreError, StoreMissingError
from moola.files.json import parse_json
from moola.store.layout import (
    CHECKSUMS,
    METADATA,
    SPLITS,
    Array,
    NewerFormatError,
    describe,
    features_file,
    is_dropping,
    parse_checksums,
)
from moola.store.segments import Bounds, Segment, segment_bounds
from moola.store.splits import Split, parse_splits

__all__ = ["FeatureStore", "Segment", "Split"]

# Opening a FIFO would wait for a writer, and a link could lead out of the store.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# More metadata than ten million segments need.
_LARGEST_JSON = 2 << 30
# Up to here, writing JSON again to compare takes milliseconds; beyond, only the hash is as strict.
_CANONICAL = 1 << 20


class FeatureStore:
    """A feature store on disk, open for reading. Many processes may read one store at once.

    Made by :meth:`open`. Arrays are read-only maps of the files. When the store is replaced on disk, an open store
    still reads the old bytes. Pickling keeps the path and the id. Another process opens the path again, and gets a
    `StaleStoreError` when it holds another store by then.
    """

    def __init__(self, path: str, directory: int) -> None:
        """Takes over the open `directory`. Use :meth:`open`."""
        self._close = weakref.finalize(self, os.close, directory)
        self._directory = directory
        self.path = Path(path)
        """Where the store was opened; absolute."""
        self.notices: list[str] = []
        """Lines of the build that a person should read. Empty for a store that was opened, not built."""

        names = {name for name in os.listdir(directory) if not is_dropping(name)}
        if METADATA not in names:
            if CHECKSUMS in names:
                self._damaged(METADATA, "is missing")
            advice = "Give the directory that `moola build-features --output` made"
            raise StoreMissingError(path, "is a directory, but not a feature store", advice)
        self.metadata: dict[str, Any] = self._json(METADATA)
        """The content of `metadata.json`."""
        try:
            description = describe(self.metadata)
        except NewerFormatError as error:
            advice = "Install a newer moola, or build the store again with this one"
            self._damaged(METADATA, str(error), advice)
        except ValueError as error:
            self._damaged(METADATA, str(error))
        self._description = description

        expected = {*description.arrays, METADATA, SPLITS, CHECKSUMS}
        for name in sorted(expected - names):
            self._damaged(name, "is missing")
        for name in sorted(names - expected):
            advice = "Move it away; a store holds nothing but its own files"
            self._damaged(name, "does not belong to the store", advice)
        try:
            self._splits = parse_splits(self._json(SPLITS, description.splits_bytes), description.bars)
        except ValueError as error:
            self._damaged(SPLITS, str(error))
        try:
            if set(parse_checksums(self.read_bytes(CHECKSUMS))) != expected - {CHECKSUMS}:
                raise ValueError("it does not list every other file")
        except ValueError as error:
            self._damaged(CHECKSUMS, str(error))
        self._arrays = {name: self._map(name, array) for name, array in description.arrays.items()}
        self._features_file = features_file(description.layout, len(description.feature_names))
        self._bounds: Bounds | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, expected_id: str | None = None) -> Self:
        """Opens the store at `path`. This takes a few milliseconds for a store of any size.

        With `expected_id` the store must have this id.

        Opening compares the files' names, sizes and headers with the metadata. `verify_features` checks the rest. Files
        that operating systems leave in directories are ignored: see `moola.store.layout.DROPPINGS`.

        Raises `StoreMissingError` when there is no store. Raises `DamagedStoreError`, which names the file, when one is
        missing, truncated, altered or foreign, or when the format is newer than this version. Raises
        `StaleStoreError` when the store has another id.
        """
        _core.load_numpy()
        path = os.path.abspath(path)
        attempts = 0
        while True:
            directory = _open_directory(path)
            try:
                store = cls(path, directory)
                break
            except StoreError:
                # A store that is replaced while it is being opened loses its files: then open the new one.
                attempts += 1
                if attempts == 100 or not _replaced(path, directory):
                    raise
        if expected_id is not None and store.id != expected_id:
            store.close()
            problem = f"another store has been published here (its id is {store.id}, not {expected_id})"
            advice = "Open the new one with FeatureStore.open, and restart its readers"
            raise StaleStoreError(path, problem, advice)
        return store

    def reopen(self) -> FeatureStore:
        """Opens the same store again. Raises `StaleStoreError` when another store has taken its place."""
        return FeatureStore.open(self.path, expected_id=self.id)

    def close(self) -> None:
        """Closes the files. Arrays taken from the store stay usable. Closing twice is allowed."""
        self._close()
        self._arrays = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self).open, expected_id=self.id), (str(self.path),)

    def __len__(self) -> int:
        """The number of bars, N."""
        return self._description.bars

    def __repr__(self) -> str:
        layout = "" if self.layout == "bars" else f", windows of {self.window_length}"
        return f"<FeatureStore {str(self.path)!r}: {self.feature_set}, {len(self):,} bars{layout}>"

    @property
    def id(self) -> str:
        """32 hexadecimal digits, drawn when the store was built. Two builds never share an id."""
        return self._description.store_id

    @property
    def feature_set(self) -> str:
        """The name of the feature set."""
        return str(self.metadata["feature_set"])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the D features, in the order of the columns."""
        return self._description.feature_names

    @property
    def extra_names(self) -> tuple[str, ...]:
        """The names of the E kept columns, in the order of the columns of `extra`."""
        if self.extra is None:
            return ()
        names = self.metadata["read_options"].get("keep")
        if not isinstance(names, list) or len(names) != self.extra.shape[1]:
            self._damaged(METADATA, f"it does not name the {self.extra.shape[1]} columns of extra.npy")
        return tuple(map(str, names))

    def extra_columns(self, names: Sequence[str]) -> list[int]:
        """The columns of `extra` with these names. Raises `ConfigError` for a name that was not kept."""
        kept = self.extra_names
        for name in names:
            if name not in kept:
                there = f"it has {', '.join(kept)}" if kept else "it has none"
                raise ConfigError(
                    "extra", f"{self.path} has no kept column {name!r}, {there}; build with --keep"
                )
        return [kept.index(name) for name in names]

    @property
    def config(self) -> dict[str, Any]:
        """Every parameter of the features."""
        return dict(self.metadata["parameters"])

    @property
    def layout(self) -> str:
        """`bars`, whose windows are views of any length, or `windows`, which holds those of one length."""
        return self._description.layout

    @property
    def window_length(self) -> int:
        """K, the default length of a window; the only one in the dense layout."""
        return self._description.window_length

    @property
    def features(self) -> NDArray[np.float32]:
        """`[N, D]` float32; `[W, K, D]` in the dense layout. Read-only."""
        return self._array(self._features_file)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """`[N]` bool, is the bar past its segment's warm-up? `[W, K]` in the dense layout. Read-only."""
        return self._array("valid.npy" if self.layout == "bars" else "valid_mask.npy")

    @property
    def timestamps(self) -> NDArray[np.int64]:
        """`[N]` int64, each bar's open time in UTC nanoseconds. The bar is known one bar interval later. Read-only."""
        return self._array("timestamps.npy")

    @property
    def bars(self) -> NDArray[np.float64]:
        """`[N, 4]` float64: open, high, low, close. For labels, reports and checks, not for models. Read-only."""
        return self._array("bars.npy")

    @property
    def extra(self) -> NDArray[np.float32] | None:
        """`[N, E]` float32, the columns that were kept; None when no column was kept. Read-only."""
        return self._array("extra.npy") if "extra.npy" in self._description.arrays else None

    @property
    def window_starts(self) -> NDArray[np.int64] | None:
        """`[W]` int64, the row at which each dense window starts; None in the layout `bars`. Read-only."""
        return self._array("window_starts.npy") if self.layout == "windows" else None

    @property
    def splits(self) -> Mapping[str, Split]:
        """Train, val and test: their ranges of rows."""
        return MappingProxyType(self._splits)

    @property
    def segments(self) -> list[Segment]:
        """The segments, which cover the rows in order."""
        return self._description.segments

    @property
    def bounds(self) -> Bounds:
        """The segments' rows as arrays, for window arithmetic."""
        if self._bounds is None:
            self._bounds = segment_bounds(self.segments)
        return self._bounds

    def bar_features(self, first: int, last: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Features `[n, D]` and validity `[n]` of the bars of rows `first` to `last`, in either layout.

        In the dense layout a bar is taken from a window that holds it. A bar that no window holds is left out.
        """
        starts = self.window_starts
        if starts is None:
            return self.features[first : last + 1], self.valid[first : last + 1]
        rows = np.arange(first, last + 1)
        window = np.searchsorted(starts, rows, side="right") - 1
        offset = rows - starts[np.maximum(window, 0)]
        there = (window >= 0) & (offset < self.window_length)
        place = window[there], offset[there]
        return self.features[place], self.valid[place]

    def window(self, i: int, length: int) -> NDArray[np.float32]:
        """Rows `i` to `i + length - 1` of the features, `[length, D]`, as a view, also across the end of a segment.

        Raises `IndexError` when there are no such rows; in the dense layout also when no window starts at row
        `i`, and `ConfigError` when `length` is not the length of its windows.
        """
        i, length = operator.index(i), operator.index(length)
        if length < 1:
            raise ConfigError("length", f"a window of {length} bars; give 1 or more")
        if i < 0 or i + length > len(self):
            raise IndexError(
                f"rows {i} to {i + length - 1} of {len(self)}; give rows from 0 to {len(self) - 1}"
            )
        if self.layout == "bars":
            return self.features[i : i + length]
        if length != self.window_length:
            problem = f"this store holds windows of {self.window_length} bars, not {length}"
            raise ConfigError("length", f"{problem}; build with --layout bars to have every length")
        starts = self._array("window_starts.npy")
        window = int(np.searchsorted(starts, i))
        if window == len(starts) or starts[window] != i:
            raise IndexError(f"no window starts at row {i}; those that do are in window_starts")
        view: NDArray[np.float32] = self.features[window]
        return view

    def files(self) -> list[str]:
        """The names of all files, sorted."""
        return sorted([*self._description.arrays, METADATA, SPLITS, CHECKSUMS])

    def checksums(self) -> dict[str, str]:
        """The BLAKE3 hash that each file had when it was written, by name."""
        return parse_checksums(self.read_bytes(CHECKSUMS))

    def hash(self, name: str) -> str:
        """The BLAKE3 hash that a file has now."""
        try:
            return _core.hash_file(name, dir_fd=self._open_handle())
        except FileNotFoundError:
            if self.is_stale:
                raise self._stale() from None
            raise

    def _stale(self) -> StaleStoreError:
        problem = "another store has been published here, or this one was moved away, and its files are gone"
        return StaleStoreError(
            self.path, problem, "Open the new one with FeatureStore.open, and restart its readers"
        )

    @property
    def is_stale(self) -> bool:
        """Whether the store's path now holds another directory, or none."""
        return _replaced(str(self.path), self._open_handle())

    def read_rows(self, name: str, first: int, end: int) -> NDArray[Any]:
        """Rows `first` to `end - 1` of a file's array, copied by plain reads.

        A map counts as the process's memory, and kills it where the file was truncated or the disk fails; this
        raises `DamagedStoreError` or `OSError` instead.
        """
        array = self._description.arrays[name]
        rows = np.empty((end - first, *array.shape[1:]), array.descr)
        left = rows.reshape(-1).view(np.uint8).data
        offset = len(array.header) + first * (rows.nbytes // max(len(rows), 1))
        with os.fdopen(self._open(name, array.nbytes), "rb", buffering=0) as file:
            while left:
                count = os.preadv(file.fileno(), [left], offset)
                if count == 0:
                    self._damaged(name, "was truncated while it was read")
                left, offset = left[count:], offset + count
        return rows

    def read_bytes(self, name: str) -> bytes:
        """The bytes of a small file."""
        with os.fdopen(self._open(name, None), "rb") as file:
            return file.read()

    def _array(self, name: str) -> NDArray[Any]:
        if not self._arrays:
            raise ValueError("the store is closed; open it again with reopen()")
        return self._arrays[name]

    def _open_handle(self) -> int:
        if not self._close.alive:
            raise ValueError("the store is closed; open it again with reopen()")
        return self._directory

    def _damaged(self, name: str, problem: str, advice: str | None = None) -> NoReturn:
        raise DamagedStoreError(self.path, name, problem, advice)

    def _json(self, name: str, size: int | None = None) -> Any:
        descriptor = self._open(name, size)
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(descriptor).st_size > _LARGEST_JSON:
                self._damaged(name, "is too large")
            data = file.read()
        try:
            return parse_json(data, canonical=len(data) <= _CANONICAL)
        except ValueError as error:
            self._damaged(name, f"is not sound JSON: {error}")

    def _open(self, name: str, size: int | None) -> int:
        """A descriptor of a regular file of this size."""
        try:
            descriptor = os.open(name, _FLAGS, dir_fd=self._open_handle())
        except OSError as error:
            match error.errno:
                case errno.ENOENT if self.is_stale:
                    raise self._stale() from None
                case errno.ENOENT:
                    self._damaged(name, "is missing")
                case errno.ELOOP | errno.ENXIO:
                    self._damaged(name, "is not a regular file")
            error.filename = str(self.path / name)
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                self._damaged(name, "is not a regular file")
            if size is not None and status.st_size != size:
                self._damaged(name, f"has {status.st_size:,} bytes, not {size:,}")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _map(self, name: str, array: Array) -> NDArray[Any]:
        with os.fdopen(self._open(name, array.nbytes), "rb", buffering=0) as file:
            header = file.read(len(array.header))
            if header != array.header:
                self._damaged(name, f"its header is not that of a {array.descr} array of shape {array.shape}")
            return np.memmap(file, dtype=array.descr, mode="r", offset=len(header), shape=array.shape)


def _open_directory(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        advice = "Check the path, or build a store there with `moola build-features`"
        raise StoreMissingError(path, "there is no feature store", advice) from None
    except NotADirectoryError:
        advice = "Give the directory that `moola build-features --output` made"
        raise StoreMissingError(path, "is not a directory, so not a feature store", advice) from None


def _replaced(path: str, directory: int) -> bool:
    """Whether the path now means another directory, or none."""
    try:
        there = os.stat(path)
    except OSError:
        return True
    here = os.fstat(directory)
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)
