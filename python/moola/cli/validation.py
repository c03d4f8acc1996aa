"""The commands that tell luck from progress: cross-validate, ensemble, stack, evaluate."""

from __future__ import annotations

import json as json_module
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from moola.cli.app import Json, Progress, app, print_facts, print_json, print_table
from moola.errors import ConfigError

if TYPE_CHECKING:
    from moola.evaluation.report import Evaluation
    from moola.labels.windows import LabelledWindows
    from moola.validation.permutation import Luck
    from moola.validation.records import CrossValidation

__all__ = ["cross_validate", "ensemble", "evaluate", "stack"]

Labels = Annotated[str, typer.Option(metavar="L", help="Labelled windows that moola import-labels wrote.")]
Output = Annotated[str, typer.Option(metavar="DIR", help="The directory to write; it must be new.")]
Members = Annotated[
    list[str] | None,
    typer.Option(
        "--member",
        metavar="KIND[=L]",
        help="jade, jade_compact, convolution, regression, trees or kernels; on L, the same windows with other "
        "features; may be given again.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KIND.KEY=VALUE", help="A parameter of a kind of model; may be given again."
    ),
]
Encoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="[KIND=]RUN",
        help="A pre-trained encoder, for the Jade members that it fits, or those of a kind; each is set beside "
        "itself from scratch. May be given again.",
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--feature-dir",
        metavar="STORE",
        help="The labelled store, to compare windows of several symbols in time.",
    ),
]
Folds = Annotated[int, typer.Option(help="Parts, of which each is tested once.")]
Repeats = Annotated[int, typer.Option(help="Times over, each with other folds and seeds.")]
Embargo = Annotated[int, typer.Option(help="Bars after a test window in which no training window begins.")]
Seed = Annotated[int, typer.Option(help="Of folds, models and resamples.")]
Device = Annotated[
    str, typer.Option(help="Of networks; cpu goes with several --jobs.", metavar="auto|cpu|cuda")
]
Jobs = Annotated[int, typer.Option(help="Fits at a time, one thread each; -1 takes all cores.")]
Permutations = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Shuffles of the labels, each of which costs a cross-validation; 0 for none.",
        show_default="200; 20 for networks and stacks, of networks with heads alone",
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
    folds: Folds = 5,
    repeats: Repeats = 1,
    embargo: Embargo = 0,
    seed: Seed = 17,
    device: Device = "cpu",
    permutations: Permutations = None,
    jobs: Jobs = -1,
    json: Json = False,
) -> None:
    """Score models on windows that they have not seen; jade_compact unless others are given."""
    from moola.validation import cross_validate

    asked = _Asked.of(labels, member or ["jade_compact"], settings, encoder, feature_dir, seed, device)
    _refuse_what_stands_there(output)
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
    _save_and_assess(found, output, permutations, feature_dir, seed, jobs, started, json)


@app.command()
def stack(
    labels: Labels,
    output: Output,
    member: Members = None,
    settings: Settings = None,
    encoder: Encoders = None,
    feature_dir: Store = None,
    folds: Folds = 5,
    inner_folds: Annotated[int, typer.Option(help="Folds of each fold's training windows.")] = 5,
    repeats: Repeats = 1,
    embargo: Embargo = 0,
    seed: Seed = 17,
    device: Device = "cpu",
    permutations: Permutations = None,
    jobs: Jobs = -1,
    json: Json = False,
) -> None:
    """Combine models of different kinds, by one fitted on out-of-fold predictions; all kinds by default."""
    from moola.estimators import KINDS
    from moola.validation import stack

    asked = _Asked.of(labels, member or list(KINDS), settings, encoder, feature_dir, seed, device)
    _refuse_what_stands_there(output)
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
    _save_and_assess(found, output, permutations, feature_dir, seed, jobs, started, json)


