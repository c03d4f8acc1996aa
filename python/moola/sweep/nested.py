"""Nested selection: inner folds choose settings, outer folds say what the choosing is worth.

The best of many candidates is partly best by chance, and its score on the windows that chose it is too high. So each
outer fold has a selection of its own, within its training part, and what was chosen there is fitted to that part and
scored on the fold's test windows, which no selection of that fold has seen. One more selection, over all windows, gives
the settings to go on with; the outer score is what such a selection is worth.

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
"""What a sweep depends on, in its directory."""

Folds: TypeAlias = list[TrainTest]


@dataclass(frozen=True)
class Selection:
    """What was chosen within some windows."""

    values: Values
    """By the parameter's name."""
    score: float
    """What it was chosen by, on the inner folds: of many scores the best, and so too good."""
    completed: int
    """Candidates that were tried to the end."""
    pruned: int
    """Candidates that were given up before."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to."""

    output: Path
    metric: str
    """What candidates were chosen by."""
    chosen: Selection
    """Among all windows: what to go on with."""
    by_fold: tuple[Selection, ...]
    """Within the training part of each outer fold: what the evaluation is of."""
    evaluation: Evaluation
    """Of the outer folds' test windows, which none of their selections has seen."""

    @property
    def settings(self) -> list[str]:
        """What was chosen, each as `KEY=VALUE`."""
        return [f"{name}={json.dumps(value)}" for name, value in self.chosen.values.items()]

    @property
    def verdict(self) -> str:
        """The outer score beside the one that was selected on."""
        return (
            f"{METRICS[self.metric].title} of settings that are chosen so, on windows that the choice has not seen: "
            f"{self.evaluation.scores[self.metric]}; the {self.chosen.score:.3f} that they were chosen by says nothing "
            "of that"
        )

    def record(self) -> dict[str, Any]:
        """As JSON, without the evaluation."""
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

    Called with the same arguments by several processes, or on several machines that see the same directory, it shares
    the trials out among them; each returns the result when all are done. It can be killed and called again: what had
    been tried stays, and unfinished trials are tried again. It makes `(folds + 1) · trials` trials of up to
    `inner_folds` fits each, and `2 · folds` fits more, `3 · folds` with an encoder.

    The permutation test of the outer score trains each outer fold's choice on shuffled labels. For networks it trains
    the heads only, on the frozen encoder, also with the true labels. Nothing is chosen
    again with each shuffle: outer test windows have no part in the choice, so the choice does not inflate their scores.

    Args:
        windows: Labelled windows.
        space: What to choose from, as :func:`moola.sweep.read_space` takes it.
        output: A directory: a new one, or that of the same sweep.
        trials: Candidates a selection; of a grid, all combinations at most. More may be given when it is called again.
        estimator: What to find settings for, :class:`moola.JadeClassifier` unless given.
        folds: Outer folds, which report.
        inner_folds: Folds of each selection, within an outer fold's training part.
        embargo, store: As for :func:`moola.folds.dealing.purged_folds`, which makes both kinds of folds.
        seen: `[n]` bool, whether the estimator's encoder was pre-trained on bars of each window.
        scratch: False leaves out what was chosen without its encoder, where there is one.
        permutations: Shuffles of the permutation test, `folds` fits each; 0 for none. By default 20 for
            networks and 200 for others.
        seed: Of folds, candidates, shuffles and resamples. One worker with the same seed tries the same candidates.
        stale_after: Seconds without a sign of life after which a worker is taken for dead, and its candidate for lost.
        say: Called with each line that a person should read; the logger `moola` at INFO if not given.

    Raises `ConfigError` for a space or estimator that makes no sense, `RunError` for a directory that holds something
    else, or where every candidate diverged, `FeatureMismatchError` for an encoder of other features, and what making
    folds raises.
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
            "metric", f"{space.metric} scores what {estimator} does not predict here; choose another"
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
                # The last candidates are others'; should they die, somebody has to go on.
                time.sleep(min(1.0, stale_after / 6))
                continue
            came = job.attempt(studies, claim)
            say(f"{names[claim.study]}, trial {claim.trial.number + 1}, {claim.values}: {came}")
        selections = [_selected(studies, number, name, output) for number, name in enumerate(names)]
    evaluation, lines = job.report(selections[:-1], scratch=scratch, permutations=permutations)
    result = SweepResult(output, space.metric, selections[-1], tuple(selections[:-1]), evaluation)
    write_metrics(output, lines)
    write_record(output / EVALUATION, result.evaluation.record())
    write_record(output / RESULT, result.record())
    return result


