"""Checks of a store's values: ranges of features, and masks."""

from __future__ import annotations

import numpy as np

from moola import _core
from moola.store.layout import features_file
from moola.store.reader import FeatureStore
from moola.store.verify.findings import FindingError, bar_at
from moola.store.verify.recorded import allows_nonpositive, parameters_of
from moola.store.verify.rows import PIECE, row_pieces
from moola.store.verify.windows import windows_of

__all__ = ["check_masks", "check_ranges"]


def check_ranges(store: FeatureStore) -> str:
    described = store.metadata["features"]
    ranges = [
        (-np.inf if f["low"] is None else f["low"], np.inf if f["high"] is None else f["high"])
        for f in described
    ]
    file = features_file(store.layout, len(ranges))
    outlier = _core.first_outlier(store.path / file, store.features.shape, ranges)
    if outlier is not None:
        place, value = outlier
        row, column = divmod(place, len(ranges))
        if store.layout == "bars":
            where = bar_at(store, row)
        else:
            where = f"bar {row % store.window_length} of window {row // store.window_length:,}"
        low, high = ranges[column]
        raise FindingError(
            f"{file}: {store.feature_names[column]} is {value} in {where}, outside {low} … {high}"
        )
    any_sign = allows_nonpositive(store)
    for rows in row_pieces(len(store)):
        bars = store.read_rows("bars.npy", rows.start, rows.stop)
        open, high, low, close = bars.T
        sound = (low >= (-3.4e38 if any_sign else 1.2e-38)) & (high <= 3.4e38)
        if any_sign:
            sound &= ((bars == 0) | (np.abs(bars) >= 1.2e-38)).all(axis=1)
        sound &= (low <= open) & (open <= high) & (low <= close) & (close <= high)
        if not sound.all():
            row = int(np.argmin(sound))
            where = bar_at(store, rows.start + row)
            raise FindingError(
                f"bars.npy: {where} is not a bar: open, high, low, close = {bars[row].tolist()}"
            )
        if store.extra is not None:
            sound = np.isfinite(store.read_rows("extra.npy", rows.start, rows.stop)).all(axis=1)
            if not sound.all():
                where = bar_at(store, rows.start + int(np.argmin(sound)))
                raise FindingError(f"extra.npy: {where} has a value that is not finite")
    return "every value finite and in its range"


def check_masks(store: FeatureStore) -> str:
    """A bar is valid from its segment's first valid row on. That row lies past the warm-up."""
    bounds = store.bounds
    warmup = parameters_of(store)[-1]
    early = (bounds.first_valid < bounds.end) & (bounds.first_valid < bounds.first + warmup)
    if early.any():
        i = int(np.argmax(early))
        raise FindingError(
            f"segment {i:,} is valid from row {bounds.first_valid[i]:,} on, within its {warmup:,} bars of warm-up"
        )
    if store.layout == "bars":
        for rows in row_pieces(len(store)):
            # Compared as bytes, because a mask that is neither 0 nor 1 is wrong too.
            stored = store.read_rows("valid.npy", rows.start, rows.stop).view(np.uint8)
            row = np.arange(rows.start, rows.stop)
            wrong = stored != (
                row >= bounds.first_valid[np.searchsorted(bounds.first, row, side="right") - 1]
            )
            if wrong.any():
                i = int(np.argmax(wrong))
                raise FindingError(
                    f"valid.npy: {bar_at(store, rows.start + i)} has {stored[i]}, not {1 - stored[i]}"
                )
        return "every bar valid from its segment's first valid row on"
    windows = windows_of(store)
    if len(windows) != len(store.valid):
        raise FindingError(f"there are {len(store.valid):,} windows, but {len(windows):,} count")
    offsets = np.arange(store.window_length)
    for rows in row_pieces(len(windows), max(1, 8 * PIECE // store.window_length)):
        segments, starts = windows.find(np.arange(rows.start, rows.stop))
        wrong = store.read_rows("window_starts.npy", rows.start, rows.stop) != starts
        if wrong.any():
            i = int(np.argmax(wrong))
            raise FindingError(
                f"window_starts.npy: window {rows.start + i:,} should start at row {starts[i]:,}"
            )
        stored = store.read_rows("valid_mask.npy", rows.start, rows.stop).view(np.uint8)
        wrong = (stored != (starts[:, None] + offsets >= bounds.first_valid[segments, None])).any(axis=1)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise FindingError(
                f"valid_mask.npy: window {rows.start + i:,} is not valid from its segment's first valid row on"
            )
    return "every window that counts, valid from its segment's first valid row on"