@app.command()
def ensemble(
    results: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...|DIR",
            help="Fine-tuned runs, such as of several seeds; or what moola cross-validate or stack wrote.",
        ),
    ],
    output: Output,
    permutations: Permutations = None,
    feature_dir: Store = None,
    seed: Seed = 17,
    jobs: Jobs = -1,
    json: Json = False,
) -> None:
    """Combine fine-tuned runs into one that predicts; or average a cross-validation over folds and seeds."""
    from moola.validation.records import RECORD

    _refuse_what_stands_there(output)
    started = time.perf_counter()
    validations = [path for path in results if (Path(path) / RECORD).exists()]
    if not validations:
        if permutations:
            raise ConfigError(
                "permutations",
                "are of a cross-validation, and runs are combined without any fit; leave them out",
            )
        return _combine(results, output, seed, started, json)
    if len(results) > 1:
        what = "is a cross-validation, whose models were not kept"
        problem = f"{validations[0]} {what}; give it alone, or fine-tuned runs alone"
        raise ConfigError("results", problem)

    from moola.validation import CrossValidation, ensemble

    found = ensemble(CrossValidation.load(results[0]))
    _save_and_assess(found, output, permutations, feature_dir, seed, jobs, started, json)


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
    calibrated = "by its members' temperatures alone"
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
        str, typer.Argument(metavar="DIR", help="What moola cross-validate, ensemble or stack wrote.")
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="One of its models; may be given again.", show_default="all")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Another of the same labels and folds; may be given again."),
    ] = None,
    permutations: Permutations = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Train networks whole with every shuffle, not their heads alone.")
    ] = False,
    feature_dir: Store = None,
    seed: Seed = 17,
    jobs: Jobs = -1,
    json: Json = False,
) -> None:
    """Tell luck from progress: intervals, baselines, paired differences, and what shuffled labels give.

    Models that are not asked for keep what was found of them before. With --permutations 0, so do shuffled labels.
    """
    from moola.validation.assessment import kept_luck
    from moola.validation.records import CrossValidation, beside

    started = time.perf_counter()
    own = CrossValidation.load(result)
    others = {home: CrossValidation.load(path) for home, path in _homes([result, *(against or ())])[1:]}
    found = beside(own, others)
    models = list(model or own.members)
    for name in models:
        own.predictions(name)
    if permutations == 0:
        luck = kept_luck(Path(result), models)
    else:
        luck = _luck(own, models, permutations, whole, feature_dir, seed, jobs, json)
    evaluations = _assess(found, models, seed, jobs, luck)
    _finish(Path(result), found, evaluations, started, json, others)


def _homes(paths: Sequence[str]) -> list[tuple[str, str]]:
    """What each cross-validation is called beside the others, and its path: the last part, where that tells them apart.

    Raises `ConfigError` where one is given twice.
    """
    whole = [Path(path).resolve() for path in paths]
    for number, path in enumerate(whole):
        if path in whole[:number]:
            raise ConfigError("against", f"{paths[number]} is given twice; give each cross-validation once")
    names = [path.name for path in whole]
    return [
        (name if names.count(name) == 1 else given, given) for name, given in zip(names, paths, strict=True)
    ]


def _refuse_what_stands_there(output: str) -> None:
    """Before the fits rather than after them. What can be written stays as it is."""
    from moola.runs.directory import new_directory

    there = Path(output).exists()
    directory = new_directory(output)
    if not there:
        directory.rmdir()


class _Asked(NamedTuple):
    """What was asked for: windows, and members on them."""

    windows: LabelledWindows
    other_windows: dict[str, LabelledWindows]
    seen: Any
    record: dict[str, Any]
    """By member's name, what makes it, as JSON."""
    notes: list[str]
    """What a person should know of encoders, before the fits and after them."""

    @classmethod
    def of(
        cls,
        labels: str,
        members: Sequence[str],
        settings: Sequence[str] | None,
        encoders: Sequence[str] | None,
        store: str | None,
        seed: int,
        device: str,
    ) -> _Asked:
        import numpy as np

        from moola.estimators import KINDS
        from moola.labels import LabelledWindows, together

        windows = LabelledWindows.load(labels)
        other: dict[str, LabelledWindows] = {}
        kinds = [member.partition("=")[0] for member in members]
        parameters = _parameters(settings or (), kinds)
        record: dict[str, Any] = {}
        for member, kind in zip(members, kinds, strict=True):
            _, equals, path = member.partition("=")
            name = f"{kind} ({Path(path).stem})" if equals else kind
            if name in record:
                raise ConfigError("member", f"{name} is given twice; give each once")
            if equals:
                other[name] = LabelledWindows.load(path)
            known = KINDS[kind]().get_params(deep=False) if kind in KINDS else {}
            given = {"seed": seed, "device": device, "kept_columns": _kept_columns(other.get(name, windows))}
            # Only what it has: a regression has neither.
            own = {key: value for key, value in given.items() if key in known}
            record[name] = {
                "kind": kind,
                # Absolute: whoever evaluates may stand elsewhere.
                "labels": os.path.abspath(path) if path else None,
                "encoder": None,
                "parameters": own | parameters.get(kind, {}),
            }
        made, _ = _rebuilt(record, with_windows=False)
        seen, notes = None, list[str]()
        if encoders:
            from moola.validation import seen_windows
            from moola.validation.encoders import assign_encoders

            of_kind = {name: one["kind"] for name, one in record.items()}
            chosen, notes = assign_encoders(encoders, made, of_kind)
            for name, run in chosen.items():
                record[name]["encoder"] = os.path.abspath(run)
            known = together(windows, other)
            runs = dict.fromkeys(chosen.values())
            seen = np.any([seen_windows(run, known, store, say=notes.append) for run in runs], axis=0)
            notes = list(dict.fromkeys(notes))
        return cls(windows, other, seen, record, notes)

    def estimators(self) -> dict[str, Any]:
        return _rebuilt(self.record, with_windows=False)[0]

    def tell(self, json: bool) -> None:
        """Before hours of fits."""
        for note in () if json else self.notes:
            print(note, file=sys.stderr)

    def recorded(self, found: CrossValidation) -> CrossValidation:
        """With what makes its members, and what is noted of them."""
        notes = [*self.notes, *found.settings["notes"]]
        return replace(found, settings=found.settings | {"members": self.record, "notes": notes})


