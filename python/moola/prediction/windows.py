"""Predictions of fine-tuned runs for every window of some bars, and whether the models saw these bars."""

from __future__ import annotations

# First, because its error says what to install if torch is missing.
import moola.models  # noqa: F401

# isort: split
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moola import _core
from moola.data.dataset import FastWindowedDataset
from moola.data.stores import StorePath, open_stores
from moola.devices.placement import place
from moola.errors import ConfigError, FeatureMismatchError, TooFewBarsError
from moola.errors.base import format_time
from moola.files.messages import teller
from moola.prediction.models import FinetunedModels, RunPath, paths_of
from moola.prediction.rows import TIME, PredictionRows, RowWindows, times, write_parquet
from moola.settings.durations import parse_duration
from moola.settings.times import Time, nanoseconds_of
from moola.settings.whole_numbers import whole_number
from moola.store.cache import cached_store
from moola.store.inspect.durations import format_duration
from moola.store.inspect.notice import is_of_breaks
from moola.store.reader import FeatureStore

__all__ = ["predict"]


@overload
def predict(
    run: RunPath | Sequence[RunPath],
    feature_dir: StorePath | Sequence[StorePath] | None = ...,
    output: None = ...,
    *,
    data: RunPath | Sequence[RunPath] | None = ...,
    split: Literal["train", "val", "test", "all"] | None = ...,
    from_: Time | None = ...,
    to: Time | None = ...,
    stride: int = ...,
    batch_size: int = ...,
    device: str = ...,
    progress: Callable[[int, int], None] = ...,
    say: Callable[[str], None] = ...,
    **reading: Any,
) -> pa.Table: ...


@overload
def predict(
    run: RunPath | Sequence[RunPath],
    feature_dir: StorePath | Sequence[StorePath] | None,
    output: RunPath,
    *,
    data: RunPath | Sequence[RunPath] | None = ...,
    split: Literal["train", "val", "test", "all"] | None = ...,
    from_: Time | None = ...,
    to: Time | None = ...,
    stride: int = ...,
    batch_size: int = ...,
    device: str = ...,
    progress: Callable[[int, int], None] = ...,
    say: Callable[[str], None] = ...,
    **reading: Any,
) -> Path: ...


