"""Sweeps: settings chosen by cross-validation within the training part of each fold, and scored on the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.sweep.nested import SweepResult as SweepResult
    from moola.sweep.nested import sweep as sweep
    from moola.sweep.space import Space as Space
    from moola.sweep.space import read_space as read_space

_HOMES = {
    "Space": "moola.sweep.space",
    "SweepResult": "moola.sweep.nested",
    "read_space": "moola.sweep.space",
    "sweep": "moola.sweep.nested",
}

__all__ = ["Space", "SweepResult", "read_space", "sweep"]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
