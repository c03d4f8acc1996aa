"""Gates: bounds that a run's records must meet."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from moola.errors import ConfigError, RunError
from moola.evaluation.intervals import Interval, over_repeats, t_interval
from moola.evaluation.metrics import METRICS
from moola.runs.directory import CONFIG, RESULT, flat, read_metrics, read_record
from moola.runs.directory import METRICS as LOG
from moola.settings.gates import GatesConfig
from moola.settings.models import Config, load_config
from moola.settings.sections import parse_config
from moola.settings.yaml import read_yaml

__all__ = ["EVALUATION", "GateCheck", "GateReport", "check_gates", "read_gates"]

EVALUATION = "evaluation.json"
"""The file in a run's directory with :meth:`moola.evaluation.Evaluation.record`, or several by name in `models`."""

Outcome = Literal["passed", "failed", "skipped"]

_DISABLED = "the gate is disabled"


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One gate, and how a run meets it."""

    gate: str
    value: float | None
    """The run's value; None if it recorded none."""
    bound: float | None
    """The bound that the value must be below, or above; None without one."""
    outcome: Outcome
    why: str
    """The reason for the outcome, or how the value was found."""


@dataclass(frozen=True, slots=True)
class GateReport:
    """A run and all its gates."""

    run: Path
    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether no gate has failed, and not all were skipped."""
        return self._count("failed") == 0 and self._count("passed") > 0

    @property
    def checked(self) -> str:
        """How many of the gates could be checked: `5 of 6`. Disabled gates do not count."""
        checked = self._count("passed") + self._count("failed")
        return f"{checked} of {checked + len(self._unknown)}"

    @property
    def verdict(self) -> str:
        """The outcome in a sentence, with the gates that could not be checked."""
        head = f"the run {'passes' if self.passed else 'does not pass'}"
        counts = ", ".join(f"{self._count(outcome)} {outcome}" for outcome in ("passed", "failed"))
        unknown = f"; not checked: {', '.join(c.gate for c in self._unknown)}" if self._unknown else ""
        return f"{head}: {self.checked} gates could be checked, {counts}{unknown}"

    @property
    def _unknown(self) -> list[GateCheck]:
        return [check for check in self.checks if check.outcome == "skipped" and check.why != _DISABLED]

    def rows(self) -> list[list[str]]:
        """A table for people: gate, value, bound, outcome, why."""
        return [[c.gate, _shown(c.value), _shown(c.bound), c.outcome, c.why] for c in self.checks]

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        checks = [asdict(check) for check in self.checks]
        return {"run": str(self.run), "passed": self.passed, "verdict": self.verdict, "checks": checks}

    def _count(self, outcome: Outcome) -> int:
        return sum(check.outcome == outcome for check in self.checks)


def check_gates(
    run: str | os.PathLike[str],
    *,
    gates: GatesConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    against: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    model: str | None = None,
) -> GateReport:
    """Checks a run's records against bounds. Nothing is recomputed.

    Args:
        run: The directory of a run of any kind, finished or not.
        gates: The bounds, or a YAML file of them; those in `configs/gates.yaml` if not given.
        against: A run that this one must not be worse than. Its recorded 95 % interval is the margin. Several runs,
            such as other seeds, give the 95 % prediction interval of one more run instead. Losses of pre-training have
            no interval of their own, so they need several.
        model: The model to check, if several were evaluated.

    A gate without a recorded value is skipped, with the reason. With `against`, the comparison fails if no score can
    be compared, or if this run lacks a score that all runs in `against` have.

    Raises `RunError` for a directory that is not a run or is damaged, and `ConfigError` for invalid bounds and for a
    model that was not evaluated there.
    """
    bounds = read_gates(gates)
    named = [against] if isinstance(against, str | os.PathLike) else list(against)
    this, others = _Recorded(run, model), [_Recorded(other, model) for other in named]
    checks = [*_own_checks(this, bounds), *_regressions(this, others, bounds)]
    return GateReport(this.path, tuple(checks))


def read_gates(gates: GatesConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None) -> GatesConfig:
    """The bounds, validated, from any form that :func:`check_gates` takes.

    A YAML file or a mapping contains the bounds, or is a model's configuration with a section `gates`. Raises
    `ConfigError`, which names the key, and `InputError` for a file that cannot be read.
    """
    if isinstance(gates, GatesConfig):
        return gates
    if gates is None:
        gates = Path(str(resources.files("moola") / "settings" / "configs" / "gates.yaml"))
    values = gates if isinstance(gates, Mapping) else read_yaml(Path(gates))
    if values.keys() & Config.model_fields.keys():
        return load_config(values).gates
    return parse_config(GatesConfig, dict(values), "")


class _Recorded:
    """The records of a run."""

    def __init__(self, run: str | os.PathLike[str], model: str | None) -> None:
        self.path = Path(run)

        def content(name: str) -> dict[str, Any]:
            return read_record(self.path / name) if (self.path / name).exists() else {}

        self.config, self.result, evaluation = (content(name) for name in (CONFIG, RESULT, EVALUATION))
        # Fine-tuning keeps its evaluation in its result.
        chosen, self.evaluation = self._of_model(evaluation or self.result.get("evaluation", {}), model)
        self.epochs = self._logged("epoch")
        # Fine-tuning logs epochs and folds; sweeps and cross-validations log only folds.
        folds = self._logged("fold")
        self.folds = [line for line in folds if chosen in (None, line.get("model", chosen))]
        # An ensemble holds the records of its members.
        members = self.result.get("members", ())
        self.members = [self._logged("epoch", member) for member in members]
        configs = [self.config, *(content(f"{member}/{CONFIG}") for member in members)]
        self.on_gpu = any(config.get("device") == "cuda" for config in configs)
        if folds and not (self.folds or self.evaluation):
            there = ", ".join(dict.fromkeys(line["model"] for line in folds))
            raise ConfigError(
                "model", f"nothing is recorded of {model!r} in {self.path}; give one of {there}"
            )
        if not (self.config or self.result or self.evaluation or self.epochs or self.folds):
            problem = f"is not a run: it holds none of {CONFIG}, {LOG}, {RESULT} and {EVALUATION}"
            raise RunError(self.path, problem, "Give the directory that moola trained in")

    def _logged(self, kind: str, member: str = "") -> list[dict[str, Any]]:
        """The logged lines of this kind, of the run or of one of its members."""
        directory = self.path / member
        return read_metrics(directory, kind) if (directory / LOG).exists() else []

    def _of_model(self, evaluation: dict[str, Any], model: str | None) -> tuple[str | None, dict[str, Any]]:
        """The model to check and its evaluation, from a file of one or several."""
        if not evaluation:
            return model, {}
        models = evaluation["models"] if "models" in evaluation else {evaluation.get("model", ""): evaluation}
        if model is None and len(models) == 1:
            model = next(iter(models))
        if model not in models:
            asked = "several were evaluated" if model is None else f"{model!r} was not evaluated"
            raise ConfigError("model", f"{asked} in {self.path}; give one of {', '.join(models)}")
        return model, models[model]

    def figure(self, name: str) -> float | None:
        """A figure of the whole run: from its result or evaluation, or else from the last epoch.

        A run without epochs of its own has the figure of its worst fold or member. `parameters_per_window` is the sum
        over members instead, because they predict together.
        """
        for record in (self.result, self.evaluation, *self.epochs[-1:]):
            if isinstance(value := record.get(name), int | float):
                return float(value)
        ends = [epochs[-1] if epochs else {} for epochs in self.members]
        of_parts: list[Any] = [part.get(name) for part in (*self.folds, *ends)]
        if ends and name == "parameters_per_window":
            return None if None in of_parts else float(sum(of_parts))
        return max((float(value) for value in of_parts if value is not None), default=None)

    @property
    def all_epochs(self) -> list[dict[str, Any]]:
        """The run's own records, and its members'."""
        return [*self.epochs, *(epoch for member in self.members for epoch in member)]

    @property
    def epoch_seconds(self) -> list[float]:
        """The seconds of each epoch, and of each fold's slowest epoch."""
        return [*self.timing("seconds", self.all_epochs), *self.timing("slowest_epoch", self.folds)]

    @staticmethod
    def timing(name: str, records: Sequence[Mapping[str, Any]]) -> list[float]:
        """This timing of each record that has it."""
        timings = [record.get("timing", {}) for record in records]
        return [float(timing[name]) for timing in timings if name in timing]

    @property
    def has_epochs(self) -> bool:
        """Whether epochs were recorded, by the run, its folds or its members."""
        return bool(self.epochs or self.members or any("epochs" in fold for fold in self.folds))

    @property
    def losses(self) -> list[float]:
        """The validation loss of each epoch that has one."""
        return [float(epoch["val_loss"]) for epoch in self.epochs if epoch.get("val_loss") is not None]

    def score(self, name: str) -> Interval | None:
        """A score with its interval (NaN if it has none); None if the run has no such score."""
        if name == "validation_loss":
            found = self.result.get("validation_loss")
            if found is None:
                return Interval(min(self.losses), math.nan, math.nan) if self.losses else None
        else:
            found = self.evaluation.get("scores", {}).get(name, {})
        if found.get("value") is None:
            return None
        low, high = (math.nan if found.get(end) is None else float(found[end]) for end in ("low", "high"))
        return Interval(float(found["value"]), low, high)

    def judged_on(self, name: str) -> Any:
        """The identity of the windows that a score was computed on; None if unknown."""
        if name == "validation_loss":
            return dict(flat(self.config)).get("windows.validation_fingerprint")
        return [self.evaluation.get(fact) for fact in ("windows", "groups", "classes")]


