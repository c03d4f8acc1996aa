"""Classes that differ only in case, blanks or the spelling of a number are refused by name."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from builds import SMALL, table
from hypothesis import given

import moola
from moola.errors import LabelError
from moola.labels import read_labels
from moola.labels.names import other_spellings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> moola.FeatureStore:
    return moola.build_features(table(600), tmp_path_factory.mktemp("names") / "store", stamp="open", **SMALL)


def labels_of(names: list[str]) -> pa.Table:
    return pa.table({"window_end": np.arange(len(names)) * 20 + 100, "class": names})


@pytest.mark.parametrize(
    ("usual", "other"),
    [("surge", "Surge"), ("1", "1.0"), ("big surge", "bigsurge"), ("0", "-0.0"), ("10", "1e1"), ("2", "02")],
)
def test_another_spelling_is_refused_by_name_and_one_spelling_is_read(
    store: moola.FeatureStore, usual: str, other: str
) -> None:
    with pytest.raises(LabelError) as caught:
        read_labels(labels_of([usual, "none", usual, other, "none"]), store)
    assert caught.value.counts == {"class_spelling": 1}
    assert caught.value.rows == {"class_spelling": [4]}
    assert f"class = {other}, which is {usual!r} elsewhere" in str(caught.value)
    assert "write each class in one way" in str(caught.value)
    assert set(read_labels(labels_of([usual, "none", usual, usual, "none"]), store).classes) == {
        usual,
        "none",
    }


def test_a_file_is_refused_with_its_line(store: moola.FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("window_end,class\n100,Surge\n120,none\n140,surge\n160,Surge\n")
    with pytest.raises(LabelError, match=r"row 3 \(line 4\).*class = surge, which is 'Surge' elsewhere"):
        read_labels(tmp_path / "labels.csv", store)


@pytest.mark.parametrize(
    "names", [["1", "2", "10"], ["up", "down"], ["1", "1.5"], ["a-b", "a_b"], ["1", "one"]]
)
def test_different_names_stay(store: moola.FeatureStore, names: list[str]) -> None:
    assert set(read_labels(labels_of(names), store).classes) == set(names)


@given(st.lists(st.text("aA1.0 e+-", max_size=5).map(str.strip), max_size=12))
def test_after_the_advice_nothing_is_refused(names: list[str]) -> None:
    other = other_spellings(names, range(len(names)))
    followed = [other.get(row, name) for row, name in enumerate(names)]
    assert other_spellings(followed, range(len(names))) == {}
    for row, name in other.items():
        assert name in names
        assert names.count(name) >= names.count(names[row])
