"""Labels: every form they come in gives the same windows, and what cannot be right is refused, row by row."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tiny_store import MINUTE, START, build
from typer.testing import CliRunner

import moola
from moola import FeatureStore
from moola.cli import app
from moola.errors import (
    ConfigError,
    InputError,
    InputMissingError,
    LabelError,
    LabelProblem,
    MoolaError,
    StoreWriteError,
)
from moola.errors.labels import LABEL_KINDS
from moola.labels import LabelledWindows, check_folds, overlaps, read_labels, read_raw_windows
from moola.labels.overlaps import group_bars, group_overlaps, hash_bars, join_groups
from moola.settings.features import FeatureConfig
from moola.splits import NAMES, PurgedKFold, assert_no_shared_bars

K = 10
LENGTHS = (300, 9, 150)
WARMUP = 5
ARRAYS = (
    *("X", "valid_mask", "y", "spans", "weight", "symbols", "starts", "ends", "label_ends"),
    *("times", "first_times", "groups", "splits"),
)
PLAIN = (
    *("classes", "feature_names", "feature_set", "parameters", "window_length", "store_id", "notices"),
    "reach",
)


def assert_same(one: LabelledWindows, other: LabelledWindows) -> None:
    for name in ARRAYS:
        a, b = getattr(one, name), getattr(other, name)
        if a is None or b is None:
            assert a is b, name
            continue
        assert a.dtype == b.dtype, name
        assert np.array_equal(a, b), name
    for name in PLAIN:
        assert getattr(one, name) == getattr(other, name), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels")


@pytest.fixture(scope="module")
def store(folder: Path) -> FeatureStore:
    """One series in three segments, of which the second is shorter than a window."""
    return build(folder / "store", lengths=LENGTHS, extra=2, window_length=K)


@pytest.fixture(scope="module")
def market(folder: Path) -> FeatureStore:
    """The sample market's two symbols, with planted expansions beside it."""
    moola.make_bars(folder / "bars.parquet", 40_000, symbols=2, expansions=folder / "expansions.parquet")
    return moola.build_features(folder / "bars.parquet", folder / "market", stamp="open")


def iso(nanoseconds: int) -> str:
    return str(np.datetime64(int(nanoseconds), "ns")) + "Z"


def refused(*kinds: str, reading: Callable[[], object]) -> LabelError:
    """The error, which must list these kinds, explain each, and say what to do."""
    with pytest.raises(LabelError) as caught:
        reading()
    error = caught.value
    assert set(error.counts) == set(kinds)
    assert {problem.kind for problem in error.problems} == set(kinds)
    for kind in kinds:
        what, advice = LABEL_KINDS[kind]
        assert f"  {what}: {error.counts[kind]:,}\n" in str(error)
        assert f"\n    → {advice}" in str(error)
    return error


# ---- every form gives the same windows ---------------------------------------------------------------------------


def ends_that_count(length: int) -> list[int]:
    """By hand: the rows at which windows of this length may end."""
    rows, first = [], 0
    for bars in LENGTHS:
        rows += [first + i for i in range(bars) if i >= WARMUP and i + 1 >= length]
        first += bars
    return rows


@st.composite
def labels(draw: st.DrawFn) -> dict[str, Any]:
    length = draw(st.integers(1, 25))
    # Beyond the first rows, where a number may be one of a bar as well as a row.
    ends = draw(
        st.lists(
            st.sampled_from([row for row in ends_that_count(length) if row >= 2 * max(length, K)]),
            min_size=1,
            max_size=12,
            unique=True,
        )
    )
    spans = []
    for _ in ends:
        start = draw(st.integers(-1, length - 1))
        spans.append((start, -1 if start < 0 else draw(st.integers(start, length - 1))))
    classes = draw(st.lists(st.sampled_from("abc"), min_size=len(ends), max_size=len(ends)))
    return {"length": length, "ends": np.array(ends), "spans": np.array(spans), "classes": classes}


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

    # Of bars counted in a window it must be known how long that was; and where no number tells, nothing is to be told.
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
    """The form of the values that are there, and null where there is none."""
    there = form(np.array([value for value in values if value is not None], np.int64))
    numbers = iter(range(len(there)))
    return there.take(pa.array([None if value is None else next(numbers) for value in values], pa.int64()))


def split_of(store: FeatureStore, start: int, end: int) -> int:
    for number, name in enumerate(NAMES):
        if any(first <= start and end < last for first, last in store.splits[name].ranges):
            return number
    return -1


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_planted_expansions_load_as_they_are(market: FeatureStore, folder: Path, suffix: str) -> None:
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
    # Nothing goes on holding the store's files.
    assert {type(getattr(got, name)) for name in ARRAYS} == {np.ndarray}


def test_any_window_length_ends_where_the_label_does(market: FeatureStore, folder: Path) -> None:
    path = folder / "expansions.parquet"
    whole = read_labels(path, market)
    longer = read_labels(path, market, window_length=150)
    assert longer.X.shape == (len(whole), 150, 10)
    assert np.array_equal(longer.ends, whole.ends)
    assert np.array_equal(longer.spans, whole.spans + 45)
    assert np.array_equal(longer.X[:, 45:], whole.X)
    # The spans that a shorter window does not hold are refused, and no others.
    error = refused("span_outside", reading=lambda: read_labels(path, market, window_length=60))
    assert error.counts["span_outside"] == (whole.spans[:, 0] < 45).sum()
    assert error.rows["span_outside"] == (np.flatnonzero(whole.spans[:, 0] < 45) + 1).tolist()


@pytest.mark.parametrize("give", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "pyarrow"])
def test_tables_in_memory(store: FeatureStore, give: Callable[[Any], Any]) -> None:
    columns = {"window_end": [100, 200], "class": ["up", "down"], "weight": [0.5, 2.0]}
    got = read_labels(give(columns), store)
    assert got.ends.tolist() == [100, 200]
    assert got.weight.tolist() == [0.5, 2.0]
    assert (got.classes, got.y.tolist()) == (("down", "up"), [1, 0])


def test_columns_that_are_called_otherwise(store: FeatureStore, tmp_path: Path) -> None:
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


def test_local_times_and_formats(store: FeatureStore) -> None:
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


def test_times_at_which_bars_close(tmp_path: Path) -> None:
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
    # Rows are rows, whatever times they have.
    assert read_labels(pa.table({"window_end": [500], "class": ["up"]}), store).ends.tolist() == [500]


def test_rows_tell_the_symbol(market: FeatureStore) -> None:
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


# ---- windows that share bars -------------------------------------------------------------------------------------


def brute_groups(shares: Callable[[int, int], bool], n: int) -> list[set[int]]:
    groups = [{i} for i in range(n)]
    for i, j in combinations(range(n), 2):
        if shares(i, j):
            one, other = (next(group for group in groups if k in group) for k in (i, j))
            if one is not other:
                one |= other
                groups.remove(other)
    return groups


def as_sets(groups: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), min_size=1, max_size=20))
def test_groups_of_overlaps_against_brute_force(windows: list[tuple[int, int]]) -> None:
    starts = np.array([start for start, _ in windows])
    ends = starts + [length for _, length in windows]
    groups = group_overlaps(starts, ends)
    want = brute_groups(lambda i, j: starts[i] <= ends[j] and starts[j] <= ends[i], len(windows))
    assert sorted(map(sorted, as_sets(groups))) == sorted(map(sorted, want))
    assert set(groups.tolist()) == set(range(len(want)))


@given(st.data(), st.integers(1, 12), st.integers(1, 3))
def test_joined_groups_against_brute_force(data: st.DataObject, n: int, groupings: int) -> None:
    several = [
        np.array(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))) for _ in range(groupings)
    ]
    groups = join_groups(several)
    want = brute_groups(lambda i, j: any(one[i] == one[j] for one in several), n)
    assert sorted(map(sorted, as_sets(groups))) == sorted(map(sorted, want))
    firsts = [min(group) for group in as_sets(groups)]
    assert firsts == sorted(firsts)


