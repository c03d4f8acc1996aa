"""Inspecting a store: its features, splits and gaps, in numbers for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.store.inspect.breaks import GapGroup as GapGroup
    from moola.store.inspect.durations import format_duration as format_duration
    from moola.store.inspect.gaps import Gap as Gap
    from moola.store.inspect.suggestion import Suggestion as Suggestion
    from moola.store.inspect.summary import FeatureSummary as FeatureSummary
    from moola.store.inspect.summary import Inspection as Inspection
    from moola.store.inspect.summary import SplitSummary as SplitSummary
    from moola.store.inspect.summary import inspect_store as inspect_store

_HOMES = {
    "FeatureSummary": "moola.store.inspect.summary",
    "Gap": "moola.store.inspect.gaps",
    "GapGroup": "moola.store.inspect.breaks",
    "Inspection": "moola.store.inspect.summary",
    "SplitSummary": "moola.store.inspect.summary",
    "Suggestion": "moola.store.inspect.suggestion",
    "format_duration": "moola.store.inspect.durations",
    "inspect_store": "moola.store.inspect.summary",
}

__all__ = [
    "FeatureSummary",
    "Gap",
    "GapGroup",
    "Inspection",
    "SplitSummary",
    "Suggestion",
    "format_duration",
    "inspect_store",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
