"""Reads and checks all bars of a build, and cuts them into segments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, TypeAlias

from moola import _core
from moola.bars.source import MAX_SAMPLES, BarSource
from moola.errors import BarError, ConfigError, InputError, Problem, TooFewBarsError
from moola.errors.bars import advice_on_nonpositive
from moola.store.intervals import INTERVAL_COUNTS, no_bar_length, refuse_odd_steps
from moola.store.rejects import Rejects
from moola.store.segments import Segment

__all__ = ["IngestOptions", "Progress", "check_room_for_a_window", "ingest"]


Progress: TypeAlias = Callable[[str, int | None, int | None], None]
"""Called with the stage (`read`, `features`, `publish`), the amount done, and the total; None where unknown."""


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """How rows are checked and cut into segments. The metadata record it."""

    drop_bad_bars: bool = False
    max_bad: float = 0.001
    """The share of bars with impossible prices that `drop_bad_bars` leaves out; 3 bars always."""
    dedup: Literal["identical"] | None = None
    sort: bool = False
    reset_on_gap: int | None = None
    """Nanoseconds."""
    bar_interval: int | Literal["of each symbol"] | None = None
    """Nanoseconds, as told; None: inferred. Stores before 0.2.0 have each symbol's commonest step."""
    allow_nonpositive: bool = False
    """Prices may be zero or negative."""

    def __post_init__(self) -> None:
        share = self.max_bad
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ConfigError("max_bad", f"{share!r} is not a share of the bars; give one such as 0.001")
        if self.dedup not in (None, "identical"):
            raise ConfigError("dedup", f"{self.dedup!r} is not a way to drop repeats; give 'identical'")


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """A segment from ingest, before its features are computed and its first valid row is known."""

    symbol: str
    first_row: int
    rows: int
    first_timestamp: int
    last_timestamp: int
    bar_interval: int

    def segment(self, first_valid: int | None) -> Segment:
        """The segment, complete."""
        last_row = self.first_row + self.rows - 1
        times = (self.first_timestamp, self.last_timestamp, self.bar_interval)
        return Segment(self.symbol, self.first_row, last_row, *times, first_valid)


def ingest(
    source: BarSource,
    folder: Path,
    options: IngestOptions,
    stamped_at_close: bool,
    report: Progress,
    rejects: Rejects | None = None,
    feature_set: str | None = None,
) -> tuple[list[SegmentRows], dict[str, Any]]:
    """Reads and checks all bars into `bars.npy`, `timestamps.npy` and `extra.npy` in `folder`.

    Bars that are left out go to `rejects`. `feature_set` lets the advice name the option for negative prices.

    Returns the segments, in the order of the store, and the quality report. Raises one `BarError` with every problem.
    """
    told = options.bar_interval
    engine = _core.Ingest(
        folder,
        extra=list(source.keep),
        drop_bad_bars=options.drop_bad_bars,
        dedup_identical=options.dedup == "identical",
        sort=options.sort,
        reset_on_gap=options.reset_on_gap,
        stamped_at_close=stamped_at_close,
        bar_interval=told if isinstance(told, int) else None,
        of_each_symbol=isinstance(told, str),
        collect_rejects=rejects is not None,
        allow_nonpositive=options.allow_nonpositive,
    )
    done = 0
    with closing(source.batches()) as batches:
        for batch in batches:
            engine.push(
                batch.file,
                batch.first_row,
                batch.timestamp,
                batch.open,
                batch.high,
                batch.low,
                batch.close,
                batch.extra,
                batch.rows,
                batch.symbol,
                batch.contract,
            )
            if rejects is not None:
                rejects.write(engine.take_rejects())
            done += len(batch.timestamp)
            report("read", done, None)
    symbols = list(source.symbols) or [""]
    order = sorted(range(len(symbols)), key=symbols.__getitem__)
    if options.sort:
        engine.settle(order)
        if rejects is not None:
            rejects.write(engine.take_rejects())
    refuse(source, *engine.refusals(), feature_set=feature_set)
    impossible, samples = engine.impossible()
    if (count := sum(impossible.values())) > max(3, options.max_bad * done):
        refuse(
            source,
            impossible,
            samples,
            f"{count:,} of {done:,} bars are more than --drop-bad-bars leaves out (3 bars, or --max-bad "
            f"{options.max_bad:g} of them): the columns are probably wrong. Check --columns; if the columns are "
            f"right, give a larger share, such as --max-bad {_share_above(count, done)} (max_bad=)"
            + _if_negative(samples, feature_set),
        )
    rows, quality, odd = engine.finish(order)
    if isinstance(told, str):
        quality = {name: count for name, count in quality.items() if name not in INTERVAL_COUNTS}
    if not rows:
        raise InputError(
            f"all {quality['dropped_bad_bars']:,} bars have a NaN, null or infinite value",
            "Repair the source, or name the right columns with --columns FILE_COLUMN=ROLE",
            source=source.files[0].name if len(source.files) == 1 else None,
        )
    refuse_odd_steps(source, odd)
    if stamped_at_close and not quality.get("bar_interval", 1):
        raise no_bar_length(source, odd)
    if source.rows_of_other_symbols:
        quality["rows_of_other_symbols"] = source.rows_of_other_symbols
    return [SegmentRows(symbols[code], *rest) for code, *rest in rows], quality


