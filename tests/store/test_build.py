"""From bars to a store: its content, from any form of bars, and streams that continue from it."""

from __future__ import annotations

import json
import math
import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from bar_lengths import plain_interval
from builds import (
    FORMS,
    MINUTE,
    PRICES,
    SMALL,
    START,
    built,
    check_sound,
    names,
    refused,
    source,
    table,
    times,
)
from hypothesis import HealthCheck, assume, given, settings

import moola
from moola import _core
from moola.errors import BarError, ConfigError, InputError, StoreMissingError
from moola.errors.base import format_time
from moola.store import FeatureStore
from moola.store.build import build_features

SETS = _core.feature_sets()
SHARED = os.environ.get("MOOLA_SHARED")


# The written store, compared with plain NumPy


class Rows(NamedTuple):
    """The bars of one symbol, in order of time."""

    times: np.ndarray
    prices: np.ndarray
    """[n, 4]"""
    volume: np.ndarray
    contracts: np.ndarray


def expected_store(
    symbols: Mapping[str, Rows],
    *,
    feature_set: str = "relativity10",
    config: dict[str, Any] | None = None,
    window_length: int = 105,
    layout: str = "bars",
    stamp: str = "open",
    gap: int | None = None,
    contracts: bool = False,
    fractions: Sequence[str] = ("0.7", "0.15", "0.15"),
    days: Sequence[str] | None = None,
) -> dict[str, Any]:
    """A store's arrays, segments and splits, written literally from the specification as plain loops."""
    config = config or {}
    warmup = config.get("warmup_bars", 105)
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("times", "bars", "extra", "features", "valid", "segment")
    }
    segments: list[tuple[Any, ...]] = []
    row = 0
    interval = plain_interval([np.diff(own.times).tolist() for own in symbols.values()])
    for symbol in sorted(symbols):
        own = symbols[symbol]
        steps = np.diff(own.times)
        stamps = own.times - (interval if stamp == "close" else 0)
        begins = np.ones(len(stamps), bool)
        begins[1:] = (steps > gap) if gap is not None else False
        if contracts:
            begins[1:] |= own.contracts[1:] != own.contracts[:-1]
        bounds = [*np.flatnonzero(begins), len(stamps)]
        for first, end in pairwise(bounds):
            columns = [own.prices[first:end, k].copy() for k in range(4)]
            n = end - first
            valid = np.arange(n) >= warmup
            if feature_set.startswith("relativity"):
                swings = moola.compute_swings(*columns, config)
                valid &= (swings.high_index >= 0) & (swings.low_index >= 0)
            parts["features"].append(moola.compute_features(*columns, feature_set=feature_set, config=config))
            parts["valid"].append(valid)
            parts["times"].append(stamps[first:end])
            parts["bars"].append(own.prices[first:end])
            parts["extra"].append(own.volume[first:end, None].astype(np.float32))
            parts["segment"].append(np.full(n, len(segments)))
            first_valid = row + int(np.argmax(valid)) if valid.any() else None
            segments.append(
                (symbol, row, row + n - 1, int(stamps[first]), int(stamps[end - 1]), interval, first_valid)
            )
            row += n
    whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}

    # A split's number for every bar, 3 for none.
    if days is None:
        ordered = np.sort(whole["times"])
        edges = []
        for k in range(3):
            count = math.ceil(sum(Fraction(share) for share in fractions[: k + 1]) * row)
            later = ordered[ordered > ordered[count - 1]] if count else ordered
            edges.append(later[0] if len(later) else ordered[-1] + 1)
    else:
        edges = [(np.datetime64(day) + 1).astype("datetime64[ns]").astype(np.int64) for day in days]
    split = np.searchsorted(edges, whole["times"], side="right")

    # Every valid window, and the windows that lie in one split.
    k = window_length
    starts = np.arange(row - k + 1)
    starts = starts[
        (whole["segment"][starts] == whole["segment"][starts + k - 1]) & whole["valid"][starts + k - 1]
    ]
    inside = split[starts] == split[starts + k - 1]
    splits = {}
    for number, name in enumerate(("train", "val", "test")):
        rows = np.flatnonzero(split == number)
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else []
        splits[name] = (
            [[int(run[0]), int(run[-1]) + 1] for run in runs],
            len(rows),
            int((inside & (split[starts] == number)).sum()),
        )
    if layout == "windows":
        rows = starts[:, None] + np.arange(k)
        whole["features"], whole["valid"] = whole["features"][rows], whole["valid"][rows]
    short = sum(last - first + 1 < k for _, first, last, *_ in segments)
    return whole | {"segments": segments, "splits": splits, "starts": starts, "short": short}


