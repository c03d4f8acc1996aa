"""The permutation test: the scores of the same procedure on shuffled labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import numpy as np

from moola.errors import ConfigError, NotFiniteError
from moola.evaluation.intervals import LEVEL
from moola.evaluation.metrics import METRICS
from moola.evaluation.outcomes import Truth
from moola.files.lazy import lazy_names
from moola.files.renamed import renamed_attribute
from moola.settings.arrays import Numbers

__all__ = [
    "PERMUTATIONS",
    "PermutationTest",
    "Scoring",
    "Shuffled",
    "movable",
    "orders",
    "permutation_test",
    "permute_groups",
    "under_shuffles",
]

PERMUTATIONS = 200
"""Shuffles for a cheap model: the smallest p-value is then 1/201, and it takes 200 cross-validations."""

Scoring = Callable[[Truth], Mapping[str, float]]
"""A whole procedure: it trains and tests on labelled windows, and returns scores by metric."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PermutationTest:
    """A score beside the scores of the same procedure on shuffled labels."""

    metric: str
    value: float
    """The score with the true labels."""
    scores: tuple[float, ...]
    """The scores with shuffled labels; NaN for a shuffle that cannot be trained on or has no windows to score."""
    movable: float
    """The share of the windows whose group could exchange its labels with another."""
    of: str = ""
    """The model that was scored, on true and on shuffled labels, if it is not the reported one:
    `with heads alone on frozen embeddings`."""
    unfitted: int = 0
    """The number of shuffles that could not be trained on. Folds are stratified for the true labels, so shuffled labels
    may leave a fold without a class. Such shuffles count as at least as good as the model."""
    why: str = ""
    """The reason that the first of these could not be trained on."""

    @classmethod
    def from_record(cls, metric: str, record: Mapping[str, Any]) -> Self:
        """Reads a :meth:`record`. None means NaN."""
        value, *shuffled = (
            float("nan") if score is None else float(score) for score in (record["value"], *record["scores"])
        )
        unfitted, why = record.get("unfitted", 0), record.get("why", "")
        return cls(metric, value, tuple(shuffled), float(record["movable"]), record["of"], unfitted, why)

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "value": self.value,
            "scores": list(self.scores),
            "chance": list(self.shuffled_interval),
            "p_value": None if math.isnan(self.value) else self.p_value,
            "movable": self.movable,
            "of": self.of,
            "unfitted": self.unfitted,
            "why": self.why,
        }

    @property
    def as_good(self) -> int:
        """The number of shuffles that scored as well as the model, or better."""
        shuffled = np.array(self.scores)
        # A shuffle without a score counts against the model.
        worse = shuffled < self.value if METRICS[self.metric].greater_is_better else shuffled > self.value
        return len(shuffled) - int(worse.sum())

    @property
    def p_value(self) -> float:
        """(1 + shuffles as good as the model) / (1 + shuffles).

        The true labels are one of the possible orders, so both counts include them: p is then not too small, whatever
        the number of shuffles. Source: B. Phipson and G. K. Smyth, "Permutation p-values should never be zero",
        Statistical Applications in Genetics and Molecular Biology 9 (2010), art. 39.
        """
        return (1 + self.as_good) / (1 + len(self.scores))

    @property
    def shuffled_interval(self) -> tuple[float, float]:
        """The central 95 % of the shuffled scores; NaN if there are none."""
        shuffled = np.array(self.scores)
        if np.isnan(shuffled).all():
            return float("nan"), float("nan")
        low, high = np.nanquantile(shuffled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)

    chance = renamed_attribute("chance", "shuffled_interval")

    def __str__(self) -> str:
        title, n = METRICS[self.metric].title, len(self.scores)
        if np.isnan(self.value):
            return f"{title}: the model has no such score, so there is no permutation test"
        low, high = self.shuffled_interval
        what = f"{title}, {self.of}" if self.of else title
        shown = "better" if self.p_value <= 1 - LEVEL else "not shown to be better"
        range_ = "no such score" if np.isnan(low) else f"{low:.3f} to {high:.3f}"
        shuffled = f"({range_}; p = {self.p_value:.3f}, {n} shuffles)"
        return f"{what}: {self.value:.3f}, {shown} than with shuffled labels {shuffled}"


@dataclass(frozen=True, slots=True)
class Shuffled(Generic[T]):
    """The results of a procedure on the true labels and on each shuffle."""

    value: T
    shuffled: tuple[T | None, ...]
    """None for a shuffle that could not be trained on."""
    movable: float
    """See :attr:`PermutationTest.movable`."""
    why: str
    """The reason that the first of those could not be trained on; empty if all could."""

    def tests(
        self, scores: Callable[[T], Mapping[str, float]], *, of: str = ""
    ) -> dict[str, PermutationTest]:
        """The permutation test of each metric."""
        each = [None if one is None else scores(one) for one in self.shuffled]
        return {
            name: PermutationTest(
                name,
                float(value),
                tuple(math.nan if one is None else float(one[name]) for one in each),
                self.movable,
                of,
                each.count(None),
                self.why,
            )
            for name, value in scores(self.value).items()
        }


