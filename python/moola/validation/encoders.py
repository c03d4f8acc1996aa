"""Pre-trained encoders of members: that they were trained on what the members are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moola.labels.windows import LabelledWindows
from moola.models.encoder import Encoder
from moola.models.loading import load_encoder
from moola.models.weights import FeatureIdentity
from moola.validation.folds import StorePath, open_labelled_store

__all__ = ["check_encoders"]


def check_encoders(
    members: Mapping[str, Any],
    windows: LabelledWindows,
    other_windows: Mapping[str, LabelledWindows] | None = None,
    store: StorePath | None = None,
) -> list[str]:
    """What a person should know of the bars that members' encoders were pre-trained on, and those of the windows.

    Args:
        members: Estimators by name. Encoders that were not loaded from a run say nothing of their features.
        windows: Labelled windows.
        other_windows: By member's name, its own.
        store: That of `windows`, which knows their bars.

    Raises `FeatureMismatchError` for an encoder of other features than its member is given, and `WeightsError` for one
    that cannot be loaded.
    """
    notes: list[str] = []
    for name, member in members.items():
        encoder = _encoder_of(member)
        if encoder is None or encoder.origin is None:
            continue
        own = (other_windows or {}).get(name, windows)
        source = "the labels" if own is windows else f"the labels of {name}"
        known = None
        if store is not None and own.store_id and own.store_id == windows.store_id:
            known = open_labelled_store(own, store)
        given = FeatureIdentity.of_windows(own, known)
        encoder.origin.features.require(given, source)
        notes += encoder.origin.features.notes(given, source)
    return list(dict.fromkeys(notes))


def _encoder_of(estimator: Any) -> Encoder | None:
    encoder = estimator.get_params(deep=False).get("encoder")
    return encoder if encoder is None or isinstance(encoder, Encoder) else load_encoder(encoder)
