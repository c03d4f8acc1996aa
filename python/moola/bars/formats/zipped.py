"""Reads text files of bars from a ZIP archive, member by member, without unpacking it to disk."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from moola.bars.formats.csv import CsvInput
from moola.bars.formats.csv_options import TextOptions
from moola.errors import InputError

__all__ = ["ZipMember", "open_archive"]

_TEXT = (".csv", ".tsv", ".txt")


class ZipMember(CsvInput):
    """A text file in a ZIP archive."""

    def __init__(self, path: Path, member: str, contents: str, options: TextOptions | None) -> None:
        self.member = member
        super().__init__(path, None, contents, options)

    def prepare(self) -> None:
        self.name = f"{self.path}/{self.member}"
        super().prepare()

    def open_bytes(self) -> Any:
        """The member as a stream of bytes, unpacked."""
        with zipfile.ZipFile(self.path) as archive:
            # The archive's file stays open until the member is closed.
            return io.BufferedReader(archive.open(self.member), 1 << 16)


def open_archive(path: Path, contents: str, options: TextOptions | None) -> list[ZipMember]:
    """The text files of an archive, by name: those named .csv, or where there are none, .tsv or .txt.

    Vendors pack a report named .txt beside the .csv. Raises `InputError` for an archive that is damaged, encrypted or
    without text files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise InputError(
            f"is damaged or cut short ({error})",
            "Fetch it again, then compare its size with the source's",
            source=str(path),
        ) from error
    names = [info.filename for info in members]
    if "[Content_Types].xml" in names:
        raise InputError(
            "is an Excel workbook, not " + contents, "Save it as CSV, and give that", source=str(path)
        )
    shown = [name for name in names if not Path(name).name.startswith((".", "_")) and "__MACOSX" not in name]
    for suffixes in ((_TEXT[0],), _TEXT[1:]):
        chosen = sorted(name for name in shown if name.lower().endswith(suffixes))
        if chosen:
            break
    else:
        held = ", ".join(shown[:5]) + (", …" if len(shown) > 5 else "")
        raise InputError(
            f"holds no CSV file, but {held or 'nothing'}",
            "Unpack it, and give the files in it as Parquet, CSV or Arrow IPC",
            source=str(path),
        )
    if any(info.flag_bits & 1 for info in members if info.filename in chosen):
        raise InputError("is encrypted", "Unpack it with its password, and give the files", source=str(path))
    return [ZipMember(path, name, contents, options) for name in chosen]
