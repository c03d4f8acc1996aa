"""Errors about weights, features that do not match, and run directories."""

from __future__ import annotations

from moola.errors.base import AdvisedError, PathError

__all__ = ["FeatureMismatchError", "RunError", "WeightsError"]


class WeightsError(PathError, ValueError):
    """A file of weights, or a checkpoint, that is missing, foreign or damaged.

    Attributes: `path`, `problem`, `advice`.
    """


class FeatureMismatchError(AdvisedError, ValueError):
    """Weights that were trained on features other than these.

    Attributes: `problem` (how they differ), `advice`.
    """


class RunError(PathError):
    """A run directory that cannot be used: it exists already, differs, or is not a run.

    Attributes: `path`, `problem`, `advice`.
    """
