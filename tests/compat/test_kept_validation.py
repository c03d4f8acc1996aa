"""Cross-validations, stacks, ensembles and sweeps of earlier versions are evaluated and continued."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from moola.validation import CrossValidation

Check = Callable[..., None]
Run = Callable[..., Any]
DIRECTORIES = ("kinds", "repeated", "other", "panel", "stack", "mean")
# A later version may draw other resamples.
DRAWN = ("low", "high", "null", "baselines", "differences", "over_repeats", "seconds", "files", "figures")


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_cross_validation_is_read(name: str, kept: Path) -> None:
    """Its members, folds and predictions match its files."""
    path = kept / "validation" / name
    record = json.loads((path / "cross_validation.json").read_text())
    found = CrossValidation.load(path)
    assert set(found.members) == set(record["members"])
    for then, now in zip(record["splits"], found.splits, strict=True):
        assert [{"train": train.tolist(), "test": test.tolist()} for train, test in now] == then
    table = pq.read_table(path / "predictions.parquet")
    said = [one.predictions.probabilities for several in found.members.values() for one in several]
    columns = [f"p_{kind}" for kind in found.truth.classes]
    assert set(columns) <= set(table.column_names), table.column_names
    expected = np.stack([table[column].to_numpy() for column in columns], axis=1)
    np.testing.assert_array_equal(np.concatenate(said), expected)


@pytest.mark.parametrize("name", ["kinds", "repeated", "stack", "mean", "against"])
def test_a_cross_validation_is_evaluated(name: str, own: Path, moola_json: Run, agree: Check) -> None:
    """Every score is unchanged, and has an interval."""
    call = json.loads((own / "calls.json").read_text())[f"evaluate {name}"]
    agree(call["printed"], moola_json(*call["arguments"]), ignoring=DRAWN, tolerance=1e-9)


def test_estimators_of_a_cross_validation_are_made_again(own: Path, moola_json: Run, agree: Check) -> None:
    """So that they can be trained on shuffled labels."""
    call = json.loads((own / "calls.json").read_text())["evaluate shuffled"]
    agree(call["printed"], moola_json(*call["arguments"]), ignoring=DRAWN, tolerance=1e-9)


@pytest.mark.parametrize("model", ["trees", "kernels"])
def test_members_with_old_names_are_made_again(model: str, own: Path, moola_json: Run) -> None:
    evaluate = ("evaluate", "validation/kinds", "--model", model, "--permutations", "2", "--jobs", "1")
    printed = moola_json(*evaluate)
    assert set(printed["models"]) == {model}
    assert printed["models"][model]["null"]


@pytest.mark.parametrize("member", ["trees", "kernels"])
def test_old_names_of_members_are_accepted(member: str, own: Path, moola_json: Run) -> None:
    given = ("--member", member, "--set", "kernels.kernels=84" if member == "kernels" else "trees.trees=5")
    quick = ("--folds", "2", "--permutations", "0", "--jobs", "1", "--output", "validation/new")
    printed = moola_json("cross-validate", "--labels", "labels/by_time.safetensors", *given, *quick)
    assert len(printed["models"]) == 1


def test_repeats_are_averaged_as_before(own: Path, moola_json: Run, agree: Check) -> None:
    made = json.loads((own / "validation" / "made.json").read_text())["mean"]
    arguments = [*made["arguments"][:-1], "validation/new"]
    printed = moola_json(*arguments)
    agree(made["printed"], printed, ignoring=(*DRAWN, "output"), tolerance=1e-9)
    then, now = (pq.read_table(f"validation/{name}/predictions.parquet") for name in ("mean", "new"))
    assert now.select(then.column_names).equals(then)


def trials(journal: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """The tried candidates by study and number, with their values and results."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return {
        (study._study_id, trial.number): {
            "params": trial.params,
            "values": trial.values,
            "state": trial.state.name,
        }
        for study in storage.get_all_studies()
        for trial in storage.get_all_trials(study._study_id)
    }


def test_a_sweep_continues(own: Path, moola_json: Run, agree: Check) -> None:
    """Tried candidates stay, and the rest of the grid is tried."""
    made = json.loads((own / "sweeps" / "made.json").read_text())
    journal = own / "sweeps" / "halted" / "journal.log"
    before = trials(journal)
    assert len(before) > 0
    arguments = list(made["halted"]["arguments"])
    arguments[arguments.index("--trials") + 1] = "2"
    agree(made["finished"]["printed"], moola_json(*arguments), ignoring=tuple(made["finished"]["printed"]))
    after = trials(journal)
    done = {key: trial for key, trial in before.items() if trial["state"] == "COMPLETE"}
    assert done
    assert {key: after[key] for key in done} == done
    tried = {key: trial["params"] for key, trial in after.items() if trial["state"] == "COMPLETE"}
    assert len(tried) == 2 * len(done)
    for study in {study for study, _ in tried}:
        assert sorted(str(v) for (of, _), v in tried.items() if of == study) == sorted(
            str({"training.finetune.lr": lr}) for lr in (1e-3, 1e-2)
        )


def test_a_finished_sweep_tries_nothing_again(own: Path, moola_json: Run, agree: Check) -> None:
    made = json.loads((own / "sweeps" / "made.json").read_text())["finished"]
    journal = own / "sweeps" / "finished" / "journal.log"
    before = trials(journal)
    printed = moola_json(*made["arguments"])
    assert trials(journal) == before
    # The choice comes from the journal; the outer folds are fitted again.
    for key in ("settings", "chosen", "by_fold", "metric"):
        if key in made["printed"]:
            agree(made["printed"][key], printed[key], tolerance=1e-9)
    result = json.loads((own / "sweeps" / "finished" / "result.json").read_text())
    assert result["kind"] == "sweep"


def test_all_directories_are_tested(kept: Path) -> None:
    assert set(json.loads((kept / "validation" / "made.json").read_text())) == set(DIRECTORIES)
