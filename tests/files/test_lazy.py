"""Names that are imported when first used."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import types

import pytest

import moola
from moola.files.lazy import lazy_names


@pytest.mark.parametrize(
    "first", ["moola.evaluation", "moola.evaluation.fold_predictions", "moola.evaluation.baselines"]
)
def test_a_function_name_gives_the_function_in_any_import_order(first: str) -> None:
    code = (
        f"import {first}; from moola.evaluation import out_of_fold; import moola; "
        "from moola.evaluation.fold_predictions import fold_numbers; "
        "print(out_of_fold.__name__, moola.evaluation.out_of_fold is out_of_fold, fold_numbers.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "out_of_fold True fold_numbers\n"


def test_no_package_exports_the_name_of_one_of_its_modules() -> None:
    """Python would replace the name with the module as soon as the module is imported."""
    packages = [moola.__name__]
    packages += [m.name for m in pkgutil.walk_packages(moola.__path__, "moola.") if m.ispkg]
    assert len(packages) > 15
    for package in packages:
        module = importlib.import_module(package)
        modules = {found.name for found in pkgutil.iter_modules(module.__path__)}
        assert not modules & set(getattr(module, "_HOMES", ())), package


def test_an_old_name_warns_and_gives_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("made_up")
    monkeypatch.setitem(sys.modules, "made_up", package)
    find, names = lazy_names("made_up", {"sqrt": "math"}, renamed={"root": "sqrt"})
    with pytest.warns(
        DeprecationWarning, match=r"made_up\.root is now made_up\.sqrt; the old name goes in 0\.3\.0"
    ):
        assert find("root")(9) == 3
    assert "sqrt" in names()
    with pytest.raises(AttributeError, match="made_up"):
        find("cube")
