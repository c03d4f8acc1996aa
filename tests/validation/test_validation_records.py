"""Cross-validations saved in a directory, and comparisons of several."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from labelled import make_windows
from validated import Memoriser

from moola.errors import (
    ConfigError,
    LeakError,
    RunError,
)
from moola.estimators import make_member
from moola.evaluation.leaks import FittedOn
from moola.labels import LabelledWindows
from moola.validation import (
    CrossValidation,
    assess,
    cross_validate,
)
from moola.validation.records import beside, truth_of

# One process makes what is made once per process.
pytestmark = pytest.mark.xdist_group("validation")


def test_a_saved_cross_validation_is_loaded_unchanged(found: CrossValidation, tmp_path: Path) -> None:
    directory = found.save(tmp_path / "cv")
    again = CrossValidation.load(directory)
    assert again.settings == found.settings
    for name, several in found.members.items():
        for one, other in zip(several, again.members[name], strict=True):
            assert np.array_equal(one.predictions.probabilities, other.predictions.probabilities)
            assert one.fitted_on == other.fitted_on
            for mine, theirs in (
                (one.predictions.spans, other.predictions.spans),
                (one.spread, other.spread),
            ):
                assert np.array_equal(mine, theirs) if mine is not None else theirs is None
    table = pq.read_table(directory / "predictions.parquet")
    assert table.num_rows == 2 * 2 * 40
    row = table.slice(41, 1).to_pylist()[0]
    assert (row["model"], row["repeat"], row["window"], row["symbol"]) == ("regression", 1, 1, "ES")
    assert row["class"] == found.windows.classes[found.windows.y[1]]
    assert row["window_end"].value if hasattr(row["window_end"], "value") else row["window_end"]
    with pytest.raises(RunError, match=r"exists and is not empty. Choose another --output"):
        found.save(directory)
    with pytest.raises(RunError, match=r"is not a directory. Choose another --output"):
        found.save(directory / "predictions.parquet")


def test_a_missing_or_damaged_cross_validation_is_refused(found: CrossValidation, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"is not a cross-validation: there is no cross_validation.json. Give the directory"
    ):
        CrossValidation.load(tmp_path)
    directory = found.save(tmp_path / "cv")
    path = directory / "cross_validation.json"
    record = json.loads(path.read_text())

    def load_with(**changes: Any) -> None:
        path.write_text(json.dumps(record | changes))
        CrossValidation.load(directory)

    load_with()
    with pytest.raises(RunError, match=r"is of format 9, not 1. Make it again"):
        load_with(format_version=9)
    with pytest.raises(RunError, match=r"is damaged: .*Restore it from a copy, or make it again"):
        load_with(members={"another": record["members"]["regression"]})
    # A record that claims another provenance.
    known = FittedOn(np.arange(40)).record()
    with pytest.raises(LeakError, match="the model of fold 0 was fitted on windows that it is scored on"):
        load_with(members={"regression": [{"fitted_on": [known] * 5, "seconds": 1.0}] * 2})


def test_members_of_other_cross_validations_are_compared(
    found: CrossValidation, windows: LabelledWindows
) -> None:
    trees = cross_validate(windows, {"trees": make_member("trees", trees=5)}, repeats=2, seed=1)
    both = beside(found, {"other": trees})
    assert list(both.members) == ["regression", "jade_compact", "trees (other)"]
    assert "trees (other)" in assess(both, "regression").differences
    # A member with its own windows has the name that a member of another directory would get.
    with pytest.raises(
        ConfigError,
        match=r"against: other has a model that would be named 'trees \(other\)', like an existing one; give "
        "its directory another name",
    ):
        beside(both, {"other": trees})
    # Windows that the encoder of either has seen count as seen.
    mine, theirs = np.arange(40) < 10, np.arange(40) % 4 == 0
    known = {
        name: replace(one, truth=truth_of(windows, seen))
        for name, one, seen in (("mine", found, mine), ("theirs", trees, theirs))
    }
    for one, other, seen in (("mine", trees, mine), ("mine", known["theirs"], mine | theirs)):
        np.testing.assert_array_equal(beside(known[one], {"other": other}).truth.seen, seen)
    together = beside(found, {"other": known["theirs"]})
    assert assess(together, "regression").apart["seen"].windows == theirs.sum()
    assert not found.truth.seen.any()
    with pytest.raises(
        ConfigError, match="against: other has other folds; cross-validate both with the same --folds"
    ):
        beside(found, {"other": cross_validate(windows, {"a": Memoriser()}, repeats=2, seed=2)})
    with pytest.raises(
        ConfigError, match="against: other has other labels; cross-validate both on the same file"
    ):
        beside(found, {"other": cross_validate(make_windows(seed=5), {"a": Memoriser()}, repeats=2, seed=1)})
