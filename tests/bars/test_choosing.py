"""Choosing what is read: symbols, files by patterns and names, partitions in their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bar_files import read, refused, table, text, write
from hypothesis import given
from hypothesis import strategies as st

from moola.bars.formats.finding import find_files
from moola.bars.naming import check_one_series
from moola.bars.options import ReadOptions
from moola.bars.symbols import SymbolFilter
from moola.errors import ConfigError, InputError


def test_symbols_are_chosen_by_pattern(tmp_path: Path) -> None:
    symbols = ["ESH4", "ESM4", "ESH4-ESM4", "NQH4", "esh4"]
    path = write(table(5, symbol=symbols), tmp_path / "a.csv")
    assert read(path, symbols="ES*,NQ*", exclude_symbols="*-*").symbol == ["ESH4", "ESM4", "NQH4"]
    result = read(path, exclude_symbols=("*-*",))
    assert result.symbol == ["ESH4", "ESM4", "NQH4", "esh4"]
    assert result.rows == [0, 1, 3, 4]
    assert result.source.notes == ["left out 1 rows of 1 symbol, as asked: ESH4-ESM4"]
    refused(path, "no symbol is left", "'ESH4'", symbols="CL*")
    refused(table(), "has no symbol to choose", "FILE_COLUMN=symbol", symbols="ES")


def test_faults_of_symbols_that_are_not_wanted_do_not_count(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "t,symbol,o,h,l,c\n2024-01-01T00:00Z,A,1,1,1,1\nnever,B,x,1,1,1\n")
    result = read(path, exclude_symbols="B")
    assert result.source.counts == {}
    assert result.symbol == ["A"]


@given(
    st.lists(st.text("ab*?", min_size=1, max_size=4), max_size=3),
    st.lists(st.text("ab", max_size=4), min_size=1),
)
def test_the_filter_keeps_what_matches(patterns: list[str], symbols: list[str]) -> None:
    import fnmatch

    known = list(dict.fromkeys(symbols))
    codes = np.array([known.index(symbol) for symbol in symbols], np.int32)
    out = SymbolFilter(patterns, ()).unwanted(codes, known)
    kept = [
        not patterns or any(fnmatch.fnmatchcase(symbol, pattern) for pattern in patterns)
        for symbol in symbols
    ]
    assert (np.zeros(len(symbols), bool) if out is None else out).tolist() == [not keep for keep in kept]


def test_blanks_around_a_symbol_do_not_count_and_case_does(tmp_path: Path) -> None:
    path = write(table(5, symbol=["A", "A ", " A", "a", "BRK.A"]), tmp_path / "a.csv")
    result = read(path)
    assert result.source.symbols == ["A", "a", "BRK.A"]
    assert result.symbol == ["A", "A", "A", "a", "BRK.A"]


def test_patterns_stand_for_files(tmp_path: Path) -> None:
    for month in (1, 2, 10):
        write(
            table(1, open=[float(month)] * 1, high=[99.0], low=[0.5]),
            _made(tmp_path / f"year=2024/month={month}" / "0.parquet"),
        )
    text(tmp_path / "year=2024" / "notes.md", "no bars")
    for pattern in ("**/*.parquet", "year=*/month=*/*.parquet", "year=2024"):
        assert read(tmp_path / pattern).open.tolist() == [1, 2, 10]
    refused(tmp_path / "**/*.csv", "no file matches this pattern", "quotes")
    # A file of that very name comes first.
    odd = write(table(2), tmp_path / "a[1].parquet")
    assert find_files(odd) == [odd]


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_names_of_files_can_be_symbols(tmp_path: Path) -> None:
    for name in ("EURUSD_1min.csv", "GBPUSD_1min.csv"):
        write(table(2), tmp_path / name)
    message = refused(
        tmp_path, "names of different letters", "--one-series", "--symbol-from-name '{symbol}_1min.csv'"
    )
    assert "--dedup" not in message
    assert read(tmp_path, symbol_from_name="{symbol}_1min.csv").symbol == ["EURUSD"] * 2 + ["GBPUSD"] * 2
    assert read(tmp_path, symbol_from_name="{symbol}_*.csv").source.symbols == ["EURUSD", "GBPUSD"]
    refused(tmp_path, "its name does not fit --symbol-from-name", symbol_from_name="{symbol}_5min.csv")
    with pytest.raises(ConfigError, match="symbol_from_name"):
        ReadOptions(symbol_from_name="a.csv")


@pytest.mark.parametrize(
    ("names", "several"),
    [
        (["DAT_ASCII_EURUSD_M1_2001.csv", "DAT_ASCII_EURUSD_M1_2002.csv.gz"], False),
        (["bars_jan.csv", "bars_feb.csv"], False),
        (["BTCUSDT-1m-2024-01.csv", "BTCUSDT-1m-2024-02.zip"], False),
        (
            [
                "part-00000-0f3a91c2-aaaa-bbbb-cccc-123456789abc.parquet",
                "part-00001-9f3a91c2-aaaa-bbbb-cccc-12345678fabc.parquet",
            ],
            False,
        ),
        (["year=2023/0.parquet", "year=2024/0.parquet"], False),
        (["ES.csv", "NQ.csv"], True),
        (["ES/2024.csv", "NQ/2024.csv"], True),
        (["ESH4.csv", "NQH4.csv"], True),
        (["train.csv", "test.csv"], True),
        (["BRK.A.csv", "BRK.B.csv"], True),
        (["VOD.L.csv.gz", "VOD.US.csv.gz"], True),
        (["MAY.csv", "Q.csv"], True),
        (["AAPL/2024-01.csv", "MSFT/2024-02.csv"], True),
    ],
)
def test_names_that_differ_in_letters_may_be_several_instruments(
    tmp_path: Path, names: list[str], several: bool
) -> None:
    from types import SimpleNamespace

    inputs = [SimpleNamespace(name=str(tmp_path / name), path=tmp_path / name) for name in names]
    try:
        check_one_series(inputs)  # type: ignore[arg-type]
    except InputError:
        assert several
    else:
        assert not several


def test_the_advice_about_directories_of_instruments_works(tmp_path: Path) -> None:
    for name in ("AAPL/2024-01.csv", "MSFT/2024-01.csv"):
        write(table(2), _made(tmp_path / "in" / name))
    refused(tmp_path / "in", "--symbol-from-name '{symbol}/*'")
    assert read(tmp_path / "in", symbol_from_name="{symbol}/*").source.symbols == ["AAPL", "MSFT"]


def test_a_directory_and_a_column_must_agree(tmp_path: Path) -> None:
    path = write(table(3, symbol=["ESH4", "ESH4", "ESM4"]), _made(tmp_path / "ticker=ES" / "a.parquet"))
    refused(
        path, "says ticker=ES, but its column 'symbol' says 'ESH4' in row 1", "--segment-by symbol,contract"
    )
    result = read(path, columns="symbol=contract", segment_by="symbol,contract")
    assert result.source.symbols == ["ES"]
    assert result.source.contracts == ["ESH4", "ESM4"]
    agreeing = write(table(3, symbol=["ES", "ES ", "ES"]), _made(tmp_path / "symbol=ES" / "b.parquet"))
    assert read(agreeing).source.symbols == ["ES"]
