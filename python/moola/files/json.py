"""JSON, written and read in one way: stores, runs, labels and results all use it.

The text is canonical: one value has one text, so a file can be compared byte by byte with what it says. Reading is
strict: it refuses duplicate keys, NaN and infinities.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from moola.files.publishing import write_file, write_new_file

__all__ = ["as_json", "dump_json", "json_line", "parse_json", "replace_json", "write_json"]


def dump_json(value: Any) -> bytes:
    """UTF-8 JSON with one item a line down to the second level, ending in a newline. Keys must be strings.

    Raises `ValueError` for NaN and infinities, `TypeError` for what JSON does not have.
    """
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode

    def block(value: Any, depth: int) -> str:
        if depth < 2 and value and isinstance(value, dict):
            items, brackets = [f"{encode(str(k))}: {block(v, depth + 1)}" for k, v in value.items()], "{}"
        elif depth < 2 and value and isinstance(value, list | tuple):
            items, brackets = [block(v, depth + 1) for v in value], "[]"
        else:
            return encode(value)
        newline = "\n" + " " * depth
        return brackets[0] + ",".join(f"{newline} {item}" for item in items) + newline + brackets[1]

    return (block(value, 0) + "\n").encode()


def json_line(value: Any) -> str:
    """JSON on one line, without a newline: for lines of a log, and for the metadata of a file.

    Raises what :func:`dump_json` raises.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def parse_json(data: bytes, *, canonical: bool = False) -> Any:
    """The value of a JSON text. With `canonical` the text must be, byte for byte, what :func:`dump_json` writes.

    Raises `ValueError` for what is not JSON, for duplicate keys, NaN and infinities.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
        if canonical and dump_json(value) != data:
            raise ValueError("it is not written as moola writes it")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def as_json(value: Any) -> Any:
    """The value as a file would give it back: a tuple becomes a list, a key becomes text."""
    return parse_json(json_line(value).encode())


def write_json(path: str | os.PathLike[str], value: Any) -> int:
    """Writes :func:`dump_json` into a new file and returns its size in bytes."""
    return write_new_file(path, dump_json(value))


def replace_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes :func:`dump_json` into a file, whole or not at all. The file may exist already."""
    write_file(path, dump_json(dict(record)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
