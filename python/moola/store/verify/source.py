"""Compares a store with the bars that it was built from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from moola import _core
from moola.bars.source import BarSource, open_bars
from moola.errors.base import format_time
from moola.store.ingest import IngestOptions, SegmentRows, ingest
from moola.store.reader import FeatureStore
from moola.store.verify.findings import FindingError, bar_at, difference
from moola.store.verify.recorded import options_of
from moola.store.verify.rows import row_pieces

__all__ = ["source_check"]


def source_check(store: FeatureStore, data: Any) -> Callable[[FeatureStore], str]:
    """Opens the source now, so that an error in it is raised before the long checks run. Returns the check itself."""
    try:
        read_options, options = options_of(store)
    except Exception as error:
        problem = f"the recorded options of reading are not valid: {error}"

        def fail(store: FeatureStore) -> str:
            raise FindingError(problem)

        return fail
    source = open_bars(data, read_options)
    return lambda store: _source(store, source, options)


def _source(store: FeatureStore, source: BarSource, options: IngestOptions) -> str:
    names = ["timestamps.npy", "bars.npy", *(["extra.npy"] if store.extra is not None else [])]
    with tempfile.TemporaryDirectory(prefix="moola-verify-") as folder:
        given = Path(folder)
        stamped_at_close = store.metadata["read_options"]["stamp"] == "close"
        segments, quality = ingest(source, given, options, stamped_at_close, lambda *_: None)
        different = [name for name in names if _core.hash_file(given / name) != store.hash(name)]
        if different:
            raise FindingError(_first_difference(store, given, names, quality["bars"]))
    for i, (stored, again) in enumerate(zip(store.segments, segments, strict=False)):
        if stored != again.segment(stored.first_valid):
            raise FindingError(f"the source gives {_span(again)} as segment {i:,}, not {_span(stored)}")
    if len(segments) != len(store.segments):
        raise FindingError(f"the source gives {len(segments):,} segments, not {len(store.segments):,}")
    recorded = {name: store.metadata["quality"].get(name) for name in quality}
    if recorded != quality:
        raise FindingError(f"quality: {difference(recorded, quality)} of the source")
    files = ", ".join(file.name for file in source.files[:3]) + (", …" if len(source.files) > 3 else "")
    return f"bars, times and kept columns are those of {files}"


def _span(segment: Any) -> str:
    last = segment.first_row + segment.rows - 1 if isinstance(segment, SegmentRows) else segment.last_row
    name = f" of {segment.symbol!r}" if segment.symbol else ""
    times = f"{format_time(segment.first_timestamp)} to {format_time(segment.last_timestamp)}"
    return f"rows {segment.first_row:,} to {last:,}{name}, {times}"


def _first_difference(store: FeatureStore, given: Path, names: list[str], bars: int) -> str:
    """The first row at which source and store differ, in words."""
    counts = "" if bars == len(store) else f"; it has {bars:,} bars, the store {len(store):,}"
    common = min(bars, len(store))
    arrays = {name: np.load(given / name, mmap_mode="r") for name in names}
    for rows in row_pieces(common):
        found = []
        for place, name in enumerate(names):
            stored = store.read_rows(name, rows.start, rows.stop)
            differs = (stored != arrays[name][rows]).reshape(len(stored), -1).any(axis=1)
            if differs.any():
                found.append((int(np.argmax(differs)), place))
        if found:
            row, place = min(found)
            name, row = names[place], rows.start + row
            both = [x.tolist() for x in (store.read_rows(name, row, row + 1)[0], arrays[name][row])]
            if name == "timestamps.npy":
                both = [format_time(time) for time in both]
            return f"{name}: {bar_at(store, row)} is {both[0]}, the source says {both[1]}{counts}"
    if bars < len(store):
        return f"the source ends before {bar_at(store, bars)}{counts}"
    if bars > len(store):
        time = format_time(int(arrays["timestamps.npy"][common]))
        return f"the source goes on after the store's last row, with row {common:,} at {time}{counts}"
    return "the source's values are those of the store, but not its bytes"
