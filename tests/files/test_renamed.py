"""Old names of keywords and attributes work, and the warning points at the caller's line."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from moola.files.renamed import renamed_attribute, renamed_keywords
from moola.validation.permutation import PermutationResult


@renamed_keywords(luck="tested")
def assess(model: str, *, tested: int = 0) -> tuple[str, int]:
    return model, tested


@dataclass(frozen=True, slots=True)
class Kept:
    value: int

    worth = renamed_attribute("worth", "value")


def test_an_old_keyword_works_and_warns() -> None:
    with pytest.warns(
        DeprecationWarning, match=r"the keyword luck of assess is now tested; the old name goes"
    ) as seen:
        assert assess("jade", luck=3) == ("jade", 3)  # type: ignore[call-arg]
    assert seen[0].filename == __file__
    assert assess("jade", tested=4) == ("jade", 4)


def test_an_old_attribute_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"Kept\.worth is now value") as seen:
        assert Kept(5).worth == 5
    assert seen[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=r"PermutationResult\.null is now permutation") as seen:
        assert PermutationResult({}, "").null == {}
    assert seen[0].filename == __file__
