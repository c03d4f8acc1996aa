"""Verification of stores: every flipped bit, everything tampered with and sealed again, leaks, other sources."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import moola
from moola import _core
from moola.errors import ConfigError, InputError, InputMissingError, StaleStoreError, StoreMissingError
from moola.files.json import dump_json
from moola.splits import count_windows
from moola.store import FeatureStore
from moola.store.layout import CHECKSUMS, METADATA, SPLITS, dump_checksums
from moola.store.verify.report import VerificationReport, verify_features

MINUTE = 60_000_000_000
START = 1_704_067_200_000_000_000  # 2024-01-01
HASHES = ["opens", "hashes", "json", "identity", "ranges", "times", "quality", "masks", "splits"]
EVERYTHING = [*HASHES, "recomputed", "streamed", "causal"]
KINDS = ["plain", "panel"]
LAYOUTS = ["bars", "windows"]


# Stores to tamper with.


def walk(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.004, n))) * 4) / 4
    open_ = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(open_, close) + rng.integers(0, 3, n) / 4
    low = np.minimum(open_, close) - rng.integers(0, 3, n) / 4
    return {"open": open_, "high": high, "low": low, "close": close, "volume": rng.integers(1, 99, n) * 1.0}


def plain_bars() -> pa.Table:
    """One series, and the smallest store: its JSON is flipped bit by bit."""
    rng = np.random.default_rng(1)
    return pa.table(
        {"timestamp": pa.array(START + np.arange(60) * MINUTE, pa.timestamp("ns", "UTC"))} | walk(rng, 60)
    )


def panel_bars() -> pa.Table:
    """Three symbols, interleaved: missing minutes, a short step, long breaks, a jump, zero-range bars, a roll."""
    rng = np.random.default_rng(2)
    tables = []
    for symbol, n in (("B", 150), ("A", 180), ("C", 90)):
        steps = np.where(rng.random(n) < 0.05, rng.integers(2, 6, n), 1)
        steps[[60, 63, 100 % n]] = 300
        half = np.arange(n) == 10
        times = START + np.cumsum(steps) * MINUTE - np.cumsum(half) * (MINUTE // 2)
        columns = walk(rng, n)
        for name in ("open", "high", "low", "close"):
            columns[name][40:] *= 2 if symbol == "A" else 1
            columns[name][20] = columns["close"][19]
        contract = np.where(np.arange(n) < 110, "H4", "M4")
        times = pa.array(times, pa.timestamp("ns", "UTC"))
        tables.append(pa.table({"timestamp": times, "symbol": [symbol] * n, "contract": contract} | columns))
    return pa.concat_tables(tables).sort_by([("timestamp", "ascending"), ("symbol", "descending")])


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"feature_set": "ohlc4", "config": {"atr_period": 2, "warmup_bars": 3}, "window_length": 4},
    "panel": {
        "config": {"atr_period": 3, "zscore_period": 4, "warmup_bars": 12},
        "window_length": 6,
        "keep": "volume",
        "reset_on_gap": "2h",
        "segment_by": "symbol,contract",
        "split": (0.6, 0.2, 0.2),
        "embargo": 3,
    },
}
BARS: dict[str, Callable[[], pa.Table]] = {"plain": plain_bars, "panel": panel_bars}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, Path]]:
    """The store of a kind in a layout, and its bars; not to be touched."""

    @cache
    def build(kind: str, layout: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(f"{kind}-{layout}")
        pq.write_table(BARS[kind](), folder / "bars.parquet")
        moola.build_features(
            folder / "bars.parquet", folder / "store", layout=layout, stamp="open", **OPTIONS[kind]
        ).close()
        return folder / "store", folder / "bars.parquet"

    return build


@pytest.fixture(params=[(k, y) for k in KINDS for y in LAYOUTS], ids=lambda p: "-".join(p))
def either(request: pytest.FixtureRequest, built: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of each store, and its bars."""
    return copy(built(*request.param), tmp_path)


@pytest.fixture
def panel(built: Any, tmp_path: Path) -> tuple[Path, Path]:
    return copy(built("panel", "bars"), tmp_path)


@pytest.fixture
def dense(built: Any, tmp_path: Path) -> tuple[Path, Path]:
    return copy(built("panel", "windows"), tmp_path)


def copy(built: tuple[Path, Path], folder: Path) -> tuple[Path, Path]:
    shutil.copytree(built[0], folder / "store")
    return folder / "store", built[1]


# Tampering as one does who knows the format: sizes and checksums are made anew.


def edit_json(store: Path, name: str, change: Callable[[Any], None]) -> None:
    value = json.loads((store / name).read_bytes())
    change(value)
    (store / name).write_bytes(dump_json(value))
    seal(store)


def edit_metadata(store: Path, change: Callable[[Any], None]) -> None:
    edit_json(store, METADATA, change)


def edit_array(store: Path, name: str, change: Callable[[np.ndarray], None]) -> None:
    array = np.load(store / name, mmap_mode="r+")
    change(array)
    array.flush()
    seal(store)


def seal(store: Path) -> None:
    metadata = json.loads((store / METADATA).read_bytes())
    if isinstance(metadata.get("files"), dict) and isinstance(metadata["files"].get(SPLITS), dict):
        metadata["files"][SPLITS]["bytes"] = (store / SPLITS).stat().st_size
        (store / METADATA).write_bytes(dump_json(metadata))
    hashes = {p.name: _core.hash_file(p) for p in store.iterdir() if p.name != CHECKSUMS}
    (store / CHECKSUMS).write_bytes(dump_checksums(hashes))


def features_of(store: Path) -> str:
    return next(p.name for p in store.iterdir() if p.name.startswith("features"))


def findings(report: VerificationReport) -> dict[str, str]:
    assert report.ok == all(check.ok for check in report.checks)
    return {check.name: check.detail for check in report.checks if not check.ok}


def found(store: Path, data: Any = None, **options: Any) -> dict[str, str]:
    """What fails, by check, in a store that was sealed again."""
    failed = findings(verify_features(store, data, **options))
    assert not {"opens", "hashes", "json"} & set(failed), failed
    return failed