@given(st.lists(st.integers(0, 150), min_size=1, max_size=25), st.integers(4, 12), st.integers(0, 3))
def test_groups_of_bars_against_brute_force(starts: list[int], length: int, seed: int) -> None:
    """Windows cut from a series that stands still now and then: those that share three telling bars."""
    rng = np.random.default_rng(seed)
    series = rng.integers(0, 3, (170, 4)).cumsum(axis=0).astype(np.float64)
    series[60:75] = series[60]

    def shares(i: int, j: int) -> bool:
        a, b = sorted((starts[i], starts[j]))
        shared = series[b : a + length]
        return any(len(np.unique(shared[k : k + 3], axis=0)) > 1 for k in range(len(shared) - 2))

    windows = np.stack([series[start : start + length] for start in starts])
    with pytest.MonkeyPatch.context() as patched:
        # So few at a time that there are several stretches.
        patched.setattr(overlaps, "_AT_A_TIME", 4)
        groups = group_bars(hash_bars(windows))
    assert sorted(map(sorted, as_sets(groups))) == sorted(map(sorted, brute_groups(shares, len(starts))))
    firsts = [min(group) for group in as_sets(groups)]
    assert firsts == sorted(firsts)


def test_overlaps_are_reported_and_kept_together(store: FeatureStore) -> None:
    ends = [100, 105, 113, 200, 250, 259, 400]
    got = read_labels(pa.table({"window_end": ends, "class": list("abababa")}), store)
    assert got.groups.tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert "overlap: 5 windows share bars with others, in 2 groups; keep each on one side of" in "\n".join(
        got.report()
    )
    splitter = PurgedKFold(got.starts, got.ends, n_splits=2, label_ends=got.label_ends, groups=got.groups)
    tested = 0
    for train, test in splitter.split(got.X):
        assert_no_shared_bars(got.starts, got.ends, train, test, label_ends=got.label_ends)
        assert not set(got.groups[train]) & set(got.groups[test])
        tested += len(test)
    assert tested == len(got)


# ---- what is refused ---------------------------------------------------------------------------------------------


def rows(**columns: list[Any]) -> pa.Table:
    """Labels of a good window and of another; `columns` replace or add."""
    usual: dict[str, list[Any]] = {"window_end": [100, 200], "class": ["up", "down"]}
    return pa.table(usual | columns)


T = START + np.arange(300) * MINUTE


@pytest.mark.parametrize(
    ("kind", "table", "what"),
    [
        ("no_class", rows(**{"class": ["up", None]}), "class = nothing"),
        ("no_class", rows(**{"class": ["up", " "]}), "class = nothing"),
        ("no_window_end", rows(window_end=[100, None]), "window_end = nothing"),
        ("no_window_end", rows(window_end=[iso(T[100]), None]), "window_end = nothing"),
        ("bad_number", rows(window_end=[100.0, 200.5]), "window_end = 200.5"),
        ("bad_number", rows(window_end=["100", "two"]), "window_end = two"),
        ("bad_number", rows(start=["1", "x"], end=["1", "2"]), "start = x"),
        ("bad_number", rows(start=[1, 1], end=[1.0, 1.5]), "end = 1.5"),
        ("bad_time", rows(window_end=[iso(T[100]), "noon"]), "window_end = noon"),
        (
            "bad_time",
            rows(window_end=[iso(T[100])] * 2, start=[iso(T[99]), "x"], end=[iso(T[99])] * 2),
            "start = x",
        ),
        ("unknown_symbol", rows(symbol=["", "ES"]), "symbol ES: ES; the store has ''"),
        ("no_such_bar", rows(window_end=[100, 459]), "window_end = 459; the bars are rows 0 to 458"),
        ("no_such_bar", rows(window_end=[100, -1]), "window_end = -1; the bars are rows 0 to 458"),
        (
            "no_such_bar",
            rows(window_end=[iso(T[100]), iso(T[200] + 10**9)]),
            f"window_end = {iso(T[200] + 10**9)}; the bars around it are at 2023-11-15T01:34:00Z and "
            "2023-11-15T01:35:00Z",
        ),
        (
            "no_such_bar",
            rows(window_end=[iso(T[100]), iso(T[0] - MINUTE)]),
            f"window_end = {iso(T[0] - MINUTE)}; the first bar is at 2023-11-14T22:14:00Z",
        ),
        (
            "no_such_bar",
            rows(window_end=[iso(T[100]), "2033-01-01T00:00Z"]),
            "window_end = 2033-01-01T00:00Z; the last bar is at 2023-11-16T",
        ),
        (
            "crosses_segment",
            rows(window_end=[100, 308]),
            "window_end = 308 (2023-11-15T13:21:00Z); 9 bars of its segment up to there, not 10",
        ),
        (
            "crosses_segment",
            rows(window_end=[iso(T[100]), iso(T[8])]),
            f"window_end = {iso(T[8])}; 9 bars of its segment up to there, not 10",
        ),
        ("half_span", rows(start=[1, 1], end=[2, None]), "start = 1, end = nothing"),
        ("half_span", rows(start=[1, 1], end=[2, -1]), "start = 1, end = -1"),
        ("span_reversed", rows(start=[1, 5], end=[2, 4]), "start = 5, end = 4"),
        (
            "span_outside",
            rows(start=[1, 5], end=[2, 10]),
            "start = 5, end = 10 as bars counted in the window: bars 5 to 10 in a window of bars 0 to 9",
        ),
        (
            "span_outside",
            rows(start=[1, -2], end=[2, 3]),
            "start = -2, end = 3 as bars counted in the window: bars -2 to 3 in a window of bars 0 to 9",
        ),
        (
            "span_outside",
            rows(start=[95, 190], end=[99, 200]),
            "start = 190, end = 200 as rows of the store: bars -1 to 9 in a window of bars 0 to 9",
        ),
        (
            "span_outside",
            rows(start=[iso(T[95]), iso(T[195])], end=[iso(T[99]), iso(T[201])]),
            f"start = {iso(T[195])}, end = {iso(T[201])}: bars 4 to 10 in a window of bars 0 to 9",
        ),
        (
            "span_no_bar",
            rows(start=[iso(T[95]), iso(T[195] + 1)], end=[iso(T[99]), iso(T[199])]),
            f"start = {iso(T[195] + 1)}; the bars around it are at 2023-11-15T01:29:00Z and",
        ),
        ("bad_weight", rows(weight=[1.0, -0.5]), "weight = -0.5"),
        ("bad_weight", rows(weight=[1.0, None]), "weight = nothing"),
        ("bad_weight", rows(weight=[1.0, np.inf]), "weight = inf"),
        (
            "different_labels",
            rows(window_end=[100, 100]),
            "'down', no span; row 1 has 'up', no span",
        ),
        (
            "different_labels",
            rows(window_end=[100, 100], **{"class": ["up", "up"]}, start=[1, 1], end=[3, 4]),
            "'up', bars 1 to 4; row 1 has 'up', bars 1 to 3",
        ),
        (
            "different_labels",
            rows(window_end=[100, 100], **{"class": ["up", "up"]}, weight=[1, 2]),
            "'up', no span, weight 2; row 1 has 'up', no span, weight 1",
        ),
    ],
)
def test_refusals_name_the_row(store: FeatureStore, kind: str, table: pa.Table, what: str) -> None:
    error = refused(kind, reading=lambda: read_labels(table, store))
    assert error.counts == {kind: 1}
    assert error.rows == {kind: [2]}
    (problem,) = error.problems
    assert problem.row == 2
    assert f"    <pyarrow.Table>, row 2{', ' if problem.symbol else ': '}" in str(error)
    assert what in str(error)
    assert str(error).startswith("1 label refused\n")


NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 3, [None, pa.py_buffer(np.array([0, 2, 4, 5], np.int32)), pa.py_buffer(b"up\xff\xfea")]
)