def permute_groups(groups: Numbers, rng: np.random.Generator) -> Numbers:
    """One shuffle: whole groups of the same size exchange their labels and spans.

    Args:
        groups: `[n]`, the group of each window.
        rng: Draws the shuffle.

    Returns:
        `[n]`: for each window, the window whose label and span it gets. Within a group the order stays: the third
        window of one group gets the label of the third window of the other.

    Shuffling windows one by one would separate labels that belong together, and the shuffled scores would vary too
    little. Source: A. M. Winkler et al., "Multi-level block permutation", NeuroImage 123 (2015), 253–268 (whole-block
    exchangeability).
    """
    order = np.argsort(groups, kind="stable")
    _, first, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    source = np.empty(len(groups), np.int64)
    for size in np.unique(sizes):
        alike = first[sizes == size]
        rows = order[alike[:, None] + np.arange(size)]
        source[rows] = rows[rng.permutation(len(alike))]
    return source


def permutation_test(
    score: Scoring,
    truth: Truth,
    *,
    seed: int,
    permutations: int = PERMUTATIONS,
    n_jobs: int | None = None,
) -> dict[str, PermutationTest]:
    """Scores a procedure on the true labels, and on labels shuffled between whole groups of the same size.

    Args:
        score: The whole procedure, including cross-validation. Everything that is chosen or fitted by labels must be
            chosen and fitted inside it; otherwise the test covers only a part of the procedure. It is called
            with the true labels and with each shuffle, always with the same windows in the same groups. It must depend
            only on its argument.
        truth: The windows. A span moves with its label.
        seed: Seed of the shuffles. Shuffle k does not depend on `permutations` or `n_jobs`.
        permutations: Number of shuffles; each costs one run of the procedure.
        n_jobs: As in joblib. With more than one process, `score` must be picklable.

    Returns:
        The test of each metric that `score` returns. A shuffle for which `score` raises a `ValueError` or a
        `NotFiniteError` has NaN, which counts against the model.

    Raises `ConfigError` if no two groups have the same size, or if all groups of the same size have the same labels;
    and every error that `score` raises for the true labels.
    """
    found = under_shuffles(score, truth, seed=seed, permutations=permutations, n_jobs=n_jobs)
    return found.tests(lambda scores: scores)


def under_shuffles(
    procedure: Callable[[Truth], T],
    truth: Truth,
    *,
    seed: int,
    permutations: int = PERMUTATIONS,
    n_jobs: int | None = None,
) -> Shuffled[T]:
    """Runs a procedure on the true labels and on each shuffle.

    Arguments and errors are those of :func:`permutation_test`; the procedure may return anything.
    """
    from joblib import Parallel, delayed

    if permutations < 1:
        raise ConfigError("permutations", f"{permutations} is too few; give 1 or more, 20 to reach p < 0.05")
    share = movable(truth)
    shuffled = [
        truth.relabelled(permute_groups(truth.groups, np.random.default_rng([seed, k])))
        for k in range(permutations)
    ]
    (value, _), *tried = Parallel(n_jobs=n_jobs)(
        delayed(_tried)(procedure, labels, is_shuffle)
        for labels, is_shuffle in [(truth, False), *((labels, True) for labels in shuffled)]
    )
    why = next((why for _, why in tried if why), "")
    return Shuffled(value, tuple(found for found, _ in tried), share, why)


def _tried(procedure: Callable[[Truth], T], labels: Truth, is_shuffle: bool) -> tuple[T | None, str]:
    """The result and an empty reason; or None and the reason, if shuffled labels cannot be trained on.

    Windows and folds are those of the true labels, so only the order of the labels can be at fault.
    """
    try:
        return procedure(labels), ""
    except AssertionError:
        # A leak is a `ValueError` too, and the labels never cause it.
        raise
    except (ValueError, NotFiniteError) as error:
        if not is_shuffle:
            raise
        # On one line, because it becomes part of a sentence.
        return None, " ".join(str(error).split()) or type(error).__name__


def movable(truth: Truth) -> float:
    """The share of windows that can get another window's label. Raises `ConfigError` if it is 0."""
    sizes = np.bincount(truth.groups)
    alike = np.bincount(sizes)
    if not (alike[1:] > 1).any():
        raise ConfigError(
            "groups",
            f"are {truth.n_groups}, and no two have the same size, so labels cannot be exchanged; give smaller groups",
        )
    contents: dict[int, set[bytes]] = {}
    for group, size in enumerate(sizes):
        held = np.flatnonzero(truth.groups == group)
        spans = b"" if truth.spans is None else truth.spans[held].tobytes()
        contents.setdefault(int(size), set()).add(truth.y[held].tobytes() + spans)
    if all(len(held) == 1 for held in contents.values()):
        raise ConfigError(
            "groups",
            "of the same size all have the same labels, so a shuffle changes nothing; give groups that differ",
        )
    return float((alike[sizes] > 1)[truth.groups].mean())


def orders(truth: Truth) -> float:
    """The number of orders of whole groups of the same size. No p-value can be below 1 divided by it."""
    alike = np.bincount(np.bincount(truth.groups))[1:]
    return math.prod(float(k) for count in alike.tolist() for k in range(2, min(count, 100) + 1))


__getattr__, _ = lazy_names(
    __name__, {}, renamed={"Null": "PermutationTest", "permutation_null": "permutation_test"}
)
