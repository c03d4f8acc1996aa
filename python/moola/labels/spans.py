"""Spans: the first and the last bar that a label marks in its window."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.errors.listing import listed_rows
from moola.settings.arrays import Numbers

if TYPE_CHECKING:
    from moola.labels.refusals import Refusals
    from moola.labels.table import LabelTable

__all__ = ["NONE", "ROLES", "check_spans", "has_spans", "hidden_spans", "in_spans", "whole_numbers"]

ROLES = ("start", "end")
NONE = -1
"""Marks a missing span in a column of numbers. Null does too."""

# Far beyond any row, but small enough that sums do not overflow.
_FAR = 1 << 60

Flags: TypeAlias = NDArray[np.bool_]


def has_spans(table: LabelTable) -> bool:
    """Whether there are spans. Raises `InputError` when there is only one column for them."""
    there = [role for role in ROLES if table.has(role)]
    if len(there) == 1:
        other = next(role for role in ROLES if role not in there)
        raise table.source.refusal(
            f"has a column {table.name(there[0])!r} for the {there[0]} of spans, but none for the {other}",
            f"Give both, or name the other with --columns FILE_COLUMN={other}",
        )
    return bool(there)


def whole_numbers(
    table: LabelTable, start: Numbers, end: Numbers, refusals: Refusals
) -> tuple[Numbers, Flags]:
    """`[rows, 2]`: the numbers of both columns, and whether there is one. Unreadable numbers are refused."""
    for role, column in zip(ROLES, (start, end), strict=True):
        unreadable = (column > _core.TIME_NULL) & (column <= _core.TIME_LOCAL)
        refusals.add("bad_number", unreadable, partial(table.given, role))
    numbers = np.stack([start, end], axis=1)
    return np.clip(numbers, -_FAR, _FAR), (numbers > _core.TIME_LOCAL) & (numbers != NONE)


def check_spans(
    table: LabelTable, refusals: Refusals, spans: Numbers, there: Flags, length: int, read_as: str = ""
) -> Numbers:
    """Refuses spans that do not lie in their windows, and returns the spans: `[rows, 2]`, −1 for none.

    Args:
        spans: `[rows, 2]`, counted in the window from 0, both ends inclusive; arbitrary where not `there`.
        read_as: For a message: how the file's numbers were read.
    """

    def both(row: int) -> str:
        return f"{table.given('start', row)}, {table.given('end', row)}"

    def outside(row: int) -> str:
        bars = f"{spans[row, 0]} to {spans[row, 1]}"
        return f"{both(row)}{read_as}: bars {bars} in a window of bars 0 to {length - 1}"

    has: Flags = there[:, 0] & there[:, 1]
    refusals.add("half_span", there[:, 0] ^ there[:, 1], both)
    refusals.add("span_reversed", has & (spans[:, 0] > spans[:, 1]), both)
    refusals.add("span_outside", has & ((spans[:, 0] < 0) | (spans[:, 1] >= length)), outside)
    return np.where(there, spans, NONE)


def in_spans(spans: Numbers, length: int) -> Flags:
    """`[n, K]`: which bars of each window lie in its span `[n, 2]`; no bars for −1 and −1."""
    bars = np.arange(length)
    inside: Flags = (spans[:, :1] <= bars) & (bars <= spans[:, 1:]) & (spans[:, :1] >= 0)
    return inside


def hidden_spans(rows: NDArray[np.intp], spans: Numbers, valid: Flags) -> tuple[str, ...]:
    """Notices of spans on warm-up bars, which models do not see.

    Args:
        rows: `[n]`, the row of each window in the file, from 0.
        spans: `[n, 2]`.
        valid: `[n, K]`, which bars may be seen.
    """
    inside = in_spans(spans, valid.shape[1])
    some, hidden = (inside & valid).any(axis=1), (inside & ~valid).any(axis=1)
    notices = []
    for which, several, one in (
        (
            hidden & ~some,
            "have spans that lie wholly in the warm-up: models do not learn from these spans",
            "has a span that lies wholly in the warm-up: models do not learn from this span",
        ),
        (
            hidden & some,
            "have spans that begin in the warm-up: their warm-up bars are left off",
            "has a span that begins in the warm-up: its warm-up bars are left off",
        ),
    ):
        if numbers := (rows[which] + 1).tolist():
            notices.append(f"{listed_rows(numbers)} {several if len(numbers) > 1 else one}")
    return tuple(notices)
