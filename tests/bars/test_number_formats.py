"""Numbers in text files: one format a file, decided by all of it, or refused with both readings."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from bar_files import read, refused, text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moola.bars.formats.csv import CsvInput
from moola.bars.formats.numbers import NO_VALUE, NumberFormat, parse_numbers
from moola.bars.options import ReadOptions
from moola.bars.source import open_bars
from moola.errors import InputError

FORMATS = [
    NumberFormat(),
    NumberFormat(","),
    NumberFormat(".", ","),
    NumberFormat(",", "."),
    NumberFormat(".", "'"),
]


def written(value: float, form: NumberFormat, decimals: int) -> str:
    return f"{value:,.{decimals}f}".translate(str.maketrans({",": form.thousands or "", ".": form.decimal}))


def bars(*cells: str) -> str:
    """Bars whose four prices are one cell, between semicolons."""
    rows = (f"2024-05-06T13:{30 + i}:00Z;{cell};{cell};{cell};{cell}" for i, cell in enumerate(cells))
    return "\n".join(["timestamp;open;high;low;close", *rows]) + "\n"


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=30),
    form=st.sampled_from(FORMATS),
    decimals=st.integers(0, 6),
)
def test_numbers_are_read_as_they_were_written(
    values: list[float], form: NumberFormat, decimals: int
) -> None:
    cells = [written(value, form, decimals) for value in values]
    for kind in (pa.string(), pa.binary()):
        numbers, bad = parse_numbers(pa.array(cells, pa.string()).cast(kind), form)
        assert bad is None
        assert numbers.tolist() == [float(f"{value:.{decimals}f}") for value in values]


@settings(max_examples=200, deadline=None)
@given(cells=st.lists(st.text("0123456789.,+-eE 'naif", max_size=9), min_size=1, max_size=20))
def test_a_point_is_read_as_python_reads_it(cells: list[str]) -> None:
    """Float is the oracle, but for underscores and non-ASCII digits, which it takes too."""
    numbers, bad = parse_numbers(pa.array(cells), NumberFormat())
    for i, cell in enumerate(cells):
        refused_here = bad is not None and bad[i]
        try:
            expected = float(cell)
        except ValueError:
            expected = np.nan if cell.strip() in NO_VALUE else None
        if expected is None:
            assert refused_here
        else:
            assert not refused_here
            np.testing.assert_equal(numbers[i], expected)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.integers(1, 9_999_999), min_size=1, max_size=20),
    form=st.sampled_from(FORMATS[:4]),
    decimals=st.sampled_from([0, 1, 2, 3, 4]),
)
def test_a_file_is_read_at_its_scale_or_refused(
    tmp_path: Path, values: list[int], form: NumberFormat, decimals: int
) -> None:
    """Whatever the format, no price comes out at another scale. A lone dot with three digits is a decimal point."""
    cells = [written(value / 10**decimals, form, decimals) for value in values]
    path = text(tmp_path / "a.csv", bars(*cells))
    expected = [float(f"{value / 10**decimals:.{decimals}f}") for value in values]
    only_dots = (
        form.thousands == "." and decimals == 0 and all("," not in c and c.count(".") < 2 for c in cells)
    )
    told = read(path, decimal=form.decimal, thousands=form.thousands)
    assert told.close.tolist() == expected
    with contextlib.suppress(InputError):
        result = read(path)
        assert only_dots or result.close.tolist() == expected


def test_the_last_row_can_decide(tmp_path: Path) -> None:
    cells = ["101"] * 20_000 + ["101,25"]
    lines = [f"{1_704_067_200 + 60 * i};{cell};{cell};{cell};{cell}" for i, cell in enumerate(cells)]
    path = text(tmp_path / "a.csv", "timestamp;open;high;low;close\n" + "\n".join(lines))
    assert read(path).close.tolist() == [101] * 20_000 + [101.25]


def test_a_late_comma_that_contradicts_what_was_read_is_refused(tmp_path: Path) -> None:
    cells = ["1.015"] * 30_000 + ["101,25"]
    lines = [f"{1_704_067_200 + 60 * i};{cell};{cell};{cell};{cell}" for i, cell in enumerate(cells)]
    path = text(tmp_path / "a.csv", "timestamp;open;high;low;close\n" + "\n".join(lines))
    refused(path, "1.015 in row 1", "101,25 in row 30,001", "--decimal , --thousands .")
    assert read(path, decimal=",", thousands=".").close[[0, -1]].tolist() == [1015, 101.25]


def test_two_readings_are_shown(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", bars("999", "1,002"))
    refused(path, "1,002 in row 2", "may be 1002", "or 1.002", "--thousands , or with --decimal ,")
    assert read(path, thousands=",").close.tolist() == [999, 1002]
    assert read(path, decimal=",").close.tolist() == [999, 1.002]


@pytest.mark.parametrize("cells", [("1,25", "1.25"), ("1,25", "1,234,567"), ("1.25", "1.234.567")])
def test_two_formats_in_one_file_are_refused(tmp_path: Path, cells: tuple[str, str]) -> None:
    refused(text(tmp_path / "a.csv", bars(*cells, "7,5,")), "writes numbers in two ways", cells[0], cells[1])


@pytest.mark.parametrize("sign", ["'", " ", "\u00a0", "\u202f", "_"])
def test_the_advice_about_other_signs_works(tmp_path: Path, sign: str) -> None:
    path = text(tmp_path / "a.csv", bars(f"1{sign}002.5", "999"))
    source = open_bars(path, ReadOptions())
    list(source.batches())
    advice = source.advice(source.problems)["not_a_number"]
    given = shlex.split(advice.partition("--thousands ")[2])[0]
    assert read(path, thousands=given).close.tolist() == [1002.5, 999]


def test_three_decimals_after_a_dot_are_decimals(tmp_path: Path) -> None:
    assert read(text(tmp_path / "a.csv", bars("154.321", "154.4"))).close.tolist() == [154.321, 154.4]


def test_files_of_one_source_have_one_decimal_mark(tmp_path: Path) -> None:
    one, two = (
        text(tmp_path / "b_1.csv", bars("100", "1.421")),
        text(tmp_path / "b_2.csv", bars("101,50", "1.421")),
    )
    refused([one, two], "has the decimal mark ','", "b_1.csv has '.'", "--decimal")
    assert read([one, two], decimal=",", thousands=".").close.tolist() == [100, 1421, 101.5, 1421]


def test_groups_of_other_lengths_are_no_thousands(tmp_path: Path) -> None:
    result = read(text(tmp_path / "a.csv", bars("1,002.5", "10,02.5")))
    assert result.source.counts == {"not_a_number": 1}
    assert result.close.tolist() == [1002.5]


def test_the_rest_of_a_file_is_read_once_more_only_where_it_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files with a proven mark are read in one pass."""
    passes = []
    stream = CsvInput._stream

    def counted(self: CsvInput, *columns: object) -> object:
        passes.append(columns)
        return stream(self, *columns)  # type: ignore[arg-type]

    monkeypatch.setattr(CsvInput, "_stream", counted)
    for cells, expected in ((("1.25", "2"), 1), (("1,25", "2"), 1), (("1,002", "1.5"), 2)):
        passes.clear()
        read(text(tmp_path / "a.csv", bars(*cells)))
        assert len(passes) == expected, cells
