"""Every form of labels by reference gives the same windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_files import ARRAYS, LENGTHS, K, assert_same, iso, labels, refused
from tiny_store import MINUTE, build

import moola
from moola import FeatureStore
from moola.errors import ConfigError
from moola.labels import read_labels
from moola.splits import NAMES

TIMES: dict[str, Callable[[np.ndarray], pa.Array]] = {
    "arrow ns": lambda t: pa.array(t, pa.timestamp("ns", "UTC")),
    "arrow s, New York": lambda t: pa.array(t // 10**9, pa.timestamp("s", "America/New_York")),
    "text": lambda t: pa.array([None if pd.isna(x) else iso(int(x)) for x in t]),
    "epoch ns": lambda t: pa.array(t, pa.int64()),
    "epoch ms": lambda t: pa.array(t // 10**6, pa.int64()),
    "epoch s, as text": lambda t: pa.array([None if pd.isna(x) else str(int(x) // 10**9) for x in t]),
}

NUMBERS: dict[str, Callable[[np.ndarray], pa.Array]] = {
    "int": lambda n: pa.array(n, pa.int64()),
    "uint": lambda n: pa.array(n, pa.int32()),
    "float": lambda n: pa.array(n, pa.float64()),
    "text": lambda n: pa.array([None if pd.isna(x) else str(int(x)) for x in n]),
    "text of floats": lambda n: pa.array([None if pd.isna(x) else str(float(x)) for x in n]),
}


@given(
    case=labels(),
    end_form=st.sampled_from([*TIMES.items(), *NUMBERS.items()]),
    span_kind=st.sampled_from(["time", "row", "bar"]),
    said=st.booleans(),
    nulls=st.booleans(),
    data=st.data(),
)
def test_every_form_gives_the_same_windows(
    store: FeatureStore,
    case: dict[str, Any],
    end_form: Any,
    span_kind: str,
    said: bool,
    nulls: bool,
    data: Any,
) -> None:
    length, ends, spans = case["length"], case["ends"], case["spans"]
    name, write = end_form
    window_end = write(store.timestamps[ends] if name in TIMES and write is TIMES[name] else ends)
    begin = ends - length + 1
    rows = begin[:, None] + spans
    numbers = {"bar": spans, "row": rows, "time": store.timestamps[rows]}[span_kind].astype(object)
    numbers[spans < 0] = None if nulls or span_kind == "time" else -1
    form = data.draw(st.sampled_from([*(TIMES if span_kind == "time" else NUMBERS).values()]))
    if span_kind == "time":
        held = [pa.nulls(len(ends)) if all(x is None for x in column) else column for column in numbers.T]
        start, end = (
            column if isinstance(column, pa.Array) else with_nulls(form, column.tolist()) for column in held
        )
    else:
        start, end = (with_nulls(form, column.tolist()) for column in numbers.T)
    table = pa.table({"window_end": window_end, "class": case["classes"], "start": start, "end": end})

    # Bars counted in a window need its length. Without such numbers, the length is not needed.
    said = said or bool((spans < 0).all())
    got = read_labels(
        table,
        store,
        window_length=length,
        extra=["kept1"],
        span_kind=None if not said or span_kind == "time" else span_kind,
        labelled_length=length if span_kind == "bar" else None,
    )

    window = begin[:, None] + np.arange(length)
    assert got.X.dtype == np.float32
    assert np.array_equal(got.X[..., :3], store.features[window])
    assert np.array_equal(got.X[..., 3], store.extra[window][..., 1])
    assert np.array_equal(got.valid_mask, store.valid[window])
    assert got.valid_mask[:, -1].all()
    assert got.feature_names == (*store.feature_names, "kept1")
    assert [got.classes[code] for code in got.y] == case["classes"]
    assert got.classes == tuple(sorted(set(case["classes"])))
    assert np.array_equal(got.spans, spans)
    assert np.array_equal(got.starts, begin)
    assert np.array_equal(got.ends, ends)
    assert np.array_equal(got.label_ends, ends)
    assert np.array_equal(got.times, store.timestamps[ends])
    assert (got.weight == 1).all()
    assert (got.symbols == "").all()
    assert (got.feature_set, got.parameters, got.window_length) == (store.feature_set, store.config, length)
    assert got.store_id == store.id
    hidden = [
        s >= 0 and not store.valid[b + s : b + e + 1].all() for b, (s, e) in zip(begin, spans, strict=True)
    ]
    assert bool(got.notices) == any(hidden)
    assert np.array_equal(got.splits, [split_of(store, *pair) for pair in zip(begin, ends, strict=True)])


def with_nulls(form: Callable[[Any], pa.Array], values: list[Any]) -> pa.Array:
    """The form of the values that exist, and null for those that do not."""
    there = form(np.array([value for value in values if value is not None], np.int64))
    numbers = iter(range(len(there)))
    return there.take(pa.array([None if value is None else next(numbers) for value in values], pa.int64()))


def split_of(store: FeatureStore, start: int, end: int) -> int:
    for number, name in enumerate(NAMES):
        if any(first <= start and end < last for first, last in store.splits[name].ranges):
            return number
    return -1


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_planted_expansions_load_unchanged(market: FeatureStore, folder: Path, suffix: str) -> None:
    path = folder / f"planted{suffix}"
    moola.make_bars(folder / "again.parquet", 40_000, symbols=2, expansions=path)
    got = read_labels(path, market.path)
    written = pq.read_table(folder / "expansions.parquet").to_pylist()
    assert len(got) == len(written) > 20
    assert set(got.symbols.tolist()) == {"SIM1", "SIM2"}
    for i, row in enumerate(written):
        first, last = got.starts[i] + got.spans[i]
        for time, at in [("window_end", got.ends[i]), ("start", first), ("end", last)]:
            assert pd.Timestamp(int(market.timestamps[at]), tz="UTC") == row[time]
        assert (got.symbols[i], got.classes[got.y[i]]) == (row["symbol"], row["class"])
        assert np.array_equal(got.X[i], market.features[got.starts[i] : got.ends[i] + 1])
    assert_same(got, read_labels(folder / "expansions.parquet", market))
    # Nothing keeps the store's files open.
    assert {type(getattr(got, name)) for name in ARRAYS} == {np.ndarray}


def test_any_window_length_ends_where_the_label_does(market: FeatureStore, folder: Path) -> None:
    path = folder / "expansions.parquet"
    whole = read_labels(path, market)
    longer = read_labels(path, market, window_length=150)
    assert longer.X.shape == (len(whole), 150, 10)
    assert np.array_equal(longer.ends, whole.ends)
    assert np.array_equal(longer.spans, whole.spans + 45)
    assert np.array_equal(longer.X[:, 45:], whole.X)
    # Only spans that a shorter window does not hold are refused.
    error = refused("span_outside", reading=lambda: read_labels(path, market, window_length=60))
    assert error.counts["span_outside"] == (whole.spans[:, 0] < 45).sum()
    assert error.rows["span_outside"] == (np.flatnonzero(whole.spans[:, 0] < 45) + 1).tolist()


@pytest.mark.parametrize("give", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "pyarrow"])
def test_tables_in_memory_are_read(store: FeatureStore, give: Callable[[Any], Any]) -> None:
    columns = {"window_end": [100, 200], "class": ["up", "down"], "weight": [0.5, 2.0]}
    got = read_labels(give(columns), store)
    assert got.ends.tolist() == [100, 200]
    assert got.weight.tolist() == [0.5, 2.0]
    assert (got.classes, got.y.tolist()) == (("down", "up"), [1, 0])


def test_columns_with_other_names_are_mapped(store: FeatureStore, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("Last;Kind;expansion_start;expansion_end\n100;up;2;4\n200;;;\n210;flat;-1;-1\n")
    error = refused(
        "no_class", reading=lambda: read_labels(path, store, columns="Last=window_end,Kind=class")
    )
    assert f"{path}, row 2 (line 3): Kind = nothing" in str(error)
    path.write_text(path.read_text().replace("200;;;\n", "200;1;0;9\n"))
    got = read_labels(path, store, columns={"Last": "window_end", "Kind": "class"})
    assert got.spans.tolist() == [[2, 4], [0, 9], [-1, -1]]
    assert got.classes == ("1", "flat", "up")


def test_local_times_and_formats_are_read(store: FeatureStore) -> None:
    time = pd.Timestamp(int(store.timestamps[100]), tz="UTC")
    table = pa.table(
        {"window_end": [time.tz_convert("Europe/Berlin").strftime("%d.%m.%Y %H:%M")], "class": ["up"]}
    )
    got = read_labels(table, store, tz="Europe/Berlin", time_format="%d.%m.%Y %H:%M")
    assert got.ends.tolist() == [100]
    whole = pa.table({"window_end": [int(time.strftime("%Y%m%d%H%M"))], "class": ["up"]})
    assert read_labels(whole, store, tz="UTC", time_format="%Y%m%d%H%M").ends.tolist() == [100]
    naive = pa.table({"window_end": pa.array(store.timestamps[[100]], pa.timestamp("ns")), "class": ["up"]})
    assert read_labels(naive, store, tz="UTC").ends.tolist() == [100]


def test_times_of_closes_are_converted(tmp_path: Path) -> None:
    moola.make_bars(tmp_path / "bars.parquet", 3_000)
    store = moola.build_features(tmp_path / "bars.parquet", tmp_path / "store", stamp="close")
    table = pa.table(
        {"window_end": [iso(int(store.timestamps[500]) + MINUTE)], "class": ["up"]}
        | {name: [iso(int(store.timestamps[row]) + MINUTE)] for name, row in [("start", 450), ("end", 460)]}
    )
    with pytest.raises(ConfigError, match=r"stamp: is not given, and this store.*Say close if labels have"):
        read_labels(table, store)
    closed = read_labels(table, store, stamp="close")
    assert (closed.ends.tolist(), closed.spans.tolist()) == ([500], [[54, 64]])
    assert read_labels(table, store, stamp="open").ends.tolist() == [501]
    # Rows are rows, regardless of their times.
    assert read_labels(pa.table({"window_end": [500], "class": ["up"]}), store).ends.tolist() == [500]


def test_times_of_closes_need_the_length_of_a_bar(tmp_path: Path) -> None:
    moola.make_bars(tmp_path / "bars.parquet", 3_000)
    bars = pq.read_table(tmp_path / "bars.parquet")
    some = bars.take(np.cumsum(np.random.default_rng(0).choice([2, 2, 3, 4], 700)).tolist())
    store = moola.build_features(some, tmp_path / "store", stamp="open")
    end = int(store.timestamps[500])
    table = pa.table({"window_end": [iso(end + MINUTE)], "class": ["up"]})
    with pytest.raises(ConfigError, match=r"bar_interval: is missing: .* --bar-interval, such as 1m"):
        read_labels(table, store, stamp="close")
    assert read_labels(table, store, stamp="close", bar_interval="1m").ends.tolist() == [500]
    known = moola.build_features(bars, tmp_path / "known", stamp="open")
    with pytest.raises(ConfigError, match=r"bar_interval: is 5m, but bars of .* are 1m long; leave it out"):
        read_labels(table, known, stamp="close", bar_interval="5m")
    # Closes a millisecond before the full minute mean it, as in the bars.
    early = pa.table({"window_end": [iso(end + MINUTE - 10**6)], "class": ["up"]})
    assert read_labels(early, store, stamp="close", bar_interval="1m").ends.tolist() == [500]


def test_row_numbers_determine_the_symbol(market: FeatureStore) -> None:
    end = market.segments[1].first_row + 500
    times = [iso(int(market.timestamps[row])) for row in (end - 5, end - 1)]
    got = read_labels(
        pa.table({"window_end": [end], "class": ["up"], "start": times[:1], "end": times[1:]}), market
    )
    assert (got.symbols.tolist(), got.spans.tolist()) == (["SIM2"], [[99, 103]])
    wrong = pa.table({"window_end": [end], "class": ["up"], "symbol": ["SIM1"]})
    error = refused("no_such_bar", reading=lambda: read_labels(wrong, market))
    assert f"window_end = {end}; the bars of SIM1 are rows 0 to 39,999" in str(error)


def test_the_dense_layout_gives_the_same(folder: Path, store: FeatureStore) -> None:
    dense = build(folder / "dense", lengths=LENGTHS, extra=2, layout="windows", window_length=K)
    table = pa.table({"window_end": [9, 100, 320, 458], "class": list("abab")})
    one, other = (read_labels(table, s, extra="kept0,kept1") for s in (store, dense))
    assert np.array_equal(one.X, other.X)
    assert np.array_equal(one.valid_mask, other.valid_mask)
    with pytest.raises(ConfigError, match=r"window_length: .* holds windows of 10 bars, not 12; build with"):
        read_labels(table, dense, window_length=12)
    with pytest.raises(ConfigError, match=r"extra: .* has no kept column 'volume', it has kept0, kept1"):
        read_labels(table, store, extra=["volume"])
