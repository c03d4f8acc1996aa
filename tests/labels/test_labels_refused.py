"""Labels by reference that are refused, each row by name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from label_files import T, candles, iso, raw, refused, rows
from tiny_store import MINUTE

from moola import FeatureStore
from moola.errors import ConfigError, InputError, InputMissingError, LabelError, LabelProblem, MoolaError
from moola.labels import check_folds, read_labels, read_raw_windows


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
def test_values_that_are_not_classes_are_refused(
    store: FeatureStore, kind: str, classes: pa.Array, what: str, cut: bool
) -> None:
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
        (pa.array(["None", "some", "ä"]).dictionary_encode(), ("None", "some", "ä")),
        (pa.array([b"b", b"a", "ä".encode()], pa.binary()), ("a", "b", "ä")),
    ],
)
def test_class_names_come_from_any_type(
    store: FeatureStore, classes: pa.Array, names: tuple[str, ...]
) -> None:
    assert read_labels(rows(window_end=[100, 200, 250], **{"class": classes}), store).classes == names


NOTHING = ("", "nan", "NaN", "NaT", "<NA>")


@pytest.mark.parametrize("spelt", [*NOTHING, None])
def test_every_spelling_of_no_span_is_read(store: FeatureStore, tmp_path: Path, spelt: str | None) -> None:
    """The first value does not determine the form of the others."""
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


def test_columns_of_only_nulls_are_read_as_missing(store: FeatureStore) -> None:
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


def test_a_window_within_the_warm_up_is_refused(store: FeatureStore) -> None:
    table = rows(window_end=[100, 304])
    error = refused("in_warmup", reading=lambda: read_labels(table, store, window_length=3))
    assert "window_end = 304 (2023-11-15T13:17:00Z); 5 bars of its segment up to there are too few" in str(
        error
    )
    assert read_labels(rows(window_end=[100, 305]), store, window_length=3).ends.tolist() == [100, 305]


def test_ambiguous_local_times_are_refused(store: FeatureStore) -> None:
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
            r"has no column for window_end, but contains pre-cut windows, as lists of bars. Import it first, with "
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
            r"has times such as 'noon', in a notation that is not read by itself. Say with --time-format",
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
            r"counts bars in windows that had 10 bars, as the store says, or 8, as --window-length does. "
            "Give the length",
        ),
        (
            pa.table({"window_end": pa.array([], pa.int64()), "class": pa.array([], pa.string())}),
            {},
            "no labels",
        ),
    ],
)
def test_empty_and_ambiguous_tables_are_refused(
    store: FeatureStore, table: pa.Table, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_labels(table, store, **options)
    assert str(caught.value).startswith("<pyarrow.Table>: ")


def test_options_resolve_ambiguous_spans(store: FeatureStore) -> None:
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
        ({"span_kind": "bars"}, "span_kind", "'bars' is not a kind of spans; give bar, row, time"),
        ({"stamp": "end"}, "stamp", "must be 'open' or 'close', not 'end'"),
        ({"tz": "Berlin"}, "tz", "use Europe/Berlin"),
        (
            {"columns": "x=klass"},
            "columns",
            r"'klass' is not a role \(window_end, class, symbol.*did you mean 'class'",
        ),
        ({"extra": ["kept0", "kept0"]}, "extra", "names a column twice"),
    ],
)
def test_wrong_options_are_refused(
    store: FeatureStore, options: dict[str, Any], name: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_labels(rows(), store, **options)
    assert caught.value.name == name


def test_numbers_and_times_of_the_wrong_kind_are_refused(store: FeatureStore) -> None:
    table = rows(start=[iso(T[95]), iso(T[195])], end=[iso(T[99]), iso(T[199])])
    with pytest.raises(
        ConfigError, match="span_kind: is bar, but columns 'start' and 'end' are times; leave it"
    ):
        read_labels(table, store, span_kind="bar")
    with pytest.raises(InputError, match="row 1 has the time 1, which is no date"):
        read_labels(rows(start=[1, 2], end=[3, 4]), store, span_kind="time")


def test_symbols_are_required_if_there_are_several(market: FeatureStore) -> None:
    table = pa.table({"window_end": [iso(int(market.timestamps[500]))], "class": ["up"]})
    with pytest.raises(
        InputError, match=r"has no symbol column, and the store has 2 symbols. Give the symbol of each"
    ):
        read_labels(table, market)
    named = table.append_column("symbol", pa.array([None], pa.string()))
    error = refused("unknown_symbol", reading=lambda: read_labels(named, market))
    assert "row 1: no symbol; the store has 'SIM1', 'SIM2'" in str(error)


def test_files_without_labels_are_refused(store: FeatureStore, tmp_path: Path) -> None:
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
def test_classes_with_fewer_windows_than_folds_are_refused(folds: int) -> None:
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
