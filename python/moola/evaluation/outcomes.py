"""The labels of windows, and a model's predictions of them: the two sides of every score."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moola.errors import ConfigError
from moola.settings.arrays import Numbers

__all__ = ["NO_SPAN", "Flags", "Floats", "Numbers", "Predictions", "Truth", "as_repeats"]

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
NO_SPAN = -1
"""Both ends of a missing span."""

# How far from 1 the probabilities of a window may sum. A softmax in float32 is well within it.
_SUM_TOLERANCE = 1e-4


class Truth:
    """The labels of windows: the side of a score that is the same for every model.

    Args:
        y: `[n]`, the label of each window: whole numbers or strings.
        classes: `[C]`, all labels, in the order of the columns of probabilities; by default the labels in `y`,
            sorted.
        spans: `[n, 2]`, the first and last bar of each window's span, counted in the window; −1 and −1 for none.
        groups: `[n]`, the group of each window. Windows of a group belong together, because they share bars or a day.
            Groups are resampled and shuffled whole. By default each window is its own group.
        seen: `[n]` bool, whether bars of a window were seen in pre-training. By default no window was.

    Raises `ConfigError`, which names the argument.
    """

    def __init__(
        self,
        y: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        spans: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        seen: ArrayLike | None = None,
    ) -> None:
        labels = np.asarray(y)
        if labels.ndim != 1 or not len(labels):
            raise ConfigError(
                "y", f"has the shape {labels.shape}; give one label per window, [n], and at least one"
            )
        if labels.dtype.kind not in "biuUSO":
            raise ConfigError("y", f"is of type {labels.dtype}; give labels as whole numbers or strings")
        self.classes, self.y = _codes(labels, classes)
        """`[C]`, the labels, and `[n]` int64, the number of each window's label among them."""
        n = len(self.y)
        self.spans = None if spans is None else _spans("spans", spans, n)
        """`[n, 2]` int64; None if windows have no spans."""
        self.groups = np.arange(n) if groups is None else _group_numbers(groups, n)
        """`[n]` int64: the group of each window, counted from 0."""
        self.seen = np.zeros(n, np.bool_) if seen is None else _flags("seen", seen, n)
        """`[n]` bool: whether bars of the window were seen in pre-training."""

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.y)

    @property
    def n_groups(self) -> int:
        """The number of groups."""
        return int(self.groups.max()) + 1

    @property
    def groups_with_classes(self) -> Floats:
        """`[groups, classes]`: 1 if the group has windows of the class, else 0. Only classes with windows count."""
        found = np.zeros((self.n_groups, len(self.classes)))
        found[self.groups, self.y] = 1
        return found[:, found.any(axis=0)]

    def take(self, windows: ArrayLike) -> Truth:
        """Only these windows, by index or mask. All classes are kept."""
        rows = np.asarray(windows)
        part = self.relabelled(rows)
        part.groups = _group_numbers(self.groups[rows], len(part))
        part.seen = self.seen[rows]
        return part

    def relabelled(self, source: NDArray[Any]) -> Truth:
        """The same windows in the same groups; each gets label and span of the window named in `source` `[n]`."""
        other = copy.copy(self)
        other.y = self.y[source]
        other.spans = None if self.spans is None else self.spans[source]
        return other

    def __repr__(self) -> str:
        names = ", ".join(map(str, self.classes))
        return f"<Truth of {len(self):,} windows in {self.n_groups:,} groups: {names}>"


class Predictions:
    """The predictions of one model, or of one repeat of a cross-validation, for the windows of a :class:`Truth`.

    Args:
        probabilities: `[n, C]`, the probability of each class; None for a model of spans only.
        spans: `[n, 2]`, the first and last bar of the span, −1 and −1 for none; None for a model without spans.
        folds: `[n]`, the fold whose model predicted the window. Comparisons use it to check that they are paired.

    Raises `ConfigError`, which names the argument.
    """

    def __init__(
        self,
        probabilities: ArrayLike | None = None,
        spans: ArrayLike | None = None,
        *,
        folds: ArrayLike | None = None,
    ) -> None:
        self.probabilities = None if probabilities is None else _probabilities(probabilities)
        """`[n, C]` float64."""
        given = spans if probabilities is None else self.probabilities
        if given is None:
            raise ConfigError("probabilities", "and spans are both missing; give at least one of them")
        n = len(np.asarray(given))
        self.spans = None if spans is None else _spans("predicted spans", spans, n)
        """`[n, 2]` int64."""
        self.folds = None if folds is None else _whole_numbers("folds", folds, n)
        """`[n]` int64."""
        self._n = n

    def __len__(self) -> int:
        """The number of windows predicted."""
        return self._n

    def take(self, windows: ArrayLike) -> Predictions:
        """The predictions of only these windows, by index or mask."""
        rows = np.asarray(windows)
        return Predictions(
            None if self.probabilities is None else self.probabilities[rows],
            None if self.spans is None else self.spans[rows],
            folds=None if self.folds is None else self.folds[rows],
        )

    def check_against(self, truth: Truth) -> None:
        """Raises `ConfigError` unless the numbers of windows and of classes are those of `truth`."""
        if len(self) != len(truth):
            raise ConfigError(
                "predictions",
                f"are of {len(self):,} windows; give one for each of the {len(truth):,} labelled",
            )
        if self.probabilities is not None and self.probabilities.shape[1] != len(truth.classes):
            raise ConfigError(
                "probabilities",
                f"are of {self.probabilities.shape[1]} classes; give a column for each of the "
                f"{len(truth.classes)} of the labels ({', '.join(map(str, truth.classes))})",
            )


