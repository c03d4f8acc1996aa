"""Tells the kind of a file from its first bytes."""

from __future__ import annotations

from moola.bars.formats.text import encoding_of
from moola.errors import InputError

__all__ = ["foreign_kind", "kind_of"]


# Files of other kinds, which the message can name.
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive (or an Excel workbook)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook or Word document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
    (b"DBN", "a Databento DBN file"),
    (b"FEA1", "a Feather file of the old version 1"),
    (b"PARE", "an encrypted Parquet file"),
    (b"\x7fELF", "a program"),
    (b"SCID", "a Sierra Chart SCID file"),
)

_COMPRESSIONS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"))


def kind_of(start: bytes) -> tuple[str, str | None]:
    """The format of a file by its first bytes, csv for any text; and where it cannot be bars, its kind in words."""
    if start.startswith(b"PAR1"):
        return "parquet", None
    if start.startswith(b"ARROW1"):
        return "ipc file", None
    if start.startswith(b"\xff\xff\xff\xff"):
        return "ipc stream", None
    for magic, name in _COMPRESSIONS:
        if start.startswith(magic):
            return name, None
    for magic, what in _FOREIGN:
        if start.startswith(magic):
            return "", what
    if start.startswith(b"\x5d\x00\x00"):
        return "", "a Dukascopy .bi5 file, or other data packed by LZMA"
    if start[257:262] == b"ustar":
        return "", "a tar archive"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "", "a Python pickle"
    if encoding_of(start) != "utf-8":
        return "csv", None
    if b"\0" in start[:4096]:
        return "", "a binary file of unknown format"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:16].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "", "an HTML or XML page"
    if text.startswith((b"{", b"[")):
        return "", "JSON"
    return "csv", None


_CONVERSIONS = {
    "JSON": "Convert it: pandas.read_json(FILE).to_parquet('bars.parquet')",
    "Databento DBN": "Convert it: databento.DBNStore.from_file(FILE).to_csv('bars.csv')",
    "Dukascopy": "Download minute bars as CSV instead; the file holds ticks, packed by LZMA",
    "SCID": "Export it in Sierra Chart: Edit, Export Bar Data To Text File",
    "HDF5": "Convert it: pandas.read_hdf(FILE).to_parquet('bars.parquet')",
    "pickle": "Convert it: pandas.read_pickle(FILE).to_parquet('bars.parquet')",
    "SQLite": "Convert it: pandas.read_sql('SELECT * FROM TABLE', sqlite3.connect(FILE)).to_parquet('bars.parquet')",
    "Feather": "Convert it: pandas.read_feather(FILE).to_parquet('bars.parquet')",
}
"""How to make bars of a file of another kind."""


def foreign_kind(name: str, what: str, contents: str) -> InputError:
    """The refusal of a file of another kind."""
    advice = "Give Parquet, CSV (also compressed with gzip, or in a ZIP archive) or Arrow IPC"
    for name_of, conversion in _CONVERSIONS.items():
        if name_of in what:
            advice = f"{conversion}. {advice}"
    if "archive" in what:
        advice = f"Unpack it. {advice}"
    if "workbook" in what:
        advice = f"{advice}; a workbook can be saved as CSV"
    return InputError(f"is {what}, not {contents}", advice, source=name)
