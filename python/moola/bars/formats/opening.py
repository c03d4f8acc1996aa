"""Opens a file of bars in the format that its first bytes tell."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from moola.bars.formats.arrow import IpcInput
from moola.bars.formats.csv import CsvInput
from moola.bars.formats.csv_options import TextOptions
from moola.bars.formats.files import denied_file, missing_file
from moola.bars.formats.inputs import Input
from moola.bars.formats.kinds import foreign_kind, kind_of
from moola.bars.formats.parquet import ParquetInput
from moola.bars.formats.zipped import open_archive
from moola.errors import InputError

__all__ = ["open_file", "open_files"]


def open_file(path: Path, contents: str = "bars", text: TextOptions | None = None) -> Input:
    """Opens a file that is one table. Raises `InputError` for a file of another kind, and for several in an archive."""
    found = open_files(path, contents, text)
    if len(found) > 1:
        raise InputError(
            f"holds {len(found)} files, not one", "Unpack it, and give one of them", source=str(path)
        )
    return found[0]


def open_files(path: Path, contents: str = "bars", text: TextOptions | None = None) -> list[Input]:
    """Opens a file, or every text file in a ZIP archive. Raises `InputError` for a file of another kind.

    `text` says how text files are written.
    """
    start = _start(path)
    if start.startswith(b"PK\x03\x04"):
        return list(open_archive(path, contents, text))
    kind, what = kind_of(start)
    match kind:
        case "parquet":
            return [ParquetInput(path, contents)]
        case "ipc file" | "ipc stream":
            return [IpcInput(path, contents, stream=kind == "ipc stream")]
        case "csv":
            return [CsvInput(path, None, contents, text)]
        case "gzip" | "zstd" | "bz2":
            return [CsvInput(path, kind, contents, text)]
    raise foreign_kind(str(path), cast(str, what), contents)


def _start(path: Path) -> bytes:
    """The first bytes of a file. Raises `InputError` where it has none or cannot be read."""
    try:
        if not path.is_file() and path.exists():
            raise InputError(
                "is not a regular file",
                "Save its output to a file first, and give that file",
                source=str(path),
            )
        with path.open("rb") as file:
            start = file.read(4096)
    except FileNotFoundError as error:
        raise missing_file(path) from error
    except PermissionError as error:
        raise denied_file(path) from error
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", "Check the path and the disk", source=str(path)
        ) from error
    if not start:
        raise InputError("is empty", "Leave it out, or check how it was made", source=str(path))
    return start