def predict(
    run: RunPath | Sequence[RunPath],
    feature_dir: StorePath | Sequence[StorePath] | None = None,
    output: RunPath | None = None,
    *,
    data: RunPath | Sequence[RunPath] | None = None,
    split: Literal["train", "val", "test", "all"] | None = None,
    from_: Time | None = None,
    to: Time | None = None,
    stride: int = 1,
    batch_size: int = 1024,
    device: str = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] | None = None,
    **reading: Any,
) -> pa.Table | Path:
    """Predicts each window with a fine-tuned run: returns a table, or with `output` writes a Parquet file.

    Its columns:

    - `symbol`, and `window_end`, the open time of the window's last bar;
    - `known_at`, one bar interval later: the earliest time at which the row can be known;
    - `p_CLASS` for each class, calibrated; they sum to 1;
    - `start` and `end`, the times of the span's first and last bar; null if the most likely class has no spans;
    - `seen`: whether any bar of the window was in training or pre-training. Scores on such windows are too high. Bars
      are matched by symbol and time: the same bars under another symbol count as unseen. Null if this is unknown,
      because a model was trained on windows without known times, or because one of the two sides has no symbol.

    Times are UTC. A row depends on no bar after its `window_end`, to the bit. On a CPU it depends only on its window.
    With `output` memory is bounded by a few batches.

    Args:
        run: A run of `moola finetune`, an ensemble that `moola ensemble` made, or several of either. All members
            predict together: calibrated probabilities are averaged, and spans are the median of theirs.
        feature_dir: A feature store, or several, with the features that the run was trained on.
        output: The Parquet file to write. An existing one is replaced once the new one is complete.
        data: A file of bars, or several, in place of `feature_dir`. A store with the run's features is built in a
            cache, or found there. Bars are read in the same way as the run's, except for what `reading` changes.
        split: Only windows of this split; all windows if not given. The bars of `data` are split on their own, which
            may differ from the splits that the run was trained with.
        from_, to: Only windows that end at or after `from_`, and before `to`: times with an offset, or days, which
            begin at midnight UTC. A `numpy.datetime64` is taken as UTC.
        stride: Bars from one window to the next.
        batch_size: Windows fetched at a time.
        device: `auto`, `cpu` or `cuda`.
        progress: Called with the number of windows done and of all windows.
        say: Called with each line that a person should read; the logger `moola` at INFO if not given.
        reading: How bars are read, as arguments of :func:`moola.build_features`: `columns`, `tz`, `time_format`,
            `stamp`, `bar_interval`, `segment_by`, `reset_on_gap`, `drop_bad_bars`, `dedup`, `sort`,
            `allow_nonpositive`, `skip_lines`, `decimal`, `thousands`, `symbols`, `exclude_symbols`,
            `symbol_from_name` and `one_series`. Those that are not given are the run's, except for the last four.
            `bar_interval` is also needed with a store that does not know how long its bars are.

    Raises `FeatureMismatchError` if the store has other features or bars of another interval, `RunError` and
    `WeightsError` for anything but a fine-tuned run, `ConfigError` for invalid arguments and for an output that would
    replace an input, and what opening or building a store raises.
    """
    say = teller(say)
    if split is not None and (from_ is not None or to is not None):
        raise ConfigError("split", "cannot be combined with --from or --to; give one or the other")
    begin = None if from_ is None else nanoseconds_of("from", from_)
    end = None if to is None else nanoseconds_of("to", to)
    if begin is not None and end is not None and begin >= end:
        raise ConfigError("to", f"{to} is not after {from_}; windows end at or after --from, and before --to")
    batch_size = whole_number("batch_size", batch_size, 1)
    runs = paths_of("run", run, "the directory of a fine-tuned run")
    bars = None if data is None else paths_of("data", data, "a file of bars, or several")
    reading = {name: value for name, value in reading.items() if value is not None}
    for name in reading:
        if name not in READING:
            raise ConfigError(name, f"is no option for reading bars; the options are {', '.join(READING)}")
        if bars is None and name != "bar_interval":
            raise ConfigError(name, "applies only to --data (data=); give bars with it, or leave it out")
    if output is not None:
        _check_output(Path(output), runs, bars or ())
    models = FinetunedModels.load(runs)
    features = models.features
    stores = _stores(feature_dir, bars, models, split, reading, say)
    for store in stores:
        if output is not None:
            _check_output(Path(output), (), [store.path])
        models.require(store)
        for note in models.notes(store):
            say(note)
    intervals = [_bar_lengths(store, reading.get("bar_interval")) for store in stores]
    ranges = None
    if begin is not None or end is not None:
        ranges = [_rows_of(store, begin, end, models.window_length) for store in stores]
    dataset = FastWindowedDataset(
        stores,
        split or "all",
        models.window_length,
        stride,
        mask_ratio=0,
        extra=features.extra,
        ranges=ranges,
    )
    if not len(dataset):
        say(_no_windows(stores, models.window_length))
    elif bars is not None and split not in (None, "all"):
        say(_split_of_new_bars(dataset, split))
    placement = place(device, "fp32")
    for model in models.models:
        model.to(placement.device)

    opened = dataset.stores

    def values(answers: NDArray[np.float32], windows: RowWindows) -> list[pa.Array]:
        probabilities, spans = models.combine(answers)
        number, row, last = windows.places
        first, interval = np.empty_like(last), np.empty_like(last)
        ends = np.empty((len(last), 2), np.int64)
        for i, store in enumerate(opened):
            mine = number == i
            segment = np.searchsorted(store.bounds.first, row[mine], side="right") - 1
            interval[mine] = intervals[i][segment]
            first[mine] = store.timestamps[row[mine]]
            ends[mine] = store.timestamps[row[mine, None] + np.maximum(spans[mine], 0)]
        there = spans[:, 0] >= 0
        return [
            times(last + interval),
            *map(pa.array, np.ascontiguousarray(probabilities.T)),
            times(ends[:, 0], there),
            times(ends[:, 1], there),
            pa.array(
                models.seen_bars.seen(windows.symbols, first, last),
                mask=models.seen_bars.unknown(windows.symbols, first, last),
            ),
        ]

    columns = [
        ("known_at", TIME),
        *((f"p_{name}", pa.float64()) for name in models.classes),
        ("start", TIME),
        ("end", TIME),
        ("seen", pa.bool_()),
    ]
    table = PredictionRows(
        dataset, columns, models.answers, values, batch_size=batch_size, device=placement.device
    )
    if output is not None:
        return write_parquet(table, output, progress)
    batches = list(table.batches(progress))
    return pa.concat_tables(batches) if batches else table.schema.empty_table()