# A sound store.


def test_sound_stores_pass(either: tuple[Path, Path]) -> None:
    store, bars = either
    before = {p.name: p.read_bytes() for p in store.iterdir()}
    report = verify_features(store, bars)
    assert report.ok, report.checks
    assert [check.name for check in report.checks] == [*EVERYTHING, "source"]
    assert all(check.detail for check in report.checks)
    assert report.path == store
    assert {p.name: p.read_bytes() for p in store.iterdir()} == before
    # Sealing again changes nothing: what tampering tests find is the tampering.
    seal(store)
    assert {p.name: p.read_bytes() for p in store.iterdir()} == before


@pytest.mark.parametrize("feature_set", _core.feature_sets())
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_feature_set_passes(feature_set: str, layout: str, tmp_path: Path) -> None:
    moola.build_features(
        panel_bars(), tmp_path / "s", feature_set=feature_set, layout=layout, config={"warmup_bars": 20},
        window_length=15, train_end="2024-01-01", val_end="2024-01-01", test_end="2024-01-02", tz="Asia/Tokyo",
        stamp="close",
    )  # fmt: skip
    report = verify_features(tmp_path / "s", panel_bars())
    assert report.ok, report.checks


def test_prices_at_the_limits_pass(tmp_path: Path) -> None:
    """The made-up future of the causality check must be bars too."""
    for scale in (1.3e-38 / 60, 3.3e38 / 200):
        bars = plain_bars()
        for i, name in enumerate(bars.column_names):
            if name in ("open", "high", "low", "close"):
                bars = bars.set_column(i, name, pa.array(bars[name].to_numpy() * scale))
        store = tmp_path / str(scale)
        moola.build_features(bars, store, **OPTIONS["plain"])
        report = verify_features(store, bars, samples=40)
        assert report.ok, report.checks


def test_the_report_of_real_bars(tmp_path: Path) -> None:
    shared = os.environ.get("MOOLA_SHARED")
    if shared is None:
        pytest.skip("MOOLA_SHARED is not set")
    bars = Path(shared) / "data" / "btcusdt_1min_2023-03.csv"
    moola.build_features(bars, tmp_path / "s", reset_on_gap="1h")
    report = verify_features(tmp_path / "s", bars)
    assert report.ok, report.checks


# One flipped bit. Every one in the JSON files, the checksums and the headers; thousands in the data.


def flips(store: Path, name: str, bits: Iterator[int]) -> None:
    """Each of the bits, flipped alone, is found and its file named."""
    names = [p.name for p in store.iterdir()]
    missed = []
    with open(store / name, "r+b", buffering=0) as file:
        for bit in bits:
            place = bit // 8
            (byte,) = os.pread(file.fileno(), 1, place)
            os.pwrite(file.fileno(), bytes([byte ^ 1 << bit % 8]), place)
            failed = findings(verify_features(store, reproducibility=False))
            os.pwrite(file.fileno(), bytes([byte]), place)
            details = " ".join(failed.values()).replace(str(store), "")
            # A size in the metadata may be what no longer fits: then the file that it speaks of is named.
            named = any(n in details for n in names) if name == METADATA else name in details
            if not failed or not named or not {"opens", "hashes"} & set(failed):
                missed.append((bit, failed))
    assert not missed, f"{name}: {len(missed)} flips not found or not named, the first {missed[0]}"


@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_bit_of_the_metadata(layout: str, part: int, built: Any, tmp_path: Path) -> None:
    store, _ = copy(built("plain", layout), tmp_path)
    flips(store, METADATA, range(part, 8 * (store / METADATA).stat().st_size, 8))


