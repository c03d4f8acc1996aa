"""Writes the list in an error's text: counts by kind, samples of each kind, and advice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

__all__ = ["Sample", "listed_rows", "listing"]


class Sample(Protocol):
    """A sample of what was refused. Its text gives its place and its value."""

    @property
    def kind(self) -> str: ...


_AnySample = TypeVar("_AnySample", bound=Sample)


def listing(
    noun: str,
    counts: Mapping[str, int],
    problems: Sequence[_AnySample],
    names: Mapping[str, str],
    advice: Callable[[str, Sequence[_AnySample]], str],
    more: Callable[[str], str] = lambda kind: "",
) -> str:
    """The text that lists what was refused.

    Args:
        noun: What was refused, such as `bar`.
        counts: How many of each kind.
        problems: Samples of them.
        names: The name of each kind.
        advice: What to do about a kind, given its samples.
        more: Text after the number of problems of a kind that are not shown.
    """
    total = sum(counts.values())
    lines = [f"{total:,} {noun if total == 1 else _PLURALS.get(noun, noun + 's')} refused"]
    for kind, count in counts.items():
        lines.append(f"  {names[kind]}: {count:,}")
        shown = [problem for problem in problems if problem.kind == kind]
        lines += [f"    {problem}" for problem in shown]
        if count > len(shown) > 0:
            lines.append(f"    … and {count - len(shown):,} more{more(kind)}")
        lines.append(f"    → {advice(kind, shown)}")
    return "\n".join(lines)


_PLURALS = {"class": "classes"}


_MOST_RANGES = 100


def listed_rows(rows: Sequence[int]) -> str:
    """`rows 3 to 7, 9, 12`, for ascending numbers."""
    firsts: list[int] = []
    lasts: list[int] = []
    for row in rows:
        if lasts and row == lasts[-1] + 1:
            lasts[-1] = row
        else:
            firsts.append(row)
            lasts.append(row)
    pairs = list(zip(firsts, lasts, strict=True))
    text = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in pairs[:_MOST_RANGES])
    if len(pairs) > _MOST_RANGES:
        text += ", … (the error's `rows` has all)"
    return f"rows {text}" if len(rows) > 1 else f"row {text}"