READING = (
    "columns",
    "tz",
    "time_format",
    "stamp",
    "bar_interval",
    "segment_by",
    "reset_on_gap",
    "drop_bad_bars",
    "dedup",
    "sort",
    "allow_nonpositive",
    "skip_lines",
    "decimal",
    "thousands",
    "symbols",
    "exclude_symbols",
    "symbol_from_name",
    "one_series",
)
"""The arguments of :func:`moola.build_features` that say how bars are read."""

_OF_THESE_BARS = ("symbols", "exclude_symbols", "symbol_from_name", "one_series")
"""Those that say which bars are read. Other bars are others, so the run's own are not taken for them."""


def _stores(
    feature_dir: StorePath | Sequence[StorePath] | None,
    data: list[Path] | None,
    models: FinetunedModels,
    split: str | None,
    reading: Mapping[str, Any],
    say: Callable[[str], None],
) -> list[FeatureStore]:
    if feature_dir is not None and data is not None:
        raise ConfigError("data", "cannot be combined with --feature-dir; give bars or a store, not both")
    if feature_dir is not None:
        return open_stores(feature_dir)
    if data is None:
        raise ConfigError("feature_dir", "is missing; give a store that moola build-features made, or --data")
    features = models.features
    options: dict[str, Any] = {
        "feature_set": features.feature_set,
        "config": dict(features.parameters),
        "window_length": models.window_length,
    }
    if features.extra:
        options["keep"] = list(features.extra)
    then = models.read_options
    known = {name: then[name] for name in READING if name in then and name not in (*reading, *_OF_THESE_BARS)}
    if remarkable := [_told(name, value) for name, value in known.items() if _remarkable(value)]:
        say(f"bars are read as in training: {', '.join(remarkable)}")
    # What was inferred of many bars then is surer than what few bars show now.
    if known.get("bar_interval") is None and "bar_interval" not in reading:
        known["bar_interval"] = models.bar_interval
    how = {**known, **reading}
    if "stamp" not in how:
        say(
            "timestamps are taken as the open of each bar: the run does not record whether its timestamps are opens "
            "or closes; if your feed stamps the close, each row is a bar late: give --stamp close (stamp='close')"
        )
    if split in (None, "all"):
        # Nothing is split: also a few bars then have windows.
        options["split"] = [1.0, 0.0, 0.0]
    try:
        store = cached_store(data, **options, **{"stamp": "open"} | how)
    except TooFewBarsError as error:
        # This command has neither a window length nor splits.
        needed = max(models.window_length, int(features.parameters["warmup_bars"]) + 1)
        advice = f"Give more bars: the run needs at least {needed:,} of a symbol without a reset for its first window"
        raise TooFewBarsError(error.problem, advice) from None
    another = 0 if "bar_interval" in reading else _another_interval(store)
    if another:
        ours = format_duration(store.segments[0].bar_interval)
        raise FeatureMismatchError(
            f"the bars of {', '.join(map(str, data))} are {format_duration(another)} apart, the weights were trained "
            f"on bars {ours} apart",
            f"Give bars {ours} apart; if a bar is {ours} long and some have no trade, say so with --bar-interval "
            f"'{ours}' (bar_interval='{ours}')",
        )
    for notice in store.notices:
        # The run decided which breaks its windows cross.
        if is_of_breaks(notice):
            continue
        # That val and test are empty is no news where nothing was to be split.
        if "split" not in options or not notice.startswith(("val has no window", "test has no window")):
            say(notice)
    return [store]


def _another_interval(store: FeatureStore) -> int:
    """The interval that bars seem to have although they were read as bars of another; 0 if there is none.

    That is a step that comes 50 times in a row, or makes up four fifths of a symbol's steps.
    """
    firsts = [store.segments[0].first_row]
    for before, segment in pairwise(store.segments):
        if segment.symbol != before.symbol:
            firsts.append(segment.first_row)
    counted, _ = _core.count_steps(
        store.path / "timestamps.npy", len(store), firsts, None, of_each_symbol=True
    )
    for (step, longer, shorter, *_), first, end in zip(
        counted, firsts, [*firsts[1:], len(store)], strict=True
    ):
        steps = end - first - 1
        if step != store.segments[0].bar_interval and steps >= 20 and (longer + shorter) * 5 <= steps:
            return step
    return int(store.metadata["quality"].get("another_interval", 0))


