"""The line with which a build names breaks that its windows cross."""

from __future__ import annotations

import numpy as np

from moola.store.inspect.breaks import group_gaps
from moola.store.inspect.durations import HOUR, format_duration
from moola.store.inspect.gaps import Gap, describe_gap, find_gaps
from moola.store.inspect.suggestion import suggest_reset
from moola.store.reader import FeatureStore

__all__ = ["break_notices", "is_of_breaks"]

_LONG = 3 * HOUR
_BEGINS = "windows cross breaks"


def break_notices(store: FeatureStore) -> list[str]:
    """At most one line: the breaks that windows of a store cross, and the `reset_on_gap` that `inspect` suggests.

    It is missing where the store has a `reset_on_gap`, no break of three hours, or none that it advises to end at.
    """
    if store.metadata["read_options"]["reset_on_gap"] is not None:
        return []
    if store.metadata["quality"]["longest_step"] < _LONG:
        return []
    symbols = tuple(dict.fromkeys(segment.symbol for segment in store.segments))
    gaps = find_gaps(store)
    suggestion = suggest_reset(gaps, group_gaps(gaps, symbols), store)
    value = suggestion.reset_on_gap
    if value is None:
        return []
    longest = int(np.argmax(gaps.step))
    example = Gap(symbols[gaps.symbol[longest]], int(gaps.last[longest]), int(gaps.end[longest]))
    lasts = format_duration(int(gaps.closed[longest]))
    return [
        f"{_BEGINS}, the longest of {lasts} ({describe_gap(example)}); --reset-on-gap {value} "
        f"(reset_on_gap='{value}') {suggestion.why}"
    ]


def is_of_breaks(notice: str) -> bool:
    """Whether a notice is the line of `break_notices`, which concerns only whoever builds a store to keep."""
    return notice.startswith(_BEGINS)