_NO_EPOCHS = "the run has recorded no epoch"


def _own_checks(run: _Recorded, bounds: GatesConfig) -> Iterator[GateCheck]:
    yield _compared(
        "parameters per window",
        run.figure("parameters_per_window"),
        bounds.parameters_per_window,
        "the run has not recorded parameters_per_window",
    )
    seconds = run.epoch_seconds
    yield _compared(
        "epoch time, s",
        max(seconds, default=None),
        bounds.epoch_seconds,
        "no epoch has recorded its time" if run.has_epochs else _NO_EPOCHS,
        "the slowest of all" if run.folds or run.members else f"the slowest of {len(seconds):,}",
    )
    allocated = run.timing("allocated", [*run.all_epochs, *run.folds])
    missing = "no epoch has recorded it" if run.on_gpu else "the run was not on a GPU"
    yield _compared(
        "memory on the device, bytes",
        max(allocated, default=None),
        bounds.device_memory,
        missing if run.has_epochs else _NO_EPOCHS,
        "allocated at most",
        above=True,
    )
    yield _spread(run, bounds.validation_spread)
    yield _calibration(run, bounds.calibration_error)


def _compared(
    gate: str, value: float | None, bound: float | None, missing: str, what: str = "", *, above: bool = False
) -> GateCheck:
    if bound is None:
        return GateCheck(gate, value, None, "skipped", _DISABLED)
    if value is None:
        return GateCheck(gate, None, bound, "skipped", missing)
    # NaN passes no comparison.
    good = value > bound if above else value < bound
    side = f"{'must be above' if above else 'must be below'} the bound"
    return GateCheck(
        gate, value, bound, "passed" if good else "failed", what if good else f"{what} {side}".strip()
    )


