"""Windows that were cut beforehand: nested arrays of bars, one row a window."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.build import PARAMETERS, describe_features
from moola.cores import usable_cores
from moola.errors import InputError
from moola.formats import is_type, nulls_of, values_of
from moola.labels.overlaps import group_bars, hash_bars, same_windows
from moola.labels.references import bars_of, resolve_labels
from moola.labels.refusals import Refusals
from moola.labels.spans import NONE, ROLES, check_spans, has_spans, whole_numbers
from moola.labels.table import LabelTable
from moola.labels.windows import LabelledWindows

if TYPE_CHECKING:
    from moola.config import FeatureConfig

__all__ = ["read_raw_windows"]

WARMUP_BARS = 20
"""Bars of each window that only warm up, unless the configuration says otherwise: a store's 105 would leave none."""

Flags: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[np.int64]
Settings: TypeAlias = tuple[int, int, float, float, int, int]


def read_raw_windows(
    path: object,
    *,
    feature_set: str = "ohlc4",
    config: FeatureConfig | Mapping[str, Any] | None = None,
    window_length: int = 105,
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
    and `ends` are consecutive, as if the windows lay one after another. Where windows hold the same bars they do
    overlap, and share a group: give `groups` to whatever splits them.

    Args:
        path: A Parquet or Arrow IPC file, or any object with `__arrow_c_stream__`.
        feature_set, config: As for `moola.compute_features`.
        window_length: K, which all windows have.
        columns: From a file's column to its role, for columns that are not called as above.
        tz, time_format: How times in `window_end` are written.

    Returns:
        The windows, in the order of the file. Rows that repeat another exactly are dropped, and a notice says so.

    Raises:
        LabelError: malformed windows and labels that cannot be right: every row, with what is wrong.
        InputError: no table of windows.
        ConfigError: an option that makes no sense.
    """
    window_length = bars_of("window_length", window_length)
    described = describe_features(feature_set, config)
    settings = _settings(config)
    table = LabelTable(
        path,
        ("features", "class"),
        ("symbol", "window_end", "start", "end", "weight"),
        columns=columns,
        tz=tz,
        time_format=time_format,
    )
    refusals = Refusals(table.source, table.rows)
    if table.has("symbol"):
        refusals.symbols = table.texts("symbol")
    with tempfile.TemporaryDirectory(prefix="moola-") as scratch:
        folder = Path(scratch)
        windows = _empty_bars(folder, table.rows, window_length)
        _read_bars(table, windows, refusals)
        hashes = hash_bars(windows)
        spans = _spans(table, refusals, window_length)
        times = _times(table, refusals)
        label = resolve_labels(table, refusals, same_windows(hashes), spans)
        x, valid = _features(folder, table.rows, window_length, feature_set, settings)
    refusals.add("never_valid", ~valid[:, -1], lambda row: f"none of {window_length} bars is valid")
    refusals.check()
    kept = label.kept
    n = len(kept)
    starts = np.arange(n) * window_length
    return LabelledWindows(
        X=x if n == table.rows else x[kept],
        valid_mask=valid if n == table.rows else valid[kept],
        y=label.y,
        classes=label.classes,
        spans=spans[kept],
        weight=label.weight,
        symbols=np.array([refusals.symbols[row] for row in kept] if refusals.symbols else [""] * n, np.str_),
        starts=starts,
        ends=starts + (window_length - 1),
        times=None if times is None else times[kept],
        groups=group_bars(hashes[kept]),
        splits=None,
        feature_names=tuple(name for name, _, _ in described),
        feature_set=feature_set,
        parameters=dict(zip(PARAMETERS, settings, strict=True)),
        window_length=window_length,
        store_id="",
        notices=label.notices,
    )


def _settings(
    config: FeatureConfig | Mapping[str, Any] | None,
) -> Settings:
    """The engine's parameters, with the warm-up of raw windows where the configuration does not name one."""
    from moola.config import feature_config

    settings = feature_config(config or {})
    if "warmup_bars" not in settings.model_fields_set:
        settings = settings.model_copy(update={"warmup_bars": WARMUP_BARS})
    return settings.astuple()


# The bars


def _empty_bars(folder: Path, windows: int, length: int) -> NDArray[np.float64]:
    """`[n, K, 4]`, a store's `bars.npy` for the engine to read. A map of a file is no memory of this process."""
    header = _core.npy_header("<f8", (windows * length, 4))
    path = folder / "bars.npy"
    path.write_bytes(header)
    return np.memmap(path, "<f8", "r+", len(header), (windows, length, 4))


def _read_bars(table: LabelTable, windows: NDArray[np.float64], refusals: Refusals) -> None:
    """Fills `[rows, K, 4]` in one pass over the file's arrays; rows that are no such window are refused."""
    done = 0
    for chunk in table.chunks["features"]:
        for low in range(0, len(chunk), _AT_A_TIME):
            part = chunk.slice(low, _AT_A_TIME)
            into = windows[done : done + len(part)]
            _fill(table, part, into, done, refusals)
            _check_bars(into, done, refusals)
            done += len(part)


_AT_A_TIME = 1024
"""Windows that are read at a time: a few megabytes, which stay in the cache until they are checked."""


def _fill(table: LabelTable, part: Any, into: NDArray[np.float64], done: int, refusals: Refusals) -> None:
    """Copies `[m, K, 4]` out of a list of lists of numbers, by their offsets: no Python for each window.

    Rows that are null, or do not have K times four numbers, are refused, counted from `done` on.
    """
    count, length, _ = into.shape
    outer, no_bars, bars = _lists(table, part)
    inner, no_numbers, numbers = _lists(table, bars)
    if is_list(numbers.type) or not any(is_type(kind, numbers.type) for kind in _NUMBERS):
        raise _wrong_type(table)
    values, _ = table.source.floats(numbers)

    bar_counts, number_counts = np.diff(outer), np.diff(inner)
    number_counts[no_numbers] = -1
    wrong_so_far = np.append(0, np.cumsum(number_counts != 4))
    wrong_numbers = wrong_so_far[outer[1:]] > wrong_so_far[outer[:-1]]

    def bar(row: int) -> str:
        begin, end = outer[row - done], outer[row - done + 1]
        first = int(np.argmax(number_counts[begin:end] != 4))
        found = int(number_counts[begin + first])
        return f"bar {first} is {'null' if found < 0 else f'{found} numbers'}"

    def bars_of(row: int) -> str:
        return f"{bar_counts[row - done]:,} bars, not {length:,}"

    refusals.add("no_bars", no_bars, lambda row: f"{table.name('features')} is null", done)
    refusals.add("bar_count", bar_counts != length, bars_of, done)
    refusals.add("number_count", wrong_numbers, bar, done)
    good = ~refusals.refused[done : done + count]
    first = inner[outer[:-1]]
    if good.all():
        # Every list has its length, so the numbers of all of them lie one after another.
        into[:] = values[first[0] : first[0] + into.size].reshape(into.shape)
    else:
        into[good] = values[first[good][:, None] + np.arange(4 * length)].reshape(-1, length, 4)


_NUMBERS = ("floating", "integer", "decimal")


def is_list(dtype: Any) -> bool:
    """Whether values are lists, in one of Arrow's three forms."""
    return any(is_type(kind, dtype) for kind in ("list", "large_list", "fixed_size_list"))


def _lists(table: LabelTable, column: Any) -> tuple[Numbers, Flags, Any]:
    """A column of n lists: `[n + 1]` where each begins in its values, `[n]` which are null, and the values."""
    if not is_list(column.type):
        raise _wrong_type(table)
    nulls = nulls_of(column)
    if is_type("fixed_size_list", column.type):
        size = column.type.list_size
        offsets = (column.offset + np.arange(len(column) + 1)) * size
    else:
        offsets = values_of(column.offsets).astype(np.int64)
    begin, end = int(offsets[0]), int(offsets[-1])
    values = column.values.slice(begin, end - begin)
    return offsets - begin, np.zeros(len(column), np.bool_) if nulls is None else nulls, values


def _wrong_type(table: LabelTable) -> InputError:
    dtype = table.chunks["features"][0].type
    return table.source.refusal(
        f"column {table.name('features')!r} has the wrong type {dtype}; a window is a list of bars, and a bar a "
        "list of four numbers",
        "Name the right column with --columns FILE_COLUMN=features",
    )


def _check_bars(part: NDArray[np.float64], done: int, refusals: Refusals) -> None:
    """Refuses windows with what is no candle, by the rules that bars of a store are under."""
    open_, high, low, close = (part[:, :, i] for i in range(4))
    finite = np.asarray(np.isfinite(part).all(axis=2))
    # A price that became float32 on the way keeps its order: rounding is monotone.
    candle = (low <= np.minimum(open_, close)) & (np.maximum(open_, close) <= high)
    candle &= (low >= np.finfo(np.float32).tiny) & (high <= np.finfo(np.float32).max)
    for kind, good in (("not_finite", finite), ("not_a_candle", candle)):
        refusals.add(kind, np.asarray(~good.all(axis=1)), partial(_first_bar, part, good, done), done)


def _first_bar(part: NDArray[np.float64], good: Flags, done: int, row: int) -> str:
    bar = int(np.argmin(good[row - done]))
    prices = zip(("open", "high", "low", "close"), part[row - done, bar].tolist(), strict=True)
    return f"bar {bar}: {', '.join(f'{name} = {price}' for name, price in prices)}"


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


def _times(table: LabelTable, refusals: Refusals) -> Numbers | None:
    """`[rows]`: the time of each window's last bar, if known."""
    if not table.has("window_end"):
        return None
    times = table.times("window_end")
    table.refuse_times("window_end", times, refusals, required=True)
    return times
