"""The findings of checks: the error that carries one, and the words for rows and differences."""

from __future__ import annotations

from typing import Any

from moola.errors.base import format_time
from moola.files.json import dump_json
from moola.store.reader import FeatureStore

__all__ = ["FindingError", "bar_at", "difference"]


class FindingError(Exception):
    """A check found something wrong, and ends. The text says what and where."""


def bar_at(store: FeatureStore, row: int) -> str:
    """A row as messages name it, with its time."""
    return f"row {row:,} at {format_time(int(store.read_rows('timestamps.npy', row, row + 1)[0]))}"


def difference(stored: Any, again: Any, where: str = "") -> str:
    """The first place at which two JSON values differ, in words: the stored value and the recomputed one."""
    if isinstance(stored, dict) and isinstance(again, dict) and list(stored) == list(again):
        for key in stored:
            if dump_json(stored[key]) != dump_json(again[key]):
                return difference(stored[key], again[key], f"{where}.{key}" if where else key)
    if isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        for i, (one, other) in enumerate(zip(stored, again, strict=True)):
            if dump_json(one) != dump_json(other):
                return difference(one, other, f"{where}[{i}]")
    shown = (repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}…" for value in (stored, again))
    return "{} is {}, but recomputing gives {}".format(where or "it", *shown)
