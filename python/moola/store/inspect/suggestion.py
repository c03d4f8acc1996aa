"""Suggests a value for --reset-on-gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moola.store.inspect.breaks import Group
from moola.store.inspect.durations import DAY, HOUR, MINUTE, format_duration
from moola.store.inspect.gaps import Gaps
from moola.store.reader import FeatureStore

__all__ = ["Suggestion", "suggest_reset"]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A `reset_on_gap` that suits the gaps of a store."""

    reset_on_gap: str | None
    why: str


_LADDER = (4 * HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 8 * HOUR, 12 * HOUR, DAY, 36 * HOUR, 90 * MINUTE, HOUR)
"""Durations to suggest, the most usual first."""


def suggest_reset(gaps: Gaps, groups: Sequence[Group], store: FeatureStore) -> Suggestion:
    """A duration that ends segments at long breaks, but not at short ones or missing bars."""
    step = gaps.step
    if not any(group.recurs for group in groups):
        if int((gaps.span[:, 1] - gaps.span[:, 0]).max()) < 3 * DAY:
            return Suggestion(
                None, "fewer than three days of bars are too few to tell breaks from missing bars"
            )
        return _at_outages(gaps, groups, store) or Suggestion(
            None, "no gap recurs: the market trades round the clock, so no segment needs to end"
        )
    long = [group for group in groups if group.recurs and group.summary.typical >= 3 * HOUR]
    if not long:
        typical = max(group.summary.typical for group in groups if group.recurs)
        return _at_outages(gaps, groups, store) or Suggestion(
            None, f"the breaks that recur are short, typically {format_duration(typical)}"
        )
    short = [group for group in groups if group.recurs and group.summary.typical < 3 * HOUR]
    missing = [group for group in groups if not group.recurs]
    upper = min(int(np.percentile(step[group.members], 5)) for group in long)
    lower = max((int(np.percentile(step[group.members], 99)) for group in short), default=0)
    longest_missing = max(
        (int(step[group.members].max()) for group in missing if len(group.members)), default=0
    )
    fitting = [d for d in _LADDER if lower < d < upper]
    # An outage of hours stays inside a segment if some duration allows it.
    chosen = next((d for d in fitting if d > longest_missing), fitting[0] if fitting else None)
    if chosen is None:
        return _at_outages(gaps, groups, store) or Suggestion(
            None, "no duration tells the long breaks from the short ones"
        )

    ended = step > chosen
    at = [
        f"{int(ended[g.members].sum()):,} {_plural(g.summary.kind)}" for g in long if ended[g.members].any()
    ]
    not_at = [
        f"{_plural(g.summary.kind)} (at most {format_duration(g.summary.longest)})"
        for g in [*short, *missing]
        if not (len(g.members) and ended[g.members].any())
    ]
    cuts = [
        f"{int(ended[g.members].sum()):,} outages among missing bars"
        for g in missing
        if ended[g.members].any()
    ]
    why = f"ends segments at {_and([*at, *cuts])}" + (f", but not at {_and(not_at)}" if not_at else "")
    # Each segment begins with a warm-up.
    needed = max(store.window_length, store.config["warmup_bars"] + 1)
    bars = len(store) // (int(ended.sum()) + len(gaps.span))
    if bars < needed:
        problem = f"ending segments at every long break would leave about {bars:,} bars in each, too few for"
        return _at_outages(gaps, groups, store) or Suggestion(
            None, f"{problem} a window after {store.config['warmup_bars']:,} bars of warm-up"
        )
    if bars < 20 * needed:
        why += f"; the warm-up takes {store.config['warmup_bars']:,} of about {bars:,} bars in each segment"
    return Suggestion(format_duration(chosen), why)


_OUTAGES = (DAY, 7 * DAY, 30 * DAY, 90 * DAY)
"""Durations that tell outages, such as a missing year, from breaks that recur."""


def _at_outages(gaps: Gaps, groups: Sequence[Group], store: FeatureStore) -> Suggestion | None:
    """A duration that ends segments only at breaks that do not recur; None where there are none so long."""
    step = gaps.step
    usual = [step[g.members] for g in groups if g.recurs and g.summary.kind != "longer break"]
    needed = max(store.window_length, store.config["warmup_bars"] + 1)
    for duration in _OUTAGES:
        ended = step > duration
        count = int(ended.sum())
        if not count:
            return None
        if any((steps > duration).any() for steps in usual):
            continue
        if len(store) // (count + len(gaps.span)) >= needed:
            longer = "a break" if count == 1 else f"{count:,} breaks"
            why = f"ends segments at {longer} of more than {format_duration(duration)}"
            return Suggestion(format_duration(duration), why)
    return None


def _plural(kind: str) -> str:
    return kind if kind == "missing bars" else f"{kind}s"


def _and(things: Sequence[str]) -> str:
    return " and ".join([", ".join(things[:-1]), things[-1]] if len(things) > 1 else things)
