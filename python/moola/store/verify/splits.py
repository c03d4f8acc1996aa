"""Checks of a store's splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from moola.errors.base import format_time
from moola.files.json import dump_json, parse_json
from moola.store.layout import SPLITS
from moola.store.reader import FeatureStore
from moola.store.segments import Rows
from moola.store.split_options import SplitOptions
from moola.store.splits import make_splits
from moola.store.verify.findings import FindingError, bar_at, difference
from moola.store.windows import count_windows

__all__ = ["check_splits"]


def check_splits(store: FeatureStore) -> str:
    """Splits are chronological, share no bars, have the right counts, and follow from the recorded options.

    Ranges that overlap within a split, or leave the store, are refused when the store is opened.
    """
    # The few times compared below are read from a map. This read makes sure that the file has them all.
    store.read_rows("timestamps.npy", len(store) - 1, len(store))
    taken = np.zeros(0, dtype=np.int64).reshape(-1, 2)
    latest: int | None = None
    for name, split in store.splits.items():
        ranges = split.ranges
        windows = count_windows(store, ranges, store.window_length)
        if split.windows != windows:
            raise FindingError(f"{name} has {windows:,} windows, not {split.windows:,}")
        both = np.concatenate([taken, ranges])
        both = both[np.argsort(both[:, 0], kind="stable")]
        overlap = both[1:, 0] < both[:-1, 1]
        if overlap.any():
            row = int(both[1:][overlap][0, 0])
            raise FindingError(f"{name} shares bars with an earlier split, the first is {bar_at(store, row)}")
        taken = both
        if len(ranges):
            # Time ascends within a segment: a split's first and last times stand where its ranges or segments meet.
            begins = np.concatenate([ranges[:, 0], _inside(store.bounds.first, ranges)])
            ends = np.concatenate([ranges[:, 1], _inside(store.bounds.end, ranges)]) - 1
            earliest = int(store.timestamps[begins].min())
            if latest is not None and earliest <= latest:
                raise FindingError(
                    f"{name} begins at {format_time(earliest)}, but the split before it ends at {format_time(latest)}"
                )
            latest = int(store.timestamps[ends].max())
    record = parse_json(store.read_bytes(SPLITS))
    again = make_splits(store.timestamps, store.segments, _split_options(record), store.window_length).record
    if dump_json(record) != dump_json(again):
        raise FindingError(f"{SPLITS}: {difference(record, again)} from the options that it records")
    counts = ", ".join(f"{name} {split.windows:,}" for name, split in store.splits.items())
    return f"chronological, disjoint, and as their options give them; windows: {counts}"


def _inside(rows: Rows, ranges: Rows) -> Rows:
    """Those rows that lie strictly inside one of the ranges."""
    place = np.searchsorted(ranges[:, 0], rows, side="right") - 1
    inside = (place >= 0) & (rows > ranges[place, 0]) & (rows < ranges[place, 1])
    kept: Rows = rows[inside]
    return kept


def _split_options(record: Mapping[str, Any]) -> SplitOptions:
    if record["method"] == "fractions":
        return SplitOptions(fractions=record["fractions"], embargo=record["embargo"])
    days = {name: record[name] for name in ("train_end", "val_end", "test_end")}
    return SplitOptions(**days, tz=record["tz"], embargo=record["embargo"])
