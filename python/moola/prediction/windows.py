"""Predictions of fine-tuned runs for every window of some bars, and whether training saw these bars."""

from __future__ import annotations

# First, for it says what to install where torch is missing.
import moola.models  # noqa: F401

# isort: split
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moola.data.dataset import FastWindowedDataset
from moola.data.stores import StorePath, open_stores
from moola.devices.placement import place
from moola.errors import ConfigError
from moola.errors.base import format_time
from moola.files.messages import teller
from moola.prediction.models import FinetunedModels, RunPath, paths_of
from moola.prediction.rows import TIME, PredictionRows, RowWindows, times, write_parquet
from moola.settings.times import Time, nanoseconds_of
from moola.settings.whole_numbers import whole_number
from moola.store.cache import cached_store
from moola.store.inspect.durations import format_duration
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
    - `known_at`, one bar interval of the symbol later: no sooner can anybody know the row;
    - `p_CLASS` for each class, calibrated; they sum to 1;
    - `start` and `end`, the times of the span's first and last bar, null where the most likely class has no spans;
    - `seen`: whether any bar of the window was in training or pre-training. Scores of such windows flatter. It goes by
      symbol and time: the same bars under another symbol count as unseen. Null where this is unknown, because a model
      learned from windows that did not say when they were, or whose bars either side does not name.

    Times are UTC. A row depends on no bar after its `window_end`, to the bit, and on a CPU on nothing but its window.
    With `output` memory is bounded by a few batches.

    Args:
        run: A run of `moola finetune`, an ensemble that `moola ensemble` made of several, or several of either, all
            of whose members answer together: calibrated probabilities are averaged, and spans are the median of
            theirs.
        feature_dir: A feature store, or several, with the features that the run was trained on.
        output: The Parquet file to write; one that stands there is replaced once the new one is whole.
        data: Bars instead, a file or several: the store with the run's features is built in a cache, or found there.
            They are read as the run's were, unless `reading` says otherwise.
        split: Windows of this split; all there are unless given. Bars (`data`) are parted anew, perhaps otherwise than
            those that the run was trained on.
        from_, to: Windows that end from then on, and before then: times with an offset, or days, which begin at
            midnight UTC. A `numpy.datetime64` is of UTC.
        stride: Bars from one window to the next.
        batch_size: Windows fetched at a time.
        device: `auto`, `cpu` or `cuda`.
        progress: Called with the windows done and how many there are.
        say: Called with each line that a person should read; the logger `moola` at INFO if not given.
        reading: How bars are read, in words of :func:`moola.build_features`: `columns`, `tz`, `time_format`, `stamp`,
            `segment_by`, `reset_on_gap`, `drop_bad_bars`, `dedup` and `sort`.

    Raises `FeatureMismatchError` when the store's features or bars are others, `RunError` and `WeightsError` for what
    is no fine-tuned run, `ConfigError`, among others for an output that would replace what is read, and what opening
    or building a store raises.
    """
    say = teller(say)
    if split is not None and (from_ is not None or to is not None):
        raise ConfigError("split", "cannot be combined with --from or --to; give one or the other")
    begin = None if from_ is None else nanoseconds_of("from", from_)
    end = None if to is None else nanoseconds_of("to", to)
    if begin is not None and end is not None and begin >= end:
        raise ConfigError("to", f"{to} is not after {from_}; windows end from --from on, and before --to")
    batch_size = whole_number("batch_size", batch_size, 1)
    runs = paths_of("run", run, "the directory of a fine-tuned run")
    bars = None if data is None else paths_of("data", data, "a file of bars, or several")
    reading = {name: value for name, value in reading.items() if value is not None}
    for name in reading:
        if name not in READING:
            raise ConfigError(name, f"is no way to read bars; there are {', '.join(READING)}")
        if bars is None:
            raise ConfigError(name, "says how bars are read; give some with --data (data=), or leave it out")
    if output is not None:
        _check_output(Path(output), runs, bars or ())
    models = FinetunedModels.load(runs)
    features = models.features
    stores = _stores(feature_dir, bars, models, reading, say)
    for store in stores:
        if output is not None:
            _check_output(Path(output), (), [store.path])
        models.require(store)
        for note in models.notes(store):
            say(note)
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
        say(_nothing(stores, models.window_length))
    elif bars is not None and split not in (None, "all"):
        say(_parted_anew(dataset, split))
    placement = place(device, "fp32")
    for model in models.models:
        model.to(placement.device)

    opened = dataset.stores
    intervals = [np.array([s.bar_interval for s in store.segments], np.int64) for store in opened]

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
    "segment_by",
    "reset_on_gap",
    "drop_bad_bars",
    "dedup",
    "sort",
)
"""The arguments of :func:`moola.build_features` that say how bars are read."""


def _stores(
    feature_dir: StorePath | Sequence[StorePath] | None,
    data: list[Path] | None,
    models: FinetunedModels,
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
    known = {name: then[name] for name in READING if name in then and name not in reading}
    if remarkable := [_told(name, value) for name, value in known.items() if _remarkable(value)]:
        say(f"bars are read as those were that the weights were trained on: {', '.join(remarkable)}")
    how = {**known, **reading}
    if "stamp" not in how:
        say(
            "timestamps are taken as the open of each bar: the run does not record whether those in training "
            "were; if your feed stamps the close, each row is a bar late: give --stamp close (stamp='close')"
        )
    store = cached_store(data, **options, **{"stamp": "open"} | how)
    for notice in store.notices:
        say(notice)
    return [store]


def _remarkable(value: object) -> bool:
    return value not in (None, False, "open", ["symbol"])


def _told(name: str, value: Any) -> str:
    if name == "columns":
        return f"columns {','.join(f'{column}={role}' for column, role in value.items())}"
    if name == "reset_on_gap":
        value = format_duration(value)
    return f"{name} {','.join(value) if isinstance(value, list) else value}"


def _check_output(output: Path, runs: Sequence[Path], sources: Sequence[Path]) -> None:
    """Raises `ConfigError` if the output would replace the input, or be read as bars the next time."""
    if output.is_dir():
        raise ConfigError("output", f"{output} is a directory; give the Parquet file to write")
    place = output.resolve()
    for source in sources:
        if place == source.resolve():
            raise ConfigError("output", f"{output} is what is read; write to another file")
        if source.resolve() in place.parents:
            raise ConfigError(
                "output", f"{output} lies in {source}, which is read; write to another directory"
            )
    for run in runs:
        # Tables may lie in the directory of the run that made them.
        if run.resolve() in place.parents and place.exists() and place.suffix != ".parquet":
            raise ConfigError("output", f"{output} is a file of the run; write to another file")


def _nothing(stores: Sequence[FeatureStore], length: int) -> str:
    """The error that no window was chosen, with what there is."""
    segments = [segment for store in stores for segment in store.segments]
    first = format_time(min(segment.first_timestamp for segment in segments))
    last = format_time(max(segment.last_timestamp for segment in segments))
    where = ", ".join(str(store.path) for store in stores)
    return f"no window of {length} bars ends there: {where} has bars from {first} to {last}"


def _parted_anew(dataset: FastWindowedDataset, split: str) -> str:
    """Which windows a split of new bars holds."""
    times, stretches = [store.timestamps for store in dataset.stores], dataset.stretches()
    first = min(int(times[store][row + dataset.window_length - 1]) for _, store, row, _ in stretches)
    last = max(int(times[store][row]) for _, store, _, row in stretches)
    return (
        f"split {split} is of these bars alone, windows that end from {format_time(first)} to {format_time(last)}: the "
        "bars that the run was trained on may be parted otherwise. Go by the column seen, or give --from and --to "
        "(from_=, to=)"
    )


def _rows_of(store: FeatureStore, begin: int | None, end: int | None, length: int) -> NDArray[np.int64]:
    """`[n, 2]`, half-open ranges of rows: windows whose last bar lies in a range of time, by segment."""
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