@pytest.mark.parametrize(
    ("kind", "classes", "what"),
    [
        ("no_class", pa.array([0.0, np.nan, 1.0]), "class = nothing"),
        ("no_class", pa.array([0.0, np.nan, 1.0]).dictionary_encode(), "class = nothing"),
        ("no_class", pa.array(["up", "nan", "down"]), "class = nan"),
        ("no_class", pa.array(["up", "NaT", "down"]), "class = NaT"),
        ("no_class", pa.array(["up", "<NA>", "down"]), "class = <NA>"),
        ("no_class", pa.array(pd.Series(["up", pd.NaT, "down"])), "class = nothing"),
        ("bad_class", pa.array([0.0, 0.5, 1.0]), "class = 0.5, which is not whole"),
        ("bad_class", pa.array([0.0, np.inf, 1.0]), "class = inf, which is not whole"),
        ("bad_class", pa.array([None, [1, 2], None]), "class = [1, 2], which is list<"),
        ("bad_class", pa.array([None, {"a": 1}, None]), "class = {'a': 1}, which is struct<a: int64>"),
        ("bad_class", pa.array([None, 5, None], pa.timestamp("s")), "which is timestamp[s]"),
        ("bad_class", pa.array([b"up", b"\xff\xfe", b"a"]), "class = \ufffd\ufffd, which is no UTF-8"),
        ("bad_class", NOT_UTF8, "class = \ufffd\ufffd, which is no UTF-8"),
    ],
)
@pytest.mark.parametrize("cut", [False, True], ids=["of a store", "raw"])
def test_what_is_no_class(store: FeatureStore, kind: str, classes: pa.Array, what: str, cut: bool) -> None:
    def reading() -> object:
        if cut:
            return read_raw_windows(raw(candles(3, 30), label=classes), window_length=30)
        return read_labels(rows(window_end=[100, 200, 250], **{"class": classes}), store)

    others = {"no_class"} if classes.null_count else set()
    error = refused(kind, *others, reading=reading)
    assert error.rows[kind] == [2]
    assert (what if not cut else what.replace("class =", "label =")) in str(error)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (pa.array([1, 0, 1]), ("0", "1")),
        (pa.array([1.0, 0.0, 1.0]), ("0", "1")),
        (pa.array([1.0, 0.0, 1.0], pa.float16()), ("0", "1")),
        (pa.array([1.0, 0.0, 1.0]).dictionary_encode(), ("0", "1")),
        (pa.array([True, False, True]), ("False", "True")),
        (pa.array(["b", " a ", "b"], pa.large_string()), ("a", "b")),
        (pa.array(["None", "none", "ä"]).dictionary_encode(), ("None", "none", "ä")),
        (pa.array([b"b", b"a", "ä".encode()], pa.binary()), ("a", "b", "ä")),
    ],
)
def test_what_names_classes(store: FeatureStore, classes: pa.Array, names: tuple[str, ...]) -> None:
    assert read_labels(rows(window_end=[100, 200, 250], **{"class": classes}), store).classes == names


NOTHING = ("", "nan", "NaN", "NaT", "<NA>")


@pytest.mark.parametrize("spelt", [*NOTHING, None])
def test_no_span_however_it_is_spelt(store: FeatureStore, tmp_path: Path, spelt: str | None) -> None:
    """What stands first says nothing of the others."""
    for start, end, span in (("3", "5", [3, 5]), ("3.0", "5.0", [3, 5]), (iso(T[193]), iso(T[195]), [2, 4])):
        table = rows(window_end=[iso(T[100]), iso(T[200])], start=[spelt, start], end=[spelt, end])
        pa.csv.write_csv(table, tmp_path / "L.csv")
        for labels in (table, tmp_path / "L.csv"):
            assert read_labels(labels, store).spans.tolist() == [[-1, -1], span]
    for kind in ("bar", "row", "time", None):
        none = rows(start=pa.array([spelt] * 2, pa.string()), end=pa.array([spelt] * 2, pa.string()))
        assert read_labels(none, store, span_kind=kind).spans.tolist() == [[-1, -1]] * 2
    ends = rows(window_end=[spelt, "100"], start=["3", "3"], end=["5", "5"])
    assert refused("no_window_end", reading=lambda: read_labels(ends, store)).rows == {"no_window_end": [1]}


def test_columns_of_nulls_alone(store: FeatureStore) -> None:
    nulls = pa.nulls(2)
    assert str(nulls.type) == "null"
    for kind in ("bar", "row", "time", None):
        got = read_labels(rows(start=nulls, end=nulls), store, span_kind=kind)
        assert got.spans.tolist() == [[-1, -1]] * 2
    half = rows(window_end=[iso(T[100]), iso(T[200])], start=nulls, end=[iso(T[99]), None])
    assert refused("half_span", reading=lambda: read_labels(half, store)).rows == {"half_span": [1]}
    cut = raw(candles(2, 30), window_end=nulls)
    error = refused("no_window_end", reading=lambda: read_raw_windows(cut, window_length=30))
    assert "row 1: window_end = nothing" in str(error)


def test_a_window_before_the_warm_up_is_over(store: FeatureStore) -> None:
    table = rows(window_end=[100, 304])
    error = refused("in_warmup", reading=lambda: read_labels(table, store, window_length=3))
    assert "window_end = 304 (2023-11-15T13:17:00Z); 5 bars of its segment up to there are too few" in str(
        error
    )
    assert read_labels(rows(window_end=[100, 305]), store, window_length=3).ends.tolist() == [100, 305]


def test_times_that_clocks_make_doubtful(store: FeatureStore) -> None:
    times = ["2023-11-05 01:30", "2023-03-12 02:30"]
    error = refused(
        "bad_time", reading=lambda: read_labels(rows(window_end=times), store, tz="America/New_York")
    )
    assert "window_end = 2023-11-05 01:30, which occurs twice when clocks go back" in str(error)
    assert "window_end = 2023-03-12 02:30, which does not exist because clocks go forward" in str(error)


def test_one_error_lists_everything(store: FeatureStore, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    lines = [f"{100 + i},up,{i % 9},{i % 9}" for i in range(150)]
    for i in range(10, 100):
        lines[i] = f"{100 + i},up,5,4"
    lines[3] = lines[120] = "7000,up,1,1"
    lines[140] = "240,,1,1"
    path.write_text("\n".join(["window_end,class,start,end", *lines]) + "\n")
    kinds = ("span_reversed", "no_such_bar", "no_class")
    error = refused(*kinds, reading=lambda: read_labels(path, store))
    assert str(error).startswith("93 labels refused\n")
    assert len(error.problems) == 20
    assert error.counts == {"no_such_bar": 2, "span_reversed": 90, "no_class": 1}
    assert error.rows["span_reversed"] == list(range(11, 101))
    assert "    … and 73 more: rows 28 to 100\n" in str(error)
    assert f"    {path}, row 141 (line 142): class = nothing\n" in str(error)
    assert isinstance(error, MoolaError)
    assert isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.rows, again.problems) == (str(error), error.rows, error.problems)


def test_many_separate_rows_are_in_the_error() -> None:
    rows = list(range(1, 1000, 2))
    error = LabelError({"no_class": 500}, [LabelProblem("no_class", "x", row=1)], rows={"no_class": rows})
    assert "more: rows 3, 5, 7, " in str(error)
    assert "… (the error's `rows` has all)" in str(error)
    assert error.rows["no_class"] == rows