def _codes(labels: NDArray[Any], classes: ArrayLike | None) -> tuple[NDArray[Any], Numbers]:
    try:
        found, number = np.unique(labels, return_inverse=True)
    except TypeError:
        raise ConfigError("y", "mixes types of labels; give only numbers or only strings") from None
    if classes is None:
        return found, number.astype(np.int64)
    names = np.asarray(classes)
    if names.ndim != 1 or len(np.unique(names)) != len(names):
        raise ConfigError("classes", f"are {names.tolist()}; give each label once, [C]")
    place = {name: i for i, name in enumerate(names.tolist())}
    unknown = [label for label in found.tolist() if label not in place]
    if unknown:
        raise ConfigError("y", f"has the label {unknown[0]!r}, which is not among classes; add it there")
    return names, np.array([place[label] for label in found.tolist()], np.int64)[number]


def _length(name: str, array: NDArray[Any], n: int) -> None:
    if array.shape[:1] != (n,):
        raise ConfigError(name, f"has the shape {array.shape} for {n:,} windows; give one value per window")


def _whole_numbers(name: str, given: ArrayLike, n: int) -> Numbers:
    array = np.asarray(given)
    _length(name, array, n)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise ConfigError(name, f"is {array.dtype} of shape {array.shape}; give whole numbers, [n]")
    return array.astype(np.int64)


def _flags(name: str, given: ArrayLike, n: int) -> Flags:
    array = np.asarray(given)
    _length(name, array, n)
    if array.dtype != np.bool_ or array.ndim != 1:
        raise ConfigError(
            name, f"is {array.dtype} of shape {array.shape}; give True or False per window, [n]"
        )
    return array


def _spans(name: str, given: ArrayLike, n: int) -> Numbers:
    array = np.asarray(given)
    if array.shape != (n, 2):
        raise ConfigError(name, f"has the shape {array.shape}; give first and last bar per window, [{n}, 2]")
    if array.dtype.kind not in "iu":
        raise ConfigError(name, f"is of type {array.dtype}; give whole bar numbers, and −1 for no span")
    spans = array.astype(np.int64)
    first, last = spans.T
    wrong = ((first < 0) | (last < first)) & ~((first == NO_SPAN) & (last == NO_SPAN))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ConfigError(
            name,
            f"has {first[i]} to {last[i]} for window {i}; give first and last bar, counted from 0, or −1 and −1",
        )
    return spans


def _group_numbers(given: ArrayLike, n: int) -> Numbers:
    array = np.asarray(given)
    _length("groups", array, n)
    if array.ndim != 1:
        raise ConfigError("groups", f"has the shape {array.shape}; give one name per window, [n]")
    try:
        return np.unique(array, return_inverse=True)[1].astype(np.int64)
    except TypeError:
        raise ConfigError("groups", "cannot be compared with each other; give one name per window") from None


def _probabilities(given: ArrayLike) -> Floats:
    array = np.asarray(given, dtype=np.float64)
    if array.ndim != 2 or not array.shape[1]:
        raise ConfigError(
            "probabilities", f"has the shape {array.shape}; give one per window and class, [n, C]"
        )
    # Comparisons with NaN are false, so this refuses them too.
    fine = ((array >= 0) & (array <= 1 + _SUM_TOLERANCE)).all(axis=1)
    fine &= np.abs(array.sum(axis=1) - 1) <= _SUM_TOLERANCE
    if not fine.all():
        i = int(np.argmin(fine))
        raise ConfigError(
            "probabilities",
            f"of window {i} are {array[i].tolist()}; give numbers from 0 to 1 that sum to 1 (softmax of logits)",
        )
    return array


def as_repeats(predictions: Predictions | Sequence[Predictions]) -> list[Predictions]:
    """The repeats of a cross-validation as a list. Raises `ConfigError` if it is empty."""
    repeats = [predictions] if isinstance(predictions, Predictions) else list(predictions)
    if not repeats:
        raise ConfigError("predictions", "has no repeat; give the predictions of at least one")
    return repeats
