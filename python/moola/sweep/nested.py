"""Nested selection: inner folds choose settings, outer folds score the choice.

The best of many candidates is partly best by chance, so its score on the windows that chose it is too good. Each outer
fold therefore has a selection of its own, within its training part. The chosen settings are fitted to that part and
scored on the fold's test windows, which its selection has not seen. One more selection, over all windows, gives the
settings to use; the outer score estimates how good such a selection is.

Source: S. Varma and R. Simon, "Bias in error estimation when using cross-validation for model selection", BMC
Bioinformatics 7 (2006), 91.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import optuna
from numpy.typing import ArrayLike
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from sklearn.base import clone
from torch import nn

from moola.errors import ConfigError, NotFiniteError, RunError
from moola.evaluation.baselines import baseline_predictions
from moola.evaluation.fold_predictions import by_window, fit_predict, fold_numbers
from moola.evaluation.leaks import FittedOn, assert_out_of_fold
from moola.evaluation.metrics import METRICS, scores
from moola.evaluation.outcomes import Predictions, Truth
from moola.evaluation.permutation import PERMUTATIONS, PermutationTest, permutation_test
from moola.evaluation.report import Evaluation, evaluate
from moola.files.fingerprint import fingerprint
from moola.files.json import as_json
from moola.files.messages import teller
from moola.files.publishing import UNFINISHED
from moola.finetuning.permutation import told
from moola.folds.dealing import StorePath, TrainTest, purged_folds
from moola.labels.refusals import check_classes
from moola.labels.windows import LabelledWindows
from moola.models.weights import digest_of, load_weights, weights_path
from moola.runs.directory import RESULT, flat, read_record, write_metrics, write_record
from moola.runs.gates import EVALUATION
from moola.settings.arrays import Numbers
from moola.settings.models import load_config
from moola.settings.whole_numbers import whole_number
from moola.sweep.space import Space, Values, build_candidate, read_space
from moola.sweep.trials import LOCK, Claim, Studies, Worker, locked
from moola.validation.cross_validation import FROM_SCRATCH
from moola.validation.encoders import check_encoders
from moola.validation.monitoring import monitored
from moola.validation.permutation import DEAR_PERMUTATIONS, HEADS_ALONE, frozen, is_dear
from moola.validation.records import truth_of

__all__ = ["SWEEP", "Selection", "SweepResult", "sweep"]

SWEEP = "sweep.json"
"""The file in a sweep's directory with everything that its result depends on."""

Folds: TypeAlias = list[TrainTest]


@dataclass(frozen=True)
class Selection:
    """The settings that one selection chose."""

    values: Values
    """The chosen values, by the parameter's name."""
    score: float
    """The score on the inner folds that they were chosen by. It is the best of many, and so too good."""
    completed: int
    """Number of candidates scored on all inner folds."""
    pruned: int
    """Number of candidates given up early."""


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep."""

    output: Path
    """The directory of the sweep."""
    metric: str
    """The name of the metric that candidates were chosen by."""
    chosen: Selection
    """The selection over all windows: the settings to use."""
    by_fold: tuple[Selection, ...]
    """The selection within the training part of each outer fold. The evaluation scores these."""
    evaluation: Evaluation
    """Scores on the outer folds' test windows. No fold's selection has seen its own."""

    @property
    def settings(self) -> list[str]:
        """The chosen values, each as `KEY=VALUE`."""
        return [f"{name}={json.dumps(value)}" for name, value in self.chosen.values.items()]

    @property
    def verdict(self) -> str:
        """The outer score, and the inner score that the settings were chosen by, in a sentence."""
        return (
            f"{METRICS[self.metric].title} of settings chosen in this way, on windows that the choice has not seen: "
            f"{self.evaluation.scores[self.metric]}; the {self.chosen.score:.3f} that they were chosen by is the best "
            "of many, and so too good"
        )

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON, without the evaluation."""
        return {
            "kind": "sweep",
            "metric": self.metric,
            "settings": self.settings,
            "chosen": vars(self.chosen),
            "by_fold": [vars(selection) for selection in self.by_fold],
            "verdict": self.verdict,
        }


