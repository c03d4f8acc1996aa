"""Which bars a model has learned from: how far apart they were, and how they were read and cut into segments."""

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
    """What features do not say of the bars under them, and what a model depends on all the same."""

    intervals: tuple[int, ...]
    """Nanoseconds from bar to bar, ascending: the usual steps of the symbols that have windows."""
    read_options: Mapping[str, Any]
    """How they were read, as :func:`moola.build_features` takes it, kept columns apart; what stores were read with
    differently is left out. Empty if unknown: for windows that were cut beforehand."""

    @classmethod
    def of(cls, stores: Sequence[FeatureStore]) -> Self:
        """The identity of the bars of these stores, at least one."""
        # A symbol with too few bars for a window may have any usual step.
        intervals = {
            segment.bar_interval
            for store in stores
            for segment in store.segments
            if segment.last_row - segment.first_row + 1 >= store.window_length
        }
        first, *others = ({**store.metadata["read_options"]} for store in stores)
        options = {
            name: value
            for name, value in first.items()
            if name != "keep" and all(name in other and other[name] == value for other in others)
        }
        if others:
            # Where any lets windows pass over longer gaps, such windows were learned from.
            rules: list[Any] = [read.get("reset_on_gap") for read in (first, *others)]
            options["reset_on_gap"] = None if None in rules else max(rules)
        return cls(tuple(sorted(intervals)), options)

    @classmethod
    def of_windows(cls, windows: LabelledWindows) -> Self | None:
        """That of the bars of windows that were cut beforehand; None if it is unknown when they begin and end.

        Also None for windows of a store, which may lack bars: :meth:`of` asks the store.
        """
        steps = windows.window_length - 1
        if windows.store_id or windows.first_times is None or windows.times is None or not steps:
            return None
        # All were reckoned back by one interval; where their bars were looked up, the shortest lacks none.
        return cls((int((windows.times - windows.first_times).min()) // steps,), {})

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Self:
        """From what :meth:`record` gave. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        return cls(tuple(map(int, record["intervals"])), dict(record["read_options"]))

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {"intervals": list(self.intervals), "read_options": dict(self.read_options)}

    @property
    def reset_on_gap(self) -> int | None:
        """Nanoseconds: no window reaches over a longer step between bars; None where any may lie within one."""
        rule: int | None = self.read_options.get("reset_on_gap")
        return rule

    @property
    def apart(self) -> str:
        """How far apart the bars are, in words."""
        return _listed(self.intervals)

    def require(self, given: BarIdentity, source: str) -> None:
        """Raises `FeatureMismatchError`, saying how, when a model of these bars cannot read those of `source`.

        It cannot where they lie otherwise far apart: a window of 105 bars would be of another length, and each candle
        in it of another kind. Nor can it where windows reach over longer gaps than any that it learned from: in
        features an EMA and a swing then pass over a night or a weekend, and only new windows show what that looks like.
        The other way round it can: a segment that begins afresh shows bars that are past their warm-up, or hides them.
        If it is unknown how the bars of either were read, only intervals are compared.
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
                f"windows of {source} reach over gaps {theirs}, those that the weights were trained on over none "
                f"longer than {ours}",
                f"Build a store with --reset-on-gap '{ours}'",
            )

    def notes(self, given: BarIdentity, source: str) -> Iterator[str]:
        """What a person should know where a model of these bars reads those of `source`, though it can."""
        if not self.read_options or not given.read_options:
            return
        rule, theirs = self.reset_on_gap, given.reset_on_gap
        if theirs is not None and (rule is None or theirs < rule):
            yield (
                f"features of {source} begin afresh after gaps over {format_duration(theirs)}, those that the weights "
                f"were trained on {'never' if rule is None else f'after gaps over {format_duration(rule)}'}: windows "
                "after such a gap have hidden bars, or are missing"
            )
        mine, others = (of.read_options.get("segment_by", ()) for of in (self, given))
        if "contract" in mine and "contract" not in others:
            yield (
                f"windows of {source} reach over rolls, if it is of a continuous future: those that the weights were "
                "trained on did not; build it with --segment-by symbol,contract"
            )


def _listed(intervals: Sequence[int]) -> str:
    return " or ".join(map(format_duration, intervals))
