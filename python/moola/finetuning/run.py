"""Fine-tuning: from labels to a run directory that predicts, calibrated on out-of-fold logits."""

from __future__ import annotations

# First, because its error says what to install if torch is missing.
import moola.models  # noqa: F401

# isort: split
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moola.data.stores import StorePath
from moola.devices.placement import Placement, place
from moola.errors import ConfigError
from moola.evaluation.baselines import baseline_predictions
from moola.evaluation.outcomes import Predictions, Truth
from moola.evaluation.permutation import PermutationTest
from moola.evaluation.report import Evaluation, evaluate
from moola.files.fingerprint import fingerprint
from moola.files.messages import teller
from moola.finetuning.inputs import config_of, extra_columns, labelled_windows
from moola.finetuning.permutation import heads_on_shuffled_labels
from moola.finetuning.report import draw_pictures, seen_windows_of, validation_loss
from moola.finetuning.result import FinetuneResult
from moola.folds.dealing import purged_folds
from moola.folds.few_labels import fitting_folds, fitting_share
from moola.labels.refusals import check_classes
from moola.labels.windows import LabelledWindows
from moola.models.encoder import Encoder
from moola.models.jade import Jade
from moola.models.loading import load_encoder
from moola.models.weights import FeatureIdentity, Origin, load_weights, save_weights, weights_path
from moola.runs.directory import ENVIRONMENT, RESULT, SEEN_BARS, Run, environment, read_record, read_seen_bars
from moola.runs.out_of_fold import OutOfFoldRecord
from moola.runs.seen_bars import SeenBars
from moola.settings.arrays import Numbers
from moola.settings.models import Config
from moola.settings.whole_numbers import whole_number
from moola.store.reader import FeatureStore
from moola.training.examples import Examples
from moola.training.fitting import EpochRecord, FitResult, spread_of_last
from moola.training.new_model import new_model
from moola.training.recipe import FoldOutcome, Recipe, fold_logits
from moola.validation.cross_validation import FROM_SCRATCH
from moola.validation.permutation import DEAR_PERMUTATIONS

__all__ = ["FinetuneResult", "finetune"]