def _spread(run: _Recorded, bound: float | None) -> GateCheck:
    gate, value = "validation spread", run.figure("validation_spread")
    if run.epochs and "validation_spread" not in run.result:
        # Without validation the logged spread is of the training loss; for one epoch it is 0.
        if not run.losses:
            return _compared(gate, None, bound, "the run has no validation loss")
        if len(run.losses) < 2:
            return _compared(gate, None, bound, "one epoch has no spread")
    last = min(len(run.losses), 5)
    what = f"over the last {last} epochs" if last else "over the last epochs"
    missing = "the run has not recorded validation_spread" if run.epochs else _NO_EPOCHS
    if not run.epochs and run.has_epochs:
        what, missing = f"{what} of the worst part", "no part had validation windows"
    return _compared(gate, value, bound, missing, what)


def _calibration(run: _Recorded, bound: float | None) -> GateCheck:
    gate, found = "calibration error", run.score("calibration_error")
    if found is None:
        missing = (
            "the run has no probabilities that were evaluated"
            if run.evaluation
            else "the run has not been evaluated"
        )
        return _compared(gate, None, bound, missing)
    check = _compared(gate, found.value, bound, "")
    expected = (run.evaluation.get("calibration_error_by_luck") or {}).get("high")
    if check.outcome == "failed" and expected is not None and found.value <= expected:
        why = f"perfectly calibrated probabilities reach up to {expected:.3g} too: there are too few windows to tell"
        return GateCheck(gate, found.value, bound, "passed", why)
    return check


