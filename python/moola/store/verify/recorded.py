"""What the metadata record about a build: feature parameters, and how the source was read."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from moola import _core
from moola.bars.options import ReadOptions
from moola.store.ingest import IngestOptions
from moola.store.reader import FeatureStore
from moola.store.verify.findings import FindingError

__all__ = ["Parameters", "dense_rows", "options_of", "parameters_of", "planned_parameters"]

Parameters: TypeAlias = tuple[int, int, float, float, int, int]


def parameters_of(store: FeatureStore) -> Parameters:
    values = store.config
    return tuple(values[name] for name in _core.parameter_names())


def options_of(store: FeatureStore) -> tuple[ReadOptions, IngestOptions]:
    """How the source was read and its rows were judged, as the metadata record it."""
    recorded = store.metadata["read_options"]
    judged = {name: recorded[name] for name in IngestOptions.__dataclass_fields__}
    read_options = ReadOptions.from_record({k: v for k, v in recorded.items() if k not in judged})
    gap = judged["reset_on_gap"]
    if gap is not None and (type(gap) is not int or not 0 < gap < 1 << 63):
        raise FindingError(f"reset_on_gap is {gap!r}, not a number of nanoseconds")
    return read_options, IngestOptions(**judged)


def planned_parameters(store: FeatureStore) -> tuple[Path, list[tuple[int, int]], str, Parameters]:
    spans = [(s.first_row, s.last_row - s.first_row + 1) for s in store.segments]
    return store.path, spans, store.feature_set, parameters_of(store)


def dense_rows(store: FeatureStore) -> tuple[int, int] | None:
    """Length and number of windows, in the dense layout."""
    return None if store.layout == "bars" else (store.window_length, len(store.features))
