"""Rows of predictions and embeddings from runs and ensembles of runs, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.prediction.embedding import embed as embed
    from moola.prediction.ensembles import combine_runs as combine_runs
    from moola.prediction.models import ENSEMBLE as ENSEMBLE
    from moola.prediction.models import FinetunedModels as FinetunedModels
    from moola.prediction.models import member_runs as member_runs
    from moola.prediction.windows import predict as predict

_HOMES = {
    "ENSEMBLE": "moola.prediction.models",
    "FinetunedModels": "moola.prediction.models",
    "combine_runs": "moola.prediction.ensembles",
    "embed": "moola.prediction.embedding",
    "member_runs": "moola.prediction.models",
    "predict": "moola.prediction.windows",
}

__all__ = ["ENSEMBLE", "FinetunedModels", "combine_runs", "embed", "member_runs", "predict"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