# ---- no worse than another run -----------------------------------------------------------------------------------


def _regressions(run: _Recorded, others: Sequence[_Recorded], bounds: GatesConfig) -> list[GateCheck]:
    gate = "regression"
    if bounds.regression is None:
        return [GateCheck(gate, None, None, "skipped", _DISABLED)]
    if not others:
        return [GateCheck(gate, None, None, "skipped", "no run to compare with was given (--against)")]
    checks = [_regression(name, run, others) for name in bounds.regression]
    if all(check.outcome == "skipped" for check in checks):
        reasons = "; ".join(dict.fromkeys(check.why for check in checks))
        return [GateCheck(gate, None, None, "failed", f"nothing can be compared with --against: {reasons}")]
    return checks


def _regression(name: str, run: _Recorded, others: Sequence[_Recorded]) -> GateCheck:
    metric = METRICS.get(name)
    title = "validation loss" if metric is None else metric.title
    gate = f"no worse {title}"
    mine, theirs = run.score(name), [other.score(name) for other in others]
    known = [score for score in theirs if score is not None]
    if mine is None and len(known) == len(others):
        why = f"{run.path} has no {title}, and {others[0].path} has one"
        return GateCheck(gate, None, None, "failed", why)
    if mine is None or len(known) < len(others):
        lacking = run if mine is None else others[theirs.index(None)]
        value = None if mine is None else mine.value
        return GateCheck(gate, value, None, "skipped", f"{lacking.path} has no {title}")
    if any(run.judged_on(name) != other.judged_on(name) for other in others) or run.judged_on(name) is None:
        return GateCheck(
            gate, mine.value, None, "skipped", f"the {title} of the runs is of different windows"
        )
    interval = known[0] if len(known) == 1 else _of_one_more([score.value for score in known])
    better = metric is not None and metric.greater_is_better
    bound = interval.low if better else interval.high
    if math.isnan(bound):
        why = f"the {title} of one run has no interval; give several seeds of it"
        return GateCheck(gate, mine.value, None, "skipped", why)
    good = mine.value >= bound if better else mine.value <= bound
    why = f"against {interval.value:.4g}, 95 % interval {interval.low:.4g} to {interval.high:.4g}"
    return GateCheck(gate, mine.value, bound, "passed" if good else "failed", why)


def _of_one_more(values: Sequence[float]) -> Interval:
    """The 95 % prediction interval for one more run, by Student's t."""
    mean, count = over_repeats(values).value, len(values)
    return t_interval(mean, float(np.std(values, ddof=1)) * math.sqrt(1 + 1 / count), count - 1)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
