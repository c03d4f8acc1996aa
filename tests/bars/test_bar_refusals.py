"""Inputs that reading refuses: prices that are not numbers, damaged files, and inputs that are not bars."""

from __future__ import annotations

import gzip
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bar_files import FORMATS, csv_bars, read, refused, table, text, utc, write

from moola.bars.source import open_bars
from moola.errors import InputDeniedError, InputMissingError, Problem

# Prices that are no numbers


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_text_for_prices_is_collected(tmp_path: Path, suffix: str) -> None:
    n = 300_000
    content = csv_bars(
        *np.datetime_as_string(np.datetime64("2024-01-01", "m") + np.arange(n), timezone="UTC")
    )
    lines = content.splitlines()
    lines[10] = lines[10].rpartition(",")[0] + ",abc"
    lines[200_001] = lines[200_001].replace(",", ',"1;5"', 1).replace('"1;5"', '"1;5",', 1).rpartition(",")[0]
    lines[n] = ""
    raw = "\n".join(lines).encode()
    path = text(tmp_path / f"a.{suffix}", gzip.compress(raw, 1) if suffix == "csv.gz" else raw)
    result = read(path)
    assert result.source.counts == {"not_a_number": 2}
    first, second = result.source.problems
    assert first == Problem(
        "not_a_number", 10, "close", "abc", file=str(path), line=11, timestamp=utc("2024-01-01T00:09")
    )
    assert (second.row, second.line, second.column, second.value) == (200_001, 200_002, "open", "1;5")
    assert len(result.open) == n - 3
    assert result.rows == [row for row in range(n - 1) if row not in (9, 200_000)]
    assert result.source.files[0].rows == n - 1
    np.testing.assert_array_equal(result.low, result.rows)


def test_samples_of_a_kind_stop_at_twenty_and_counts_do_not(tmp_path: Path) -> None:
    content = csv_bars(*["2024-05-06T13:30Z"] * 30, *["no"] * 5).replace(",3,", ",x,")
    path = text(tmp_path / "a.csv", content.replace(",2\n", ",\n").replace("Z,", "Z,y"))
    source = open_bars(path)
    list(source.batches())
    assert sum(source.counts.values()) > 30
    assert source.counts["bad_timestamp"] == 5
    kinds = [problem.kind for problem in source.problems]
    assert {kind: kinds.count(kind) for kind in kinds} == {"bad_timestamp": 5, "not_a_number": 20}


def test_no_value_is_not_text(tmp_path: Path) -> None:
    rows = "\n".join(
        f"2024-05-06T13:3{i}Z,{cell},3,0,2" for i, cell in enumerate(["", "NaN", "null", "inf", "1e2", "x"])
    )
    result = read(text(tmp_path / "a.csv", f"t,o,h,l,c\n{rows}\n"))
    np.testing.assert_array_equal(result.open, [np.nan, np.nan, np.nan, np.inf, 100])
    assert result.source.counts == {"not_a_number": 1}


def test_odd_line_separators_in_a_header_are_read(tmp_path: Path) -> None:
    content = csv_bars("2024-05-06T13:30Z", "2024-05-06T13:31Z", header='timestamp,"open",high,low,close')
    content = content.replace('"open"', '"open\x0b"').replace("open\x0b", "open\u2028")
    result = read(text(tmp_path / "a.csv", content), columns={"open\u2028": "open"})
    assert result.open.tolist() == [1, 2]


def test_reported_lines_are_exact(tmp_path: Path) -> None:
    content = (
        '\n"timestamp","open",high,low,close,"a note\nin two lines"\n\n'
        '2024-05-06T13:30Z,1,3,0,2,x\n\n2024-05-06T13:31Z,1,3,0,2,"two\nlines"\n\n\n2024-05-06T13:32Z,1,3,0,bad,x\n'
    )
    result = read(text(tmp_path / "a.csv", content))
    assert result.rows == [0, 1]
    assert [result.source.locate(0, row) for row in (0, 1, 2, 3)] == [5, 7, 11, None]
    assert result.source.locate(0, 1) == 7
    assert result.source.problems[0].line == 11
    assert read(write(table(), tmp_path / "a.parquet")).source.locate(0, 1) is None


# Files that are refused


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_without_bars_are_refused(tmp_path: Path, suffix: str) -> None:
    refused(text(tmp_path / f"empty.{suffix}", b""), f"empty.{suffix}: is empty", "Leave it out")
    refused(
        write(table().slice(0, 0), tmp_path / f"a.{suffix}"), f"a.{suffix}: holds no bars", "Leave it out"
    )


def test_tables_without_bars_are_refused() -> None:
    refused(table().slice(0, 0), "<pyarrow.Table>: holds no bars")


def test_a_csv_of_blank_lines_is_refused(tmp_path: Path) -> None:
    refused(text(tmp_path / "a.csv", b"\n\n\n"), "is empty")