def check_store(store: FeatureStore, expected: dict[str, Any]) -> None:
    for name, array in (
        ("features", store.features),
        ("valid", store.valid),
        ("times", store.timestamps),
        ("bars", store.bars),
    ):
        assert array.shape == expected[name].shape, name
        assert array.tobytes() == expected[name].tobytes(), name
    if store.extra is not None:
        assert store.extra.tobytes() == expected["extra"].tobytes()
    if store.layout == "windows":
        assert (store.window_starts == expected["starts"]).all()
    assert [tuple(segment) for segment in store.segments] == expected["segments"]
    splits = {name: (s.ranges.tolist(), s.bars, s.windows) for name, s in store.splits.items()}
    assert splits == expected["splits"]
    assert store.metadata["quality"]["segments_shorter_than_window"] == expected["short"]
    assert len(store) == len(expected["times"])


def as_table(symbols: Mapping[str, Rows], order: Sequence[tuple[str, int]]) -> pa.Table:
    """The rows of a panel in the given order: symbol and number of the row."""
    return pa.table(
        {
            "timestamp": times([symbols[symbol].times[i] for symbol, i in order]),
            "symbol": [symbol for symbol, _ in order],
            "contract": [f"{symbol}-{symbols[symbol].contracts[i]}" for symbol, i in order],
            **{
                name: np.array([symbols[symbol].prices[i, k] for symbol, i in order])
                for k, name in enumerate(PRICES)
            },
            "volume": np.array([symbols[symbol].volume[i] for symbol, i in order]),
        }
    )


