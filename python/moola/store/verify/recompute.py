"""Recomputes a store's features in batch and as a stream, and checks that they are causal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.files.cores import usable_cores
from moola.files.json import dump_json
from moola.store.known_after import known_after
from moola.store.layout import features_file
from moola.store.reader import FeatureStore
from moola.store.verify.findings import FindingError, bar_at, difference
from moola.store.verify.recorded import allows_nonpositive, dense_rows, parameters_of, planned_parameters
from moola.store.verify.rows import price_columns, row_pieces
from moola.store.verify.windows import sample_windows

__all__ = ["check_causal", "check_recomputed", "check_streamed"]

# Rows compared before each cut, and bars of the made-up future after it.
_NEAR, _FUTURE = 1 << 13, 5_000


def check_recomputed(store: FeatureStore) -> str:
    dense = dense_rows(store)
    any_sign = allows_nonpositive(store)
    found = _core.verify_features(*planned_parameters(store), usable_cores(), dense, any_sign)
    what = "rows" if dense is None else "windows"
    for name in ("features", "masks", "starts"):
        count, first = found[name]
        if count:
            raise FindingError(
                f"{count:,} {what} of {name} differ from what the bars give, the first in "
                f"{_recomputed_difference(store, name, *first)}"
            )
    for i, (segment, first_valid) in enumerate(zip(store.segments, found["first_valid"], strict=True)):
        if segment.first_valid != first_valid:
            raise FindingError(
                f"first_valid of segment {i:,} is {segment.first_valid}, but the bars give {first_valid}"
            )
    recorded = store.metadata["known_after"]
    again = known_after(store.path, store.segments, store.feature_set, parameters_of(store), any_sign)
    if dump_json(recorded) != dump_json(again):
        raise FindingError(f"known_after: {difference(recorded, again)}")
    return f"all {found['compared']:,} {what} from the bars, to the bit"


def _recomputed_difference(
    store: FeatureStore, name: str, row: int, column: int, stored: float, computed: float
) -> str:
    width = len(store.feature_names) if name == "features" else 1
    place, column = divmod(column, width)
    where = bar_at(store, row) if store.layout == "bars" else f"window {row:,}, bar {place}"
    file = {
        "features": features_file(store.layout, width),
        "masks": "valid.npy" if store.layout == "bars" else "valid_mask.npy",
        "starts": "window_starts.npy",
    }[name]
    feature = f", {store.feature_names[column]}" if name == "features" else ""
    return f"{file}, {where}{feature}: {stored!r} is stored, recomputing gives {computed!r}"


def check_streamed(store: FeatureStore, samples: int) -> str:
    length = store.window_length
    drawn = sample_windows(store, samples, np.random.default_rng())
    places = [
        (segment, start, start if store.layout == "bars" else number * length)
        for number, segment, start in drawn
    ]
    dense, any_sign = dense_rows(store), allows_nonpositive(store)
    count, first = _core.verify_streamed(*planned_parameters(store), places, length, dense, any_sign)
    if first is not None:
        row, column, stored, computed = first
        raise FindingError(
            f"{count:,} of {len(places):,} windows differ when their bars are pushed one by one, the first in "
            f"{bar_at(store, row)}, {store.feature_names[column]}: {stored!r} is stored, recomputing gives {computed!r}"
        )
    return f"{len(places):,} windows pushed bar by bar, saved and restored on the way, to the bit"


def check_causal(store: FeatureStore, samples: int) -> str:
    """Computes features up to a cut, without later bars and with made-up ones, and compares both with the store."""
    length, width = store.window_length, len(store.feature_names)
    file = features_file(store.layout, width)
    rng = np.random.default_rng()
    drawn = sample_windows(store, samples, rng)
    stream, row, last_segment = None, 0, -1
    checked = 0
    for number, index, start in drawn:
        segment, cut = store.segments[index], start + length
        if stream is None or index != last_segment:
            stream, row = _new_stream(store), segment.first_row
            last_segment = index
        # First in large steps, up to a little before the cut. The bars from there on are pushed in one call, across it.
        near = max(row, cut - max(_NEAR, length))
        for rows in row_pieces(near - row):
            stream.push_many(*price_columns(store, row + rows.start, row + rows.stop))
        row = near
        before = price_columns(store, near, cut)
        state = stream.state()
        removed = _restored_stream(store, state).push_many(*before)
        future = _made_up_future(float(before[3, -1]), rng, allows_nonpositive(store))
        rewritten = _restored_stream(store, state).push_many(*np.concatenate([before, future], axis=1))[
            : cut - near
        ]
        if removed.tobytes() != rewritten.tobytes():
            raise FindingError(f"features before {bar_at(store, cut - 1)} change when the bars after it do")
        if store.layout == "bars":
            stored = store.read_rows(file, near, cut)
        else:
            stored = store.read_rows(file, number, number + 1)[0]
        # Compared as integers, which means by their bits.
        differ = (removed[-len(stored) :].view(np.int32) != stored.view(np.int32)).any(axis=1)
        if differ.any():
            where = bar_at(store, cut - len(stored) + int(np.argmax(differ)))
            raise FindingError(
                f"the features of {where} differ from those computed without the bars after {bar_at(store, cut - 1)}"
            )
        checked += len(stored)
    return f"{checked:,} rows before {len(drawn):,} cuts are the same with the future removed and rewritten"


def _restored_stream(store: FeatureStore, state: bytes) -> _core.FeatureStream:
    stream = _new_stream(store)
    stream.restore(state)
    return stream


def _new_stream(store: FeatureStore) -> _core.FeatureStream:
    return _core.FeatureStream(
        store.feature_set, parameters_of(store), allow_nonpositive=allows_nonpositive(store)
    )


def _made_up_future(close: float, rng: np.random.Generator, any_sign: bool) -> NDArray[np.float64]:
    """Bars that might have followed a close: a random walk of 1 % a bar, within the prices that a store accepts.

    Where prices may have any sign, a bar moves by 1 % of the close's size, or by 0.01 of a price, and may cross zero.
    """
    steps = rng.normal(0, 0.01, _FUTURE)
    size = rng.uniform(0, 0.01, _FUTURE)
    if any_sign:
        unit = max(abs(close), 1.0)
        walk = np.clip(close + unit * np.cumsum(steps), -1.7e38, 1.7e38)
        spread = unit * size
    else:
        walk = np.clip(close * np.exp(np.cumsum(steps)), 2.4e-38, 1.7e38)
        spread = walk * size
    return np.stack([walk, walk + spread, walk - spread, walk])
