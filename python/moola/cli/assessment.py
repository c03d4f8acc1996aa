"""Assesses a validation and shows it: permutation tests, tables, sentences, files."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moola.cli.app import print_facts, print_json, print_table
from moola.cli.members import rebuilt_members
from moola.errors import ConfigError

if TYPE_CHECKING:
    from moola.evaluation.report import Evaluation
    from moola.validation.permutation import PermutationResult
    from moola.validation.records import CrossValidation

__all__ = ["assess_models", "finish", "permutation_tests_of", "save_and_assess"]


def save_and_assess(
    found: CrossValidation,
    output: str,
    permutations: int | None,
    store: str | None,
    seed: int,
    jobs: int,
    started: float,
    json: bool,
) -> None:
    directory = found.save(output)
    models = list(found.members)
    tested = (
        {}
        if permutations == 0
        else permutation_tests_of(found, models, permutations, False, store, seed, jobs, json)
    )
    finish(directory, found, assess_models(found, models, seed, jobs, tested), started, json)


def permutation_tests_of(
    found: CrossValidation,
    models: Sequence[str],
    permutations: int | None,
    whole: bool,
    store: str | None,
    seed: int,
    jobs: int,
    json: bool,
) -> dict[str, PermutationResult]:
    """The result of each model's permutation test, or why it has none."""
    from moola.evaluation.permutation import movable
    from moola.validation.ensembles import ENSEMBLE
    from moola.validation.permutation import PermutationResult, permutation_tests
    from moola.validation.stacks import STACK

    try:
        movable(found.truth)
    except ConfigError as error:
        return {name: PermutationResult({}, f"labels were not shuffled: {error}") for name in models}
    estimators, other_windows = rebuilt_members(found.settings.get("members", {}))
    known = {*estimators, *([STACK] if estimators else [])}
    made = [name for name in models if name in known or name.removesuffix(ENSEMBLE) in known]
    tested = permutation_tests(
        found,
        made,
        estimators,
        permutations=permutations,
        whole=whole,
        other_windows=other_windows,
        store=store,
        seed=seed,
        n_jobs=jobs,
        report=None if json else lambda text: print(f"{text} …", file=sys.stderr, flush=True),
    )
    why = (
        "labels were not shuffled: the cross-validation does not record how this model was made; in Python, "
        "moola.validation.permutation.permutation_test_of takes the estimator"
    )
    return tested | {name: PermutationResult({}, why) for name in models if name not in tested}


def assess_models(
    found: CrossValidation,
    models: Sequence[str],
    seed: int,
    jobs: int,
    tested: Mapping[str, PermutationResult],
) -> dict[str, Evaluation]:
    from moola.evaluation.intervals import Resamples
    from moola.validation.assessment import assess, baselines_of

    baselines = baselines_of(found, seed=seed, n_jobs=jobs)
    resamples = Resamples(found.truth, seed=seed)
    return {
        name: assess(
            found, name, baselines=baselines, tested=tested.get(name), resamples=resamples, seed=seed
        )
        for name in models
    }


def finish(
    directory: Path,
    found: CrossValidation,
    evaluations: Mapping[str, Evaluation],
    started: float,
    json: bool,
    homes: Iterable[str] = (),
) -> None:
    from moola.validation.assessment import dropout_sentence, temperature_of, write_assessment

    paths = write_assessment(directory, found, evaluations)
    took = time.perf_counter() - started
    if json:
        return print_json(
            {
                "output": directory,
                "models": {name: evaluation.record() for name, evaluation in evaluations.items()},
                "files": [path.name for path in paths],
                "seconds": round(took, 4),
            }
        )
    truth = found.truth
    print_facts(
        [
            ("windows", f"{len(truth):,} in {truth.n_groups:,} groups"),
            ("folds", f"{found.settings['folds']}, {found.settings['repeats']} times"),
        ]
    )
    for name, evaluation in evaluations.items():
        print_table(name, evaluation.columns, evaluation.rows())
        temperature = temperature_of(found, name)
        if temperature is not None:
            print(
                f"temperature {temperature:.2f}: above 1 the model is overconfident, below 1 underconfident"
            )
        if (spread := dropout_sentence(found, name)) is not None:
            print(spread)
        print("\n".join(evaluation.summary(_told_of(name, evaluation, homes))))
    print_facts(
        [("took", f"{took:.1f} s"), ("result", f"{directory}: {', '.join(path.name for path in paths)}")]
    )


def _told_of(model: str, evaluation: Evaluation, homes: Iterable[str]) -> list[str]:
    """The comparisons that get a sentence: with baselines, with the model from scratch, and with `--against`.

    From another cross-validation this is the same model if it has it, otherwise all its models. All other comparisons
    are in the table and in `evaluation.json`.
    """
    from moola.evaluation.baselines import BASELINES
    from moola.validation.cross_validation import FROM_SCRATCH

    told = {*BASELINES, f"{model}{FROM_SCRATCH}"}
    for home in homes:
        same = f"{model} ({home})"
        others = [name for name in evaluation.differences if name.endswith(f" ({home})")]
        told |= {same} if same in others else {*others}
    return [name for name in evaluation.differences if name in told]
