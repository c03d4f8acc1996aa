"""What the checks of a store share: pieces of rows, samples of windows, differences in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.bars.options import ReadOptions
from moola.errors.base import format_time
from moola.files.json import dump_json
from moola.store.ingest import IngestOptions
from moola.store.reader import FeatureStore
from moola.store.segments import Rows

__all__ = [
    "NEAR",
    "PIECE",
    "FindingError",
    "bar_at",
    "dense_rows",
    "difference",
    "made_up_future",
    "options_of",
    "parameters_of",
    "planned_parameters",
    "price_columns",
    "restored_stream",
    "row_pieces",
    "sample_windows",
    "windows_of",
]


class FindingError(Exception):
    """A check's finding that ends it; the text says what is wrong, and where."""


# What the metadata say.

Parameters: TypeAlias = tuple[int, int, float, float, int, int]


def parameters_of(store: FeatureStore) -> Parameters:
    values = store.config
    return tuple(values[name] for name in _core.parameter_names())


def options_of(store: FeatureStore) -> tuple[ReadOptions, IngestOptions]:
    """How the metadata say that the source was read and its rows were judged."""
    recorded = store.metadata["read_options"]
    judged = {name: recorded[name] for name in IngestOptions.__dataclass_fields__}
    read_options = ReadOptions.from_record({k: v for k, v in recorded.items() if k not in judged})
    gap = judged["reset_on_gap"]
    if gap is not None and (type(gap) is not int or not 0 < gap < 1 << 63):
        raise FindingError(f"reset_on_gap is {gap!r}, not a number of nanoseconds")
    return read_options, IngestOptions(**judged)


# What the arrays hold. They are read in pieces with plain reads, see `FeatureStore.read_rows`.

PIECE = 1 << 17


def row_pieces(length: int, step: int = PIECE) -> list[slice]:
    return [slice(first, min(first + step, length)) for first in range(0, length, step)]


def bar_at(store: FeatureStore, row: int) -> str:
    """A row as messages name it, with its time."""
    return f"row {row:,} at {format_time(int(store.read_rows('timestamps.npy', row, row + 1)[0]))}"


class WindowRows(NamedTuple):
    """All windows that count, numbered in order: the dense layout has them, and samples are drawn from them."""

    first: Rows
    """The first window of each segment."""
    ends: Rows
    """The number of windows up to each segment's end."""

    def __len__(self) -> int:
        return int(self.ends[-1])

    def find(self, numbers: Rows) -> tuple[Rows, Rows]:
        """Segments and first rows of windows."""
        segments = np.searchsorted(self.ends, numbers, side="right")
        before = np.concatenate([[0], self.ends[:-1]])
        return segments, self.first[segments] + numbers - before[segments]


def windows_of(store: FeatureStore) -> WindowRows:
    length, bounds = store.window_length, store.bounds
    first = np.maximum(bounds.first, bounds.first_valid - (length - 1))
    counts = np.maximum(bounds.end - length + 1 - first, 0)
    # A segment without a valid bar has none.
    counts[bounds.first_valid == bounds.end] = 0
    return WindowRows(first, np.cumsum(counts))


def difference(stored: Any, again: Any, where: str = "") -> str:
    """Where two values of JSON differ first: what is stored, and what comes out."""
    if isinstance(stored, dict) and isinstance(again, dict) and list(stored) == list(again):
        for key in stored:
            if dump_json(stored[key]) != dump_json(again[key]):
                return difference(stored[key], again[key], f"{where}.{key}" if where else key)
    if isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        for i, (one, other) in enumerate(zip(stored, again, strict=True)):
            if dump_json(one) != dump_json(other):
                return difference(one, other, f"{where}[{i}]")
    shown = (repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}…" for value in (stored, again))
    return "{} is {}, but {} comes out".format(where or "it", *shown)


# What can be computed again.


def planned_parameters(store: FeatureStore) -> tuple[Path, list[tuple[int, int]], str, Parameters]:
    spans = [(s.first_row, s.last_row - s.first_row + 1) for s in store.segments]
    return store.path, spans, store.feature_set, parameters_of(store)


def dense_rows(store: FeatureStore) -> tuple[int, int] | None:
    """Length and number of windows, in the dense layout."""
    return None if store.layout == "bars" else (store.window_length, len(store.features))


def sample_windows(store: FeatureStore, samples: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Number, segment and first row of windows drawn from all that count, ascending."""
    windows = windows_of(store)
    if len(windows) == 0:
        raise FindingError(f"no window of {store.window_length:,} bars counts")
    numbers = np.sort(rng.choice(len(windows), min(samples, len(windows)), replace=False, shuffle=False))
    segments, starts = windows.find(numbers)
    return list(zip(numbers.tolist(), segments.tolist(), starts.tolist(), strict=True))


# Rows compared before each cut, and bars of the made-up future after it.
NEAR, FUTURE = 1 << 13, 5_000


def price_columns(store: FeatureStore, first: int, end: int) -> NDArray[np.float64]:
    """Four contiguous columns of bars."""
    return np.ascontiguousarray(store.read_rows("bars.npy", first, end).T)


def restored_stream(store: FeatureStore, state: bytes) -> _core.FeatureStream:
    stream = _core.FeatureStream(store.feature_set, parameters_of(store))
    stream.restore(state)
    return stream


def made_up_future(close: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Bars that might have followed a close: a walk of 1 % a bar, within the prices that bars may have."""
    walk = np.clip(close * np.exp(np.cumsum(rng.normal(0, 0.01, FUTURE))), 2.4e-38, 1.7e38)
    spread = walk * rng.uniform(0, 0.01, FUTURE)
    return np.stack([walk, walk + spread, walk - spread, walk])