def sweep(
    windows: LabelledWindows,
    space: Space | Mapping[str, Any] | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    trials: int,
    estimator: Any = None,
    folds: int = 5,
    inner_folds: int = 3,
    embargo: int = 0,
    store: StorePath | None = None,
    seen: ArrayLike | None = None,
    scratch: bool = True,
    permutations: int | None = None,
    seed: int = 17,
    stale_after: float = 60.0,
    say: Callable[[str], None] | None = None,
) -> SweepResult:
    """Searches for settings, and scores the search on windows that it has not seen.

    Several processes, also on several machines with a shared directory, can call it with the same arguments. They
    divide the trials among themselves, and each returns the result when all trials are done. A killed process can be
    started again: finished trials are kept, and unfinished ones are repeated. There are `(folds + 1) · trials` trials
    of up to `inner_folds` fits each, and `2 · folds` more fits, or `3 · folds` with an encoder.

    The permutation test of the outer score trains each outer fold's choice on shuffled labels. For networks it trains
    only the heads, on the frozen encoder, also with the true labels. Shuffles do not repeat the selection: outer test
    windows have no part in the choice, so the choice does not inflate their scores.

    Args:
        windows: Labelled windows.
        space: The space of candidates, as :func:`moola.sweep.read_space` takes it.
        output: The directory: a new one, or the one of the same sweep.
        trials: Candidates per selection; a grid has at most all its combinations. A later call may give more.
        estimator: The estimator to find settings for; :class:`moola.JadeClassifier` if not given.
        folds: Number of outer folds, which give the reported score.
        inner_folds: Number of folds of each selection, within an outer fold's training part.
        embargo, store: As in :func:`moola.folds.dealing.purged_folds`, which makes both kinds of folds.
        seen: `[n]` bool, whether the estimator's encoder was pre-trained on bars of each window.
        scratch: False leaves out the comparison with the chosen settings without the encoder.
        permutations: Number of shuffles in the permutation test, `folds` fits each; 0 leaves it out. By default 20 for
            networks and 200 for others.
        seed: Seed of folds, candidates, shuffles and resamples. One worker with the same seed tries the same
            candidates.
        stale_after: Seconds without a sign of life after which a worker counts as dead and its candidate as lost.
        say: Called with each line that a person should read; the logger `moola` at INFO if not given.

    Raises `ConfigError` for an invalid space or estimator, `RunError` for a directory that contains anything else and
    if every candidate of a selection diverged, `FeatureMismatchError` for an encoder with other features, and what
    making folds raises.
    """
    say = teller(say)
    space = read_space(space)
    check_classes(windows.y, windows.classes)
    trials = whole_number("trials", trials, 1)
    seed = whole_number("seed", seed, 0)
    if estimator is None:
        from moola.estimators.jade import JadeClassifier

        estimator = JadeClassifier(seed=seed)
    space.check_for(estimator)
    for note in check_encoders({"": estimator}, windows, store=store):
        say(note)
    truth = truth_of(windows, None if seen is None else np.asarray(seen))
    metric = space.scored_by
    needs = "predict_spans" if metric.of_spans else "predict_proba"
    if not hasattr(estimator, needs) or (metric.of_spans and truth.spans is None):
        raise ConfigError(
            "metric", f"{space.metric} scores predictions that {estimator} does not make here; choose another"
        )

    def split(part: LabelledWindows, count: int, repeat: int) -> Folds:
        return purged_folds(part, count, seed=seed, repeat=repeat, embargo=embargo, store=store)

    outer = split(windows, folds, 0)
    parts = [*(train for train, _ in outer), np.arange(len(windows))]
    inner = [
        [(part[train], part[test]) for train, test in split(windows.take(part), inner_folds, number + 1)]
        for number, part in enumerate(parts)
    ]
    job = _Sweep(windows, truth, space, estimator, outer, inner, seed)
    output = Path(output)
    identity = {
        "kind": "sweep",
        "space": space.model_dump(mode="json"),
        "estimator": _made_of(estimator),
        "folds": folds,
        "inner_folds": inner_folds,
        "embargo": embargo,
        "seed": seed,
        "windows": _learned_from(windows),
    }
    _begin(output, identity)
    names = [*(f"fold {number + 1}" for number in range(folds)), "all windows"]
    with _quiet(), Worker(output, stale_after) as worker:
        studies = Studies(output, names, space, trials, seed, worker)
        while not studies.finished:
            claim = studies.claim()
            if claim is None:
                # Other workers have the last candidates. If they die, this worker takes over.
                time.sleep(min(1.0, stale_after / 6))
                continue
            outcome = job.attempt(studies, claim)
            say(f"{names[claim.study]}, trial {claim.trial.number + 1}, {claim.values}: {outcome}")
        selections = [_selected(studies, number, name, output) for number, name in enumerate(names)]
    evaluation, lines = job.report(selections[:-1], scratch=scratch, permutations=permutations)
    result = SweepResult(output, space.metric, selections[-1], tuple(selections[:-1]), evaluation)
    write_metrics(output, lines)
    write_record(output / EVALUATION, result.evaluation.record())
    write_record(output / RESULT, result.record())
    return result