def test_exact_repeats_are_dropped(store: FeatureStore) -> None:
    table = rows(window_end=[100, 200, 100, 200, 300 - 1], **{"class": ["up", "down", "up", "down", "up"]})
    got = read_labels(table, store)
    assert got.ends.tolist() == [100, 200, 299]
    assert got.notices == ("rows 3 to 4 repeat another exactly and were dropped",)
    assert f"note: {got.notices[0]}" in got.report()
    one = read_labels(table.slice(0, 3), store)
    assert one.notices == ("row 3 repeats another exactly and was dropped",)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (
            pa.table({"when": [1], "class": ["up"]}),
            {},
            r"has no column for window_end; its columns are 'when', 'class'. Labels need window_end, class. Name "
            r"what is called otherwise with --columns FILE_COLUMN=window_end \(of moola import-labels\)",
        ),
        (
            pa.table({"features": [[[1.0, 1.0, 1.0, 1.0]]], "label": ["up"]}),
            {},
            r"has no column for window_end, and holds its windows itself, as lists of bars. Import it first, with "
            r"moola import-labels --raw \(read_raw_windows\)",
        ),
        (rows(start=[1, 2]), {}, r"a column 'start' for the start of spans, but none for the end. Give both"),
        (
            rows(window_end=["2024-05-06 10:00", "2024-05-06 11:00"]),
            {},
            r"row 1, '2024-05-06 10:00', has no time zone. Say which zone the times are in with --tz",
        ),
        (
            rows(window_end=pa.array(T[:2], pa.timestamp("ns"))),
            {},
            r"column 'window_end' \(timestamp\[ns\]\) has no time zone. Say which",
        ),
        (
            rows(window_end=["03/04/2024 10:00", "03/04/2024 11:00"]),
            {},
            r"times such as '03/04/2024 10:00', which may have the day or the month first. Say which with --time-f",
        ),
        (
            rows(window_end=["noon", "one"]),
            {},
            r"cannot tell how times such as 'noon' are written. Say so with",
        ),
        (
            rows(window_end=[[1], [2]]),
            {},
            r"'window_end' has the wrong type list<.*>; give times or whole numbers",
        ),
        (rows(weight=["1", "2"]), {}, r"'weight' has the wrong type string; weights are numbers. Convert it"),
        (
            rows(start=[iso(T[95])] * 2, end=[3, 4]),
            {},
            r"columns 'start' and 'end' are of two kinds, times and numbers. Give both as the same",
        ),
        (
            pa.table({"window_end": [12], "class": ["up"], "start": [4], "end": [8]}),
            {},
            r"may be bars counted in the window, and rows of the store: row 1 has 4 and 8 in the window of rows 3 to "
            r"12. Say what they are with --span-kind bar, row or time \(span_kind=\)",
        ),
        (
            pa.table({"window_end": [100], "class": ["up"], "start": [40], "end": [48]}),
            {},
            r"are neither bars counted in the window, nor rows of it: row 1 has 40 and 48 in the window of rows 91 to",
        ),
        (
            rows(start=[1, 2], end=[3, 4]),
            {"window_length": 8},
            r"counts bars in windows that had 10 bars, as the store says, or 8, as --window-length does. Say how long",
        ),
        (
            pa.table({"window_end": pa.array([], pa.int64()), "class": pa.array([], pa.string())}),
            {},
            "no labels",
        ),
    ],
)
def test_tables_that_are_none_or_may_mean_two_things(
    store: FeatureStore, table: pa.Table, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_labels(table, store, **options)
    assert str(caught.value).startswith("<pyarrow.Table>: ")


def test_what_settles_two_meanings(store: FeatureStore) -> None:
    table = pa.table({"window_end": [12], "class": ["up"], "start": [4], "end": [8]})
    assert read_labels(table, store, span_kind="bar").spans.tolist() == [[4, 8]]
    assert read_labels(table, store, span_kind="row").spans.tolist() == [[1, 5]]
    # Bars 2 and 4 of a window of ten are bars 0 and 2 of one of eight that ends with it.
    shorter = read_labels(rows(start=[2, 2], end=[4, 9]), store, window_length=8, labelled_length=10)
    assert shorter.spans.tolist() == [[0, 2], [0, 7]]


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        ({"window_length": 0}, "window_length", "0 is not a number of bars"),
        ({"window_length": 2.0}, "window_length", "2.0 is not a number of bars"),
        ({"labelled_length": True}, "labelled_length", "True is not a number of bars"),
        ({"span_kind": "bars"}, "span_kind", "'bars' is none; give bar, row, time"),
        ({"stamp": "end"}, "stamp", "must be 'open' or 'close', not 'end'"),
        ({"tz": "Berlin"}, "tz", "did you mean Europe/Berlin"),
        (
            {"columns": "x=klass"},
            "columns",
            r"'klass' is not a role \(window_end, class, symbol.*did you mean 'class'",
        ),
        ({"extra": ["kept0", "kept0"]}, "extra", "names a column twice"),
    ],
)
def test_options_that_make_no_sense(
    store: FeatureStore, options: dict[str, Any], name: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_labels(rows(), store, **options)
    assert caught.value.name == name


def test_numbers_for_a_kind_of_times(store: FeatureStore) -> None:
    table = rows(start=[iso(T[95]), iso(T[195])], end=[iso(T[99]), iso(T[199])])
    with pytest.raises(
        ConfigError, match="span_kind: is bar, but columns 'start' and 'end' are times; leave it"
    ):
        read_labels(table, store, span_kind="bar")
    with pytest.raises(InputError, match="row 1 has the time 1, which is not an epoch time"):
        read_labels(rows(start=[1, 2], end=[3, 4]), store, span_kind="time")


def test_symbols_are_needed_where_there_are_several(market: FeatureStore) -> None:
    table = pa.table({"window_end": [iso(int(market.timestamps[500]))], "class": ["up"]})
    with pytest.raises(
        InputError, match=r"has no symbol column, and the store has 2 symbols. Say of which symbol"
    ):
        read_labels(table, market)
    named = table.append_column("symbol", pa.array([None], pa.string()))
    error = refused("unknown_symbol", reading=lambda: read_labels(named, market))
    assert "row 1: no symbol; the store has 'SIM1', 'SIM2'" in str(error)


def test_files_that_are_no_labels(store: FeatureStore, tmp_path: Path) -> None:
    def message(content: bytes, name: str = "labels.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_labels(path, store)
        return str(caught.value).removeprefix(f"{path}: ")

    assert message(b"100,up\n200,down\n") == (
        "has no header: its first line is '100,up'. Put a line with the columns' names above it: window_end,class"
    )
    assert message(b"window_end,class\n").startswith("holds no labels, only a header. ")
    assert message(b"%PDF-1.4").startswith("is a PDF, not labels. ")
    pq.write_table(rows().slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(InputError, match=r"empty.parquet: holds no labels. "):
        read_labels(tmp_path / "empty.parquet", store)
    with pytest.raises(InputMissingError, match=r"there is no such file. Check the path"):
        read_labels(tmp_path / "nothing.csv", store)
    with pytest.raises(
        TypeError, match=r"labels must be a path or an object with __arrow_c_stream__.*not a list"
    ):
        read_labels([1, 2], store)


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_classes_with_fewer_windows_than_folds(folds: int) -> None:
    y, classes = np.repeat([0, 1, 2], [5, 1, 9]), ("up", "down", "none")
    few = [(name, n) for name, n in zip(classes, (5, 1, 9), strict=True) if n < folds]
    with pytest.raises(LabelError) as caught:
        check_folds(y, classes, folds)
    error = caught.value
    assert error.counts == {"too_few": len(few)}
    noun = "class" if len(few) == 1 else "classes"
    assert str(error).startswith(
        f"{len(few)} {noun} refused\n  class with fewer windows than folds: {len(few)}\n"
    )
    for name, n in few:
        assert f"    {name!r}: {n} window{'s' if n > 1 else ''} for {folds} folds\n" in str(error)
    check_folds(np.repeat([0, 1], folds), ("up", "down"), folds)
    with pytest.raises(ConfigError, match="folds: 1 is not a number of folds; give 2 or more"):
        check_folds(y, classes, 1)


# ---- windows that were cut beforehand ----------------------------------------------------------------------------


def candles(n: int, length: int, seed: int = 0) -> np.ndarray:
    """`[n, length, 4]`: windows of random candles on a tick grid."""
    rng = np.random.default_rng(seed)
    close = 4000 + rng.integers(-8, 9, (n, length)).cumsum(axis=1) * 0.25
    open_ = np.roll(close, 1, axis=1)
    open_[:, 0] = close[:, 0]
    high = np.maximum(open_, close) + rng.integers(0, 4, (n, length)) * 0.25
    low = np.minimum(open_, close) - rng.integers(0, 4, (n, length)) * 0.25
    return np.stack([open_, high, low, close], axis=2)


def nested(windows: Any, kind: str = "list", number: pa.DataType | None = None) -> pa.Array:
    number = number or pa.float64()
    lists = windows.tolist() if isinstance(windows, np.ndarray) else windows
    match kind:
        case "list":
            dtype = pa.list_(pa.list_(number))
        case "large":
            dtype = pa.large_list(pa.large_list(number))
        case "fixed bars":
            dtype = pa.list_(pa.list_(number, 4))
        case "fixed":
            dtype = pa.list_(pa.list_(number, 4), len(lists[0]))
    return pa.array(lists, dtype)


def raw(windows: Any, **columns: Any) -> pa.Table:
    features = windows if isinstance(windows, pa.Array | pa.ChunkedArray) else nested(windows)
    usual = {
        "features": features,
        "label": ["up", "down"] * (len(features) // 2) + ["up"] * (len(features) % 2),
    }
    return pa.table(usual | columns)


@pytest.mark.parametrize("feature_set", ["ohlc4", "relativity10", "relative_transform11"])
def test_raw_features_are_those_of_each_window_alone(feature_set: str) -> None:
    windows = candles(30, 105)
    got = read_raw_windows(raw(windows), feature_set=feature_set)
    settings = FeatureConfig(warmup_bars=20)
    for i, window in enumerate(windows):
        columns = [np.ascontiguousarray(column) for column in window.T]
        assert np.array_equal(
            got.X[i], moola.compute_features(*columns, feature_set=feature_set, config=settings)
        )
        swings = moola.compute_swings(*columns)
        known = (swings.high_index >= 0) & (swings.low_index >= 0)
        valid = np.arange(105) >= 20
        assert np.array_equal(got.valid_mask[i], valid & known if feature_set == "relativity10" else valid)
    assert got.X.dtype == np.float32
    assert got.X.shape[:2] == (30, 105)
    assert got.parameters == settings.model_dump()
    assert got.starts.tolist() == list(range(0, 30 * 105, 105))
    assert got.ends.tolist() == list(range(104, 30 * 105, 105))
    assert (got.times, got.splits, got.store_id) == (None, None, "")
    assert (got.symbols == "").all()
    assert got.groups.tolist() == list(range(30))
    assert (got.spans == -1).all()


@pytest.mark.parametrize("kind", ["list", "large", "fixed bars", "fixed"])
@pytest.mark.parametrize("number", [pa.float64(), pa.float32(), pa.int32()], ids=str)
def test_raw_layouts_give_the_same(kind: str, number: pa.DataType) -> None:
    windows = candles(7, 30) * 4  # whole numbers
    want = read_raw_windows(raw(windows), window_length=30)
    whole = windows.astype(int) if pa.types.is_integer(number) else windows
    column = nested(whole, kind, number)
    assert_same(want, read_raw_windows(raw(column), window_length=30))
    # In pieces, of which some do not begin where their memory does.
    pieces = pa.chunked_array([column.slice(0, 2), column.slice(2, 1), column.slice(3, 4)])
    assert_same(want, read_raw_windows(raw(pieces), window_length=30))
    tail = read_raw_windows(raw(column).slice(3), window_length=30)
    assert np.array_equal(tail.X, want.X[3:])


def test_float32_prices_are_widened_not_rounded_again() -> None:
    # Nothing on a grid: float32 rounds each price, and a candle is still one.
    windows = (candles(20, 105) * np.pi).astype(np.float32)
    got = read_raw_windows(raw(nested(windows, number=pa.float32())))
    want = [
        moola.compute_features(
            *(np.ascontiguousarray(column) for column in window.astype(np.float64).T),
            feature_set="ohlc4",
        )
        for window in windows
    ]
    assert np.array_equal(got.X, np.stack(want))


def test_what_pandas_stores_of_object_arrays(tmp_path: Path) -> None:
    """The old layout: a column of arrays of arrays, of dtype object throughout."""
    windows = candles(12, 105)
    objects = [np.array([np.array(bar) for bar in window] + [None], dtype=object)[:-1] for window in windows]
    frame = pd.DataFrame(
        {
            "features": objects,
            "label": ["consolidation", "retracement"] * 6,
            "expansion_start": [40.0] * 11 + [np.nan],
            "expansion_end": [50.0] * 11 + [np.nan],
        }
    )
    frame.to_parquet(tmp_path / "old.parquet")
    assert frame.features[0].dtype == object
    got = read_raw_windows(tmp_path / "old.parquet")
    assert np.array_equal(got.X, read_raw_windows(raw(windows)).X)
    assert got.spans.tolist() == [[40, 50]] * 11 + [[-1, -1]]
    assert got.classes == ("consolidation", "retracement")


def bad_window(change: Callable[[list[Any]], None]) -> pa.Array:
    windows = candles(5, 10).tolist()
    change(windows)
    return nested(windows)


def put(windows: list[Any], *at: int, value: Any) -> None:
    *path, last = at
    for i in path:
        windows = windows[i]
    windows[last] = value


@pytest.mark.parametrize(
    ("kind", "change", "what"),
    [
        ("no_bars", lambda w: put(w, 2, value=None), "features is null"),
        ("bar_count", lambda w: w[2].pop(), "9 bars, not 10"),
        ("bar_count", lambda w: w[2].append(w[2][0]), "11 bars, not 10"),
        ("bar_count", lambda w: put(w, 2, value=[]), "0 bars, not 10"),
        ("number_count", lambda w: w[2][7].pop(), "bar 7 is 3 numbers"),
        ("number_count", lambda w: w[2][7].append(1.0), "bar 7 is 5 numbers"),
        ("number_count", lambda w: (w[2][7].append(1.0), w[2][8].pop()), "bar 7 is 5 numbers"),
        ("number_count", lambda w: put(w, 2, 0, value=None), "bar 0 is null"),
        (
            "not_finite",
            lambda w: put(w, 2, 9, 3, value=None),
            "bar 9: open = 3999.5, high = 4000.75, low = 3999.25, close = nan",
        ),
        ("not_finite", lambda w: put(w, 2, 9, 3, value=np.nan), "close = nan"),
        ("not_finite", lambda w: put(w, 2, 0, 1, value=np.inf), "bar 0: open = 3999.0, high = inf"),
        (
            "not_a_candle",
            lambda w: put(w, 2, 4, value=[5.0, 4.0, 3.0, 3.5]),
            "bar 4: open = 5.0, high = 4.0, low",
        ),
        ("not_a_candle", lambda w: put(w, 2, 4, value=[3.5, 4.0, 3.0, 2.5]), "bar 4: open = 3.5, high = 4.0"),
        (
            "not_a_candle",
            lambda w: put(w, 2, 4, value=[3.5, 3.0, 4.0, 3.5]),
            "high = 3.0, low = 4.0, close = 3.5",
        ),
        ("not_a_candle", lambda w: put(w, 2, 4, value=[0.0, 0.0, 0.0, 0.0]), "bar 4: open = 0.0"),
        ("not_a_candle", lambda w: put(w, 2, 4, value=[1.0, 1e39, 1.0, 1.0]), "high = 1e+39"),
    ],
)
def test_malformed_windows_are_named(kind: str, change: Callable[[list[Any]], None], what: str) -> None:
    table = raw(bad_window(change))
    error = refused(kind, reading=lambda: read_raw_windows(table, window_length=10))
    assert error.rows == {kind: [3]}
    assert "    <pyarrow.Table>, row 3: " in str(error)
    assert what in str(error)
    assert error.problems[0].row == 3
    # Without that row nothing is wrong, wherever its numbers lay.
    rest = pa.concat_tables([table.slice(0, 2), table.slice(3)])
    good = read_raw_windows(raw(candles(5, 10)), window_length=10, config={"warmup_bars": 3})
    got = read_raw_windows(rest, window_length=10, config={"warmup_bars": 3})
    assert np.array_equal(got.X, good.X[[0, 1, 3, 4]])


def test_every_malformed_row_is_named_however_many(tmp_path: Path) -> None:
    """Over batches and row groups, whose borders are none of the windows'."""
    bars = candles(3000, 10)
    windows = bars.tolist()
    for i in range(0, 3000, 3):
        windows[i] = windows[i][:9]
    for i in range(1500, 1600):
        windows[i][4][3] = None
    path = tmp_path / "raw.parquet"
    table = raw(nested(windows))
    pq.write_table(table, path, row_group_size=700)
    error = refused("bar_count", "not_finite", reading=lambda: read_raw_windows(path, window_length=10))
    short = list(range(1, 3001, 3))
    assert error.rows["bar_count"] == short
    assert error.rows["not_finite"] == [row for row in range(1501, 1601) if row not in short]
    assert error.counts["bar_count"] == 1000
    assert len(error.problems) == 20

    good = np.setdiff1d(np.arange(3000), [row - 1 for rows in error.rows.values() for row in rows])
    pq.write_table(table.take(good), path, row_group_size=700)
    got = read_raw_windows(path, window_length=10, config={"warmup_bars": 3})
    want = [
        moola.compute_features(*(np.ascontiguousarray(column) for column in window.T), feature_set="ohlc4")
        for window in bars[good]
    ]
    assert np.array_equal(got.X, np.stack(want))


def test_labels_of_raw_windows_are_checked_as_well() -> None:
    windows = candles(6, 30)
    table = raw(
        windows,
        label=["up", None, "up", "up", "up", "up"],
        start=[1, 2, 3, -1, 9, 5],
        end=[4, 4, 30, -1, 8, None],
        weight=[1.0, 1.0, 1.0, -1.0, 1.0, 1.0],
    )
    kinds = ("no_class", "span_outside", "span_reversed", "half_span", "bad_weight")
    error = refused(*kinds, reading=lambda: read_raw_windows(table, window_length=30))
    assert error.rows == {
        "no_class": [2],
        "span_outside": [3],
        "bad_weight": [4],
        "span_reversed": [5],
        "half_span": [6],
    }
    assert "row 3: start = 3, end = 30: bars 3 to 30 in a window of bars 0 to 29" in str(error)
    times = raw(windows, start=[iso(T[0])] * 6, end=[iso(T[1])] * 6)
    with pytest.raises(
        InputError, match=r"column 'start' has times; bars of windows that were cut.*Count the first"
    ):
        read_raw_windows(times, window_length=30)


def test_a_window_that_never_warms_up() -> None:
    error = refused("never_valid", reading=lambda: read_raw_windows(raw(candles(4, 15)), window_length=15))
    assert error.rows == {"never_valid": [1, 2, 3, 4]}
    assert "row 1: none of 15 bars is valid" in str(error)
    assert read_raw_windows(raw(candles(4, 21)), window_length=21).valid_mask.sum() == 4
    explicit = read_raw_windows(raw(candles(4, 15)), window_length=15, config=FeatureConfig(warmup_bars=14))
    assert explicit.parameters["warmup_bars"] == 14
    other = read_raw_windows(raw(candles(4, 25)), window_length=25, config=FeatureConfig(atr_period=3))
    assert (other.parameters["warmup_bars"], other.parameters["atr_period"]) == (20, 3)


def test_raw_windows_that_overlap_share_a_group() -> None:
    series = candles(1, 400)[0]
    starts = [0, 200, 30, 100, 250, 57]
    got = read_raw_windows(raw(np.stack([series[i : i + 30] for i in starts])), window_length=30)
    assert got.groups.tolist() == [0, 1, 2, 3, 4, 2]
    assert "overlap: 2 windows share bars with others, in 1 group; keep" in "\n".join(got.report())
    assert (got.starts[1:] > got.ends[:-1]).all()


def test_raw_windows_that_share_a_moment_share_a_group() -> None:
    """By time, whatever their symbols and prices: as back-adjusted copies do, and windows that share but a bar."""
    at = np.array([100, 129, 159, 200, 215])  # of 30 bars: 100 and 129 share one bar, 129 and 159 none
    table = raw(candles(5, 30), window_end=[iso(T[i]) for i in at])

    def groups(table: pa.Table, **options: Any) -> list[int]:
        return read_raw_windows(table, window_length=30, **options).groups.tolist()

    assert groups(table) == [0, 0, 1, 2, 2]
    assert groups(table.drop_columns("window_end")) == [0, 1, 2, 3, 4]
    assert groups(table.append_column("symbol", pa.array(["A", "B", "A", "B", "B"]))) == [0, 0, 1, 2, 2]
    # A reach of half as much, and of more.
    assert groups(table, bar_interval="30s") == [0, 1, 2, 3, 4]
    assert groups(table, bar_interval="2m") == [0, 0, 0, 0, 0]
    # The same bars to the bit share one as well, whatever their times.
    series = candles(1, 60)[0]
    bars = np.stack(
        [*candles(2, 30, seed=1), *(series[i : i + 30] for i in (0, 20)), candles(1, 30, seed=2)[0]]
    )
    assert groups(raw(bars, window_end=[iso(T[i]) for i in (40, 60, 150, 250, 299)])) == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(("step", "told"), [(1, ""), (5, "0:05:00"), (0.5, "0:00:30")])
def test_bars_that_look_as_if_they_lay_otherwise_apart_are_told(step: float, told: str) -> None:
    ends = T[0] + np.arange(100, 124) * int(step * MINUTE)
    table = raw(candles(24, 30), window_end=pa.array(ends, pa.timestamp("ns", "UTC")))
    notices = read_raw_windows(table, window_length=30).notices
    want = (
        f"all windows end multiples of {told} apart, and bars are taken to be 0:01:00 apart; "
        "if they are not, say so with --bar-interval (bar_interval=)"
    )
    assert notices == ((want,) if told else ())
    assert read_raw_windows(table, window_length=30, bar_interval=f"{step:g}m").notices == ()
    # Two windows may well lie so by chance.
    assert read_raw_windows(table.slice(0, 2), window_length=30).notices == ((want,) if step < 1 else ())


def test_spans_on_bars_that_warm_up_are_told(store: FeatureStore) -> None:
    windows = candles(6, 30)
    table = raw(windows, start=[1, 5, 18, 20, 19, -1], end=[5, 19, 22, 22, 20, -1])
    several = read_raw_windows(table, window_length=30).notices
    assert several == (
        "rows 1 to 2 have spans of which no bar may be seen, for all of them warm up: nothing is learned of these "
        "spans",
        "rows 3, 5 have spans of which some bars may not be seen, for they warm up: these are left off",
    )
    one = read_raw_windows(table.slice(1, 2), window_length=30).notices
    assert one == (
        "row 1 has a span of which no bar may be seen, for all of them warm up: nothing is learned of this span",
        "row 2 has a span of which some bars may not be seen, for they warm up: these are left off",
    )
    # Of a store as well, where a segment has just begun; a row that is dropped before is counted.
    labelled = rows(
        window_end=[100, 100, 320], **{"class": ["up"] * 3}, start=[95, 95, 309], end=[99, 99, 315]
    )
    got = read_labels(labelled, store, window_length=12)
    assert got.notices[1:] == (
        "row 3 has a span of which some bars may not be seen, for they warm up: these are left off",
    )
    assert f"note: {got.notices[1]}" in got.report()


def test_one_huge_number_makes_no_times_of_rows(store: FeatureStore) -> None:
    huge = [100, 110, 10**18, 130]
    error = refused(
        "no_such_bar", reading=lambda: read_labels(rows(window_end=huge, **{"class": list("abab")}), store)
    )
    assert error.rows == {"no_such_bar": [3]}
    assert "window_end = 1000000000000000000; the bars are rows 0 to 458" in str(error)
    spans = rows(
        window_end=[100, 110, 120], **{"class": list("aba")}, start=[95, 105, 115], end=[99, 10**18, 119]
    )
    error = refused("span_outside", reading=lambda: read_labels(spans, store))
    assert error.rows == {"span_outside": [2]}
    # Nor one small number rows of times.
    times = rows(window_end=[int(T[100]), 7, int(T[120])], **{"class": list("aba")})
    assert refused("bad_time", reading=lambda: read_labels(times, store)).rows == {"bad_time": [2]}


def test_raw_windows_that_repeat() -> None:
    windows = candles(3, 30)[[0, 1, 0, 2]]
    same = raw(windows, label=["up", "down", "up", "up"])
    got = read_raw_windows(same, window_length=30)
    assert (len(got), got.notices) == (3, ("row 3 repeats another exactly and was dropped",))
    assert got.ends.tolist() == [29, 59, 89]
    # The same bars of another symbol, or at another time, are another window: in the same group.
    symbols, ends = ["A", "A", "B", "A"], [iso(T[i]) for i in (40, 100, 200, 290)]
    for more in ({"symbol": symbols}, {"window_end": ends}, {"symbol": symbols, "window_end": ends}):
        got = read_raw_windows(raw(windows, label=["up", "down", "down", "up"], **more), window_length=30)
        assert (got.y.tolist(), got.notices) == ([1, 0, 0, 1], ())
        assert got.groups.tolist() == [0, 1, 0, 2]
    both = {"symbol": ["A", "A", "A", "A"], "window_end": [ends[0], ends[1], ends[0], ends[2]]}
    repeated = raw(windows, label=["up", "down", "up", "up"], **both)
    assert len(read_raw_windows(repeated, window_length=30)) == 3
    different = raw(windows, label=["up", "down", "down", "up"])
    error = refused("different_labels", reading=lambda: read_raw_windows(different, window_length=30))
    assert "row 3: 'down', no span; row 1 has 'up', no span" in str(error)


def test_raw_windows_may_have_symbols_and_times() -> None:
    times = pa.array(T[[40, 50, 60]], pa.timestamp("ns", "UTC"))
    got = read_raw_windows(
        raw(candles(3, 30), symbol=["ES", "NQ", "ES"], window_end=times, weight=[1, 0, 3]), window_length=30
    )
    assert got.symbols.tolist() == ["ES", "NQ", "ES"]
    assert got.times is not None
    assert got.times.tolist() == T[[40, 50, 60]].tolist()
    assert got.first_times is not None
    assert got.first_times.tolist() == (T[[40, 50, 60]] - 29 * MINUTE).tolist()
    assert got.weight.tolist() == [1, 0, 3]
    missing = raw(candles(2, 30), window_end=[iso(T[0]), None])
    error = refused("no_window_end", reading=lambda: read_raw_windows(missing, window_length=30))
    assert "row 2: window_end = nothing" in str(error)


def test_columns_that_are_no_windows(tmp_path: Path) -> None:
    for column in (pa.array([1.0]), pa.array([[1.0]]), pa.array([[["a"]]]), pa.array([[[[1.0]]]])):
        with pytest.raises(InputError, match=r"'features' has the wrong type .*; a window is a list of bars"):
            read_raw_windows(raw(column))
    with pytest.raises(
        InputError, match=r"has no column for features; its columns are 'window_end', 'class'"
    ):
        read_raw_windows(rows())
    (tmp_path / "raw.csv").write_text("features,label\n[1],up\n")
    with pytest.raises(InputError, match=r"'features' has the wrong type"):
        read_raw_windows(tmp_path / "raw.csv")
    with pytest.raises(ConfigError, match=r"feature_set: there is no 'ohlc5'; did you mean 'ohlc4'"):
        read_raw_windows(raw(candles(2, 30)), feature_set="ohlc5")
    with pytest.raises(ConfigError, match=r"window_length: 0 is not a number of bars"):
        read_raw_windows(raw(candles(2, 30)), window_length=0)


# ---- one file ----------------------------------------------------------------------------------------------------


@pytest.fixture
def windows(store: FeatureStore) -> LabelledWindows:
    table = pa.table(
        {
            "window_end": [100, 105, 200, 218, 400, 400],
            "class": ["up", "down", "up", "none", "none", "none"],
            "start": [0, 3, 9, None, None, None],
            "end": [4, 3, 9, None, None, None],
            "weight": [1.0, 2.0, 0.5, 1.0, 1.0, 1.0],
        }
    )
    return read_labels(table, store)


def test_saved_and_loaded_is_the_same(windows: LabelledWindows, market: FeatureStore, tmp_path: Path) -> None:
    path = tmp_path / "L.safetensors"
    several = [
        windows,
        read_labels(market.path.with_name("expansions.parquet"), market),
        read_raw_windows(raw(candles(3, 30), symbol=["ES", "NQ", "ES"]), window_length=30),
        windows.take([]),
    ]
    for one in several:
        one.save(path)
        assert_same(one, LabelledWindows.load(path))
    assert [file.name for file in tmp_path.iterdir()] == ["L.safetensors"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    windows: LabelledWindows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "L.safetensors"
    windows.save(path)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(StoreWriteError, match=r"cannot be written: No space left.*Free some space"):
            windows.take([0]).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["L.safetensors"]
    assert path.read_bytes() == before


def forged(path: Path, change: Callable[[dict[str, np.ndarray], dict[str, Any]], object]) -> None:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        record = json.loads(file.metadata()["moola_labels"])
    tensors = load_file(path)
    change(tensors, record)
    save_file(tensors, path, {"moola_labels": json.dumps(record)})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t, r: t.pop("y"), "y"),
        (lambda t, r: t.pop("weight"), "its arrays are X, ends"),
        (lambda t, r: t.update(more=t["y"]), "its arrays are X, ends, first_times, groups, more"),
        (lambda t, r: t.update(X=t["X"].astype(np.float64)), r"X is float64 of shape \(5, 10, 3\)"),
        (lambda t, r: t.update(X=t["X"][:, :9].copy()), r"X is float32 of shape \(5, 9, 3\)"),
        (lambda t, r: t["X"].put(7, np.nan), "X cannot be right"),
        (lambda t, r: t["y"].put(0, 3), "y cannot be right"),
        (lambda t, r: t["symbols"].put(0, 9), "symbols cannot be right"),
        (lambda t, r: t["spans"].put(1, 10), "spans cannot be right"),
        (lambda t, r: t["spans"].put(1, -1), "spans cannot be right"),
        (lambda t, r: t["weight"].put(0, -1), "weight cannot be right"),
        (lambda t, r: t["ends"].put(0, 0), "starts and ends cannot be right"),
        (lambda t, r: t["splits"].put(0, 3), "splits cannot be right"),
        (lambda t, r: r.update(classes=["up", "down", "none"]), "classes cannot be right"),
        (lambda t, r: r.update(classes="abc"), "classes is 'abc'"),
        (lambda t, r: r.update(parameters=[]), "parameters cannot be right"),
        (lambda t, r: r.pop("store_id"), "store_id"),
        (lambda t, r: r.pop("reach"), "reach"),
        (lambda t, r: r.update(reach=10), "reach cannot be right"),
        (lambda t, r: r.update(reach=10**9), "reach cannot be right"),
        (lambda t, r: r.update(feature_set=7), "feature_set is"),
    ],
)
def test_a_file_that_was_altered(
    windows: LabelledWindows, tmp_path: Path, change: Callable[..., object], what: str
) -> None:
    path = tmp_path / "L.safetensors"
    windows.save(path)
    forged(path, lambda tensors, record: None)
    assert_same(windows, LabelledWindows.load(path))
    forged(path, change)
    with pytest.raises(
        InputError, match=rf"{path}: does not hold what it says \(.*{what}.*\). Write it again with"
    ):
        LabelledWindows.load(path)


def test_files_that_are_no_labelled_windows(windows: LabelledWindows, tmp_path: Path) -> None:
    path = tmp_path / "L.safetensors"
    with pytest.raises(InputMissingError, match=r"there is no such file. Check the path"):
        LabelledWindows.load(path)
    windows.save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"x" * 100, whole[:-1], whole[:500], whole + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(
            InputError, match=r"is damaged, or no safetensors file \(.*\). Write it again with"
        ):
            LabelledWindows.load(path)
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(
        InputError, match=r"holds no labelled windows. Write it again with `moola import-labels`"
    ):
        LabelledWindows.load(path)
    path.write_bytes(whole)
    forged(path, lambda tensors, record: record.update(format_version=1))
    with pytest.raises(InputError, match=r"is of format 1, not 2. Install a newer moola, or write it again"):
        LabelledWindows.load(path)


def test_taking_some(windows: LabelledWindows) -> None:
    for chosen in ([4, 0], np.array([4, 0]), np.array([], np.intp), windows.y == 1):
        some = windows.take(chosen)
        indices = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen, int)
        assert len(some) == len(indices)
        for name in ARRAYS:
            assert np.array_equal(getattr(some, name), getattr(windows, name)[indices])
        assert (some.classes, some.store_id, some.notices) == (windows.classes, windows.store_id, ())
    with pytest.raises(IndexError):
        windows.take([5])
    with pytest.raises(TypeError):
        windows.take([0.5])


def test_the_report(windows: LabelledWindows, store: FeatureStore) -> None:
    assert windows.report() == [
        "windows: 5 of 10 bars, 3 features (made_up)",
        "class down: 1, 1 with a span of 1 to 1 bars (median 1)",
        "class none: 2",
        "class up: 2, 2 with a span of 1 to 5 bars (median 3)",
        "overlap: 2 windows share bars with others, in 1 group; keep each on one side of a split (groups=)",
        "splits: train 4, val 0, test 1",
        "note: row 6 repeats another exactly and was dropped",
    ]
    spanned = windows.take([0, 2]).report()
    assert "overlap: no two windows share bars or their times" in spanned
    assert spanned[-1].startswith(
        "note: every window has a span; without a class for windows that have none,"
    )
    begin, end = (int(row) for row in store.splits["val"].ranges[0])
    straddling = read_labels(pa.table({"window_end": [begin, end - 1], "class": ["a", "b"]}), store)
    assert straddling.splits is not None
    assert straddling.splits.tolist() == [-1, 1]
    assert "splits: train 0, val 1, test 0, in none 1" in straddling.report()
    assert repr(windows) == "<LabelledWindows: 5 of 10 bars, made_up; down, none, up>"


# ---- the command -------------------------------------------------------------------------------------------------


def command(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["import-labels", *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_imports_labels_of_a_store(market: FeatureStore, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "L.safetensors"
    where = ("--labels", folder / "expansions.parquet", "--feature-dir", market.path, "--output", path)
    code, out, err = command(*where)
    want = read_labels(folder / "expansions.parquet", market)
    assert (code, err) == (0, "")
    assert_same(want, LabelledWindows.load(path))
    assert out.splitlines()[:-1] == want.report()
    assert re.fullmatch(rf"file: {path} \(\d+\.\d kB\)", out.splitlines()[-1])

    code, out, err = command(*where, "--window-length", 150, "--json")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert LabelledWindows.load(path).X.shape == (len(want), 150, 10)
    assert record["windows"] == len(want)
    assert record["classes"] == {name: int((want.y == code).sum()) for code, name in enumerate(want.classes)}
    assert (record["output"], record["window_length"], record["feature_set"]) == (
        str(path),
        150,
        "relativity10",
    )

    code, out, err = command(*where, "--window-length", 60)
    assert (code, out) == (1, "")
    assert "labels refused\n  span outside its window: " in err


def test_the_command_imports_raw_windows(tmp_path: Path) -> None:
    pq.write_table(raw(candles(4, 30), start=[1, 2, 3, 4], end=[5] * 4), tmp_path / "raw.parquet")
    path = tmp_path / "L.safetensors"
    where = ("--labels", tmp_path / "raw.parquet", "--output", path, "--raw")
    code, out, _ = command(*where, "--window-length", 30, "--feature-set", "relative_transform11")
    assert code == 0
    assert "windows: 4 of 30 bars, 11 features (relative_transform11)" in out
    assert LabelledWindows.load(path).X.shape == (4, 30, 11)
    (tmp_path / "config.yaml").write_text("warmup_bars: 3\n")
    assert command(*where, "--window-length", 30, "--config", tmp_path / "config.yaml")[0] == 0
    assert LabelledWindows.load(path).valid_mask.sum() == 4 * 27
    code, _, err = command(*where)
    assert code == 1
    assert "window with a wrong number of bars: 4\n" in err


def test_the_command_does_not_write_over_what_it_reads(
    market: FeatureStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.read_table(folder / "expansions.parquet")
    pq.write_table(table, tmp_path / "L.parquet")
    (tmp_path / "link.parquet").symlink_to(tmp_path / "L.parquet")
    monkeypatch.chdir(tmp_path)
    for output in ("L.parquet", tmp_path / "L.parquet", "link.parquet"):
        code, out, err = command("--labels", "L.parquet", "--feature-dir", market.path, "--output", output)
        message = "--output: is L.parquet, which is read; give another file, such as L.safetensors"
        assert (code, out, err) == (2, "", f"error: {message}\n")
    assert pq.read_table(tmp_path / "L.parquet").equals(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "error: --feature-dir: is missing; give the store that was labelled, or --raw\n"),
        (
            ("--raw", "--feature-dir", "x"),
            "error: --feature-dir: does nothing with --raw; leave one of them out\n",
        ),
        (
            ("--bar-interval", "5m"),
            "error: --bar-interval: does nothing without --raw; leave one of them out\n",
        ),
        (
            ("--raw", "--bar-interval", "5 bars"),
            "error: --bar-interval: '5 bars' is not a duration; write for example '4h', '90m' or '1d'\n",
        ),
        (("--raw", "--stamp", "open"), "error: --stamp: does nothing with --raw; leave one of them out\n"),
        (
            ("--feature-set", "ohlc4"),
            "error: --feature-set: does nothing without --raw; leave one of them out\n",
        ),
        (
            ("--raw", "--window-length", "0"),
            "error: --window-length: 0 is not a number of bars; give 1 or more\n",
        ),
    ],
)
def test_the_command_refuses_what_makes_no_sense(
    options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    pq.write_table(raw(candles(2, 30)), tmp_path / "raw.parquet")
    output = tmp_path / "L.safetensors"
    code, out, err = command("--labels", tmp_path / "raw.parquet", "--output", output, *options)
    assert (code, out, err) == (2, "", message)
    assert not output.exists()


def test_the_command_writes_what_finetune_knows_for_imported(tmp_path: Path) -> None:
    pq.write_table(raw(candles(2, 30)), tmp_path / "raw.parquet")
    for name in ("L.bin", "L", "L.SAFETENSORS"):
        output = tmp_path / name
        code, out, err = command("--labels", tmp_path / "raw.parquet", "--raw", "--output", output)
        problem = f"{output} does not end in .safetensors, by which labels that were imported are known"
        message = f"error: --output: {problem}; give such a name, as L.safetensors\n"
        assert (code, out, err) == (2, "", message)
        assert not output.exists()


def test_labels_need_no_heavy_library(market: FeatureStore, folder: Path, tmp_path: Path) -> None:
    pq.write_table(raw(candles(2, 30)), tmp_path / "raw.parquet")
    program = f"""
import sys
from moola.labels import LabelledWindows, read_labels, read_raw_windows
read_labels({str(folder / "expansions.parquet")!r}, {str(market.path)!r}).save({str(tmp_path / "L")!r})
LabelledWindows.load({str(tmp_path / "L")!r})
read_raw_windows({str(tmp_path / "raw.parquet")!r}, window_length=30)
print([name for name in ("torch", "sklearn", "scipy", "pandas", "polars", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
