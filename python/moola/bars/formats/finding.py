"""Finds the files of bars in a directory, or those that a pattern names."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import NoReturn

from moola.bars.formats.files import denied_file
from moola.errors import InputError

__all__ = ["find_files"]


SUFFIXES = (".parquet", ".pq", ".csv", ".tsv", ".txt", ".arrow", ".feather", ".ipc", ".arrows", ".zip")

_COMPRESSED_SUFFIXES = (".gz", ".zst", ".bz2")


def find_files(path: Path) -> list[Path]:
    """The path itself; or the files of bars in a directory and below, found by suffix; or those that a pattern names
    with `*`, `?` or `[…]`, where there is no file of that name.

    They are sorted by name, partitions such as `month=10` by value.

    Raises `InputError` where a directory or a pattern has no such files.
    """
    try:
        if not path.exists() and glob.has_magic(str(path)):
            return _matching(path)
        if not path.is_dir():
            return [path]
        found: list[Path] = []
        for folder, folders, names in os.walk(path, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith((".", "_"))]
            found += [Path(folder, name) for name in names if _may_be_bars(Path(folder, name))]
    except PermissionError as error:
        raise denied_file(Path(error.filename or path)) from error
    if found:
        return sorted(found, key=_in_order)
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


def _matching(pattern: Path) -> list[Path]:
    """The files that a pattern names, and those in the directories that it names."""
    found = [Path(name) for name in glob.glob(str(pattern), recursive=True)]
    files = {path for path in found if path.is_file()}
    if not files:
        files = {file for path in found if path.is_dir() for file in find_files(path)}
    if not files:
        raise InputError(
            "no file matches this pattern",
            "Check the directory and the quotes around the pattern; ** stands for any directories",
            source=str(pattern),
        )
    return sorted(files, key=_in_order)


def _in_order(path: Path) -> list[tuple[str, int, int, str]]:
    """By name; partitions of numbers, such as month=10, by value."""
    order = []
    for part in path.parts:
        key, equals, value = part.partition("=")
        if equals and value.isdecimal():
            order.append((key + equals, 0, int(value), value))
        else:
            order.append((part, 1, 0, ""))
    return order


def _raise(error: OSError) -> NoReturn:
    raise error


def _may_be_bars(path: Path) -> bool:
    if path.name.startswith((".", "_")):
        return False
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in _COMPRESSED_SUFFIXES:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in SUFFIXES
