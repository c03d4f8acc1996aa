"""Writes the bars that a build left out, as CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from moola.bars.source import BarSource
from moola.errors import ConfigError
from moola.errors.bars import KINDS
from moola.errors.base import format_time
from moola.files.publishing import replacing_file

__all__ = ["Rejects", "writing_rejects"]

COLUMNS = (
    "file", "row", "line", "symbol", "time", "reason", "column", "value", "open", "high", "low", "close",
)  # fmt: skip


class Rejects:
    """Takes the bars that the engine left out, in the order in which it met them."""

    def __init__(self, file: IO[str], source: BarSource) -> None:
        self._source = source
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def write(self, rejects: Sequence[tuple[int, int | None, dict[str, Any]]]) -> None:
        """Writes some bars: for each its file, symbol, and the facts for a `Problem`."""
        source = self._source
        for file, code, facts in rejects:
            row, time = facts["row"], facts["timestamp"]
            self._rows.writerow(
                [
                    source.label(file),
                    row + 1,
                    source.locate(file, row) or "",
                    source.symbols[code] if code is not None and source.symbols else "",
                    "" if time is None else format_time(time),
                    KINDS[facts["kind"]][0],
                    facts["column"],
                    format_time(time) if facts["column"] == "timestamp" else facts["value"],
                    *facts["bar"],
                ]
            )


@contextmanager
def writing_rejects(path: str | os.PathLike[str] | None, source: BarSource) -> Iterator[Rejects | None]:
    """A file for the bars that are left out, which gets its name once the block ends well; None without a path.

    Raises `ConfigError` where the file is one of the sources, and what `replacing_file` raises.
    """
    if path is None:
        yield None
        return
    given = Path(path)
    for file in source.files:
        if file.path is not None and given.exists() and os.path.samefile(given, file.path):
            raise ConfigError("rejects", f"{given} is what is read; write to another file")
    with replacing_file(given) as beside, beside.open("w", encoding="utf-8", newline="") as out:
        yield Rejects(out, source)
        out.flush()
