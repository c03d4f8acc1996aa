"""An evaluation: a model's scores with intervals, comparisons with baselines, and permutation tests."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from moola.errors import ConfigError
from moola.evaluation.calibration import calibration_error_if_calibrated
from moola.evaluation.intervals import (
    LEVEL,
    Difference,
    Interval,
    Resamples,
    bootstrap,
    over_repeats,
)
from moola.evaluation.metrics import METRICS, Metric, scores
from moola.evaluation.outcomes import Predictions, Truth, as_repeats
from moola.evaluation.permutation import PermutationTest, orders
from moola.files.renamed import renamed_attribute, renamed_keywords

__all__ = ["Apart", "Evaluation", "evaluate"]

Scores = dict[str, Interval]
"""Scores with their intervals, by the metric's name."""

# The names of fields in `evaluation.json`, which do not change.
_KEYS = {
    "permutation": "null",
    "permutation_note": "null_note",
    "calibration_error_if_calibrated": "calibration_error_by_luck",
}


@dataclass(frozen=True, slots=True)
class Apart:
    """The scores of some of the windows."""

    windows: int
    groups: int
    scores: Scores
    """The bounds are NaN if all these windows are in one group."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation of a model. `rows` and `sentences` are for people, `record` is for JSON."""

    model: str
    windows: int
    groups: int
    classes: dict[str, int]
    """The number of windows of each class."""
    repeats: int
    scores: Scores
    """The scores, with intervals over groups. With several repeats, each score is the mean over the repeats."""
    over_repeats: Scores
    """The same means, with intervals over repeats. The bounds are NaN if there is one repeat."""
    baselines: dict[str, Scores]
    differences: dict[str, dict[str, Difference]]
    """The model's scores minus each baseline's, paired by windows and folds."""
    permutation: dict[str, PermutationTest]
    """By metric, the permutation test of the model, or of the model that stands in for it; empty if none was run."""
    apart: dict[str, Apart]
    """Scores of `unseen` and of `seen` windows; empty if the encoder was pre-trained on none of them."""
    calibration_error_if_calibrated: Interval | None
    """The calibration error that correct probabilities would show; None for a model without probabilities."""
    calibrated: Scores = field(default_factory=dict)
    """Log loss and calibration error of calibrated probabilities; empty if there are none."""
    notes: list[str] = field(default_factory=list)
    """Warnings and facts to read before the numbers."""
    permutation_note: str = ""
    """The tested model, the number of shuffles and their cost; or why there was no permutation test."""

    null = renamed_attribute("null", "permutation")
    null_note = renamed_attribute("null_note", "permutation_note")
    calibration_error_by_luck = renamed_attribute(
        "calibration_error_by_luck", "calibration_error_if_calibrated"
    )

    @property
    def columns(self) -> list[str]:
        """The column headers of `rows`."""
        permutation = (
            [*([textwrap.fill(self._permuted_model, 18)] if self._permuted_model else []), "permuted", "p"]
            if self.permutation
            else []
        )
        over = [f"over {self.repeats} repeats"] if self.repeats > 1 else []
        return ["", self.model, *over, *self.apart, *permutation, *self.baselines]

    def rows(self) -> list[list[str]]:
        """A table for people, one row per metric. An ≈ marks a baseline that shows no difference from the model."""
        rows = []
        for name, metric in METRICS.items():
            cells = [str(self.scores[name])]
            if self.repeats > 1:
                cells.append(str(self.over_repeats[name]))
            cells += [str(apart.scores[name]) for apart in self.apart.values()]
            if self.permutation:
                cells += _permutation_cells(self.permutation.get(name), with_value=bool(self._permuted_model))
            for baseline, found in self.baselines.items():
                difference = self.differences[baseline][name]
                compared = not math.isnan(difference.interval.value)
                cells.append(f"{found[name]}{' ≈' if compared and not difference.shown else ''}")
            if any(cell != "–" for cell in cells):
                rows.append([metric.title, *cells])
        return rows

    def sentences(self) -> list[str]:
        """The evaluation in sentences: notes, then each comparison, then each permutation test."""
        compared = [str(difference) for name in self.differences for difference in self._compared(name)]
        return [*self._before(), *compared, *self._permutation_lines()]

    def summary(self, baselines: Iterable[str] | None = None) -> list[str]:
        """The same in fewer lines: one for each of these baselines, by default for all."""
        names = self.differences if baselines is None else baselines
        compared = [_in_a_line(name, found) for name in names if (found := self._compared(name))]
        return [*self._before(), *compared, *self._permutation_lines()]

    def _compared(self, baseline: str) -> list[Difference]:
        """The differences from a baseline, for the metrics that both have."""
        differences = self.differences[baseline].values()
        return [difference for difference in differences if not math.isnan(difference.interval.value)]

    def _before(self) -> list[str]:
        """The lines before the comparisons: notes and calibration."""
        lines = [*self.notes]
        if self.calibration_error_if_calibrated is not None:
            lines.append(
                f"calibration error: {self.calibration_error_if_calibrated} if every probability were right"
            )
        if self.calibrated:
            changes = [
                f"{METRICS[name].title} {self.scores[name].value:.3f} → {found}"
                for name, found in self.calibrated.items()
            ]
            lines.append(f"calibrated: {', '.join(changes)}; each fold by a temperature fitted on the others")
        return lines

    def _permutation_lines(self) -> list[str]:
        said = [
            str(permutation) for permutation in self.permutation.values() if not math.isnan(permutation.value)
        ]
        return [*([self.permutation_note] if self.permutation_note else []), *said]

    @property
    def _permuted_model(self) -> str:
        """The model that the permutation test scored, if that is not the model itself."""
        return next((permutation.of for permutation in self.permutation.values()), "")

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON. NaN and infinity become None."""
        permutation = {name: found.record() for name, found in self.permutation.items()}
        differences = {
            baseline: {
                name: asdict(found.interval) | {"shown": found.shown} for name, found in several.items()
            }
            for baseline, several in self.differences.items()
        }
        plain: dict[str, Any] = _without_nan(
            {_KEYS.get(name, name): value for name, value in asdict(self).items()}
            | {"null": permutation, "differences": differences}
        )
        return plain


@renamed_keywords(null="permutation")
def evaluate(
    truth: Truth,
    predictions: Predictions | Sequence[Predictions],
    *,
    model: str,
    baselines: Mapping[str, Predictions | Sequence[Predictions]],
    permutation: Mapping[str, PermutationTest] | None = None,
    calibrated: Predictions | Sequence[Predictions] | None = None,
    seed: int,
    resamples: int | Resamples = 2_000,
) -> Evaluation:
    """Scores out-of-fold predictions, with intervals, baselines, paired differences and permutation tests.

    Args:
        truth: The labelled windows, their groups, and which windows were seen in pre-training.
        predictions: The model's predictions, from one cross-validation or from several repeats.
        model: The model's name.
        baselines: Predictions to compare with, by name: :func:`moola.evaluation.baselines.baseline_predictions`, and
            the same model from scratch. They are cross-validated with the same folds.
        permutation: The result of :func:`moola.evaluation.permutation.permutation_test`.
        calibrated: The model's predictions with the probabilities that
            :func:`moola.evaluation.calibration.cross_fitted` made of them.
        seed: Seed of the resamples.
        resamples: The number of resamples; or :class:`Resamples` to share between models of the same truth, which
            saves time.

    Raises `ConfigError` if predictions do not fit the windows, if folds differ, if all windows are in one group, and if
    probabilities are scored on windows of one class: every model that names this class would be perfect.
    """
    repeats = as_repeats(predictions)
    with_classes = [repeat for repeat in repeats if repeat.probabilities is not None]
    if with_classes and len(found := np.unique(truth.y)) == 1:
        raise ConfigError(
            "y", f"has one class, {truth.classes[found[0]]}; give windows of at least two classes to score"
        )
    for repeat in repeats:
        repeat.check_against(truth)
    each = [scores(truth, repeat) for repeat in repeats]
    drawn = resamples
    if not isinstance(drawn, Resamples):
        drawn = Resamples(truth, seed=seed, resamples=drawn)
    differences = {name: drawn.differences(repeats, said, (model, name)) for name, said in baselines.items()}
    if_calibrated = calibration_error_if_calibrated(with_classes[0], seed=seed) if with_classes else None
    return Evaluation(
        model=model,
        windows=len(truth),
        groups=truth.n_groups,
        classes={str(name): int((truth.y == i).sum()) for i, name in enumerate(truth.classes)},
        repeats=len(repeats),
        scores=drawn.bootstrap(repeats),
        over_repeats={
            name: _within(metric, over_repeats([found[name] for found in each]))
            for name, metric in METRICS.items()
        },
        baselines={name: drawn.bootstrap(said) for name, said in baselines.items()},
        differences=differences,
        permutation=dict(permutation or {}),
        apart=_apart(truth, repeats, seed, drawn.count),
        calibration_error_if_calibrated=if_calibrated,
        calibrated=_calibrated(drawn, calibrated),
        notes=_notes(truth, permutation or {}),
    )


def _within(metric: Metric, found: Interval) -> Interval:
    """The interval, cut to the range of possible scores, which it may exceed with few repeats."""
    if math.isnan(found.low):
        return found
    return replace(found, low=max(found.low, 0.0), high=min(found.high, metric.greatest))


# Temperature scaling changes no other score.
_OF_CALIBRATION = ("log_loss", "calibration_error")


def _calibrated(drawn: Resamples, said: Predictions | Sequence[Predictions] | None) -> Scores:
    if said is None:
        return {}
    found = drawn.bootstrap(said)
    return {name: found[name] for name in _OF_CALIBRATION}


def _in_a_line(baseline: str, differences: Sequence[Difference]) -> str:
    """`against X: better in A (+0.120 [+0.030, +0.200]); no difference shown in B, C`."""
    better: list[str] = []
    worse: list[str] = []
    neither: list[str] = []
    for difference in differences:
        title = METRICS[difference.metric].title
        if not difference.shown:
            neither.append(title)
            continue
        (better if difference.better else worse).append(f"{title} ({difference.in_brackets})")
    kinds = {"better in": better, "worse in": worse, "no difference shown in": neither}
    return f"against {baseline}: " + "; ".join(f"{kind} {', '.join(of)}" for kind, of in kinds.items() if of)


def _apart(truth: Truth, repeats: Sequence[Predictions], seed: int, resamples: int) -> dict[str, Apart]:
    if not truth.seen.any():
        return {}
    apart = {}
    for name, windows in (("unseen", ~truth.seen), ("seen", truth.seen)):
        if not windows.any():
            continue
        part, said = truth.take(windows), [repeat.take(windows) for repeat in repeats]
        if part.n_groups > 1:
            found = bootstrap(part, said, seed=seed, resamples=resamples)
        else:
            each = [scores(part, repeat) for repeat in said]
            found = {
                metric: Interval(sum(one[metric] for one in each) / len(each), float("nan"), float("nan"))
                for metric in METRICS
            }
        apart[name] = Apart(len(part), part.n_groups, found)
    return apart


_FEW_GROUPS = 10


def _notes(truth: Truth, permutation: Mapping[str, PermutationTest]) -> list[str]:
    notes = []
    if truth.n_groups < _FEW_GROUPS:
        notes.append(f"{truth.n_groups} groups are few: the intervals may be too narrow")
    else:
        notes += _rare_classes(truth)
    if seen := int(truth.seen.sum()):
        notes.append(
            f"{seen:,} of {len(truth):,} windows have bars that the encoder was pre-trained on; seen and "
            "unseen windows are scored separately"
        )
    if permutation and (possible := orders(truth)) * (1 - LEVEL) < 1:
        notes.append(
            f"whole groups can exchange their labels in {possible:.0f} orders only: no p-value can be below "
            f"{1 / possible:.2f}"
        )
    unfitted = next((found for found in permutation.values() if found.unfitted), None)
    if unfitted is not None:
        notes.append(
            f"{unfitted.unfitted} of {len(unfitted.scores)} shuffles could not be trained on, and count as good as the "
            f"model, so p may be too large: {unfitted.why.rstrip('.')}. Use fewer folds, or label more windows of the "
            "rarest class in groups of their own, to have fewer such shuffles"
        )
    movable = min((found.movable for found in permutation.values()), default=1.0)
    if movable < 1:
        notes.append(
            f"{1 - movable:.0%} of the windows are in groups of a unique size, and kept their labels in every "
            "shuffle: the scores on shuffled labels look better than they are"
        )
    return notes


def _rare_classes(truth: Truth) -> list[str]:
    """A warning for each class with few groups: the bootstrap cannot measure how much it varies."""
    of_class = [(name, np.unique(truth.groups[truth.y == i])) for i, name in enumerate(truth.classes)]
    return [
        f"class {name} is in {len(groups)} group{'s' if len(groups) > 1 else ''} only: the intervals of macro-F1 and "
        "balanced accuracy may be much narrower than they should be"
        for name, groups in of_class
        if 0 < len(groups) < _FEW_GROUPS
    ]


def _permutation_cells(permutation: PermutationTest | None, *, with_value: bool) -> list[str]:
    if permutation is None or math.isnan(permutation.value):
        return ["–"] * (2 + with_value)
    low, high = permutation.shuffled_interval
    shuffled_interval = "–" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
    value = [f"{permutation.value:.3f}"] if with_value else []
    return [*value, shuffled_interval, f"{permutation.p_value:.3f}"]


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
