"""Describes a store: features, splits, gaps, and a suggestion for --reset-on-gap."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moola.store.inspect.breaks import GapGroup, group_gaps
from moola.store.inspect.gaps import Times, find_gaps
from moola.store.inspect.suggestion import Suggestion, suggest_reset
from moola.store.reader import FeatureStore, Segment

__all__ = ["FeatureSummary", "Inspection", "SplitSummary", "inspect_store"]


_ROWS = 1 << 16
"""Rows in a piece, so that memory does not grow with the store."""


@dataclass(frozen=True, slots=True)
class FeatureSummary:
    """One feature over all valid bars. Measures are None when no bar is valid."""

    name: str
    low: float | None
    """The feature's range, from the metadata; None where it has no bound."""
    high: float | None
    mean: float | None
    std: float | None
    """Population standard deviation."""
    min: float | None
    max: float | None
    zeros: float | None
    """The share of bars at which it is exactly 0."""


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One split, with the times of its first and last bar (None where it has no bars)."""

    name: str
    bars: int
    windows: int
    """Windows of the store's default length."""
    first_timestamp: int | None
    last_timestamp: int | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """The content of a store, summarised. All times are UTC nanoseconds."""

    path: Path
    store_id: str
    created: str
    moola_version: str
    feature_set: str
    parameters: dict[str, Any]
    layout: str
    window_length: int
    bars: int
    valid_bars: int
    """Bars past their segment's warm-up."""
    bytes: int
    first_timestamp: int
    last_timestamp: int
    symbols: tuple[str, ...]
    """Empty where the bars have no symbols."""
    features: tuple[FeatureSummary, ...]
    segments: tuple[Segment, ...]
    splits: tuple[SplitSummary, ...]
    gaps: tuple[GapGroup, ...]
    """Recurring ones first. Nothing is ever filled in."""
    suggestion: Suggestion
    read_options: dict[str, Any]
    sources: tuple[dict[str, Any], ...]
    quality: dict[str, Any]
    timings: dict[str, float]
    known_after: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The same in types that JSON has."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Segment):
        return value._asdict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def inspect_store(store: FeatureStore | str | os.PathLike[str]) -> Inspection:
    """Summarises a store, in about a second for two million bars.

    Memory does not grow with the bars, only by 24 bytes for each gap of an hour or of five bars.

    Raises `StoreMissingError` and `DamagedStoreError` as `FeatureStore.open` does. Nothing is verified
    here; use `verify_features` for that.
    """
    if not isinstance(store, FeatureStore):
        with FeatureStore.open(store) as opened:
            return inspect_store(opened)
    metadata, segments = store.metadata, store.segments
    symbols = tuple(dict.fromkeys(segment.symbol for segment in segments))
    gaps = find_gaps(store)
    groups = group_gaps(gaps, symbols)
    valid_bars = sum(s.last_row + 1 - s.first_valid for s in segments if s.first_valid is not None)
    return Inspection(
        path=store.path,
        store_id=store.id,
        created=metadata["created"],
        moola_version=metadata["moola_version"],
        feature_set=store.feature_set,
        parameters=store.config,
        layout=store.layout,
        window_length=store.window_length,
        bars=len(store),
        valid_bars=valid_bars,
        bytes=sum((store.path / name).stat().st_size for name in store.files()),
        first_timestamp=min(segment.first_timestamp for segment in segments),
        last_timestamp=max(segment.last_timestamp for segment in segments),
        symbols=() if symbols == ("",) else symbols,
        features=_summarize_features(store),
        segments=tuple(segments),
        splits=_summarize_splits(store),
        gaps=tuple(group.summary for group in groups),
        suggestion=suggest_reset(gaps, groups, store),
        read_options=metadata["read_options"],
        sources=tuple(metadata["sources"]),
        quality=metadata["quality"],
        timings=metadata["timings"],
        known_after=metadata["known_after"],
    )