class _Sweep:
    """Windows and folds, and what is done with them."""

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
        """Scores a candidate on the inner folds of its selection, and enters what came of it, which it gives."""
        try:
            score, why = self._score(claim)
        except NotFiniteError as error:
            score, why = None, str(error)
        except UpdateFinishedTrialError:
            return "taken over by another worker, which took this one for dead"
        except BaseException:
            studies.give_back(claim)
            raise
        if score is None:
            studies.give_up(claim, why)
            return f"given up, {why}"
        studies.tell(claim, score)
        return f"{self.space.scored_by.title} {score:.4f}"

    def _score(self, claim: Claim) -> tuple[float | None, str]:
        """The score over the inner folds; or none, and why there is none."""
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
                return None, f"what it predicts has no {metric.title}"
            claim.trial.report(score, number)
            if number < len(folds) and claim.trial.should_prune():
                return None, f"after {number} of {len(folds)} folds it was worse than the median"
        return score, ""

    def report(
        self, selections: Sequence[Selection], *, scratch: bool, permutations: int | None
    ) -> tuple[Evaluation, list[dict[str, Any]]]:
        """Fits what was chosen in each outer fold to its training part, and evaluates it on its test windows.

        Gives the evaluation, and a line of `metrics.jsonl` for each fold.
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
        """Where what was chosen lies among shuffled labels, and what to know of it."""
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
            return {}, f"there is no chance to compare with: groups of windows {error.problem}"
        fits = (shuffles + 1) * len(self.outer)
        what = "the choice of each fold gives"
        if "encoder" in self.estimator.get_params(deep=False):
            permutation = {name: replace(one, of=HEADS_ALONE) for name, one in permutation.items()}
            what = "heads alone of each fold's choice give, on the encoder as it is,"
            own = f"; their p is of heads alone on the true labels ({told(permutation)}), not of the whole model"
        else:
            own = ""
        return permutation, (
            f"chance is what {what} with {shuffles} shuffles of the labels, without choosing again: {fits:,} fits{own}"
        )

    def _out_of_fold(self, candidates: Sequence[Any]) -> Predictions:
        """What candidates, one an outer fold, say of its test windows. They are fitted then."""
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
        problem = f"none of the candidates of {name} could be trained to the end"
        raise RunError(
            output, problem, "Lower the learning rates of the space, and start again in another directory"
        )
    completed, pruned = (studies.count(number, state) for state in (TrialState.COMPLETE, TrialState.PRUNED))
    return Selection(dict(best.params), best.value, completed, pruned)


def _made_of(estimator: Any) -> dict[str, Any]:
    """What an estimator is, wherever its files lie: an encoder by its weights, a model by what its YAML says."""
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
    """Makes the directory, or joins the sweep there. Raises `RunError` for another sweep's, or anything else."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RunError(output, "is not a directory", "Choose another --output") from None
    # In this order: whoever begins at this moment writes nothing else before it.
    there = sorted(name for name in os.listdir(output) if name != LOCK and not name.endswith(UNFINISHED))
    if there and not (output / SWEEP).exists():
        raise RunError(output, f"is no sweep: it holds {there[0]}", "Choose another --output")
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
            "Go on with what it was begun with, or choose another --output",
        )


def _learned_from(windows: LabelledWindows) -> str:
    """The fingerprint of all that candidates are fitted to."""
    names = ("X", "valid_mask", "y", "spans", "weight", "starts", "ends", "groups")
    return fingerprint([*(getattr(windows, name) for name in names), "\0".join(windows.classes)])


@contextmanager
def _quiet() -> Any:
    """Without Optuna's line a trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