class _Sweep:
    """The windows and folds of a sweep, and the fits on them."""

    def __init__(
        self,
        windows: LabelledWindows,
        truth: Truth,
        space: Space,
        estimator: Any,
        outer: Folds,
        inner: list[Folds],
        seed: int,
    ) -> None:
        self.windows, self.truth, self.space, self.estimator = windows, truth, space, estimator
        self.outer, self.inner, self.seed = outer, inner, seed

    def attempt(self, studies: Studies, claim: Claim) -> str:
        """Scores a candidate on the inner folds of its selection and records the outcome; returns it as text."""
        try:
            score, why = self._score(claim)
        except NotFiniteError as error:
            score, why = None, str(error)
        except UpdateFinishedTrialError:
            return "taken over by another worker, because this one counted as dead"
        except BaseException:
            studies.give_back(claim)
            raise
        if score is None:
            studies.give_up(claim, why)
            return f"given up, {why}"
        studies.tell(claim, score)
        return f"{self.space.scored_by.title} {score:.4f}"

    def _score(self, claim: Claim) -> tuple[float | None, str]:
        """The score over the inner folds and an empty text; or None and the reason."""
        metric, folds = self.space.scored_by, self.inner[claim.study]
        rows: list[Numbers] = []
        said: list[Predictions] = []
        score = float("nan")
        for number, (train, test) in enumerate(folds, start=1):
            rows.append(test)
            candidate = build_candidate(self.estimator, claim.values)
            said.append(_predictions(candidate, self.windows, self.truth, train, test))
            score = metric(self.truth.take(np.sort(np.concatenate(rows))), _joined(rows, said))
            if np.isnan(score):
                return None, f"its predictions have no {metric.title}"
            claim.trial.report(score, number)
            if number < len(folds) and claim.trial.should_prune():
                return None, f"after {number} of {len(folds)} folds it was worse than the median"
        return score, ""

    def report(
        self, selections: Sequence[Selection], *, scratch: bool, permutations: int | None
    ) -> tuple[Evaluation, list[dict[str, Any]]]:
        """Fits each outer fold's choice to its training part and evaluates it on its test windows.

        Returns the evaluation, and a line of `metrics.jsonl` for each fold.
        """
        candidates = [build_candidate(self.estimator, selection.values) for selection in selections]
        chosen = self._out_of_fold(candidates)
        lines = [
            {"kind": "fold", "fold": fold, "trained_on": len(train), "tested": test.tolist()}
            | monitored(candidate, len(self.truth))
            for fold, (candidate, (train, test)) in enumerate(zip(candidates, self.outer, strict=True))
        ]
        beside: dict[str, Predictions | list[Predictions]] = {
            **baseline_predictions(
                self.windows.X, self.truth, self.outer, seed=self.seed, valid_mask=self.windows.valid_mask
            ),
            "without a sweep": self._out_of_fold([build_candidate(self.estimator, {}) for _ in self.outer]),
        }
        if scratch and self.estimator.get_params(deep=False).get("encoder") is not None:
            bare = [clone(candidate).set_params(encoder=None) for candidate in candidates]
            beside[f"chosen{FROM_SCRATCH}"] = self._out_of_fold(bare)
        permutation, note = self._permutation_test(candidates, permutations)
        found = evaluate(
            self.truth, chosen, model="chosen", baselines=beside, permutation=permutation, seed=self.seed
        )
        return replace(found, permutation_note=note), lines

    def _permutation_test(
        self, candidates: Sequence[Any], permutations: int | None
    ) -> tuple[dict[str, PermutationTest], str]:
        """The permutation test of the chosen candidates, by metric, and a note for the report."""
        shuffles = permutations
        if shuffles is None:
            shuffles = DEAR_PERMUTATIONS if is_dear(self.estimator) else PERMUTATIONS
        if not shuffles:
            return {}, ""
        width = self.windows.X.shape[2]
        score = partial(
            _scores,
            candidates=[frozen(candidate, width) for candidate in candidates],
            windows=self.windows,
            outer=self.outer,
        )
        try:
            permutation = permutation_test(score, self.truth, seed=self.seed, permutations=shuffles)
        except ConfigError as error:
            if error.name != "groups":
                raise
            return {}, f"the permutation test was left out: groups of windows {error.problem}"
        fits = (shuffles + 1) * len(self.outer)
        what = "each fold's choice"
        if "encoder" in self.estimator.get_params(deep=False):
            permutation = {name: replace(one, of=HEADS_ALONE) for name, one in permutation.items()}
            what = "the heads alone of each fold's choice, on the frozen encoder,"
            own = (
                f"; p is of the heads alone, which score {told(permutation)} with the true labels, not of the whole "
                "model"
            )
        else:
            own = ""
        return permutation, (
            f"the permutation test fits {what} with {shuffles} shuffles of the labels, without choosing again: "
            f"{fits:,} fits{own}"
        )

    def _out_of_fold(self, candidates: Sequence[Any]) -> Predictions:
        """Fits one candidate per outer fold; returns their predictions of the folds' test windows."""
        return _out_of_fold(candidates, self.windows, self.truth, self.outer)


