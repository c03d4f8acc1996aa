"""Scores with confidence intervals, trivial baselines and a permutation test.

Everything here works on plain arrays: labels, probabilities, spans. It depends on no model and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.evaluation.fold_predictions import out_of_fold as out_of_fold
    from moola.evaluation.intervals import bootstrap as bootstrap
    from moola.evaluation.intervals import paired_differences as paired_differences
    from moola.evaluation.metrics import scores as scores
    from moola.evaluation.outcomes import Predictions as Predictions
    from moola.evaluation.outcomes import Truth as Truth
    from moola.evaluation.permutation import permutation_test as permutation_test
    from moola.evaluation.report import Evaluation as Evaluation
    from moola.evaluation.report import evaluate as evaluate

_HOMES = {
    "Evaluation": "moola.evaluation.report",
    "Predictions": "moola.evaluation.outcomes",
    "Truth": "moola.evaluation.outcomes",
    "bootstrap": "moola.evaluation.intervals",
    "evaluate": "moola.evaluation.report",
    "out_of_fold": "moola.evaluation.fold_predictions",
    "paired_differences": "moola.evaluation.intervals",
    "permutation_test": "moola.evaluation.permutation",
    "scores": "moola.evaluation.metrics",
}

__all__ = [
    "Evaluation",
    "Predictions",
    "Truth",
    "bootstrap",
    "evaluate",
    "out_of_fold",
    "paired_differences",
    "permutation_test",
    "scores",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES, renamed={"permutation_null": "permutation_test"})