def _bar_lengths(store: FeatureStore, told: object) -> NDArray[np.int64]:
    """`[segments]`: how long bars are. Raises `ConfigError` where neither the store nor the user says it."""
    lengths = np.array([segment.bar_interval for segment in store.segments], np.int64)
    if told is None:
        if not lengths.any():
            raise ConfigError(
                "bar_interval",
                f"is missing: {store.path} does not know how long its bars are, so it is unknown when a row is known; "
                "give it with --bar-interval, such as 1m (bar_interval='1m')",
            )
        return lengths
    length = parse_duration(told, "bar_interval")  # type: ignore[arg-type]
    if ((lengths != length) & (lengths > 0)).any():
        known = format_duration(int(lengths[(lengths != length) & (lengths > 0)][0]))
        raise ConfigError(
            "bar_interval",
            f"is {format_duration(length)}, but bars of {store.path} are {known} long; leave it out",
        )
    return np.full(len(lengths), length)


def _remarkable(value: object) -> bool:
    return value not in (None, False, 0, "open", ["symbol"])


def _told(name: str, value: Any) -> str:
    if name == "columns":
        return f"columns {','.join(f'{column}={role}' for column, role in value.items())}"
    if name in ("reset_on_gap", "bar_interval"):
        value = format_duration(value)
    return f"{name} {','.join(value) if isinstance(value, list) else value}"


def _check_output(output: Path, runs: Sequence[Path], sources: Sequence[Path]) -> None:
    """Raises `ConfigError` if the output would replace the input, or be read as bars the next time."""
    if output.is_dir():
        raise ConfigError("output", f"{output} is a directory; give the Parquet file to write")
    place = output.resolve()
    for source in sources:
        if place == source.resolve():
            raise ConfigError("output", f"{output} is also an input; write to another file")
        if source.resolve() in place.parents:
            raise ConfigError(
                "output", f"{output} lies in {source}, which is an input; write to another directory"
            )
    for run in runs:
        # A run's directory may hold tables of its predictions.
        if run.resolve() in place.parents and place.exists() and place.suffix != ".parquet":
            raise ConfigError("output", f"{output} is a file of the run; write to another file")


def _no_windows(stores: Sequence[FeatureStore], length: int) -> str:
    """The message that no window matches, with the range of the bars."""
    segments = [segment for store in stores for segment in store.segments]
    first = format_time(min(segment.first_timestamp for segment in segments))
    last = format_time(max(segment.last_timestamp for segment in segments))
    where = ", ".join(str(store.path) for store in stores)
    return f"no window of {length} bars ends there: {where} has bars from {first} to {last}"


def _split_of_new_bars(dataset: FastWindowedDataset, split: str) -> str:
    """The message that a split of new bars is their own, with the range of its windows."""
    times, stretches = [store.timestamps for store in dataset.stores], dataset.stretches()
    first = min(int(times[store][row + dataset.window_length - 1]) for _, store, row, _ in stretches)
    last = max(int(times[store][row]) for _, store, _, row in stretches)
    return (
        f"split {split} is a split of these bars, windows that end from {format_time(first)} to {format_time(last)}: "
        "the bars that the run was trained on may be split at other times. Rely on the column seen, or give --from "
        "and --to (from_=, to=)"
    )


def _rows_of(store: FeatureStore, begin: int | None, end: int | None, length: int) -> NDArray[np.int64]:
    """`[n, 2]`: half-open ranges of rows, by segment, whose windows have their last bar in `begin` ≤ time < `end`."""
    ranges = []
    for segment in store.segments:
        first, stop = segment.first_row, segment.last_row + 1
        of_segment = store.timestamps[first:stop]
        low = first if begin is None else first + int(np.searchsorted(of_segment, begin))
        high = stop if end is None else first + int(np.searchsorted(of_segment, end))
        low = max(first, low - (length - 1))
        if low < high:
            ranges.append((low, high))
    return np.array(ranges, np.int64).reshape(-1, 2)
