"""Cross-validation of labelled windows; ensembles and stacks of its members, and their evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.folds.dealing import purged_folds as purged_folds
    from moola.validation.assessment import assess as assess
    from moola.validation.cross_validation import cross_validate as cross_validate
    from moola.validation.dropout import dropout_spread as dropout_spread
    from moola.validation.ensembles import ensemble as ensemble
    from moola.validation.records import CrossValidation as CrossValidation
    from moola.validation.records import OutOfFold as OutOfFold
    from moola.validation.seen_bars import seen_windows as seen_windows
    from moola.validation.stacks import MetaLearner as MetaLearner
    from moola.validation.stacks import stack as stack

_HOMES = {
    "CrossValidation": "moola.validation.records",
    "MetaLearner": "moola.validation.stacks",
    "OutOfFold": "moola.validation.records",
    "assess": "moola.validation.assessment",
    "cross_validate": "moola.validation.cross_validation",
    "dropout_spread": "moola.validation.dropout",
    "ensemble": "moola.validation.ensembles",
    "purged_folds": "moola.folds.dealing",
    "seen_windows": "moola.validation.seen_bars",
    "stack": "moola.validation.stacks",
}

__all__ = [
    "CrossValidation",
    "MetaLearner",
    "OutOfFold",
    "assess",
    "cross_validate",
    "dropout_spread",
    "ensemble",
    "purged_folds",
    "seen_windows",
    "stack",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
