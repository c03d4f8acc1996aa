"""Windows that were cut beforehand: nested arrays of bars, one row a window."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.files.cores import usable_cores
from moola.labels.nested import NestedBars
from moola.labels.overlaps import group_bars, group_overlaps, join_groups, same_windows
from moola.labels.refusals import Refusals
from moola.labels.repeats import resolve_labels
from moola.labels.spans import NONE, ROLES, check_spans, has_spans, hidden_spans, whole_numbers
from moola.labels.table import LabelTable
from moola.labels.windows import LabelledWindows
from moola.settings.arrays import Numbers
from moola.settings.feature_sets import describe_features
from moola.settings.whole_numbers import whole_number

if TYPE_CHECKING:
    from moola.settings.features import FeatureConfig

__all__ = ["read_raw_windows"]

WARMUP_BARS = 20
"""Bars of each window that only warm up, unless the configuration says otherwise: a store's 105 would leave none."""

Flags: TypeAlias = NDArray[np.bool_]
Settings: TypeAlias = tuple[int, int, float, float, int, int]


def read_raw_windows(
    path: object,
    *,
    feature_set: str = "ohlc4",
    config: FeatureConfig | Mapping[str, Any] | None = None,
    window_length: int = 105,
    bar_interval: str | int | timedelta = "1m",
    columns: Mapping[str, str] | str | None = None,
    tz: str | None = None,
    time_format: str | None = None,
) -> LabelledWindows:
    """Reads windows that were cut beforehand, with their labels, and computes their features.

    A row is a window: `features`, a list of K bars of four numbers each (open, high, low, close; nested arrays, as
    pandas stores object columns); `class` or `label`; and as it likes `expansion_start` and `expansion_end` (or `start`
    and `end`), the first and last bar of what is labelled, counted in the window from 0, with −1 or null for none;
    `symbol`, `weight`, and `window_end`, the time of the last bar.

    Nothing is known of what came before a window: each is a segment of its own, and its first `warmup_bars` bars (20,
    unless `config` says otherwise) are not valid, nor those before both swings exist where the set uses them. `starts`
    and `ends` are consecutive, as if the windows lay one after another. Two windows share a group where they hold the
    same bars (see :func:`moola.labels.overlaps.group_bars`: three in a row, to the bit) and, where `window_end` says
    when, also where they share a moment, whatever their symbols and prices: give `groups` to whatever splits them.
    Of `window_end` the time of the first bar is reckoned, K − 1 intervals before. Where bars are missing in a window it
    began earlier than that.

    Args:
        path: A Parquet or Arrow IPC file, or any object with `__arrow_c_stream__`.
        feature_set, config: As for `moola.compute_features`.
        window_length: K, which all windows have.
        bar_interval: The time from bar to bar, such as `'5m'`, where `window_end` is given.
        columns: From a file's column to its role, for columns that are not called as above.
        tz, time_format: How times in `window_end` are written.

    Returns:
        The windows, in the order of the file. Rows that repeat another exactly are dropped, and a notice says so; the
        same bars of another symbol, or at another time, are another window, in the same group.

    Raises:
        LabelError: malformed windows and labels that cannot be right: every row, with what is wrong.
        InputError: no table of windows.
        ConfigError: an option that makes no sense.
    """
    window_length = whole_number("window_length", window_length, 1, of="bars")
    interval = _nanoseconds(bar_interval)
    described = describe_features(feature_set, config)
    settings = _settings(config)
    with tempfile.TemporaryDirectory(prefix="moola-") as scratch:
        folder = Path(scratch)
        with NestedBars(folder / "bars.npy", window_length) as bars:
            table = LabelTable(
                path,
                ("features", "class"),
                ("symbol", "window_end", "start", "end", "weight"),
                columns=columns,
                tz=tz,
                time_format=time_format,
                features=bars.take,
            )
        refusals = Refusals(table.source, table.rows)
        if table.has("symbol"):
            refusals.symbols = table.texts("symbol")
        bars.refuse(refusals)
        hashes = bars.hashes()
        spans = _spans(table, refusals, window_length)
        times = _times(table, refusals)
        window = _windows(hashes, refusals.symbols, times)
        label = resolve_labels(table, refusals, window, spans)
        x, valid = _features(folder, table.rows, window_length, feature_set, settings)
    refusals.add("never_valid", ~valid[:, -1], lambda row: f"none of {window_length} bars is valid")
    refusals.check()
    kept = label.kept
    n = len(kept)
    symbols = np.array([refusals.symbols[row] for row in kept] if refusals.symbols else [""] * n, np.str_)
    groups, first_times = group_bars(hashes[kept]), None
    if times is not None:
        times = times[kept]
        first_times = times - (window_length - 1) * interval
        groups = join_groups((groups, group_overlaps(first_times, times)))
    starts = np.arange(n) * window_length
    return LabelledWindows(
        X=x if n == table.rows else x[kept],
        valid_mask=valid if n == table.rows else valid[kept],
        y=label.y,
        classes=label.classes,
        spans=spans[kept],
        weight=label.weight,
        symbols=symbols,
        starts=starts,
        ends=starts + (window_length - 1),
        times=times,
        first_times=first_times,
        groups=groups,
        splits=None,
        feature_names=tuple(name for name, _, _ in described),
        feature_set=feature_set,
        parameters=dict(zip(_core.parameter_names(), settings, strict=True)),
        window_length=window_length,
        store_id="",
        notices=(
            *label.notices,
            *hidden_spans(kept, spans[kept], valid[kept]),
            *_interval_notice(times, interval),
        ),
    )


