"""A small feature store with made-up numbers, written by hand, for tests of publishing."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moola import _core
from moola.files.json import write_json
from moola.files.publishing import publishing
from moola.splits import Segment, SplitOptions, make_splits, window_starts
from moola.store import FeatureStore
from moola.store.layout import METADATA, SPLITS, arrays_of, dump_checksums

MINUTE = 60_000_000_000
START = 1_700_000_040_000_000_000


def make_segments(lengths: Sequence[int], *, warmup: int = 5, gap: int = 600) -> list[Segment]:
    """Segments of one symbol, with these many minutes between them."""
    segments, row, time = [], 0, START
    for length in lengths:
        last = time + (length - 1) * MINUTE
        valid = row + warmup if warmup < length else None
        segments.append(Segment("", row, row + length - 1, time, last, MINUTE, valid))
        row, time = row + length, last + gap * MINUTE
    return segments


def times_of(segments: Sequence[Segment]) -> np.ndarray:
    return np.concatenate(
        [s.first_timestamp + np.arange(s.last_row - s.first_row + 1) * MINUTE for s in segments]
    ).astype(np.int64)


def write_files(
    folder: Path,
    *,
    lengths: Sequence[int] = (120, 40),
    width: int = 3,
    extra: int = 0,
    layout: str = "bars",
    window_length: int = 10,
    fill: float | None = None,
) -> dict[str, Any]:
    """Writes a whole store into `folder` and returns its metadata."""
    segments = make_segments(lengths)
    bars = sum(lengths)
    rng = np.random.default_rng(len(lengths))
    features = (
        rng.random((bars, width), dtype=np.float32)
        if fill is None
        else np.full((bars, width), fill, np.float32)
    )
    valid = np.zeros(bars, bool)
    for s in segments:
        if s.first_valid is not None:
            valid[s.first_valid : s.last_row + 1] = True
    data = {"timestamps.npy": times_of(segments), "bars.npy": rng.random((bars, 4)) + 1}
    windows = 0
    if layout == "bars":
        data |= {"features.npy": features, "valid.npy": valid}
    else:
        starts = window_starts(segments, [[0, bars]], window_length)
        windows = len(starts)
        rows = starts[:, None] + np.arange(window_length)
        data |= {
            f"features_{width}d.npy": features[rows],
            "valid_mask.npy": valid[rows],
            "window_starts.npy": starts,
        }
    if extra:
        data["extra.npy"] = rng.random((bars, extra), dtype=np.float32)
    for name, array in data.items():
        # Not np.save, which on a full disk raises an error without its number.
        (folder / name).write_bytes(_core.npy_header(array.dtype.str, array.shape) + array.tobytes())

    arrays = arrays_of(
        layout, bars=bars, width=width, extra=extra, windows=windows, window_length=window_length
    )
    splits = make_splits(data["timestamps.npy"], segments, SplitOptions(), window_length).record
    files: dict[str, Any] = {name: array.record() for name, array in arrays.items()}
    files[SPLITS] = {"bytes": write_json(folder / SPLITS, splits)}
    metadata = {
        "format_version": 1,
        "store_id": uuid.uuid4().hex,
        "moola_version": _core.__version__,
        "created": "2025-01-01T00:00:00Z",
        "feature_set": "made_up",
        "features": [{"name": f"f{i}", "low": 0, "high": 1.0} for i in range(width)],
        "parameters": {"range_ema_period": 20},
        "window_length": window_length,
        "layout": layout,
        "files": files,
        "segments": [s._asdict() for s in segments],
        "sources": [],
        "read_options": {"keep": [f"kept{i}" for i in range(extra)]},
        "quality": {},
        "timings": {},
        "known_after": {},
    }
    write_json(folder / METADATA, metadata)
    write_hashes(folder)
    return metadata


def write_hashes(folder: Path) -> None:
    hashes = {p.name: _core.hash_file(p) for p in folder.iterdir() if p.name != "checksums.b3"}
    (folder / "checksums.b3").write_bytes(dump_checksums(hashes))


def build(path: Path, *, overwrite: bool = False, **options: Any) -> FeatureStore:
    with publishing(path, overwrite=overwrite) as staging:
        write_files(staging.path, **options)
    return FeatureStore.open(path)


def names(folder: Path) -> list[str]:
    """The names in a directory, sorted."""
    return sorted(path.name for path in folder.iterdir())


def value(path: Path) -> float:
    """The one value that fills the store at `path`, after its hashes and all values are checked."""
    with FeatureStore.open(path) as store:
        for name, known in store.checksums().items():
            assert store.hash(name) == known
        first = float(store.features[0, 0])
        assert (store.features == first).all()
        return first