@pytest.mark.parametrize("name", [SPLITS, CHECKSUMS])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_bit_of_splits_and_checksums(layout: str, name: str, built: Any, tmp_path: Path) -> None:
    store, _ = copy(built("plain", layout), tmp_path)
    flips(store, name, range(8 * (store / name).stat().st_size))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_bit_of_the_headers(layout: str, built: Any, tmp_path: Path) -> None:
    store, _ = copy(built("panel", layout), tmp_path)
    arrays = sorted(p.name for p in store.glob("*.npy"))
    assert len(arrays) == (5 if layout == "bars" else 6)
    for name in arrays:
        flips(store, name, range(8 * 128))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_thousands_of_bits_of_the_data(kind: str, layout: str, built: Any, tmp_path: Path) -> None:
    store, _ = copy(built(kind, layout), tmp_path)
    rng = np.random.default_rng(3)
    for path in sorted(store.iterdir()):
        size = 8 * path.stat().st_size
        first = 8 * 128 if path.suffix == ".npy" else 0
        flips(store, path.name, iter(rng.integers(first, size, 200 if kind == "plain" else 100).tolist()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_flipped_bit_that_is_sealed(kind: str, layout: str, built: Any, tmp_path: Path) -> None:
    """Without the hashes, recomputing finds each flip in a feature, a mask or a bar that has a part in features."""
    store, bars = copy(built(kind, layout), tmp_path)
    rng = np.random.default_rng(4)
    for path in sorted(store.glob("*.npy")):
        original = path.read_bytes()
        for bit in rng.integers(8 * 128, 8 * len(original), 15).tolist():
            flipped = bytearray(original)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            seal(store)
            failed = found(store, bars, samples=2)
            assert failed, (path.name, bit)
            # Only the source says whether times, kept columns and the last bits of prices are right.
            if path.name not in ("timestamps.npy", "bars.npy", "extra.npy"):
                assert "recomputed" in failed, (path.name, bit, failed)
            else:
                assert path.name in failed["source"], (path.name, bit, failed)
        path.write_bytes(original)
    seal(store)
    assert verify_features(store, bars).ok


# What is sealed again is found by the check that is responsible.


def test_a_feature_value(either: tuple[Path, Path]) -> None:
    store, _ = either
    name = features_of(store)

    def change(x: np.ndarray) -> None:
        x.reshape(-1, x.shape[-1])[30, 2] = np.nextafter(x.reshape(-1, x.shape[-1])[30, 2], np.float32(0.25))

    edit_array(store, name, change)
    # All windows are streamed here, and all cuts made.
    failed = found(store, samples=10_000)
    assert set(failed) == {"recomputed", "streamed", "causal"}
    assert name in failed["recomputed"]
    assert FeatureStore.open(store).feature_names[2] in failed["recomputed"]
    assert " is stored, " in failed["recomputed"]
    assert FeatureStore.open(store).feature_names[2] in failed["streamed"]
    assert set(found(store, reproducibility=False)) == set()


def test_rows_are_named_with_their_times(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    times = FeatureStore.open(store).timestamps
    edit_array(store, "features.npy", lambda x: np.negative(x, out=x, where=np.arange(len(x))[:, None] == 33))
    when = np.datetime_as_string(np.datetime64(int(times[33]), "ns"), unit="s") + "Z"
    failed = found(store, samples=10_000)
    for check in ("recomputed", "streamed", "causal"):
        assert f"row 33 at {when}" in failed[check], failed[check]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_feature_out_of_its_range(either: tuple[Path, Path], value: float) -> None:
    store, _ = either
    with FeatureStore.open(store) as opened:
        low = [f["low"] for f in opened.metadata["features"]]
        column = next((i for i, x in enumerate(low) if x is not None), 0)
        name = opened.feature_names[column]
    if np.isfinite(value) and low[column] is None:
        pytest.skip("no feature of this set has a range")
    edit_array(store, features_of(store), lambda x: x.reshape(-1, x.shape[-1])[-1].__setitem__(column, value))
    failed = found(store, reproducibility=False)
    assert set(failed) == {"ranges"}
    assert features_of(store) in failed["ranges"]
    assert name in failed["ranges"]


@pytest.mark.parametrize(
    "bar",
    [(100, 99, 98, 99), (np.nan, 1, 1, 1), (1, 2, -1, 1), (1, np.inf, 1, 1), (1, 2, 1, 3), (0, 0, 0, 0)],
)
def test_a_bar_that_is_none(panel: tuple[Path, Path], bar: tuple[float, ...]) -> None:
    store, _ = panel
    edit_array(store, "bars.npy", lambda x: x.__setitem__(77, bar))
    failed = found(store)
    assert "bars.npy: row 77 at 2024-01-01T" in failed["ranges"]
    assert "refused" in failed["recomputed"]


def test_a_bar_price(panel: tuple[Path, Path]) -> None:
    store, bars = panel

    def change(x: np.ndarray) -> None:
        x[50, 1] += 0.25

    edit_array(store, "bars.npy", change)
    failed = found(store, bars)
    assert {"recomputed", "source"} <= set(failed)
    assert "bars.npy: row 50 at 2024-01-01T" in failed["source"]


def test_a_kept_value(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    edit_array(store, "extra.npy", lambda x: x.__setitem__((9, 0), np.nan))
    assert set(found(store)) == {"ranges"}
    edit_array(store, "extra.npy", lambda x: x.__setitem__((9, 0), 1234.5))
    failed = found(store, bars)
    assert set(failed) == {"source"}
    assert "extra.npy: row 9 at 2024-01-01T" in failed["source"]


def test_a_mask_bit(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_array(store, "valid.npy", lambda x: x.__setitem__(100, not x[100]))
    failed = found(store)
    assert set(failed) == {"masks", "recomputed"}
    assert "valid.npy: row 100 at 2024-01-01T" in failed["masks"]


def test_a_mask_that_is_neither_true_nor_false(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_array(store, "valid.npy", lambda x: x.view(np.uint8).__setitem__(100, 2))
    failed = found(store)
    assert {"masks", "recomputed"} <= set(failed)
    assert "has 2" in failed["masks"]


def test_a_mask_of_a_window(dense: tuple[Path, Path]) -> None:
    store, _ = dense
    edit_array(store, "valid_mask.npy", lambda x: x.__setitem__((10, 0), not x[10, 0]))
    failed = found(store)
    assert set(failed) == {"masks", "recomputed"}
    assert "valid_mask.npy: window 10" in failed["masks"]


def test_a_window_start(dense: tuple[Path, Path]) -> None:
    store, _ = dense
    edit_array(store, "window_starts.npy", lambda x: x.__setitem__(10, x[10] + 1))
    failed = found(store)
    assert {"masks", "recomputed"} <= set(failed)
    assert "window_starts.npy: window 10 " in failed["masks"]


@pytest.mark.parametrize("by", [1, -1])
def test_first_valid(either: tuple[Path, Path], by: int) -> None:
    store, _ = either

    def change(metadata: Any) -> None:
        segment = metadata["segments"][0]
        segment["first_valid"] += by

    edit_metadata(store, change)
    failed = found(store)
    assert {"masks", "recomputed"} <= set(failed)
    assert "first_valid of segment 0" in failed["recomputed"] or "windows" in failed["recomputed"]


def test_first_valid_that_is_none(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: [s.update(first_valid=None) for s in m["segments"]])
    failed = found(store)
    assert {"masks", "splits", "recomputed", "streamed", "causal"} <= set(failed)
    assert "no window" in failed["streamed"]


def test_first_valid_within_the_warm_up(panel: tuple[Path, Path]) -> None:
    """Masks and segments that agree with one another, but not with the warm-up."""
    store, _ = panel
    row = FeatureStore.open(store).segments[0].first_valid
    assert row is not None
    edit_array(store, "valid.npy", lambda x: x.__setitem__(row - 1, True))
    edit_metadata(store, lambda m: m["segments"][0].update(first_valid=row - 1))
    assert "warm-up" in found(store)["masks"]


@pytest.mark.parametrize("to", ["before", "equal", "far", "least", "most"])
def test_a_timestamp(either: tuple[Path, Path], to: str) -> None:
    store, bars = either
    row = 5
    times = np.array(FeatureStore.open(store).timestamps)
    limits = np.iinfo(np.int64)
    value = {
        "before": times[row - 1] - 1, "equal": times[row - 1], "far": times[row] + 1000 * MINUTE,
        "least": limits.min, "most": limits.max,
    }[to]  # fmt: skip
    edit_array(store, "timestamps.npy", lambda x: x.__setitem__(row, value))
    failed = found(store, bars)
    assert f"row {row if to in ('before', 'equal', 'least') else row + 1} at " in failed["times"] or (
        "gap" in failed["times"]
    )
    assert f"timestamps.npy: row {row} at " in failed["source"]


def test_a_timestamp_in_order(panel: tuple[Path, Path]) -> None:
    """Moved by a nanosecond: in order, but the steps are counted again."""
    store, bars = panel
    edit_array(store, "timestamps.npy", lambda x: x.__setitem__(5, x[5] + 1))
    failed = found(store, bars)
    assert set(failed) == {"quality", "source"}


def test_the_times_of_segments(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    for field, by in (("first_timestamp", -MINUTE), ("last_timestamp", MINUTE)):
        edit_metadata(store, lambda m, f=field, b=by: m["segments"][1].update({f: m["segments"][1][f] + b}))
        assert f"{field} of segment 1" in found(store)["times"]
        edit_metadata(store, lambda m, f=field, b=by: m["segments"][1].update({f: m["segments"][1][f] - b}))
    assert found(store) == {}


def recut(store: Path, rows: list[int]) -> None:
    """Segments that begin at these rows, their times and all counts that follow made to fit."""
    with FeatureStore.open(store) as opened:
        times, old, count = opened.timestamps, opened.segments, len(opened)
        of = np.searchsorted([s.first_row for s in old], rows, side="right") - 1
        segments = []
        for i, first in enumerate(rows):
            last = (rows[i + 1] if i + 1 < len(rows) else count) - 1
            same = old[of[i]]
            valid = same.first_valid if first == same.first_row else first + 15
            valid = valid if valid is not None and valid <= last else None
            times_ = {"first_timestamp": int(times[first]), "last_timestamp": int(times[last])}
            segments.append(
                same._asdict() | times_ | {"first_row": first, "last_row": last, "first_valid": valid}
            )
    edit_metadata(store, lambda m: m.update(segments=segments))


def without_contracts(tmp_path: Path) -> Path:
    options = OPTIONS["panel"] | {"segment_by": "symbol"}
    moola.build_features(panel_bars(), tmp_path / "s", **options).close()
    return tmp_path / "s"


def test_a_segment_cut_without_a_gap(tmp_path: Path) -> None:
    store = without_contracts(tmp_path)
    rows = [s.first_row for s in FeatureStore.open(store).segments]
    recut(store, sorted([*rows, rows[1] + 10]))
    failed = found(store)
    assert "begins a segment, but" in failed["times"]
    assert {"quality", "masks", "recomputed"} <= set(failed)


def test_a_segment_that_should_have_ended(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    rows = [s.first_row for s in FeatureStore.open(store).segments]
    recut(store, [row for row in rows if row != rows[1]])
    failed = found(store, bars)
    assert "gap that should have begun a segment" in failed["times"]
    assert {"quality", "recomputed", "source"} <= set(failed)


def test_a_segment_cut_elsewhere_where_contracts_may_cut(panel: tuple[Path, Path]) -> None:
    """Only the source knows the contracts; without it, what cannot be recomputed must add up."""
    store, bars = panel
    rows = [s.first_row for s in FeatureStore.open(store).segments]
    recut(store, sorted([*rows, rows[1] + 10]))
    failed = found(store, bars)
    assert {"quality", "recomputed", "source"} <= set(failed)
    assert "segment" in failed["source"]


def test_a_symbol(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    edit_metadata(store, lambda m: [s.update(symbol="Z") for s in m["segments"] if s["symbol"] == "A"])
    failed = found(store, bars)
    assert {"times", "source"} <= set(failed)
    edit_metadata(store, lambda m: [s.update(symbol="AA") for s in m["segments"] if s["symbol"] == "Z"])
    assert set(found(store, bars)) == {"source"}


def test_two_symbols_made_one(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: [s.update(symbol="A") for s in m["segments"] if s["symbol"] == "B"])
    assert "is not later than the row before" in found(store)["times"]


def test_a_bar_interval(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: m["segments"][-1].update(bar_interval=2 * MINUTE))
    assert "two bar intervals" in found(store)["times"]
    edit_metadata(store, lambda m: [s.update(bar_interval=2 * MINUTE) for s in m["segments"]])
    assert "commonest step is 60000000000 ns" in found(store)["quality"]


def test_every_count_of_the_quality_report(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    quality = FeatureStore.open(store).metadata["quality"]
    # The bars have some of everything that is not dropped.
    assert {k for k, n in quality.items() if n == 0} == {"dropped_bad_bars", "dropped_duplicates"}
    for key, count in quality.items():
        for other in (count + 1, count - 1, None, "1"):
            edit_metadata(store, lambda m, k=key, n=other: m["quality"].update({k: n}))
            failed = found(store, bars)
            assert set(failed) & {"identity", "quality"}, (key, other, failed)
        edit_metadata(store, lambda m, k=key: m["quality"].pop(k))
        assert set(found(store, bars)) & {"identity", "quality"}, key
        edit_metadata(store, lambda m: m.update(quality=quality))
    assert found(store, bars) == {}


def test_segments_of_gaps_and_contracts_exchanged(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    gaps, contracts = "segments_from_gaps", "segments_from_contracts"
    quality = FeatureStore.open(store).metadata["quality"]
    edit_metadata(
        store, lambda m: m["quality"].update({gaps: quality[gaps] + quality[contracts], contracts: 0})
    )
    failed = found(store, bars)
    assert "segments of contracts and gaps" in failed["quality"]
    assert "segments_from" in failed["source"]


def test_bars_dropped_that_no_option_allowed(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    for key in ("dropped_bad_bars", "dropped_duplicates"):

        def change(metadata: Any, key: str = key, by: int = 1) -> None:
            metadata["quality"][key] += by
            metadata["sources"][0]["rows"] += by

        edit_metadata(store, change)
        failed = found(store, bars)
        assert {"identity", "source"} == set(failed)
        edit_metadata(store, lambda m, k=key, c=change: c(m, k, -1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dropped_bars_are_counted(layout: str, tmp_path: Path) -> None:
    bars = panel_bars()
    volume = bars["volume"].to_numpy().copy()
    volume[[17, 200]] = np.nan
    bars = bars.set_column(bars.column_names.index("volume"), "volume", pa.array(volume, from_pandas=True))
    bars = pa.concat_tables([bars.slice(0, 30), bars.slice(29, 1), bars.slice(30)])
    options = OPTIONS["panel"] | {"drop_bad_bars": True, "dedup": "identical", "sort": True, "layout": layout}
    store = moola.build_features(bars, tmp_path / "s", **options)
    assert (
        store.metadata["quality"]["dropped_bad_bars"],
        store.metadata["quality"]["dropped_duplicates"],
    ) == (2, 1)
    report = verify_features(tmp_path / "s", bars)
    assert report.ok, report.checks


def test_feature_names_and_ranges(either: tuple[Path, Path]) -> None:
    store, _ = either

    def swap(metadata: Any) -> None:
        metadata["features"][:2] = metadata["features"][1::-1]

    for change in (
        swap,
        lambda m: m["features"][0].update(name="x"),
        lambda m: m["features"][0].update(low=-1e9),
        lambda m: m["features"][-1].update(high=1e9),
        lambda m: m.update(feature_set="relativity_10"),
    ):
        original = json.loads((store / METADATA).read_bytes())
        edit_metadata(store, change)
        assert "identity" in found(store)
        (store / METADATA).write_bytes(dump_json(original))
        seal(store)
    assert found(store) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("atr_period", 4),
        ("range_ema_period", 21),
        ("zigzag_k", 1.5),
        ("swing_time_scale", 50.0),
        ("warmup_bars", 15),
    ],
)
def test_parameters(panel: tuple[Path, Path], name: str, value: float) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: m["parameters"].update({name: value}))
    assert "recomputed" in found(store)


@pytest.mark.parametrize("value", [-1, 1 << 32, 1 << 70, 1e400, "3", None, [], {}, 0, 1.5])
def test_parameters_that_make_no_sense(panel: tuple[Path, Path], value: Any) -> None:
    store, _ = panel
    if value == 1e400:
        value = 1e308
    edit_metadata(store, lambda m: m["parameters"].update(atr_period=value))
    failed = found(store)
    assert {"identity", "recomputed", "streamed", "causal"} <= set(failed)


def test_parameters_missing_or_added(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: m["parameters"].update(other=1))
    assert set(found(store)) == {"identity"}
    edit_metadata(store, lambda m: [m["parameters"].pop(name) for name in ("other", "atr_period")])
    assert "identity" in found(store)


def test_known_after(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: m["known_after"]["features"].update(body_signed=1))
    failed = found(store)
    assert set(failed) == {"recomputed"}
    assert "known_after" in failed["recomputed"]


def test_columns_kept_and_options(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    edit_metadata(store, lambda m: m["read_options"].update(keep=[]))
    assert "identity" in found(store)
    edit_metadata(store, lambda m: m["read_options"].update(keep=["volume"], reset_on_gap="2h"))
    assert {"identity", "times", "quality"} <= set(found(store))
    # With the source it is a finding too, not an error.
    assert {"identity", "source"} <= set(found(store, bars))
    edit_metadata(store, lambda m: m["read_options"].update(reset_on_gap=MINUTE))
    assert {"times", "source"} <= set(found(store, bars))


# Splits.


def test_splits_that_overlap(either: tuple[Path, Path]) -> None:
    store, _ = either

    def change(record: Any) -> None:
        ranges = record["splits"]["val"]["ranges"]
        ranges[0][0] -= 2
        record["splits"]["val"]["bars"] += 2
        with FeatureStore.open(store) as opened:
            record["splits"]["val"]["windows"] = count_windows(opened, ranges, opened.window_length)

    edit_json(store, SPLITS, lambda r: r.update(embargo=0))
    with FeatureStore.open(store) as opened:
        end = opened.splits["train"].ranges[0][1]
    edit_json(store, SPLITS, lambda r: r["splits"]["val"]["ranges"][0].__setitem__(0, int(end)))
    edit_json(
        store,
        SPLITS,
        lambda r: r["splits"]["val"].update(bars=sum(b - a for a, b in r["splits"]["val"]["ranges"])),
    )
    edit_json(store, SPLITS, change)
    assert "shares bars" in found(store)["splits"]


def test_splits_with_another_count(either: tuple[Path, Path]) -> None:
    store, _ = either
    for name in ("train", "val", "test"):
        edit_json(
            store, SPLITS, lambda r, n=name: r["splits"][n].update(windows=r["splits"][n]["windows"] + 1)
        )
        failed = found(store)
        assert set(failed) == {"splits"}
        assert f"{name} has " in failed["splits"]
        edit_json(
            store, SPLITS, lambda r, n=name: r["splits"][n].update(windows=r["splits"][n]["windows"] - 1)
        )
    assert found(store) == {}


def test_splits_exchanged(either: tuple[Path, Path]) -> None:
    store, _ = either

    def change(record: Any) -> None:
        splits = record["splits"]
        splits["val"], splits["test"] = splits["test"], splits["val"]

    edit_json(store, SPLITS, change)
    failed = found(store)
    assert set(failed) == {"splits"}
    assert "but the split before it ends at" in failed["splits"]


def test_a_split_cut_shorter(either: tuple[Path, Path]) -> None:
    """Chronological, disjoint and rightly counted, but not where the options cut."""
    store, _ = either

    def change(record: Any) -> None:
        train = record["splits"]["train"]
        train["ranges"][-1][1] -= 1
        train["bars"] -= 1
        with FeatureStore.open(store) as opened:
            train["windows"] = count_windows(opened, train["ranges"], opened.window_length)

    edit_json(store, SPLITS, change)
    failed = found(store)
    assert set(failed) == {"splits"}
    assert "comes out from the options that it records" in failed["splits"]
    assert "splits.train" in failed["splits"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("purge", 1), ("embargo", 1), ("embargo", 10**30), ("fractions", [0.5, 0.25, 0.25]), ("fractions", None),
        ("fractions", [0.6, 0.2]), ("boundaries", []), ("boundaries", [1, 2, 3]), ("method", "dates"), ("other", 1),
        ("fractions", ["a", "b", "c"]),
    ],
)  # fmt: skip
def test_how_splits_were_made(panel: tuple[Path, Path], key: str, value: Any) -> None:
    store, _ = panel
    edit_json(store, SPLITS, lambda r: r.update({key: value}))
    assert set(found(store)) == {"splits"}


def test_splits_by_dates(tmp_path: Path) -> None:
    options = {
        "train_end": "2024-01-01",
        "val_end": "2024-01-02",
        "test_end": "2024-01-03",
        "tz": "America/New_York",
    }
    bars = panel_bars()
    moola.build_features(bars, tmp_path / "s", window_length=6, config={"warmup_bars": 12}, **options)
    assert found(tmp_path / "s") == {}
    for key, value in (
        ("train_end", "2024-01-02"), ("val_end", "2023-12-31"), ("test_end", "2024-01-02"), ("tz", "UTC"),
        ("tz", "Nowhere"), ("train_end", None), ("train_end", 7),
    ):  # fmt: skip
        original = json.loads((tmp_path / "s" / SPLITS).read_bytes())
        edit_json(tmp_path / "s", SPLITS, lambda r, k=key, v=value: r.update({k: v}))
        assert set(found(tmp_path / "s")) == {"splits"}, (key, value)
        edit_json(tmp_path / "s", SPLITS, lambda r, o=original: r.update(o))
    assert found(tmp_path / "s") == {}


def test_another_window_length(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    for length in (5, 7, 1, 1 << 40, (1 << 63) - 1):
        edit_metadata(store, lambda m, n=length: m.update(window_length=n))
        assert "splits" in found(store)


# Any value anywhere in the JSON: never an exception.

ODD: list[Any] = [None, -1, 0, 1 << 40, (1 << 63) - 1, 1 << 64, 1e308, "x", "", [], {}, [[]], True]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


# Facts about the build that nothing else in a store, or in its bars, can confirm.
FREE = {
    "store_id",
    "moola_version",
    "created",
    "timings",
    "sources",
    "read_options",
    "known_after",
    "parameters",
}


@pytest.mark.parametrize("name", [METADATA, SPLITS])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_value_anywhere_is_a_finding(name: str, layout: str, built: Any, tmp_path: Path) -> None:
    store, _ = copy(built("panel", layout), tmp_path)
    original = json.loads((store / name).read_bytes())
    whole = {p: (store / p).read_bytes() for p in (METADATA, SPLITS, CHECKSUMS)}
    # Sealing puts this size right again.
    paths = [path for path in leaves(original) if path and path != ("files", SPLITS, "bytes")]
    # Of the many segments and ranges, the first and the last.
    paths = [
        p for p in paths if p[0] != "segments" or len(p) == 1 or p[1] in (0, len(original["segments"]) - 1)
    ]
    quiet = set()
    for i, path in enumerate(paths):
        for odd in ODD[i % 4 :: 4]:
            value = json.loads(whole[name])
            put(value, path, odd)
            if value == original:
                continue
            (store / name).write_bytes(dump_json(value))
            seal(store)
            report = verify_features(store, samples=1)
            if report.ok:
                quiet.add(path[0])
            for file, data in whole.items():
                (store / file).write_bytes(data)
    assert quiet <= (FREE if name == METADATA else set()), quiet


def test_json_that_is_not_canonical(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    value = json.loads((store / METADATA).read_bytes())
    # Too long to be compared on opening: the check does it.
    value["timings"]["padding"] = "x" * (1 << 20)
    (store / METADATA).write_bytes(dump_json(value))
    seal(store)
    assert found(store) == {}
    (store / METADATA).write_bytes(dump_json(value).replace(b": ", b":  ", 1))
    hashes = {p.name: _core.hash_file(p) for p in store.iterdir() if p.name != CHECKSUMS}
    (store / CHECKSUMS).write_bytes(dump_checksums(hashes))
    assert set(findings(verify_features(store))) == {"json"}


# Leaks.


def shifted(bars: np.ndarray, features: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Each bar's features are those of the next."""
    return np.concatenate([features[1:], features[-1:]])


def centred(bars: np.ndarray, features: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Prices smoothed with the bars around them, the one to come included."""
    kernel = np.ones(3) / 3
    smooth = np.stack([np.convolve(np.pad(column, 1, "edge"), kernel, "valid") for column in bars.T])
    return _core.compute_features(*np.ascontiguousarray(smooth), **options)


def scaled(bars: np.ndarray, features: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Scaled by the mean of the whole series, as if it were known from the start."""
    return (features - features.mean(axis=0) * np.float32(1e-3)).astype(np.float32)


@pytest.mark.parametrize("leak", [shifted, centred, scaled])
def test_features_that_look_ahead(either: tuple[Path, Path], leak: Callable[..., np.ndarray]) -> None:
    """Each of the three checks finds them on its own, from one sample."""
    store, bars = either
    with FeatureStore.open(store) as opened:
        parameters = tuple(opened.config.values())
        options = {"feature_set": opened.feature_set, "parameters": parameters}
        rows = np.zeros((len(opened), len(opened.feature_names)), np.float32)
        for segment in opened.segments:
            place = slice(segment.first_row, segment.last_row + 1)
            columns = np.ascontiguousarray(opened.bars[place].T)
            rows[place] = leak(opened.bars[place], _core.compute_features(*columns, **options), options)
        if opened.layout == "windows":
            rows = rows[opened.window_starts[:, None] + np.arange(opened.window_length)]
    edit_array(store, features_of(store), lambda x: x.__setitem__(..., rows))
    failed = found(store, bars, samples=1)
    assert {"recomputed", "streamed", "causal"} <= set(failed)
    assert "source" not in failed
    assert "differ" in failed["streamed"]
    assert "known" in failed["causal"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_engine_that_looks_ahead(layout: str, built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the engine itself to leak, with a store full of what it computes: the future rewritten shows it."""

    class Leaking(_core.FeatureStream):
        def push_many(self, *columns: Any) -> Any:
            rows = super().push_many(*columns)
            # Of the rows but the last, the last feature knows the next close.
            rows[:-1, -1] += np.float32(1e-6) * columns[3][1:].astype(np.float32)
            return rows

    store, _ = built("panel", layout)
    assert verify_features(store).ok
    monkeypatch.setattr(_core, "FeatureStream", Leaking)
    failed = findings(verify_features(store, samples=1))
    assert set(failed) == {"causal"}


def test_an_engine_that_looks_one_bar_ahead_at_the_cut(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Leaking(_core.FeatureStream):
        def push_many(self, *columns: Any) -> Any:
            rows = super().push_many(*columns)
            if len(rows) > 1000:  # only where there is a future
                rows[: -5_000 or None, 0] += 1
            return rows

    store, _ = built("panel", "bars")
    monkeypatch.setattr(_core, "FeatureStream", Leaking)
    failed = findings(verify_features(store, samples=1))
    assert "change when the bars after it do" in failed["causal"]


# Another source.


def changed(bars: Path, column: str, row: int, change: Callable[[float], float]) -> pa.Table:
    table = pq.read_table(bars)
    values = table[column].to_pylist()
    values[row] = change(values[row])
    array = pa.array(values, table[column].type)
    return table.set_column(table.column_names.index(column), column, array)


def row_in_store(store: Path, table: pa.Table, row: int) -> tuple[int, str]:
    """Which row of the store a row of the source is, and the time in words."""
    time = table["timestamp"].cast(pa.int64())[row].as_py()
    symbol = table["symbol"][row].as_py() if "symbol" in table.column_names else ""
    with FeatureStore.open(store) as opened:
        for segment in opened.segments:
            if segment.symbol == symbol and segment.first_timestamp <= time <= segment.last_timestamp:
                rows = opened.timestamps[segment.first_row : segment.last_row + 1]
                words = np.datetime_as_string(np.datetime64(time, "ns"), unit="s") + "Z"
                return segment.first_row + int(np.searchsorted(rows, time)), words
    raise AssertionError("the store does not have this row")


def test_a_source_with_one_changed_price(either: tuple[Path, Path]) -> None:
    store, bars = either
    for row, column in ((0, "high"), (31, "high"), (59, "high")):
        table = changed(bars, column, row, lambda x: x + 0.25)
        failed = found(store, table)
        assert set(failed) == {"source"}
        at, time = row_in_store(store, table, row)
        assert f"bars.npy: row {at} at {time} is [" in failed["source"]
        assert ", the source says [" in failed["source"]


def test_a_source_with_another_kept_value(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    table = changed(bars, "volume", 12, lambda x: x + 1)
    at, time = row_in_store(store, table, 12)
    assert f"extra.npy: row {at} at {time}" in found(store, table)["source"]


def test_a_source_without_its_last_bar(built: Any, tmp_path: Path) -> None:
    store, bars = copy(built("plain", "bars"), tmp_path)
    table = pq.read_table(bars)
    failed = found(store, table.slice(0, 59))
    assert set(failed) == {"source"}
    assert failed["source"] == (
        "the source ends before row 59 at 2024-01-01T00:59:00Z; it has 59 bars, the store 60"
    )
    more = changed(bars, "timestamp", 59, lambda t: t + np.timedelta64(60, "s"))
    more = pa.concat_tables([table, more.slice(59)])
    assert found(store, more)["source"] == (
        "the source goes on after the store's last row, with row 60 at 2024-01-01T01:00:00Z; "
        "it has 61 bars, the store 60"
    )
    failed = found(store, table.slice(1))
    assert (
        "row 0 at 2024-01-01T00:00:00Z is 2024-01-01T00:00:00Z, the source says 2024-01-01T00:01"
        in failed["source"]
    )
    assert "it has 59 bars, the store 60" in failed["source"]


def test_a_source_without_a_symbol(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    table = pq.read_table(bars)
    for symbol in "ABC":
        failed = found(store, table.filter(pa.compute.not_equal(table["symbol"], symbol)))
        assert set(failed) == {"source"}
        assert "bars, the store 420" in failed["source"]
        assert " at 2024-01-01T" in failed["source"]


def test_a_source_of_other_bars(built: Any, tmp_path: Path) -> None:
    store, _ = copy(built("plain", "bars"), tmp_path)
    moola.make_bars(tmp_path / "other.parquet", 60)
    failed = found(store, tmp_path / "other.parquet")
    assert "timestamps.npy: row 0 at 2024-01-01T00:00:00Z is" in failed["source"]


def test_a_source_that_was_to_be_read_otherwise(built: Any, tmp_path: Path) -> None:
    store, bars = copy(built("plain", "bars"), tmp_path)
    edit_metadata(store, lambda m: m["read_options"].update(stamp="close"))
    failed = found(store, bars)
    assert set(failed) == {"source"}
    assert "timestamps.npy: row 0 at 2024-01-01T00:00:00Z is" in failed["source"]
    edit_metadata(
        store, lambda m: m["read_options"].update(stamp="open", columns={"open": "close", "close": "open"})
    )
    assert "bars.npy: row" in found(store, bars)["source"]


def test_a_source_with_bars_that_are_none(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    failed = found(store, changed(bars, "close", 5, lambda x: float("nan")))
    assert set(failed) == {"source"}
    assert "NaN, null or infinite price: 1" in failed["source"]


def test_a_source_that_is_none(panel: tuple[Path, Path], tmp_path: Path) -> None:
    """That says nothing about the store; and it is said before anything is checked."""
    store, _ = panel
    begun: list[str] = []
    with pytest.raises(InputMissingError, match=r"nowhere\.parquet"):
        verify_features(store, tmp_path / "nowhere.parquet", progress=lambda name, *_: begun.append(name))
    (tmp_path / "x.parquet").write_bytes(b"%PDF-1.7")
    with pytest.raises(InputError, match=r"x\.parquet"):
        verify_features(store, tmp_path / "x.parquet", progress=lambda name, *_: begun.append(name))
    assert begun == []


def test_a_source_in_another_format(panel: tuple[Path, Path], tmp_path: Path) -> None:
    store, bars = panel
    table = pq.read_table(bars)
    assert verify_features(store, table).ok
    assert verify_features(store, table.to_pandas()).ok
    pq.write_table(table.slice(0, 200), tmp_path / "1.parquet")
    pq.write_table(table.slice(200), tmp_path / "2.parquet")
    report = verify_features(store, [tmp_path / "1.parquet", tmp_path / "2.parquet"])
    assert report.ok
    assert "1.parquet, " in report.checks[-1].detail
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(50))
    assert verify_features(store, reader).ok


def test_no_temporary_files_remain(
    panel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    store, bars = panel
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert verify_features(store, bars).ok
    assert found(store, changed(bars, "close", 5, lambda x: float("nan")))
    assert list((tmp_path / "temporary").iterdir()) == []


# Stores that are none, or not any more.


def test_where_there_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    for name in ("nothing", "folder", "file", "nothing/below"):
        with pytest.raises(StoreMissingError):
            verify_features(tmp_path / name)


def test_truncated_and_missing_files(either: tuple[Path, Path]) -> None:
    store, _ = either
    for path in sorted(store.iterdir()):
        data = path.read_bytes()
        for size in {0, 1, 127, 128, len(data) // 2, len(data) - 1}:
            if size < len(data):
                path.write_bytes(data[:size])
                failed = findings(verify_features(store))
                assert path.name in failed["opens"], (path.name, size)
        path.write_bytes(data + b"\0")
        assert path.name in findings(verify_features(store))["opens"]
        path.unlink()
        assert path.name in findings(verify_features(store))["opens"]
        os.mkfifo(path)
        assert path.name in findings(verify_features(store))["opens"]
        path.unlink()
        path.write_bytes(data)
    (store / "other").touch()
    assert "other" in findings(verify_features(store))["opens"]


def test_a_file_of_another_store(panel: tuple[Path, Path], tmp_path: Path) -> None:
    store, _ = panel
    options = OPTIONS["panel"] | {"config": OPTIONS["panel"]["config"] | {"zigzag_k": 3.0}}
    moola.build_features(panel_bars(), tmp_path / "other", **options)
    shutil.copy(tmp_path / "other" / "features.npy", store)
    failed = findings(verify_features(store))
    assert failed["hashes"] == "features.npy: not the BLAKE3 that checksums.b3 has"
    assert "recomputed" in failed


@pytest.mark.parametrize("at", EVERYTHING[1:])
def test_a_store_that_is_replaced_meanwhile(panel: tuple[Path, Path], at: str) -> None:
    store, bars = panel
    checked = []

    def replace(name: str, done: int | None, total: int | None) -> None:
        checked.append(name)
        if name == at:
            moola.build_features(bars, store, overwrite=True, **OPTIONS["panel"])

    with pytest.raises(StaleStoreError, match=r"replaced.* Verify what is there now"):
        verify_features(store, progress=replace)
    assert checked[-1] == at
    assert verify_features(store).ok


def test_a_store_that_is_moved_away_meanwhile(panel: tuple[Path, Path], tmp_path: Path) -> None:
    store, _ = panel
    with pytest.raises(StaleStoreError):
        verify_features(
            store, progress=lambda name, *_: name == "ranges" and store.rename(tmp_path / "moved")
        )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("at", EVERYTHING[1:])
def test_files_truncated_meanwhile(layout: str, at: str, built: Any, tmp_path: Path) -> None:
    """A finding each, where reading through a map would kill the process."""
    store, bars = copy(built("panel", layout), tmp_path)

    def truncate(name: str, done: int | None, total: int | None) -> None:
        if name == at:
            for path in store.iterdir():
                os.truncate(path, 0)

    failed = findings(verify_features(store, bars, progress=truncate))
    assert at in failed or at == "identity"
    assert set(EVERYTHING[EVERYTHING.index(at) + 1 :]) - {"identity"} <= set(failed)


# Options.


def test_reproducibility_may_be_skipped(either: tuple[Path, Path]) -> None:
    store, bars = either
    report = verify_features(store, reproducibility=False)
    assert [check.name for check in report.checks] == HASHES
    report = verify_features(store, bars, reproducibility=False)
    assert [check.name for check in report.checks] == [*HASHES, "source"]


def test_samples(either: tuple[Path, Path]) -> None:
    store, _ = either
    with FeatureStore.open(store) as opened:
        windows = count_windows(opened, [[0, len(opened)]], opened.window_length)
    for samples, drawn in (
        (0, 0),
        (1, 1),
        (7, 7),
        (windows, windows),
        (windows + 1, windows),
        (10**9, windows),
    ):
        report = verify_features(store, samples=samples)
        assert report.ok
        details = {check.name: check.detail for check in report.checks}
        assert details["streamed"].startswith(f"{drawn:,} windows ")
        assert f" {drawn:,} cuts " in details["causal"]
    for samples in (-1, 1.5, "5", None, True):
        with pytest.raises(ConfigError, match=r"samples: .* is not a number of windows; give 0 or more"):
            verify_features(store, samples=samples)  # type: ignore[arg-type]


def test_progress(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    calls: list[Any] = []
    report = verify_features(store, bars, progress=lambda *args: calls.append(args))
    names = [check.name for check in report.checks][1:]
    assert calls == [(name, i, len(names)) for i, name in enumerate(names)]


def test_relative_paths(panel: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = panel
    monkeypatch.chdir(store.parent)
    assert verify_features("store").ok
    report = verify_features(Path("store"))
    assert report.path == Path("store")


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Files are read in pieces, not through maps, which count as memory."""
    moola.make_bars(tmp_path / "bars.parquet", 60_000)
    moola.build_features(tmp_path / "bars.parquet", tmp_path / "store", layout="windows")
    size = sum(p.stat().st_size for p in (tmp_path / "store").iterdir())
    assert size > 240 << 20
    program = """
        import resource, sys, moola
        from moola.verify import verify_features
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert verify_features(sys.argv[1]).ok
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "store")]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 64 << 10  # KiB
