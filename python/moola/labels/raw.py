"""Pre-cut windows: nested arrays of bars, one row per window."""

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
"""The default number of warm-up bars of each window. The 105 of a store would leave no valid bar."""

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
    """Reads pre-cut windows with their labels, and computes their features.

    A row is a window. It has `features`, a list of K bars of four numbers each (open, high, low, close; nested arrays,
    as pandas stores object columns), and `class` or `label`. Optional columns are `expansion_start` and `expansion_end`
    (or `start` and `end`), the first and last labelled bar, counted in the window from 0, with −1 or null for none;
    `symbol`; `weight`; and `window_end`, the time of the last bar.

    The bars before a window are unknown, so each window is its own segment. Its first `warmup_bars` bars (20 by
    default) are not valid, nor are the bars before both swings exist, if the feature set uses swings. `starts` and
    `ends` count as if the windows followed one another. Two windows share a group if they hold the same bars (see
    :func:`moola.labels.overlaps.group_bars`: three in a row, to the bit). With `window_end`, they also share a group if
    they overlap in time, for any symbols and prices: pass `groups` to the code that splits them. The time of the first
    bar is computed as K − 1 intervals before `window_end`. If bars are missing in a window, it began earlier than that.

    Args:
        path: A Parquet or Arrow IPC file, or any object with `__arrow_c_stream__`.
        feature_set, config: As for `moola.compute_features`.
        window_length: K, the same for all windows.
        bar_interval: The time from bar to bar, such as `'5m'`, used with `window_end`.
        columns: From a file's column to its role, for columns with other names.
        tz, time_format: How times in `window_end` are written.

    Returns:
        The windows, in the order of the file. Exact repeats of a row are dropped, and a notice says so. The same bars
        with another symbol or another time are another window, in the same group.

    Raises:
        LabelError: malformed windows and invalid labels: every row, and what is wrong with it.
        InputError: the input is no table of windows.
        ConfigError: an invalid option.
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
    """The engine's parameters, with the default warm-up of raw windows if the configuration sets none."""
    from moola.settings.features import feature_config

    settings = feature_config(config or {})
    if "warmup_bars" not in settings.model_fields_set:
        settings = settings.model_copy(update={"warmup_bars": WARMUP_BARS})
    return settings.astuple()


# Features


def _features(
    folder: Path, n: int, length: int, feature_set: str, settings: Settings
) -> tuple[NDArray[np.float32], Flags]:
    """`[n, K, D]` and `[n, K]`: the features of the windows in `folder`, one segment each, and which bars are valid."""
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
    """`[rows]`: the same number for windows with the same bars, symbol and time."""
    keys = [same_windows(hashes)]
    if symbols:
        keys.append(np.unique(symbols, return_inverse=True)[1])
    if times is not None:
        keys.append(times)
    return np.unique(np.stack(keys), axis=1, return_inverse=True)[1].reshape(-1)


def _spans(table: LabelTable, refusals: Refusals, length: int) -> Numbers:
    """`[rows, 2]`: the first and last bar of each span in its window, −1 for none; arbitrary in refused rows."""
    if not has_spans(table):
        return np.full((table.rows, 2), NONE)
    start, end = (table.numbers(role) for role in ROLES)
    if start is None or end is None:
        raise table.source.refusal(
            f"column {table.name('start' if start is None else 'end')!r} has times; bars of pre-cut windows have "
            "none",
            "Count the first and last bar of a span in the window, from 0",
        )
    spans, there = whole_numbers(table, start, end, refusals)
    return check_spans(table, refusals, spans, there, length)


def _nanoseconds(bar_interval: str | int | timedelta) -> int:
    from moola.settings.durations import parse_duration

    return parse_duration(bar_interval, "bar_interval")


def _interval_notice(times: Numbers | None, interval: int) -> tuple[str, ...]:
    """A notice if the times of windows suggest another interval from bar to bar."""
    if times is None:
        return ()
    apart = int(np.gcd.reduce(times - times[0]))
    if not apart or not (apart % interval or (apart > interval and len(times) >= _TELLING)):
        return ()
    return (
        f"all windows end multiples of {timedelta(microseconds=apart // 1000)} apart, but bars are assumed to be "
        f"{timedelta(microseconds=interval // 1000)} apart; if that is wrong, set --bar-interval (bar_interval=)",
    )


# This many windows of minute bars do not all end at multiples of two minutes or more by chance.
_TELLING = 20


def _times(table: LabelTable, refusals: Refusals) -> Numbers | None:
    """`[rows]`: the time of each window's last bar, if known."""
    if not table.has("window_end"):
        return None
    times = table.times("window_end")
    table.refuse_times("window_end", times, refusals, required=True)
    return times
