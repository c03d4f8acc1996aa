"""The commands that train on labels and predict: finetune, predict."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moola.cli.app import Json, Progress, app, describe_file, print_facts, print_json, print_table
from moola.cli.models import RUN, TRAINING, WINDOWS, Device, Settings, Store, WindowLength
from moola.cli.reading import (
    TIME,
    AllowNonpositive,
    BarInterval,
    Columns,
    Decimal,
    Dedup,
    DropBadBars,
    ExcludeSymbols,
    OneSeries,
    ResetOnGap,
    SkipLines,
    Sort,
    SymbolFromName,
    Symbols,
    Thousands,
    TimeFormat,
    Zone,
)
from moola.errors import ConfigError

if TYPE_CHECKING:
    from moola.finetuning.run import FinetuneResult
    from moola.training.fitting import EpochRecord

__all__ = ["finetune", "predict"]


@app.command()
def finetune(
    labels: Annotated[
        str,
        typer.Option(
            metavar="LABELS",
            help="A table of labels for the store (Parquet or CSV), or a file that import-labels wrote (.safetensors).",
        ),
    ],
    feature_dir: Annotated[
        str | None, typer.Option(metavar="STORE", help="The feature store that the labels refer to.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="A pre-trained run that provides the initial encoder.",
            show_default="from scratch",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|YAML",
            help="jade, jade_compact, or a YAML file.",
            show_default="the encoder's, or jade_compact",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Maximum number of epochs.", show_default="60", rich_help_panel=TRAINING),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Windows per step.", show_default="16", rich_help_panel=TRAINING)
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate.", show_default="1e-4", rich_help_panel=TRAINING),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            metavar="none|always|EPOCHS",
            help="How long the encoder stays frozen: not at all, always, or for this number of epochs.",
            show_default="none",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    unfreeze_every: Annotated[
        int | None,
        typer.Option(
            help="Unfreeze one layer after another, with this number of epochs between them.",
            show_default="all at once",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    class_weight: Annotated[
        str | None,
        typer.Option(
            metavar="balanced",
            help="balanced gives each class the same total weight in the loss.",
            show_default="each window counts the same",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of folds, weights, order, dropout and augmentation.", rich_help_panel=TRAINING
        ),
    ] = 17,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Folds of the cross-validation. Its out-of-fold predictions score and calibrate the run.",
            show_default="5, or as many as the rarest class allows",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    embargo: Annotated[
        int,
        typer.Option(
            help="Number of bars after a test window in which no training window may begin.",
            rich_help_panel=TRAINING,
        ),
    ] = 0,
    validation_share: Annotated[
        float | None,
        typer.Option(
            help="Share of windows held out to choose the best epoch. 0 trains on all windows for all epochs.",
            show_default="0.2, or what the rarest class allows",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    scratch: Annotated[
        bool,
        typer.Option(
            help="With an encoder, also train from scratch in each fold, to compare. This at least doubles the time.",
            rich_help_panel=TRAINING,
        ),
    ] = True,
    permutations: Annotated[
        int,
        typer.Option(
            help="Shuffles of the permutation test of the heads: one fit per fold and shuffle. 0 turns it off.",
            rich_help_panel=TRAINING,
        ),
    ] = 20,
    window_length: WindowLength = None,
    extra: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNS",
            help="Kept columns to use as further inputs. They are standardised.",
            show_default="the encoder's",
            rich_help_panel=WINDOWS,
        ),
    ] = None,
    device: Device = "auto",
    settings: Settings = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="The run directory.", show_default="runs/finetune-…", rich_help_panel=RUN
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Restart an interrupted run. The result is the same to the bit.",
            rich_help_panel=RUN,
        ),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(help="How many folds, and later shuffles, to train in parallel.", rich_help_panel=RUN),
    ] = None,
    json: Json = False,
) -> None:
    """Fine-tune a model on labelled windows. Out-of-fold predictions calibrate and score it."""
    from moola.finetuning.run import finetune

    if resume and output is None:
        raise ConfigError("output", "is missing; give the run directory that --resume continues")
    given: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "freeze": int(freeze) if freeze is not None and freeze.isdecimal() else freeze,
        "unfreeze_every": unfreeze_every,
        "class_weight": class_weight,
    }
    started = time.perf_counter()
    with Progress(json) as progress:

        def report(record: EpochRecord, most: int) -> None:
            progress("training", record.epoch + 1, most)

        result = finetune(
            feature_dir,
            labels,
            output,
            encoder=encoder,
            model=model,
            settings=settings or (),
            seed=seed,
            device=device,
            folds=folds,
            embargo=embargo,
            validation_share=validation_share,
            window_length=window_length,
            extra=None if extra is None else tuple(name for name in extra.split(",") if name),
            scratch=scratch,
            permutations=permutations,
            n_jobs=jobs,
            resume=resume,
            report=report,
            say=lambda line: None if json else print(line, file=sys.stderr),
            **{name: value for name, value in given.items() if value is not None},
        )
    took = time.perf_counter() - started
    if json:
        return print_json(asdict(result) | {"verdict": result.verdict, "seconds": round(took, 4)})
    if result.resumed:
        print("this run has finished already")
    print_facts(
        [
            (
                "trained",
                f"{result.epochs:,} epochs on {result.trained_on:,} of {result.windows:,} windows; "
                f"the best was epoch {result.best_epoch + 1:,}",
            ),
            ("calibrated", _calibrated(result)),
            ("took", f"{took:.1f} s"),
            ("run", f"{result.run}: {', '.join(_files(result.run))}"),
        ]
    )
    print_table("out of fold", result.table[0], result.table[1:])
    print(result.verdict)
    for line in result.report:
        print(f"- {line}")


def _calibrated(result: FinetuneResult) -> str:
    """`temperature 0.84, from out-of-fold logits; the calibration error is then 0.121, …`."""
    error = result.evaluation["scores"]["calibration_error"]["value"]
    expected = result.evaluation["calibration_error_by_luck"]
    return (
        f"temperature {result.temperature:.2f}, from out-of-fold logits; the calibration error is then {error:.3f}, "
        f"and would be {expected['low']:.3f} to {expected['high']:.3f} if every probability were right"
    )


def _files(run: Path) -> list[str]:
    return ["best.safetensors", "metrics.jsonl", *sorted(path.name for path in run.glob("*.png"))]


@app.command()
def predict(
    run: Annotated[
        list[str],
        typer.Option(metavar="RUN", help="A fine-tuned run or an ensemble. Repeat it for several."),
    ],
    output: Annotated[str, typer.Option(metavar="FILE", help="The Parquet file to write.")],
    feature_dir: Store = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BARS…", help="Bars instead of a store. A store is built from them and kept in a cache."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="train|val|test|all", help="The split to take windows from.", show_default="all"
        ),
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="T", help="Predict windows that end at this time or later."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="T", help="Predict windows that end before this time.")
    ] = None,
    stride: Annotated[int, typer.Option(help="Bars from one window to the next.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows in a batch.")] = 1024,
    device: Device = "auto",
    reset_on_gap: ResetOnGap = None,
    columns: Columns = None,
    drop_bad_bars: DropBadBars = False,
    skip_lines: SkipLines = 0,
    decimal: Decimal = None,
    thousands: Thousands = None,
    symbols: Symbols = "",
    exclude_symbols: ExcludeSymbols = "",
    symbol_from_name: SymbolFromName = None,
    one_series: OneSeries = False,
    dedup: Dedup = None,
    sort: Sort = False,
    allow_nonpositive: AllowNonpositive = False,
    tz: Zone = None,
    time_format: TimeFormat = None,
    stamp: Annotated[
        str | None,
        typer.Option(
            metavar="open|close",
            help="Whether timestamps are the open or the close of their bars.",
            rich_help_panel=TIME,
        ),
    ] = None,
    bar_interval: BarInterval = None,
    json: Json = False,
) -> None:
    """Predict each window: class probabilities, the span, and whether training saw its bars.

    With --data, bars are read like the training bars unless options say otherwise.
    """
    from moola.prediction.windows import predict

    started = time.perf_counter()
    chosen: Any = split
    given: dict[str, Any] = {
        "reset_on_gap": reset_on_gap,
        "columns": columns,
        "drop_bad_bars": drop_bad_bars or None,
        "skip_lines": skip_lines or None,
        "decimal": decimal,
        "thousands": thousands,
        "symbols": symbols or None,
        "exclude_symbols": exclude_symbols or None,
        "symbol_from_name": symbol_from_name,
        "one_series": one_series or None,
        "dedup": dedup,
        "sort": sort or None,
        "allow_nonpositive": allow_nonpositive or None,
        "tz": tz,
        "time_format": time_format,
        "stamp": stamp,
        "bar_interval": bar_interval,
    }
    notes: list[str] = []

    def say(note: str) -> None:
        notes.append(note)
        if not json:
            print(f"note: {note}", file=sys.stderr)

    with Progress(json) as progress:
        predict(
            run,
            feature_dir or None,
            output,
            data=data or None,
            split=chosen,
            from_=begin,
            to=end,
            stride=stride,
            batch_size=batch_size,
            device=device,
            progress=lambda done, total: progress("predicting windows", done, total),
            say=say,
            **{name: value for name, value in given.items() if value is not None},
        )
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    took = time.perf_counter() - started
    seen = pq.read_table(output, columns=["seen"])["seen"]
    known, unknown = int(pc.sum(seen).as_py() or 0), seen.null_count
    if json:
        record = {
            "output": output,
            "windows": len(seen),
            "seen": known,
            "seen_unknown": unknown,
            "notes": notes,
        }
        return print_json(record | {"seconds": round(took, 4)})
    print_facts(
        [
            ("windows", f"{len(seen):,}; the models have seen bars of {known:,}{_unknown(unknown)}"),
            ("file", describe_file(Path(output))),
            ("took", f"{took:.2f} s, {len(seen) / took:,.0f} windows/s"),
        ]
    )


def _unknown(windows: int) -> str:
    return f"; for {windows:,} this is unknown" if windows else ""
