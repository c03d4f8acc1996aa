"""The commands that validate models: cross-validate, ensemble, stack, evaluate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from moola.cli.app import Json, Progress, app, print_facts, print_json, print_table
from moola.cli.assessment import assess_models, finish, permutation_tests_of, save_and_assess
from moola.cli.members import Asked
from moola.errors import ConfigError

__all__ = ["cross_validate", "ensemble", "evaluate", "stack"]


Labels = Annotated[
    str, typer.Option(metavar="L", help="A file of labelled windows, from moola import-labels.")
]

Output = Annotated[str, typer.Option(metavar="DIR", help="The directory to write. It must be new.")]

Members = Annotated[
    list[str] | None,
    typer.Option(
        "--member",
        metavar="KIND[=L]",
        help="jade, jade_compact, convolution, regression, boosted_trees or rocket. KIND=L trains it on L, another "
        "file of the same windows, for example with other features. Repeat it for several.",
    ),
]

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KIND.KEY=VALUE", help="Set a parameter of a kind of model. Repeat it for several."
    ),
]

Encoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="[KIND=]RUN",
        help="A pre-trained encoder for all Jade members that it fits, or for those of one KIND. Each is also trained "
        "from scratch, to compare. Repeat it for several.",
    ),
]

Store = Annotated[
    str | None,
    typer.Option(
        "--feature-dir",
        metavar="STORE",
        help="The store that was labelled. Windows of several symbols need it: it holds their times.",
    ),
]

Folds = Annotated[int, typer.Option(help="Number of folds. Each window is tested in one of them.")]

Repeats = Annotated[int, typer.Option(help="How often to repeat, each time with other folds and seeds.")]

Embargo = Annotated[
    int, typer.Option(help="Number of bars after a test window in which no training window may begin.")
]

Seed = Annotated[int, typer.Option(help="Seed of folds, models and resamples.")]

Device = Annotated[
    str,
    typer.Option(help="Device for networks. With several --jobs it must be cpu.", metavar="auto|cpu|cuda"),
]

Jobs = Annotated[int, typer.Option(help="Number of fits in parallel, one thread each. -1 uses all cores.")]

Permutations = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Shuffles of the permutation test. Each costs one cross-validation. 0 turns it off.",
        show_default="200; 20 for stacks and networks, of which only the heads are trained",
    ),
]


@app.command()
def cross_validate(
    labels: Labels,
    output: Output,
    member: Members = None,
    settings: Settings = None,
    encoder: Encoders = None,
    feature_dir: Store = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Number of folds. Each window is tested in one of them.",
            show_default="5, or as many as the rarest class allows",
        ),
    ] = None,
    repeats: Repeats = 1,
    embargo: Embargo = 0,
    seed: Seed = 17,
    device: Device = "cpu",
    permutations: Permutations = None,
    jobs: Jobs = -1,
    json: Json = False,
) -> None:
    """Score models on windows that they were not trained on. The default is jade_compact."""
    from moola.validation import cross_validate

    asked = Asked.of(labels, member or ["jade_compact"], settings, encoder, feature_dir, seed, device)
    _refuse_existing_output(output)
    asked.tell(json)
    started = time.perf_counter()
    with Progress(json) as progress:
        found = cross_validate(
            asked.windows,
            asked.estimators(),
            folds=folds,
            repeats=repeats,
            seed=seed,
            embargo=embargo,
            store=feature_dir,
            other_windows=asked.other_windows,
            seen=asked.seen,
            n_jobs=jobs,
            report=lambda done, total: progress("fitting models", done, total),
        )
    found = asked.recorded(found)
    save_and_assess(found, output, permutations, feature_dir, seed, jobs, started, json)


@app.command()
def stack(
    labels: Labels,
    output: Output,
    member: Members = None,
    settings: Settings = None,
    encoder: Encoders = None,
    feature_dir: Store = None,
    folds: Folds = 5,
    inner_folds: Annotated[
        int, typer.Option(help="Number of folds within each fold's training windows.")
    ] = 5,
    repeats: Repeats = 1,
    embargo: Embargo = 0,
    seed: Seed = 17,
    device: Device = "cpu",
    permutations: Permutations = None,
    jobs: Jobs = -1,
    json: Json = False,
) -> None:
    """Train a second model on the out-of-fold predictions of several kinds of models, by default all."""
    from moola.estimators import KINDS
    from moola.validation import stack

    asked = Asked.of(labels, member or list(KINDS), settings, encoder, feature_dir, seed, device)
    _refuse_existing_output(output)
    asked.tell(json)
    started = time.perf_counter()
    with Progress(json) as progress:
        found = stack(
            asked.windows,
            asked.estimators(),
            folds=folds,
            inner_folds=inner_folds,
            repeats=repeats,
            seed=seed,
            embargo=embargo,
            store=feature_dir,
            other_windows=asked.other_windows,
            seen=asked.seen,
            n_jobs=jobs,
            report=lambda done, total: progress("fitting models", done, total),
        )
    found = asked.recorded(found)
    save_and_assess(found, output, permutations, feature_dir, seed, jobs, started, json)


@app.command()
def ensemble(
    results: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...|DIR",
            help="Fine-tuned runs, for example of several seeds. Or one directory of cross-validate or stack.",
        ),
    ],
    output: Output,
    permutations: Permutations = None,
    feature_dir: Store = None,
    seed: Seed = 17,
    jobs: Jobs = -1,
    json: Json = False,
) -> None:
    """Combine fine-tuned runs into one run, or average a cross-validation over folds and seeds."""
    from moola.validation.records import RECORD

    _refuse_existing_output(output)
    started = time.perf_counter()
    validations = [path for path in results if (Path(path) / RECORD).exists()]
    if not validations:
        if permutations:
            raise ConfigError(
                "permutations",
                "need a cross-validation, and fine-tuned runs are combined without any fit; leave the option out",
            )
        return _combine(results, output, seed, started, json)
    if len(results) > 1:
        what = "is a cross-validation, which keeps no models"
        problem = f"{validations[0]} {what}; give it as the only argument, or give fine-tuned runs only"
        raise ConfigError("results", problem)

    from moola.validation import CrossValidation, ensemble

    found = ensemble(CrossValidation.load(results[0]))
    save_and_assess(found, output, permutations, feature_dir, seed, jobs, started, json)


def _combine(runs: Sequence[str], output: str, seed: int, started: float, json: bool) -> None:
    from moola.prediction.ensembles import combine_runs

    made = combine_runs(runs, output, seed=seed)
    took = time.perf_counter() - started
    evaluation = made.evaluation
    if json:
        return print_json(
            {
                "output": made.path,
                "members": list(made.members),
                "classes": list(made.classes),
                "temperature": made.temperature,
                "evaluation": None if evaluation is None else evaluation.record(),
                "notes": list(made.notes),
                "seconds": round(took, 4),
            }
        )
    if evaluation is not None:
        print_table("out of fold", evaluation.columns, evaluation.rows())
        print("\n".join(evaluation.summary()))
    print("\n".join(made.notes), end="\n" if made.notes else "")
    calibrated = "by its members' temperatures only"
    if made.temperature is not None:
        calibrated = f"temperature {made.temperature:.2f} of the mean, from out-of-fold logits"
    print_facts(
        [
            ("calibrated", calibrated),
            ("took", f"{took:.1f} s"),
            ("run", f"{made.path}: {len(made.members)} members, for moola predict --run"),
        ]
    )


@app.command()
def evaluate(
    result: Annotated[
        str, typer.Argument(metavar="DIR", help="A directory that cross-validate, ensemble or stack wrote.")
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="A model to evaluate. Repeat it for several.", show_default="all")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="Another such directory, with the same labels and folds, to compare. Repeat it for several.",
        ),
    ] = None,
    permutations: Permutations = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Train whole networks on every shuffle, not only their heads.")
    ] = False,
    feature_dir: Store = None,
    seed: Seed = 17,
    jobs: Jobs = -1,
    json: Json = False,
) -> None:
    """Score models with intervals, baselines, paired differences and permutation tests.

    Models that are not evaluated now keep their earlier results. With --permutations 0, all earlier permutation tests
    are kept.
    """
    from moola.validation.assessment import kept_permutation_tests
    from moola.validation.records import CrossValidation, beside

    started = time.perf_counter()
    own = CrossValidation.load(result)
    others = {home: CrossValidation.load(path) for home, path in _homes([result, *(against or ())])[1:]}
    found = beside(own, others)
    models = list(model or own.members)
    for name in models:
        own.predictions(name)
    if permutations == 0:
        tested = kept_permutation_tests(Path(result), models)
    else:
        tested = permutation_tests_of(own, models, permutations, whole, feature_dir, seed, jobs, json)
    evaluations = assess_models(found, models, seed, jobs, tested)
    finish(Path(result), found, evaluations, started, json, others)


def _homes(paths: Sequence[str]) -> list[tuple[str, str]]:
    """The name and path of each cross-validation. The name is the last part of the path if that is unique, else the
    whole path.

    Raises `ConfigError` if one is given twice.
    """
    whole = [Path(path).resolve() for path in paths]
    for number, path in enumerate(whole):
        if path in whole[:number]:
            raise ConfigError("against", f"{paths[number]} is given twice; give each cross-validation once")
    names = [path.name for path in whole]
    return [
        (name if names.count(name) == 1 else given, given) for name, given in zip(names, paths, strict=True)
    ]


def _refuse_existing_output(output: str) -> None:
    """Refuses an output that exists, before the fits rather than after them."""
    from moola.runs.directory import new_directory

    there = Path(output).exists()
    directory = new_directory(output)
    if not there:
        directory.rmdir()