def test_missing_files_are_refused(tmp_path: Path) -> None:
    write(table(), tmp_path / "bars.parquet")
    message = refused(tmp_path / "bar.parquet", "bar.parquet: there is no such file", error=InputMissingError)
    assert f"Did you mean {tmp_path / 'bars.parquet'}?" in message
    assert issubclass(InputMissingError, FileNotFoundError)
    refused(tmp_path / "no" / "bars.csv", f"There is no directory {tmp_path / 'no'}", error=FileNotFoundError)


def test_files_without_read_permission_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(table(), tmp_path / "a.csv")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything
        real = Path.open
        monkeypatch.setattr(
            Path, "open", lambda self, *a, **k: _deny(self) if self == path else real(self, *a, **k)
        )
    refused(path, "a.csv: may not be read", f"chmod u+r {path}", error=InputDeniedError)
    assert issubclass(InputDeniedError, PermissionError)


def _deny(path: Path) -> Any:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_file_that_vanishes_while_read_is_an_error(tmp_path: Path) -> None:
    for suffix in FORMATS:
        path = write(table(), tmp_path / f"a.{suffix}")
        source = open_bars(path)
        path.unlink()
        with pytest.raises(FileNotFoundError, match="there is no such file"):
            list(source.batches())


@pytest.mark.parametrize("suffix", ["parquet", "csv.gz", "arrow", "arrows"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    data = table(20_000, x=np.random.default_rng(0).random(20_000))
    whole = write(data, tmp_path / f"a.{suffix}").read_bytes()
    for share in (0.3, 0.7, 0.99):
        path = text(tmp_path / f"b.{suffix}", whole[: int(len(whole) * share)].rstrip(b"\n")[:-10])
        refused(path, f"b.{suffix}: is damaged or cut short", "again")


def test_damaged_content_is_refused(tmp_path: Path) -> None:
    whole = bytearray(write(table(50_000), tmp_path / "a.parquet").read_bytes())
    whole[2000:9000] = bytes(7000)
    refused(text(tmp_path / "b.parquet", bytes(whole)), "b.parquet: is damaged", "again")
    packed = bytearray(gzip.compress(write(table(50_000), tmp_path / "a.csv").read_bytes()))
    packed[len(packed) // 2] ^= 0xFF
    refused(text(tmp_path / "b.csv.gz", bytes(packed)), "b.csv.gz")


def test_rows_with_too_few_or_many_fields_are_refused(tmp_path: Path) -> None:
    content = csv_bars("2024-05-06T13:30Z", "2024-05-06T13:31Z", "2024-05-06T13:32Z")
    path = text(tmp_path / "a.csv", content.replace(":32Z,3,5", ":32Z,3"))
    refused(path, "a.csv: row 3 (line 4) has 4 fields, not 5: '2024-05-06T13:32Z,3,2,4'", "cut short")
    path = text(tmp_path / "a.csv", content.replace("Z,", "Z,,"))
    refused(path, "a.csv: row 1 (line 2) has 6 fields, not 5")
    path = text(tmp_path / "a.csv", content.replace("31Z,2", '31Z,"2'))
    refused(path, "row 2 (line 3)", "unclosed quote")


@pytest.mark.parametrize(
    ("content", "substance"),
    [
        (b"%PDF-1.7\n...", "is a PDF, not bars"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "an old Excel workbook"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
        (b"\x93NUMPY\x01\x00" + bytes(100), "a NumPy array"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "an HTML or XML page"),
        (b'{"error": "no such symbol"}', "JSON"),
        (pickle.dumps([1, 2, 3]), "a Python pickle"),
        (b"\x01\x02\x03\x00" * 100, "a binary file of unknown format"),
        (b"SCID" + bytes(100), "a Sierra Chart SCID file"),
        (b"DBN\x01" + bytes(100), "a Databento DBN file"),
        (b"\x5d\x00\x00\x20\x00" + bytes(100), "a Dukascopy .bi5 file"),
        (bytes(pa.Codec("zstd").compress(b"DBN\x01" + bytes(100))), "a Databento DBN file"),
        (gzip.compress(b"%PDF-1.7\n..."), "a PDF"),
        (gzip.compress(gzip.compress(b"t,o,h,l,c\n")), "gzip-compressed gzip"),
        (bytes(257) + b"ustar" + bytes(100), "a tar archive"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_inputs_that_are_not_bars_are_named(tmp_path: Path, content: bytes, substance: str) -> None:
    refused(text(tmp_path / "bars.csv", content), "bars.csv: is", substance, "Give Parquet, CSV")


def test_workbooks_and_archives_without_text_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    refused(tmp_path / "a.xlsx", "is an Excel workbook, not bars", "Save it as CSV")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("b.parquet", b"PAR1")
    refused(tmp_path / "b.zip", "holds no CSV file, but b.parquet", "Unpack it")


def test_prose_is_not_bars(tmp_path: Path) -> None:
    refused(
        text(tmp_path / "a.txt", "Dear Sir or Madam\nhello\n"),
        "has no column for timestamp",
        "'Dear Sir or Madam'",
    )


def test_special_files_are_refused() -> None:
    refused(Path("/dev/null"), "/dev/null: is not a regular file", "Save its output to a file")