def _share_above(count: int, of: int) -> str:
    """The share `count / of`, rounded up to two digits."""
    digits = max(2, 1 - math.floor(math.log10(count / of)))
    return f"{math.ceil(count / of * 10**digits) / 10**digits:.{digits}f}"


def refuse(
    source: BarSource,
    counts: dict[str, int],
    samples: list[tuple[int, int | None, dict[str, Any]]],
    instead: str = "",
    feature_set: str | None = None,
) -> None:
    """Raises one error for every problem that the reader and the engine found, with at most 20 samples.

    `instead`: what to do, instead of the advice for each kind of problem.
    """
    counts = {**source.counts, **counts}
    if not counts:
        return
    found = list(source.samples)
    for file, code, facts in samples:
        symbol = source.symbols[code] if code is not None and source.symbols else None
        problem = Problem(**facts, file=source.label(file), symbol=symbol)
        found.append((file, replace(problem, row=problem.row + 1)))
    # The first sample of each kind comes before the second of any, so that many of one kind do not hide another.
    met: dict[str, int] = {}
    ranked = []
    for file, problem in found:
        met[problem.kind] = met.get(problem.kind, 0) + 1
        ranked.append((met[problem.kind], file, problem.row, problem))
    shown = sorted(ranked, key=itemgetter(0))[:MAX_SAMPLES]
    # In the order of the files, which are read again to find the lines.
    problems = [
        replace(problem, line=source.locate(file, row - 1))
        for _, file, row, problem in sorted(shown, key=itemgetter(1, 2))
    ]
    better = source.advice(problems)
    if _can_be_negative(feature_set):
        better |= advice_on_nonpositive(problems)
    raise BarError(counts, problems, instead=instead, better_advice=better)


def _can_be_negative(feature_set: str | None) -> bool:
    return feature_set is not None and _core.feature_set_allows_nonpositive(feature_set)


def _if_negative(samples: Sequence[tuple[int, int | None, dict[str, Any]]], feature_set: str | None) -> str:
    """What else to do where the bars that would be left out have zero or negative prices."""
    refused = [facts for _, _, facts in samples if facts["kind"] == "out_of_range" and facts["value"] <= 0]
    if not refused or not _can_be_negative(feature_set):
        return ""
    return "; if prices can be zero or negative, take them with --allow-nonpositive (allow_nonpositive=True)"


def check_room_for_a_window(rows: Sequence[SegmentRows], window_length: int) -> None:
    longest = max(row.rows for row in rows)
    if longest < window_length:
        many = f" in {len(rows):,} segments, the longest of {longest:,}," if len(rows) > 1 else ""
        raise TooFewBarsError(
            f"{sum(row.rows for row in rows):,} bars{many} are fewer than one window of {window_length} bars",
            "Give more bars, or a smaller --window-length (window_length=)",
        )