def _settings(
    config: FeatureConfig | Mapping[str, Any] | None,
) -> Settings:
    """The engine's parameters, with the warm-up of raw windows where the configuration does not name one."""
    from moola.settings.features import feature_config

    settings = feature_config(config or {})
    if "warmup_bars" not in settings.model_fields_set:
        settings = settings.model_copy(update={"warmup_bars": WARMUP_BARS})
    return settings.astuple()


# Features


def _features(
    folder: Path, n: int, length: int, feature_set: str, settings: Settings
) -> tuple[NDArray[np.float32], Flags]:
    """`[n, K, D]` and `[n, K]`: the features of the windows in `folder`, each a segment, and which bars are valid."""
    segments = [(row, length) for row in range(0, n * length, length)]
    # The first two files are the features and which bars are valid.
    _, files = _core.write_features(folder, segments, feature_set, settings, usable_cores())
    arrays = []
    for name, shape, descr, _, _ in files[:2]:
        with open(folder / name, "rb") as file:
            file.seek(len(_core.npy_header(descr, shape)))
            arrays.append(np.fromfile(file, descr).reshape(n, length, *shape[1:]))
    x, valid = arrays
    return x, valid


# Labels


def _windows(hashes: NDArray[np.uint64], symbols: Sequence[str], times: Numbers | None) -> Numbers:
    """`[rows]`: the same number for windows of the same bars, of the same symbol, at the same time."""
    keys = [same_windows(hashes)]
    if symbols:
        keys.append(np.unique(symbols, return_inverse=True)[1])
    if times is not None:
        keys.append(times)
    return np.unique(np.stack(keys), axis=1, return_inverse=True)[1].reshape(-1)


def _spans(table: LabelTable, refusals: Refusals, length: int) -> Numbers:
    """`[rows, 2]`: the first and last bar of each span in its window, −1 for none; anything where refused."""
    if not has_spans(table):
        return np.full((table.rows, 2), NONE)
    start, end = (table.numbers(role) for role in ROLES)
    if start is None or end is None:
        raise table.source.refusal(
            f"column {table.name('start' if start is None else 'end')!r} has times; bars of windows that were cut "
            "beforehand have none",
            "Count the first and last bar of a span in the window, from 0",
        )
    spans, there = whole_numbers(table, start, end, refusals)
    return check_spans(table, refusals, spans, there, length)


def _nanoseconds(bar_interval: str | int | timedelta) -> int:
    from moola.settings.durations import parse_duration

    return parse_duration(bar_interval, "bar_interval")


def _interval_notice(times: Numbers | None, interval: int) -> tuple[str, ...]:
    """What to say where the times of windows look as if bars lay further apart, or closer, than they are said to."""
    if times is None:
        return ()
    apart = int(np.gcd.reduce(times - times[0]))
    if not apart or not (apart % interval or (apart > interval and len(times) >= _TELLING)):
        return ()
    return (
        f"all windows end multiples of {timedelta(microseconds=apart // 1000)} apart, and bars are taken to be "
        f"{timedelta(microseconds=interval // 1000)} apart; if they are not, say so with --bar-interval "
        "(bar_interval=)",
    )


# Of so many windows of minute bars, chance would not end all at multiples of two minutes or more.
_TELLING = 20


def _times(table: LabelTable, refusals: Refusals) -> Numbers | None:
    """`[rows]`: the time of each window's last bar, if known."""
    if not table.has("window_end"):
        return None
    times = table.times("window_end")
    table.refuse_times("window_end", times, refusals, required=True)
    return times
