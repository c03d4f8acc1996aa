"""Labelled windows: few, made by hand, read from several forms. Models are fine-tuned and scored on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.labels.raw import read_raw_windows as read_raw_windows
    from moola.labels.references import read_labels as read_labels
    from moola.labels.refusals import check_classes as check_classes
    from moola.labels.refusals import check_folds as check_folds
    from moola.labels.windows import LabelledWindows as LabelledWindows
    from moola.labels.windows import together as together

_HOMES = {
    "LabelledWindows": "moola.labels.windows",
    "check_classes": "moola.labels.refusals",
    "check_folds": "moola.labels.refusals",
    "read_labels": "moola.labels.references",
    "read_raw_windows": "moola.labels.raw",
    "together": "moola.labels.windows",
}

__all__ = ["LabelledWindows", "check_classes", "check_folds", "read_labels", "read_raw_windows", "together"]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
