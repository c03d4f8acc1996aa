"""The bars a model was trained on: their interval, and how they were read and cut into segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from moola.errors import FeatureMismatchError
from moola.labels.windows import LabelledWindows
from moola.store.inspect.durations import format_duration
from moola.store.reader import FeatureStore

__all__ = ["BarIdentity"]


@dataclass(frozen=True)
class BarIdentity:
    """Properties of the bars that a model depends on and that its features do not show."""

    intervals: tuple[int, ...]
    """Nanoseconds between bars, ascending, of each symbol that has windows. Empty if unknown."""
    read_options: Mapping[str, Any]
    """The options of :func:`moola.build_features` that they were read with, without kept columns. Options in which
    several stores differ are left out. Empty if unknown, as for pre-cut windows."""

    @classmethod
    def of(cls, stores: Sequence[FeatureStore]) -> Self:
        """The identity of the bars of one or more stores."""
        # Segments too short for a window do not count: in stores before 0.2.0 their step may be any.
        intervals = {
            segment.bar_interval
            for store in stores
            for segment in store.segments
            if segment.last_row - segment.first_row + 1 >= store.window_length and segment.bar_interval
        }
        first, *others = ({**store.metadata["read_options"]} for store in stores)
        options = {
            name: value
            for name, value in first.items()
            if name != "keep" and all(name in other and other[name] == value for other in others)
        }
        if others:
            # The longest limit counts: the model was trained on windows with gaps up to it.
            rules: list[Any] = [read.get("reset_on_gap") for read in (first, *others)]
            options["reset_on_gap"] = None if None in rules else max(rules)
        return cls(tuple(sorted(intervals)), options)

    @classmethod
    def of_windows(cls, windows: LabelledWindows) -> Self | None:
        """The identity of the bars of pre-cut windows. None if their first or last times are unknown.

        Also None for windows of one bar, and for windows of a store, which may lack bars: use :meth:`of` on the store.
        """
        steps = windows.window_length - 1
        if windows.store_id or windows.first_times is None or windows.times is None or not steps:
            return None
        # First times were computed from one interval, or looked up; then the shortest window has no missing bars.
        return cls((int((windows.times - windows.first_times).min()) // steps,), {})

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Self:
        """Reads what :meth:`record` returned. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        return cls(tuple(map(int, record["intervals"])), dict(record["read_options"]))

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {"intervals": list(self.intervals), "read_options": dict(self.read_options)}

    @property
    def reset_on_gap(self) -> int | None:
        """The longest step between bars inside a window, in nanoseconds; None if there is no limit or it is unknown."""
        rule: int | None = self.read_options.get("reset_on_gap")
        return rule

    @property
    def apart(self) -> str:
        """The intervals in words."""
        return _listed(self.intervals)

    def require(self, given: BarIdentity, source: str) -> None:
        """Checks that a model trained on these bars can read those of `source`.

        - The interval must be the same. Otherwise a window of 105 bars covers another length of time, and its candles
          are of another kind.
        - Windows must not span longer gaps than in training. An EMA or a swing would run across a night or a weekend,
          which the model has not seen. Shorter gaps are fine: features restart after them, and bars in warm-up are
          hidden.

        If it is unknown how either set of bars was read, only intervals are compared.

        Raises `FeatureMismatchError`, which states the difference.
        """
        odd = sorted(set(given.intervals) - set(self.intervals))
        if odd and self.intervals:
            raise FeatureMismatchError(
                f"the bars of {source} are {_listed(odd)} apart, the weights were trained on bars {self.apart} apart",
                f"Give bars {self.apart} apart, or train on those",
            )
        if not self.read_options or not given.read_options:
            return
        rule, theirs_rule = self.reset_on_gap, given.reset_on_gap
        if rule is not None and (theirs_rule is None or theirs_rule > rule):
            theirs = "of any length" if theirs_rule is None else f"of up to {format_duration(theirs_rule)}"
            ours = format_duration(rule)
            raise FeatureMismatchError(
                f"windows of {source} span gaps {theirs}, the training windows none longer than {ours}",
                f"Build a store with --reset-on-gap '{ours}'",
            )

    def notes(self, given: BarIdentity, source: str) -> Iterator[str]:
        """Differences to report when a model trained on these bars reads those of `source`, which it can."""
        if not self.read_options or not given.read_options:
            return
        rule, theirs = self.reset_on_gap, given.reset_on_gap
        if theirs is not None and (rule is None or theirs < rule):
            yield (
                f"features of {source} restart after gaps over {format_duration(theirs)}, the training features "
                f"{'never' if rule is None else f'after gaps over {format_duration(rule)}'}: windows after such a gap "
                "have hidden bars or are missing"
            )
        mine, others = (of.read_options.get("segment_by", ()) for of in (self, given))
        if "contract" in mine and "contract" not in others:
            yield (
                f"windows of {source} span rolls if its bars are of a continuous future, the training windows did "
                "not; build it with --segment-by symbol,contract"
            )


def _listed(intervals: Sequence[int]) -> str:
    return " or ".join(map(format_duration, intervals))