def _out_of_fold(
    candidates: Sequence[Any], windows: LabelledWindows, truth: Truth, outer: Folds
) -> Predictions:
    said = [
        _predictions(candidate, windows, truth, train, test)
        for candidate, (train, test) in zip(candidates, outer, strict=True)
    ]
    tests = [test for _, test in outer]
    folds = fold_numbers(tests, len(truth))
    assert_out_of_fold(folds, [FittedOn(train) for train, _ in outer])
    found = _joined(tests, said)
    return Predictions(found.probabilities, found.spans, folds=folds)


def _scores(
    truth: Truth, *, candidates: Sequence[Any], windows: LabelledWindows, outer: Folds
) -> dict[str, float]:
    return scores(truth, _out_of_fold([clone(one) for one in candidates], windows, truth, outer))


def _predictions(
    candidate: Any, windows: LabelledWindows, truth: Truth, train: Numbers, test: Numbers
) -> Predictions:
    probabilities, spans = fit_predict(
        candidate,
        windows.X,
        truth,
        train,
        test,
        valid_mask=windows.valid_mask,
        weight=windows.weight,
    )
    return Predictions(probabilities, spans)


def _joined(tests: Sequence[Numbers], said: Sequence[Predictions]) -> Predictions:
    probabilities = by_window(tests, [one.probabilities for one in said])
    return Predictions(probabilities, by_window(tests, [one.spans for one in said]))


def _selected(studies: Studies, number: int, name: str, output: Path) -> Selection:
    best = studies.best(number)
    if best is None or best.value is None:
        problem = f"no candidate of {name} could be scored on all inner folds"
        raise RunError(
            output, problem, "Lower the learning rates of the space, and start again in another directory"
        )
    completed, pruned = (studies.count(number, state) for state in (TrialState.COMPLETE, TrialState.PRUNED))
    return Selection(dict(best.params), best.value, completed, pruned)


def _made_of(estimator: Any) -> dict[str, Any]:
    """The estimator's identity, independent of paths: its encoder's digest, its model's configuration."""
    parameters = estimator.get_params()
    made: dict[str, Any] = {"name": type(estimator).__name__}
    made |= {name: str(value) for name, value in parameters.items()}
    if (encoder := parameters.get("encoder")) is not None:
        is_module = isinstance(encoder, nn.Module)
        made["encoder"] = (
            digest_of(encoder.state_dict()) if is_module else load_weights(weights_path(encoder)).digest
        )
    if {"model", "settings"} <= parameters.keys():
        made["model"] = load_config(parameters["model"]).model_dump(mode="json")
    return made


def _begin(output: Path, identity: Mapping[str, Any]) -> None:
    """Makes the directory, or joins the sweep there. Raises `RunError` if it holds another sweep or anything else."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RunError(output, "is not a directory", "Choose another --output") from None
    # Listed before SWEEP is looked for: a worker that begins at this moment writes SWEEP before any other file.
    there = sorted(name for name in os.listdir(output) if name != LOCK and not name.endswith(UNFINISHED))
    if there and not (output / SWEEP).exists():
        raise RunError(output, f"is not a sweep: it holds {there[0]}", "Choose another --output")
    with locked(output):
        if not (output / SWEEP).exists():
            write_record(output / SWEEP, identity)
            return
    old, new = dict(flat(read_record(output / SWEEP))), dict(flat(as_json(identity)))
    differ = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if differ:
        said = "; ".join(f"{name} {old.get(name)!r}, not {new.get(name)!r}" for name in differ)
        raise RunError(
            output,
            f"the sweep was begun with {said}",
            "Continue it with those settings, or choose another --output",
        )


def _learned_from(windows: LabelledWindows) -> str:
    """The fingerprint of the data that candidates are fitted to."""
    names = ("X", "valid_mask", "y", "spans", "weight", "starts", "ends", "groups")
    return fingerprint([*(getattr(windows, name) for name in names), "\0".join(windows.classes)])


@contextmanager
def _quiet() -> Any:
    """Silences Optuna's line per trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
