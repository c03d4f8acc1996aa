"""Finds the column that would tell instruments apart, where bars of several were read as one series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moola.bars.columns import Layout
from moola.bars.formats.inputs import Input, is_text, is_type, values_of
from moola.errors import MoolaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["telling_column"]

_MOST_ROWS = 1 << 20


def telling_column(
    source: Input, layout: Layout, read_times: Callable[[Any, int], NDArray[np.int64]]
) -> int | None:
    """The first unused column with which every time of its values comes once and in order; None where none does.

    Reads the first 1,048,576 rows again. `read_times` gives the times of a record batch with `layout.columns`, from the
    batch and its first row.
    """
    if not source.rereadable:
        return None
    unused = [
        column
        for column in range(len(source.names))
        if column not in layout.columns and _may_tell(source, column)
    ]
    times: list[NDArray[np.int64]] = []
    values: dict[int, list[Any]] = {column: [] for column in unused}
    wanted = sorted({*layout.columns, *unused})
    rows = 0
    try:
        for raw in source.read(wanted, (), [column for column in unused if source.types is None]):
            times.append(read_times(raw.select([wanted.index(column) for column in layout.columns]), rows))
            for column in unused:
                values[column].append(raw.column(wanted.index(column)))
            rows += raw.num_rows
            if rows >= _MOST_ROWS:
                break
    except MoolaError:
        return None
    finally:
        source.close()
    if not rows:
        return None
    time = np.concatenate(times)
    return next((column for column in unused if _tells(values[column], time)), None)


def _may_tell(source: Input, column: int) -> bool:
    if source.types is None:
        return True
    dtype = source.types[column]
    return is_text(dtype) or is_type("integer", dtype) or is_type("dictionary", dtype)


def _tells(chunks: list[Any], time: NDArray[np.int64]) -> bool:
    """Whether the times of each value ascend, where those of all rows do not."""
    known: dict[Any, int] = {}
    codes = []
    for chunk in chunks:
        encoded = chunk if is_type("dictionary", chunk.type) else chunk.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        if encoded.indices.null_count or len(names) > len(chunk) // 2:
            return False
        lookup = np.array([known.setdefault(name, len(known)) for name in names] or [0])
        codes.append(lookup[values_of(encoded.indices)])
    if not 2 <= len(known) <= len(time) // 2:
        return False
    code = np.concatenate(codes)
    order = np.argsort(code, kind="stable")
    same = code[order][1:] == code[order][:-1]
    return bool((np.diff(time[order])[same] > 0).all())