def _kept_columns(windows: LabelledWindows) -> int:
    from moola.models.weights import FeatureIdentity

    return len(FeatureIdentity.of_windows(windows).extra)


def _rebuilt(
    record: Mapping[str, Any], with_windows: bool = True
) -> tuple[dict[str, Any], dict[str, LabelledWindows]]:
    """Estimators from what is written of them, those from scratch too, and the windows of those with their own."""
    from moola.estimators import make_member
    from moola.labels import LabelledWindows
    from moola.validation.cross_validation import with_scratch

    members = {
        name: make_member(one["kind"], encoder=one["encoder"], **one["parameters"])
        for name, one in record.items()
    }
    if not with_windows:
        return members, {}
    other = {
        name: LabelledWindows.load(one["labels"]) for name, one in record.items() if one["labels"] is not None
    }
    return with_scratch(members, other)


def _parameters(settings: Sequence[str], kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`KIND.KEY=VALUE` by kind."""
    parameters: dict[str, dict[str, Any]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        kind, dot, key = name.partition(".")
        if not (equals and dot and key):
            raise ConfigError("set", f"{setting!r} is not KIND.KEY=VALUE, such as jade_compact.epochs=25")
        if kind not in kinds:
            raise ConfigError("set", f"{setting!r} is of no member; give one of {', '.join(kinds)}")
        if key == "encoder":
            raise ConfigError("set", f"{setting!r} is given as --encoder {kind}={text or 'RUN'}")
        try:
            value = json_module.loads(text)
        except ValueError:
            value = text
        parameters.setdefault(kind, {})[key] = value
    return parameters


def _save_and_assess(
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
    luck = {} if permutations == 0 else _luck(found, models, permutations, False, store, seed, jobs, json)
    _finish(directory, found, _assess(found, models, seed, jobs, luck), started, json)


def _luck(
    found: CrossValidation,
    models: Sequence[str],
    permutations: int | None,
    whole: bool,
    store: str | None,
    seed: int,
    jobs: int,
    json: bool,
) -> dict[str, Luck]:
    """Of each model what shuffled labels give, or why that cannot be had."""
    from moola.evaluation.permutation import movable
    from moola.validation.ensembles import ENSEMBLE
    from moola.validation.permutation import Luck, lucks_of
    from moola.validation.stacks import STACK

    try:
        movable(found.truth)
    except ConfigError as error:
        return {name: Luck({}, f"labels were not shuffled: {error}") for name in models}
    estimators, other_windows = _rebuilt(found.settings.get("members", {}))
    known = {*estimators, *([STACK] if estimators else [])}
    made = [name for name in models if name in known or name.removesuffix(ENSEMBLE) in known]
    luck = lucks_of(
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
    why = "labels were not shuffled: what made this model was not recorded; see moola.validation.permutation.luck_of"
    return luck | {name: Luck({}, why) for name in models if name not in luck}


def _assess(
    found: CrossValidation,
    models: Sequence[str],
    seed: int,
    jobs: int,
    luck: Mapping[str, Luck],
) -> dict[str, Evaluation]:
    from moola.evaluation.intervals import Resamples
    from moola.validation.assessment import assess, baselines_of

    baselines = baselines_of(found, seed=seed, n_jobs=jobs)
    resamples = Resamples(found.truth, seed=seed)
    return {
        name: assess(found, name, baselines=baselines, luck=luck.get(name), resamples=resamples, seed=seed)
        for name in models
    }


def _finish(
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
            print(f"temperature {temperature:.2f}: above 1 it is surer than it is right, below 1 less sure")
        if (spread := dropout_sentence(found, name)) is not None:
            print(spread)
        print("\n".join(evaluation.summary(_told_of(name, evaluation, homes))))
    print_facts(
        [("took", f"{took:.1f} s"), ("result", f"{directory}: {', '.join(path.name for path in paths)}")]
    )


def _told_of(model: str, evaluation: Evaluation, homes: Iterable[str]) -> list[str]:
    """What a model is compared with in words: what is trivial, itself from scratch, and what --against asked for.

    Of another cross-validation that is the same model if it is there, and else all. All other comparisons are in the
    table and in `evaluation.json`.
    """
    from moola.evaluation.baselines import BASELINES
    from moola.validation.cross_validation import FROM_SCRATCH

    told = {*BASELINES, f"{model}{FROM_SCRATCH}"}
    for home in homes:
        same = f"{model} ({home})"
        others = [name for name in evaluation.differences if name.endswith(f" ({home})")]
        told |= {same} if same in others else {*others}
    return [name for name in evaluation.differences if name in told]