def finetune(
    feature_dir: StorePath | None,
    labels: object,
    output: str | os.PathLike[str] | None = None,
    *,
    encoder: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    settings: Iterable[str] = (),
    seed: int = 17,
    device: str = "auto",
    folds: int | None = None,
    embargo: int = 0,
    validation_share: float | None = None,
    window_length: int | None = None,
    extra: tuple[str, ...] | None = None,
    scratch: bool = True,
    permutations: int = DEAR_PERMUTATIONS,
    n_jobs: int | None = None,
    resume: bool = False,
    report: Callable[[EpochRecord, int], None] | None = None,
    say: Callable[[str], None] | None = None,
    **training: Any,
) -> FinetuneResult:
    """Fine-tunes a model on labelled windows, in a run directory that is all :func:`moola.predict` needs.

    The same recipe trains `folds` + 1 models. Each time, a share of the training windows is held out to choose the
    epoch and the learning rate, the model is trained on the others, and these scale the kept columns. The first
    `folds` models each leave out one fold and give its out-of-fold logits: neither training nor any choice used the
    fold's windows. All these logits fit the temperature that calibrates the run's probabilities. The report is based
    on them too, each fold calibrated by the temperature of the other folds. The run keeps them for the temperature of
    an ensemble. The last model is trained on all folds and is the one in the run. Folds are stratified by class, and
    windows that overlap in time are never on both sides of a split, whatever their symbols.

    The report compares the model with baselines (majority, guessing, the mean span, a regression on pooled features)
    and, if there is an encoder, with the same model from scratch, in the same folds. The permutation test trains only
    the heads, which keeps fits on shuffled labels cheap: see
    :func:`moola.finetuning.permutation.heads_on_shuffled_labels`.

    Args:
        feature_dir: The store that the labels refer to; None for pre-cut windows.
        labels: What :func:`moola.labels.read_labels` takes, a file that `moola import-labels` wrote, or the windows.
        output: The run directory; `runs/finetune-MODEL-TIME` if not given.
        encoder: A run, or a weights file in its directory, with the encoder to start from; None trains from scratch
            and freezes nothing. The run directory records which bars the encoder was pre-trained on: labelled windows
            that contain such bars are scored separately.
        model: The name of a shipped configuration, a YAML file or its contents. If not given, the encoder's model, or
            `jade_compact` without an encoder.
        settings: Overrides of the configuration, each like `training.finetune.lr=1e-3`.
        seed: Seed of the folds, initial weights, order of windows, dropout and augmentation.
        device: `auto`, `cpu` or `cuda`.
        folds: Number of folds for out-of-fold predictions, dealt and purged as in
            :func:`moola.validation.cross_validate`. If not given, 5, or as many as the rarest class allows.
        embargo: Number of bars after each test window in which no training window of its fold begins. It needs a store.
        validation_share: Share of the windows held out to choose the epoch; 0 trains on all windows for all epochs. If
            not given, 0.2, or the share that the rarest class allows. A line says so where it is another.
        window_length: K; the store's if not given.
        extra: Names of kept columns, appended to the features; the encoder's if not given. Imported windows come with
            their own, and accept no others.
        scratch: False leaves out the same model from scratch, which takes `folds` fits of a whole model.
        permutations: Number of shuffles in the permutation test of the heads, `folds` fits each; 0 leaves it out.
        n_jobs: Folds, and then shuffles, at a time, as joblib interprets it.
        resume: Return the result of a finished run, and start an interrupted one again: the same seed gives
            the same bits.
        report: Called after each epoch of the model in the run, with its record and the largest number of epochs.
        say: Called with each line that a person should read; the logger `moola` at INFO if not given.
        training: Names and values of :class:`moola.settings.training.FinetuneConfig`, such as `epochs=5`.

    Raises `ConfigError` for invalid settings, `LabelError` and `InputError` for labels, `SplitError` if overlaps leave
    no way to deal the windows into folds, `FeatureMismatchError` for an encoder with other features, `RunError` for a
    run directory that cannot be used and for an encoder whose pre-training bars are unknown, and what opening a store
    raises.
    """
    say = teller(say)
    placement = place(device, "fp32")
    for notice in placement.notices:
        say(notice)
    start = None if encoder is None else load_encoder(encoder)
    store, windows = labelled_windows(feature_dir, labels, window_length, extra_columns(extra, start))
    check_classes(windows.y, windows.classes)
    seed = whole_number("seed", seed, 0)
    adapted: list[str] = []
    if folds is None:
        folds, adapted = fitting_folds(windows, seed=seed, embargo=embargo, store=store)
    if validation_share is None:
        parts = purged_folds(windows, folds, seed=seed, embargo=embargo, store=store)
        validation_share, lines = fitting_share(windows, windows.groups, parts, seed=seed)
        adapted += lines
    for line in adapted:
        say(line)
    job = _Finetuning(
        store=store,
        windows=windows,
        config=config_of(model, start, settings, training, len(windows.classes)),
        start=start,
        start_path=None if encoder is None else weights_path(encoder),
        placement=placement,
        seed=seed,
        folds=folds,
        embargo=embargo,
        validation_share=validation_share,
        scratch=scratch and start is not None,
        permutations=whole_number("permutations", permutations, 0),
        adapted=tuple(adapted),
    )
    if extra is not None and tuple(extra) != job.features.extra:
        names, theirs = (", ".join(columns) or "none" for columns in (extra, job.features.extra))
        problem = f"is {names}, and the kept columns of the windows are {theirs}"
        raise ConfigError("extra", f"{problem}; import the labels again with those columns, or leave it out")
    if output is None:
        output = Path("runs") / f"finetune-{job.config.model.name}-{datetime.now():%Y%m%d-%H%M%S}"
    # Version 0.1 chose other validation windows. The settings record their seed and share.
    dealt = ("windows.validation_fingerprint",)
    with Run.begin(output, job.resolved(), resume=resume, may_differ=dealt) as run:
        if (run.path / RESULT).exists():
            result = read_record(run.path / RESULT)
            facts: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in result.items()}
            facts["table"] = tuple(map(tuple, facts["table"]))
            return FinetuneResult(run.path, **facts, resumed=True)
        run.go_back_to(0)
        return job.run(run, n_jobs, report or (lambda record, epochs: None), say)


