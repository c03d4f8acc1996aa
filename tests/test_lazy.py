"""Names that are imported when they are first used."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "first", ["moola.evaluation", "moola.evaluation.out_of_fold", "moola.evaluation.baselines"]
)
def test_a_function_of_its_modules_name_is_the_function_whatever_is_imported_first(first: str) -> None:
    code = (
        f"import {first}; from moola.evaluation import out_of_fold; import moola; "
        "from moola.evaluation.out_of_fold import fold_numbers; "
        "print(out_of_fold.__name__, moola.evaluation.out_of_fold is out_of_fold, fold_numbers.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "out_of_fold True fold_numbers\n"
