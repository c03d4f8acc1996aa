"""Which bars and features go together with those of a training."""

from __future__ import annotations

import numpy as np
import pytest

import moola
from moola import _core
from moola.errors import FeatureMismatchError
from moola.models.bar_identity import BarIdentity
from moola.models.weights import FeatureIdentity

MINUTE = 60_000_000_000


def test_windows_over_rolls_unseen_in_training_give_a_note() -> None:
    mine, given = (
        BarIdentity((MINUTE,), {"segment_by": segment_by})
        for segment_by in (["symbol", "contract"], ["symbol"])
    )
    mine.require(given, "STORE")
    assert list(mine.notes(given, "STORE")) == [
        "windows of STORE span rolls if its bars are of a continuous future, the training windows did not; build it "
        "with --segment-by symbol,contract"
    ]
    assert not [*given.notes(mine, "STORE"), *mine.notes(mine, "STORE")]


@pytest.mark.parametrize("feature_set", ["relativity10", "relativity12", "relative_transform11", "ohlc4"])
def test_features_differ_where_their_parameters_matter(feature_set: str) -> None:
    _, *prices, _ = _core.SampleBars(3).take(800)
    defaults = {"range_ema_period": 20, "atr_period": 10, "zigzag_k": 1.2, "swing_time_scale": 105.0}
    defaults |= {"zscore_period": 20, "warmup_bars": 105}
    mine = FeatureIdentity(feature_set, defaults, ("a",))
    for name, value in defaults.items():
        changed = defaults | {name: value * 2}
        before, after = (
            moola.compute_features(*prices, feature_set=feature_set, config=c) for c in (defaults, changed)
        )
        given = FeatureIdentity(feature_set, changed, ("a",))
        if np.array_equal(before, after):
            mine.require(given, "STORE")
        else:
            with pytest.raises(FeatureMismatchError, match=f"STORE was built with {name}"):
                mine.require(given, "STORE")
