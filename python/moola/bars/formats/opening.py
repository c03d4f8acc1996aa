"""Opens a file of bars in the format that its first bytes tell."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from moola.bars.formats.arrow import IpcInput
from moola.bars.formats.csv import CsvInput
from moola.bars.formats.files import denied_file, missing_file
from moola.bars.formats.inputs import Input
from moola.bars.formats.kinds import foreign_kind, kind_of
from moola.bars.formats.parquet import ParquetInput
from moola.errors import InputError

__all__ = ["open_file"]


def open_file(path: Path, contents: str = "bars") -> Input:
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
    kind, what = kind_of(start)
    match kind:
        case "parquet":
            return ParquetInput(path, contents)
        case "ipc file" | "ipc stream":
            return IpcInput(path, contents, stream=kind == "ipc stream")
        case "csv":
            return CsvInput(path, None, contents)
        case "gzip" | "zstd" | "bz2":
            return CsvInput(path, kind, contents)
    raise foreign_kind(str(path), cast(str, what), contents)