def _summarize_features(store: FeatureStore) -> tuple[FeatureSummary, ...]:
    """Moments by the update of Chan, Golub and LeVeque: one pass, exact where means are far from 0."""
    described = store.metadata["features"]
    width = len(described)
    count = 0
    mean, squares = np.zeros(width), np.zeros(width)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    zeros = np.zeros(width, dtype=np.int64)
    # `verify-features` reports NaN in a store.
    with np.errstate(invalid="ignore", over="ignore"):
        for values in _valid_values(store):
            n = values.shape[1]
            here = values.mean(axis=1)
            apart = here - mean
            squares += ((values - here[:, None]) ** 2).sum(axis=1) + apart**2 * (count * n / (count + n))
            count += n
            mean += apart * (n / count)
            low = np.minimum(low, values.min(axis=1))
            high = np.maximum(high, values.max(axis=1))
            zeros += (values == 0).sum(axis=1)
        std = np.sqrt(squares / max(count, 1))

    def number(x: np.float64) -> float | None:
        return float(x) if count and np.isfinite(x) else None

    return tuple(
        FeatureSummary(
            name=described[i]["name"],
            low=described[i]["low"],
            high=described[i]["high"],
            mean=number(mean[i]),
            std=number(std[i]),
            min=number(low[i]),
            max=number(high[i]),
            zeros=float(zeros[i] / count) if count else None,
        )
        for i in range(width)
    )


def _valid_values(store: FeatureStore) -> Iterator[NDArray[np.float64]]:
    """The features of valid bars, each bar once, as contiguous `[D, n]` columns."""
    if store.layout == "bars":
        for first in range(0, len(store), _ROWS):
            rows = slice(first, first + _ROWS)
            valid = store.valid[rows]
            if valid.any():
                values = store.features[rows] if valid.all() else store.features[rows][valid]
                yield values.T.astype(np.float64, order="C")
        return
    assert store.window_starts is not None
    windows, known = _tiling(store.window_starts, store.window_length)
    step = max(1, _ROWS // store.window_length)
    place = np.arange(store.window_length)
    for first in range(0, len(windows), step):
        some = windows[first : first + step]
        wanted = store.valid[some] & (place >= known[first : first + step, None])
        if wanted.any():
            yield store.features[some][wanted].T.astype(np.float64, order="C")


def _tiling(starts: Times, length: int) -> tuple[Times, Times]:
    """Windows that hold every bar of the dense layout, with how many of each one's first bars others hold.

    Windows overlap in all bars but one: one in `length` is enough, and one more at the end of each run.
    """
    first = np.concatenate([[0], np.flatnonzero(np.diff(starts) != 1) + 1])
    last = np.append(first[1:], len(starts)) - 1
    counts = (last - first) // length + 1
    before = np.cumsum(counts) - counts
    step = np.arange(counts.sum()) - np.repeat(before, counts)
    whole = np.repeat(first, counts) + step * length
    rest = last - (first + (counts - 1) * length)
    tails = rest > 0
    windows = np.concatenate([whole, last[tails]])
    known = np.concatenate([np.zeros_like(whole), length - rest[tails]])
    order = np.argsort(windows)
    return windows[order], known[order]


def _summarize_splits(store: FeatureStore) -> tuple[SplitSummary, ...]:
    summaries = []
    begins, ends = store.bounds.first, store.bounds.end
    for name, split in store.splits.items():
        ranges = split.ranges
        first = last = None
        if len(ranges):
            # Time ascends within a segment: the extremes stand where ranges and segments begin and end.
            range_of = np.searchsorted(ranges[:, 0], begins, side="right") - 1
            inside = (range_of >= 0) & (begins < ranges[range_of, 1])
            first = int(store.timestamps[np.concatenate([ranges[:, 0], begins[inside]])].min())
            range_of = np.searchsorted(ranges[:, 0], ends, side="left") - 1
            inside = (range_of >= 0) & (ends <= ranges[range_of, 1])
            last = int(store.timestamps[np.concatenate([ranges[:, 1], ends[inside]]) - 1].max())
        summaries.append(SplitSummary(name, split.bars, split.windows, first, last))
    return tuple(summaries)
