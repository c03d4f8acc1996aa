"""What the metadata record about a build: feature parameters, and how the source was read."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from moola import _core
from moola.bars.options import ReadOptions
from moola.store.ingest import IngestOptions
from moola.store.reader import FeatureStore
from moola.store.verify.findings import FindingError

__all__ = [
    "Parameters",
    "allows_nonpositive",
    "dense_rows",
    "options_of",
    "parameters_of",
    "planned_parameters",
]

Parameters: TypeAlias = tuple[int, int, float, float, int, int]


def parameters_of(store: FeatureStore) -> Parameters:
    values = store.config
    return tuple(values[name] for name in _core.parameter_names())


def allows_nonpositive(store: FeatureStore) -> bool:
    """Whether prices may be zero or negative."""
    return store.metadata["read_options"].get("allow_nonpositive") is True


def options_of(store: FeatureStore) -> tuple[ReadOptions, IngestOptions]:
    """How the source was read and its rows were judged, as the metadata record it."""
    recorded = store.metadata["read_options"]
    # Stores before 0.2.0 have each symbol's commonest step.
    known = {"bar_interval": "of each symbol", "max_bad": 0.001, "allow_nonpositive": False, **recorded}
    judged = {name: known[name] for name in IngestOptions.__dataclass_fields__}
    read_options = ReadOptions.from_record({k: v for k, v in recorded.items() if k not in judged})
    for name in ("reset_on_gap", "bar_interval"):
        duration = recorded.get(name)
        if duration is not None and (type(duration) is not int or not 0 < duration < 1 << 63):
            raise FindingError(f"{name} is {duration!r}, not a number of nanoseconds")
    return read_options, IngestOptions(**judged)


def planned_parameters(store: FeatureStore) -> tuple[Path, list[tuple[int, int]], str, Parameters]:
    spans = [(s.first_row, s.last_row - s.first_row + 1) for s in store.segments]
    return store.path, spans, store.feature_set, parameters_of(store)


def dense_rows(store: FeatureStore) -> tuple[int, int] | None:
    """Length and number of windows, in the dense layout."""
    return None if store.layout == "bars" else (store.window_length, len(store.features))