def rows_of(seed: int, n: int, step: np.ndarray, contract_every: int = 10**9, start: int = START) -> Rows:
    _, *prices, volume = _core.SampleBars(seed).take(n)
    stamps = start + np.concatenate([[0], np.cumsum(step[: n - 1])])
    return Rows(stamps.astype(np.int64), np.stack(prices, 1), volume, np.arange(n) // contract_every)


@st.composite
def panels(draw: st.DrawFn) -> tuple[dict[str, Rows], list[tuple[str, int]]]:
    """A few symbols with gaps and rolls, with interleaved rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    symbols = draw(
        st.lists(st.sampled_from(["ES", "NQ", "", "Öl", "ZZ", "a b"]), min_size=1, max_size=3, unique=True)
    )
    symbols = [symbol or "-" for symbol in symbols]
    rows = {}
    for symbol in symbols:
        n = draw(st.integers(1, 250))
        rare = draw(st.sampled_from([0.0, 0.01, 0.1]))
        step = np.where(rng.random(n) < rare, rng.choice([MINUTE // 2, 2 * MINUTE, 300 * MINUTE], n), MINUTE)
        # A last bar off the grid is refused as a bar that is not closed.
        step[max(n - 2, 0) :] = MINUTE
        every = draw(st.sampled_from([10**9, 70, 30]))
        rows[symbol] = rows_of(int(rng.integers(100)), n, step, every, START + int(rng.integers(60)) * MINUTE)
    order = [(symbol, i) for symbol, own in rows.items() for i in range(len(own.times))]
    if draw(st.booleans()):
        order.sort(key=lambda place: rows[place[0]].times[place[1]])
    return rows, order


@given(
    panel=panels(),
    feature_set=st.sampled_from(SETS),
    window_length=st.sampled_from([1, 2, 20, 61, 105]),
    warmup=st.sampled_from([0, 10, 105]),
    layout=st.sampled_from(["bars", "windows"]),
    stamp=st.sampled_from(["open", "close"]),
    gap=st.sampled_from([None, 2 * MINUTE - 1, 2 * MINUTE]),
    contracts=st.booleans(),
    keep=st.booleans(),
    sort=st.booleans(),
    dates=st.booleans(),
    batches=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_store_equals_a_plain_numpy_computation(
    panel: Any, feature_set: str, window_length: int, warmup: int, layout: Any, stamp: Any, gap: int | None,
    contracts: bool, keep: bool, sort: bool, dates: bool, batches: int,
) -> None:  # fmt: skip
    rows, order = panel
    days = ["2024-05-06", "2024-05-07", "2024-05-09"] if dates else None
    config = {"warmup_bars": warmup, "range_ema_period": 13}
    expected = expected_store(
        rows, feature_set=feature_set, config=config, window_length=window_length, layout=layout, stamp=stamp,
        gap=gap, contracts=contracts, days=days,
    )  # fmt: skip
    assume(any(windows for _, _, windows in expected["splits"].values()))
    if sort:
        order = random.Random(len(order)).sample(order, len(order))
    data = as_table(rows, order)
    pieces = [
        data.slice(k * len(order) // batches, (k + 1) * len(order) // batches - k * len(order) // batches)
        for k in range(batches)
    ]
    ends = dict(zip(("train_end", "val_end", "test_end"), days, strict=True)) if days else {}
    # A close cannot become an open where it is unknown how long bars are.
    assume(stamp == "open" or expected["segments"][0][5])
    with tempfile.TemporaryDirectory() as folder:
        store = build_features(
            pa.concat_tables([piece for piece in pieces if len(piece)]), Path(folder, "store"),
            feature_set=feature_set, config=config, window_length=window_length, layout=layout, stamp=stamp,
            reset_on_gap=gap, segment_by="symbol,contract" if contracts else "symbol",
            keep="volume" if keep else (), sort=sort, **ends,
        )  # fmt: skip
        check_store(store, expected)
        assert (store.extra is not None) == keep
        assert os.listdir(folder) == ["store"]
        check_sound(store.path)


@pytest.fixture(scope="module")
def large_panel() -> tuple[dict[str, Rows], list[tuple[str, int]]]:
    """Symbols with some gaps and rolls; one is longer than a batch."""
    rng = np.random.default_rng(5)
    rows = {
        symbol: rows_of(k, n, np.where(rng.random(n) < 0.001, 300 * MINUTE, MINUTE), 40_000)
        for k, (symbol, n) in enumerate([("NQ", 150_000), ("ES", 120_000), ("CL", 50), ("A", 1)])
    }
    order = [(symbol, i) for symbol, own in rows.items() for i in range(len(own.times))]
    order.sort(key=lambda place: (place[1], place[0]))
    return rows, order


def test_panels_of_many_batches_are_exact(tmp_path: Path, large_panel: Any) -> None:
    rows, order = large_panel
    expected = expected_store(rows, gap=60 * MINUTE, contracts=True)
    options: dict[str, Any] = {"reset_on_gap": "1h", "segment_by": "symbol,contract", "keep": "volume"}
    data = as_table(rows, order)
    with build_features(data, tmp_path / "store", **options) as store:
        check_store(store, expected)
        assert any("of" in line and "shorter than 105 bars" in line for line in store.notices)
    reader = pa.RecordBatchReader.from_batches(data.schema, data.to_batches(40_001))
    with build_features(reader, tmp_path / "store", overwrite=True, **options) as store:
        check_store(store, expected)
    # More rows than are sorted at a time.
    shuffled = data.take(np.random.default_rng(1).permutation(len(data)))
    with build_features(shuffled, tmp_path / "store", overwrite=True, sort=True, **options) as store:
        check_store(store, expected)
    # Partitions are the same panel, in another order.
    for symbol, own in rows.items():
        folder = tmp_path / "parts" / f"symbol={symbol}"
        folder.mkdir(parents=True)
        part = as_table(rows, [(symbol, i) for i in range(len(own.times))]).drop_columns("symbol")
        pq.write_table(part.slice(0, 100), folder / "0.parquet")
        if len(part) > 100:
            pq.write_table(part.slice(100), folder / "1.parquet")
    with build_features(tmp_path / "parts", tmp_path / "store", overwrite=True, **options) as store:
        check_store(store, expected)
        assert [source["rows"] for source in store.metadata["sources"]] == [1, 50, 100, 119_900, 100, 149_900]
    assert moola.verify_features(tmp_path / "store", tmp_path / "parts").ok
    assert names(tmp_path) == ["parts", "store"]


@pytest.mark.parametrize("length", [1, 7, 105, 3000])
def test_dense_windows_over_many_pieces_are_exact(tmp_path: Path, length: int) -> None:
    """Windows that begin in one piece of the computation and end in another, longer or shorter than the
    warm-up."""
    n = 140_000 if length == 7 else 8_000
    step = np.where(np.arange(n) % 3500 == 3499, 300 * MINUTE, MINUTE)
    rows = {"": rows_of(1, n, step)}
    expected = expected_store(
        rows, window_length=length, layout="windows", gap=60 * MINUTE, feature_set="ohlc4"
    )
    data = as_table(rows, [("", i) for i in range(n)]).drop_columns(["symbol", "contract"])
    options: dict[str, Any] = {"layout": "windows", "window_length": length, "reset_on_gap": "1h"}
    with build_features(data, tmp_path / "store", feature_set="ohlc4", **options) as store:
        check_store(store, expected)
        assert store.features.shape == (len(expected["starts"]), length, 4)


def test_every_form_gives_the_same_bits(tmp_path: Path) -> None:
    # Prices with all the digits that a float64 has, and times with nanoseconds.
    rng = np.random.default_rng(1)
    n = 2000
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, n)))
    open, up, down = close * np.exp(rng.normal(0, 1e-3, n)), *rng.random((2, n))
    data = pa.table(
        {
            "timestamp": times(START + 123_456_789 + np.arange(n) * MINUTE),
            "open": open,
            "high": np.maximum(open, close) + up,
            "low": np.minimum(open, close) - down,
            "close": close,
            "volume": rng.random(n) * 1e6,
            "symbol": np.where(rng.random(n) < 1 / 3, "B", "A"),
        }
    )
    options: dict[str, Any] = {"keep": "volume", "config": {"warmup_bars": 10}, "window_length": 30}
    expected = built(data, tmp_path / "s", **options)
    assert expected["features.npy"] != built(table(n), tmp_path / "s", **SMALL)["features.npy"]
    forms: dict[str, Any] = {form: source(data, form, tmp_path / "in").what for form in FORMS}
    forms |= {
        "reader": pa.RecordBatchReader.from_batches(data.schema, data.to_batches(77)),
        "indexed": data.to_pandas().set_index("timestamp"),
        "stream file": tmp_path / "in" / "bars.arrows",
        "two files": [
            source(data.slice(0, 700), "csv", tmp_path / "in", "0").what,
            source(data.slice(700), "parquet", tmp_path / "in", "1").what,
        ],
        "lazy": pl.from_arrow(data).lazy().collect(),  # type: ignore[union-attr]
        "categorical": data.to_pandas().astype({"symbol": "category"}),
    }
    with pa.ipc.new_stream(forms["stream file"], data.schema) as writer:
        writer.write_table(data)
    for form, bars in forms.items():
        assert built(bars, tmp_path / "s", **options) == expected, form


def test_one_shot_streams_of_slashed_dates_are_built(tmp_path: Path) -> None:
    """Slashed dates are read twice. A stream that can be read only once is stored on disk first."""
    moments = pd.to_datetime(START + np.arange(20_000) * MINUTE)
    data = table(20_000, timestamp=[f"{m.month}/{m.day}/{m.year} {m.hour}:{m.minute:02}" for m in moments])
    reader = pa.RecordBatchReader.from_batches(data.schema, data.to_batches(999))
    result = built(reader, tmp_path / "s", tz="UTC")
    assert result == built(table(20_000), tmp_path / "s", tz="UTC")


def test_the_metadata_record_how_the_store_was_built(tmp_path: Path) -> None:
    bars = source(table(), "csv", tmp_path / "in")
    options: dict[str, Any] = {
        "stamp": "close", "keep": ("volume",), "tz": "UTC", "dedup": "identical", "reset_on_gap": "4h",
        "columns": {"volume": "volume"}, "embargo": 3, "split": (0.5, 0.25, 0.25),
    }  # fmt: skip
    with build_features(
        bars.what, tmp_path / "store", feature_set="relativity12", **SMALL, **options
    ) as store:
        metadata = store.metadata
    assert metadata["feature_set"] == "relativity12"
    assert [feature["name"] for feature in metadata["features"]][-2:] == ["expansion_proxy", "consol_proxy"]
    assert metadata["parameters"] == moola.FeatureConfig(warmup_bars=10).model_dump()
    assert metadata["sources"] == [
        {
            "name": bars.name,
            "rows": 300,
            "blake3": _core.hash_file(bars.what),
            "timestamp": "ISO 8601 with offset",
        }
    ]
    assert metadata["read_options"] == {
        "columns": {"volume": "volume"}, "keep": ["volume"], "tz": "UTC", "time_format": None, "stamp": "close",
        "segment_by": ["symbol"], "drop_bad_bars": False, "max_bad": 0.001, "dedup": "identical", "sort": False,
        "allow_nonpositive": False,
        "reset_on_gap": 4 * 60 * MINUTE, "bar_interval": None, "skip_lines": 0, "decimal": None, "thousands": None,
        "symbols": [], "exclude_symbols": [], "symbol_from_name": None, "one_series": False,
    }  # fmt: skip
    assert store.segments[0].first_timestamp == START - MINUTE
    assert set(metadata["timings"]) == {"start", "read", "features", "check"}
    assert all(0 <= seconds < 60 for seconds in metadata["timings"].values())
    assert metadata["created"].endswith("+00:00")
    assert metadata["moola_version"] == moola.__version__
    assert metadata["known_after"]["features"].keys() == set(store.feature_names)
    splits = json.loads((store.path / "splits.json").read_text())
    assert (splits["method"], splits["fractions"], splits["embargo"], splits["purge"]) == (
        "fractions",
        [0.5, 0.25, 0.25],
        3,
        19,
    )
    assert moola.verify_features(store.path, bars.what).ok


def test_a_notice_asks_for_an_unset_stamp_convention(tmp_path: Path) -> None:
    with build_features(table(), tmp_path / "a", **SMALL) as store:
        assert "build again with --stamp close" in store.notices[0]
    for stamp in ("open", "close"):
        with build_features(table(), tmp_path / stamp, stamp=stamp, **SMALL) as store:  # type: ignore[arg-type]
            assert not any("stamp" in notice for notice in store.notices)


def test_progress_is_reported(tmp_path: Path) -> None:
    seen: list[tuple[str, int | None, int | None]] = []
    build_features(table(300_000), tmp_path / "store", progress=lambda *what: seen.append(what)).close()
    assert [stage for i, (stage, *_) in enumerate(seen) if i == 0 or stage != seen[i - 1][0]] == [
        "read",
        "features",
        "publish",
    ]
    done = [done for stage, done, _ in seen if stage == "read"]
    assert done == sorted(done)  # type: ignore[type-var]
    assert done[-1] == 300_000
    assert ("features", 300_000, 300_000) in seen


# Real bars


REAL: dict[str, dict[str, Any]] = {
    "sp500_1min_2019-11": {"tz": "America/New_York", "time_format": "%m/%d/%Y %H:%M"},
    "btcusdt_1min_2023-03": {},
    "btcusdc_1min_2023-03": {},
}
REAL_QUALITY = {
    "sp500_1min_2019-11": {"bars": 1563, "gaps": 3},
    "btcusdt_1min_2023-03": {"bars": 30_240, "zero_range_bars": 1616},
    "btcusdc_1min_2023-03": {"bars": 30_240, "zero_range_bars": 17_516},
}


@pytest.mark.skipif(not SHARED, reason="needs the real bars: set MOOLA_SHARED")
@pytest.mark.parametrize("feature_set", ["relativity10", "relativity12", "relative_transform11", "ohlc4"])
@pytest.mark.parametrize("name", REAL)
def test_real_bars_are_built(tmp_path: Path, name: str, feature_set: str) -> None:
    path = Path(str(SHARED), "data", f"{name}.csv")
    with np.load(Path(str(SHARED), "golden", f"{name}.npz")) as golden:
        store = build_features(path, tmp_path / "store", feature_set=feature_set, **REAL[name])
        expected = golden["relativity12"][:, :10] if feature_set == "relativity10" else golden[feature_set]
        np.testing.assert_allclose(store.features, expected, rtol=0, atol=1e-6)
        for k, column in enumerate(PRICES):
            assert (store.bars[:, k] == golden[column]).all()
        swings = (golden["swing_high_index"] >= 0) & (golden["swing_low_index"] >= 0)
    past = np.arange(len(store)) >= 105
    assert (store.valid == (past & swings if feature_set.startswith("relativity") else past)).all()
    quality = store.metadata["quality"]
    assert quality | REAL_QUALITY[name] == quality
    if name.startswith("sp500"):
        assert format_time(store.segments[0].first_timestamp) == "2019-11-05T14:30:00Z"
    report = moola.verify_features(store.path, path)
    assert report.ok, report.checks


@pytest.mark.skipif(not SHARED, reason="needs the real bars: set MOOLA_SHARED")
def test_real_dates_that_fit_both_orders_are_refused(tmp_path: Path) -> None:
    path = Path(str(SHARED), "data", "sp500_1min_2019-11.csv")
    refused(path, tmp_path, "--time-format '%m/%d/%Y", error=InputError, tz="America/New_York")


# Continuing live where the store ends


@pytest.mark.parametrize("feature_set", SETS)
def test_a_stream_continues_where_the_store_ends(tmp_path: Path, feature_set: str) -> None:
    data = table(3000)
    columns = [data[name].to_numpy() for name in PRICES]
    stamps = data["timestamp"].cast(pa.int64()).to_numpy()
    config = {"atr_period": 14, "warmup_bars": 50}
    store = build_features(data.slice(0, 2000), tmp_path / "store", feature_set=feature_set, config=config)
    rest = slice(2000, None)
    whole = moola.compute_features(*columns, feature_set=feature_set, config=config)
    assert (store.features == whole[:2000]).all()
    for given_store in (store, store.path, str(store.path)):
        stream = moola.FeatureStream.from_store(given_store)
        assert (stream.feature_set, stream.bars, stream.valid) == (feature_set, 2000, True)
        assert stream.last_timestamp == stamps[1999]
        rows = stream.push_many(*(column[rest] for column in columns), stamps[rest])
        assert rows.tobytes() == whole[rest].tobytes()
    # A bar that the store already has is refused, and leaves the stream unchanged.
    stream = moola.FeatureStream.from_store(store)
    before = stream.state()
    with pytest.raises(BarError, match=r"duplicate timestamp: 1\n.*timestamp = 2024-05-07T22:49:00Z\n"):
        stream.push(*(column[1999] for column in columns), timestamp=int(stamps[1999]))
    with pytest.raises(BarError, match="timestamp = 2024-05-07T22:48:00Z, after 2024-05-07T22:49:00Z"):
        stream.push(*(column[1998] for column in columns), timestamp=int(stamps[1998]))
    assert stream.state() == before


@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_a_stream_continues_with_the_gap_rule_for_any_symbol(tmp_path: Path, layout: Any) -> None:
    rng = np.random.default_rng(2)
    rows = {
        symbol: rows_of(k, 600, np.where(rng.random(600) < 0.01, 300 * MINUTE, MINUTE))
        for k, symbol in enumerate(["B", "A", "C"])
    }
    whole = expected_store(rows, gap=60 * MINUTE, config={"warmup_bars": 10})
    cut = {symbol: Rows(*(column[:400] for column in own)) for symbol, own in rows.items()}
    order = sorted(((symbol, i) for symbol in cut for i in range(400)), key=lambda place: place[1])
    store = build_features(
        as_table(cut, order), tmp_path / "store", layout=layout, reset_on_gap="1h", **SMALL
    )
    for k, symbol in enumerate(sorted(rows)):
        own = rows[symbol]
        stream = moola.FeatureStream.from_store(store, symbol)
        assert stream.reset_on_gap == 60 * MINUTE
        late = moola.FeatureStream.from_state(stream.state())
        found = stream.push_many(*(own.prices[400:, column].copy() for column in range(4)), own.times[400:])
        assert found.tobytes() == whole["features"][600 * k + 400 : 600 * (k + 1)].tobytes()
        for i in range(400, 600):
            late.push(*own.prices[i], timestamp=int(own.times[i]))
            assert late.valid == whole["valid"][600 * k + i]
        assert late.state() == stream.state()


def test_streams_that_cannot_continue_are_refused(tmp_path: Path) -> None:
    symbols = np.where(np.arange(300) % 2, "ES", "NQ")
    store = build_features(table(symbol=symbols), tmp_path / "store", **SMALL)
    with pytest.raises(ConfigError, match="symbol: the store has several symbols, name one: ES, NQ"):
        moola.FeatureStream.from_store(store)
    with pytest.raises(ConfigError, match="symbol: the store has no symbol 'CL': ES, NQ"):
        moola.FeatureStream.from_store(store, "CL")
    with pytest.raises(StoreMissingError):
        moola.FeatureStream.from_store(tmp_path / "nowhere")


def test_a_stream_reads_any_open_store(tmp_path: Path) -> None:
    """It needs only what `OpenStore` lists, not the class."""
    with build_features(table(), tmp_path / "store", **SMALL) as store:
        names = ("segments", "feature_set", "config", "metadata", "bars", "timestamps")
        like = SimpleNamespace(**{name: getattr(store, name) for name in names})
        stream = moola.FeatureStream.from_store(like)
        assert stream.state() == moola.FeatureStream.from_store(store.path).state()
