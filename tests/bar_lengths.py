"""The bar interval of a source by its definition, with plain loops."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

__all__ = ["plain_interval"]


def plain_interval(symbols: Sequence[Sequence[int]]) -> int:
    """The largest step that divides at least 99 % of all steps and occurs often; 0 where there is none.

    `symbols`: the steps of each symbol, in nanoseconds, all of bars shorter than four hours.
    """
    every = [step for steps in symbols for step in steps]
    often = {
        step
        for step in set(every)
        if every.count(step) * 20 >= len(every)
        or any(same == step and len(list(run)) >= 50 for steps in symbols for same, run in groupby(steps))
    }
    # A vendor's live row may be the last bar of any symbol.
    before_last = [step for steps in symbols for step in steps[:-1]]
    for steps in (every, before_last if len(before_last) >= 20 else []):
        for interval in sorted(often, reverse=True) if steps else ():
            if sum(step % interval != 0 for step in steps) * 100 <= len(steps):
                return interval
    return 0
