"""Finds the files of bars in a directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from moola.bars.formats.files import denied_file
from moola.errors import InputError

__all__ = ["find_files"]


SUFFIXES = (".parquet", ".pq", ".csv", ".tsv", ".txt", ".arrow", ".feather", ".ipc", ".arrows")

_COMPRESSED_SUFFIXES = (".gz", ".zst", ".bz2")


def find_files(path: Path) -> list[Path]:
    """The path itself, or the files of bars in a directory and below, found by suffix and sorted by name."""
    try:
        if not path.is_dir():
            return [path]
        found: list[Path] = []
        for folder, folders, names in os.walk(path, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith((".", "_"))]
            found += [Path(folder, name) for name in names if _may_be_bars(Path(folder, name))]
    except PermissionError as error:
        raise denied_file(Path(error.filename or path)) from error
    if found:
        return sorted(found, key=lambda file: file.parts)
    if (path / "metadata.json").is_file() and (path / "checksums.b3").is_file():
        raise InputError(
            "is a feature store, not bars",
            "Give the bars it was built from; `moola inspect` shows it",
            source=str(path),
        )
    raise InputError(
        "holds no Parquet, CSV or Arrow files",
        f"Files are found by their suffix ({', '.join(SUFFIXES)}, perhaps with .gz); name others one by one",
        source=str(path),
    )


def _raise(error: OSError) -> NoReturn:
    raise error


def _may_be_bars(path: Path) -> bool:
    if path.name.startswith((".", "_")):
        return False
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in _COMPRESSED_SUFFIXES:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in SUFFIXES