@dataclass(frozen=True, kw_only=True)
class _Finetuning:
    """The inputs and settings of one call of :func:`finetune`, checked."""

    store: FeatureStore | None
    windows: LabelledWindows
    config: Config
    start: Encoder | None
    start_path: Path | None
    placement: Placement
    seed: int
    folds: int
    embargo: int
    validation_share: float
    scratch: bool
    permutations: int
    adapted: tuple[str, ...]
    """Lines on folds and validation that few labels changed."""

    def __post_init__(self) -> None:
        windows = self.windows
        if not 0 <= self.validation_share <= 0.5:
            raise ConfigError(
                "validation_share", f"{self.validation_share!r} is no share; give 0, or up to 0.5"
            )
        if self.start is not None and self.start.origin is not None:
            self.start.origin.features.require(self.features, "the labels")
        # Raises now if the encoder's pre-training bars are unknown: its seen windows could not be reported.
        self.seen_by_encoder  # noqa: B018
        # Raises before a run is begun, rather than after some folds have been trained.
        for train, _ in [*self.parts, (np.arange(len(windows)), None)]:
            self.recipe.validation(windows.y[train], self.blocks[train], windows.classes)

    @cached_property
    def times(self) -> tuple[Numbers, Numbers] | None:
        """`[n]` each: the times of each window's first and last bar; None if they are unknown."""
        windows = self.windows
        if self.store is not None:
            stamps = self.store.timestamps
            return stamps[windows.starts], stamps[windows.ends]
        if windows.first_times is None or windows.times is None:
            return None
        return windows.first_times, windows.times

    @property
    def blocks(self) -> Numbers:
        """`[n]`: the block of each window. Windows that overlap in time share one, also across symbols."""
        return self.windows.groups

    @cached_property
    def parts(self) -> list[tuple[Numbers, Numbers]]:
        """(train, test) of each fold."""
        return purged_folds(self.windows, self.folds, seed=self.seed, embargo=self.embargo, store=self.store)

    @cached_property
    def seen_by_encoder(self) -> SeenBars:
        """The bars that the encoder was pre-trained on. Raises `RunError` if its directory does not record them."""
        return SeenBars({}) if self.start_path is None else read_seen_bars(self.start_path.parent)

    @cached_property
    def parameters(self) -> int:
        """The number of the model's parameters."""
        model = new_model(self.config.model, self.windows.X.shape[2], seed=0)
        return sum(p.numel() for p in model.parameters())

    @property
    def features(self) -> FeatureIdentity:
        return FeatureIdentity.of_windows(self.windows, self.store)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            self.config,
            self.start,
            self.placement.device,
            self.seed,
            self.validation_share,
            len(self.features.extra),
        )

    def resolved(self) -> dict[str, Any]:
        """Everything that the result depends on, for `config.json`."""
        windows = self.windows
        _, validation = self.recipe.validation(windows.y, self.blocks)
        return {
            "kind": "finetune",
            "model": self.config.model.model_dump(),
            "training": self.config.training.finetune.model_dump(mode="json"),
            "augmentation": self.config.augmentation and self.config.augmentation.model_dump(mode="json"),
            "seed": self.seed,
            "folds": self.folds,
            **({"embargo": self.embargo} if self.embargo else {}),
            "validation_share": self.validation_share,
            "scratch": self.scratch,
            "permutations": self.permutations,
            "device": self.placement.device.type,
            "encoder": None if self.start_path is None else load_weights(self.start_path).digest,
            "features": self.features.record(),
            "window_length": windows.window_length,
            "classes": list(windows.classes),
            "windows": {
                "labelled": len(windows),
                "fingerprint": _learned_from(windows),
                # Two runs with the same validation windows have comparable losses.
                "validation_fingerprint": _learned_from(windows.take(validation))
                if len(validation)
                else None,
            },
            "stores": [] if self.store is None else [str(self.store.path)],
        }

    def run(
        self,
        run: Run,
        n_jobs: int | None,
        report: Callable[[EpochRecord, int], None],
        say: Callable[[str], None],
    ) -> FinetuneResult:
        windows, recipe, blocks, parts = self.windows, self.recipe, self.blocks, self.parts
        notices = [*windows.notices, *self.adapted]
        if self.start is not None and self.start.origin is not None:
            notices += self.start.origin.features.notes(self.features, "the labels")
        seen_bars, seen, notes = seen_windows_of(
            windows,
            self.times,
            self.seen_by_encoder,
            of_store=self.store is not None,
            pretrained=self.start is not None,
        )
        notices += notes
        run.write(ENVIRONMENT, environment(self.placement))
        run.write(SEEN_BARS, seen_bars.record())
        examples = Examples(windows.X, windows.valid_mask, windows.y, windows.spans, windows.weight)
        span_classes = _span_classes(windows)
        truth = Truth(
            np.array(windows.classes)[windows.y],
            classes=np.array(windows.classes),
            spans=windows.spans if span_classes.any() else None,
            groups=blocks,
            seen=seen,
        )

        def follow(recipe: Recipe, kind: str, name: str) -> list[FoldOutcome]:
            outcomes: list[FoldOutcome] = []
            for outcome in recipe.out_of_fold(examples, blocks, parts, n_jobs):
                run.log(self._fold_record(kind, len(outcomes), outcome))
                outcomes.append(outcome)
                say(f"{name}fold {len(outcomes)} of {self.folds}: {len(outcome.result.epochs)} epochs")
            return outcomes

        out_of_fold, places = fold_logits(parts, follow(recipe, "fold", ""))
        temperature = out_of_fold.temperature(windows.y)
        said = out_of_fold.predictions(windows.y, places, span_classes)
        beside: dict[str, list[Predictions]] = {}
        name = self.config.model.name
        if self.scratch:
            other, elsewhere = fold_logits(
                parts, follow(recipe.from_scratch(), "scratch_fold", "from scratch, ")
            )
            beside[f"{name}{FROM_SCRATCH}"] = [other.predictions(windows.y, elsewhere, span_classes)]
        baselines = baseline_predictions(
            windows.X, truth, parts, seed=self.seed, valid_mask=windows.valid_mask
        )
        baselines |= beside
        OutOfFoldRecord(_learned_from(windows), truth, out_of_fold, places, said.spans, baselines).save(
            run.path
        )
        permutation, note = self._permutation_test(run, recipe, examples, truth, span_classes, n_jobs, say)
        evaluation = evaluate(
            truth, said, model=name, baselines=baselines, permutation=permutation, seed=self.seed
        )
        evaluation = replace(evaluation, permutation_note=note)

        model, result, trained_on = self._train(run, recipe, examples, blocks, report)
        more = {
            "classes": list(windows.classes),
            "span_classes": span_classes.tolist(),
            "temperature": temperature,
            "best_epoch": result.best_epoch,
            "seed": self.seed,
        }
        origin = Origin("finetune", self.config.model, self.features, windows.window_length, more)
        save_weights(run.path / "best.safetensors", model.state_dict(), origin.record())
        draw_pictures(run.path, truth, said, windows.window_length, name)
        return self._finish(run, result, trained_on, temperature, evaluation, notices)

    def _permutation_test(
        self,
        run: Run,
        recipe: Recipe,
        examples: Examples,
        truth: Truth,
        span_classes: NDArray[np.bool_],
        n_jobs: int | None,
        say: Callable[[str], None],
    ) -> tuple[dict[str, PermutationTest], str]:
        """The permutation test of the heads, and its note. The number of fits and the seconds are logged and said."""
        if not self.permutations:
            return {}, ""
        say(f"permutation test: fitting the heads alone on {self.permutations} shuffles of the labels …")
        start = perf_counter()
        permutation, note = heads_on_shuffled_labels(
            recipe, examples, truth, self.parts, span_classes, permutations=self.permutations, n_jobs=n_jobs
        )
        seconds = perf_counter() - start
        fits = (self.permutations + 1) * len(self.parts) if permutation else 0
        run.log(
            {
                "kind": "chance",
                "permutations": self.permutations,
                "fits": fits,
                "timing": {"seconds": seconds},
            }
        )
        say(f"{fits:,} fits of the heads took {seconds:.0f} s")
        return permutation, note

    def _train(
        self,
        run: Run,
        recipe: Recipe,
        examples: Examples,
        blocks: Numbers,
        report: Callable[[EpochRecord, int], None],
    ) -> tuple[Jade, FitResult, Numbers]:
        """Trains the model of the run and logs its epochs; returns it with the windows that it was trained on."""
        losses: list[float] = []

        def note(record: EpochRecord) -> None:
            loss = sum(record.losses.values()) if record.validation_loss is None else record.validation_loss
            losses.append(loss)
            line: dict[str, Any] = {
                "kind": "epoch",
                "epoch": record.epoch,
                "lr": record.lr,
                "frozen": record.frozen,
                "train_loss": sum(record.losses.values()),
                "train_losses": record.losses,
                # Counts the labelled windows of all folds.
                "parameters_per_window": self.parameters / len(examples.y),
                "validation_spread": spread_of_last(losses),
                "timing": {"seconds": record.seconds} | self.placement.memory(),
            }
            if record.validation_loss is not None:
                line |= {
                    "val_loss": record.validation_loss,
                    "val_losses": record.validation_losses,
                    "val_accuracy": record.validation_accuracy,
                }
            run.log(line)
            report(record, self.config.training.finetune.epochs)

        return recipe.follow(examples, blocks, note)

    def _fold_record(self, kind: str, fold: int, outcome: FoldOutcome) -> dict[str, Any]:
        return {
            "kind": kind,
            "fold": fold,
            "trained_on": len(outcome.fitted_on),
            "tested": self.parts[fold][1].tolist(),
            # Counts the labelled windows of all folds.
            "parameters_per_window": self.parameters / len(self.windows),
            **outcome.result.record(),
        }

    def _finish(
        self,
        run: Run,
        result: FitResult,
        trained_on: Numbers,
        temperature: float,
        evaluation: Evaluation,
        notices: list[str],
    ) -> FinetuneResult:
        facts: dict[str, Any] = {
            "windows": len(self.windows),
            "trained_on": len(trained_on),
            "classes": self.windows.classes,
            "epochs": len(result.epochs),
            "best_epoch": result.best_epoch,
            "temperature": temperature,
            "validation_loss": validation_loss(result, self.blocks, trained_on),
            "evaluation": evaluation.record(),
            "table": tuple(map(tuple, [evaluation.columns, *evaluation.rows()])),
            "report": (*notices, *evaluation.summary()),
        }
        run.write(RESULT, facts)
        return FinetuneResult(run.path, **facts, resumed=False)


def _span_classes(windows: LabelledWindows) -> NDArray[np.bool_]:
    """`[C]`: which classes have spans."""
    with_span = windows.y[windows.spans[:, 0] >= 0]
    counts: NDArray[np.bool_] = np.bincount(with_span, minlength=len(windows.classes)) > 0
    return counts


def _learned_from(windows: LabelledWindows) -> str:
    """The fingerprint of the training data."""
    return fingerprint([windows.X, windows.valid_mask, windows.y, windows.spans, windows.weight])
