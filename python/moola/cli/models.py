"""The commands that train encoders and use them: models, pretrain, embed, compare."""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from moola.cli.app import (
    Json,
    Progress,
    app,
    describe_file,
    format_bytes,
    print_facts,
    print_json,
    print_table,
)
from moola.cli.training_progress import ShownTraining
from moola.errors import ConfigError

if TYPE_CHECKING:
    from moola.runs.compare import Comparison

__all__ = ["compare", "embed", "models", "pretrain"]

Store = Annotated[
    list[str] | None,
    typer.Option("--feature-dir", metavar="STORE", help="A feature store. Repeat it for several."),
]
Device = Annotated[str, typer.Option(help="auto uses a GPU if there is one.", metavar="auto|cpu|cuda")]

TRAINING, WINDOWS, RUN = "Training", "Windows", "The run"

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set any value of the configuration. Repeat it for several."
    ),
]
WindowLength = Annotated[
    int | None, typer.Option(help="Bars in a window.", show_default="the store's", rich_help_panel=WINDOWS)
]


@app.command()
def models(
    configs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[YAML]…", help="Configurations of your own, listed after those of moola."),
    ] = None,
    features: Annotated[int, typer.Option(min=1, help="Number of input features.")] = 4,
    window_length: Annotated[int, typer.Option(min=1, help="Bars in a window.")] = 105,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows in a batch.")] = 256,
    windows: Annotated[
        int, typer.Option(min=1, help="Number of training windows. The last column divides by it.")
    ] = 174,
    json: Json = False,
) -> None:
    """List models: parameters, memory, and parameters per training window."""
    from moola.models.summary import summarise
    from moola.settings.models import load_config, shipped_models

    rows = [
        summarise(
            load_config(name).model,
            features=features,
            window_length=window_length,
            batch_size=batch_size,
            windows=windows,
        )
        for name in (*shipped_models(), *(configs or ()))
    ]
    if json:
        return print_json(
            {"models": [row._asdict() for row in rows], "features": features, "windows": windows}
        )
    print_table(
        f"Models at {features} features; training with {batch_size} windows of {window_length} bars",
        ["model", "parameters", "weights", "while training", f"per window of {windows:,}"],
        (
            [
                row.name,
                f"{row.parameters:,}",
                format_bytes(row.weights),
                format_bytes(row.training),
                f"{row.parameters / windows:,.0f}",
            ]
            for row in rows
        ),
    )


@app.command()
def pretrain(
    feature_dir: Store = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BARS…", help="Bars instead of a store. A store is built from them and kept in a cache."
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|YAML", help="jade, jade_compact, or a YAML file.", rich_help_panel=TRAINING
        ),
    ] = "jade",
    epochs: Annotated[
        int | None, typer.Option(help="Number of epochs.", show_default="50", rich_help_panel=TRAINING)
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Windows per step on each rank.", show_default="256", rich_help_panel=TRAINING),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Peak learning rate.", show_default="1e-3", rich_help_panel=TRAINING),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of weights, order, masks and dropout.", rich_help_panel=TRAINING)
    ] = 17,
    stride: Annotated[
        int | None,
        typer.Option(help="Bars from one window to the next.", show_default="52", rich_help_panel=WINDOWS),
    ] = None,
    window_length: WindowLength = None,
    windows_per_epoch: Annotated[
        int | None, typer.Option(help="Windows in an epoch.", show_default="all", rich_help_panel=WINDOWS)
    ] = None,
    mask_strategy: Annotated[
        str | None,
        typer.Option(
            metavar="random|patch",
            help="Whether to mask single bars (random) or runs of bars (patch).",
            show_default="random",
            rich_help_panel=WINDOWS,
        ),
    ] = None,
    extra: Annotated[
        str,
        typer.Option(
            metavar="COLUMNS",
            help="Kept columns to use as further inputs. They are standardised.",
            rich_help_panel=WINDOWS,
        ),
    ] = "",
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(metavar="auto|fp32|bf16", help="Precision of the forward pass.")
    ] = "auto",
    settings: Settings = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="The run directory.", show_default="runs/pretrain-…", rich_help_panel=RUN
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue a stopped run from its last checkpoint. On a CPU the result is the same to the bit.",
            rich_help_panel=RUN,
        ),
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="A run that provides the initial weights.", rich_help_panel=RUN),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(help="Steps between checkpoints.", show_default="one epoch", rich_help_panel=RUN),
    ] = None,
    json: Json = False,
) -> None:
    """Pre-train an encoder as a masked autoencoder, on bars without labels."""
    from moola.training.pretraining import pretrain

    if resume and output is None:
        raise ConfigError("output", "is missing; give the run directory that --resume continues")
    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "stride": stride,
        "window_length": window_length,
        "windows_per_epoch": windows_per_epoch,
        "mask_strategy": mask_strategy,
        "extra": tuple(extra.split(",")) if extra else None,
        "checkpoint_every": checkpoint_every,
    }
    first_rank = os.environ.get("RANK", "0") == "0"
    stores = _stores(feature_dir, data, json or not first_rank)
    started = time.perf_counter()
    with ShownTraining(json or not first_rank) as progress:
        result = pretrain(
            stores,
            output,
            model=model,
            settings=settings or (),
            seed=seed,
            device=device,
            precision=precision,
            resume=resume,
            init=init,
            report=progress,
            say=lambda line: print(f"note: {line}", file=sys.stderr),
            **{name: value for name, value in given.items() if value is not None},
        )
    took = time.perf_counter() - started
    if not first_rank:
        return
    if json:
        return print_json(asdict(result) | {"verdict": result.verdict, "seconds": round(took, 4)})
    if result.resumed:
        print("this run has finished already")
    print_facts(
        [
            (
                "trained",
                f"{result.epochs:,} epochs, {result.steps:,} steps; the best was epoch {result.best_epoch + 1:,}",
            ),
            ("took", f"{took:.1f} s"),
            (
                "run",
                f"{result.run}: best.safetensors, last.safetensors, metrics.jsonl, loss.png, reconstructions.png",
            ),
        ]
    )
    print(result.verdict)


@app.command()
def embed(
    run: Annotated[str, typer.Option(metavar="RUN", help="A run directory or a weights file.")],
    output: Annotated[str, typer.Option(metavar="FILE", help="The Parquet file to write.")],
    feature_dir: Store = None,
    split: Annotated[
        str, typer.Option(metavar="train|val|test|all", help="The split to take windows from.")
    ] = "all",
    stride: Annotated[int, typer.Option(help="Bars from one window to the next.")] = 1,
    window_length: Annotated[
        int | None, typer.Option(help="Bars in a window.", show_default="as in training")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows in a batch.")] = 1024,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write one vector per window, computed by a trained encoder."""
    from moola.prediction.embedding import embed

    started = time.perf_counter()
    with Progress(json) as progress:
        file = embed(
            run,
            _stores(feature_dir, None, json),
            output,
            split=split,  # type: ignore[arg-type]
            stride=stride,
            window_length=window_length,
            batch_size=batch_size,
            device=device,
            progress=lambda done, total: progress("encoding windows", done, total),
        )
    import pyarrow.parquet as pq

    facts = pq.read_metadata(file)
    took = time.perf_counter() - started
    if json:
        return print_json({"output": file, "windows": facts.num_rows, "seconds": round(took, 4)})
    rate = f"{facts.num_rows / took:,.0f} windows/s"
    print_facts(
        [
            ("windows", f"{facts.num_rows:,}, each a vector of {facts.num_columns - 2}"),
            ("file", describe_file(file)),
            ("took", f"{took:.2f} s, {rate}"),
        ]
    )


class _Against(TyperCommand):
    """Takes every argument after `--against` as a run of the other side, so that shell patterns (`b-*`) work."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        expanded: list[str] = []
        other = False
        for arg in args:
            other = arg == "--against" or (other and not arg.startswith("-"))
            expanded += ["--against", arg] if other and arg != "--against" else [arg] if not other else []
        parsed: list[str] = super().parse_args(ctx, expanded)
        return parsed


@app.command(cls=_Against)
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="One or more runs: the first side.")],
    against: Annotated[list[str], typer.Option(metavar="RUN…", help="One or more runs: the second side.")],
    json: Json = False,
) -> None:
    """Compare the settings, final losses, speed and memory of two groups of runs."""
    from moola.runs.compare import compare_runs

    comparison = compare_runs(runs, against)
    if json:
        record = asdict(comparison) | {"verdict": comparison.verdict}
        return print_json(record)
    _print_comparison(comparison)


def _stores(feature_dir: list[str] | None, data: list[str] | None, silent: bool) -> Any:
    """The given stores, or the cached store of the given bars."""
    if bool(feature_dir) == bool(data):
        if feature_dir:
            raise ConfigError("data", "cannot be combined with --feature-dir; give bars or a store, not both")
        raise ConfigError("feature_dir", "is missing; give a store that moola build-features made")
    if feature_dir:
        return feature_dir
    from moola.store.cache import cached_store

    assert data is not None
    store = cached_store(data[0] if len(data) == 1 else data)
    if not silent:
        for notice in store.notices:
            print(f"note: {notice}", file=sys.stderr)
        print(f"store {store.path}", file=sys.stderr)
    return store


def _print_comparison(comparison: Comparison) -> None:
    def listed(values: tuple[Any, ...]) -> str:
        return ", ".join("-" if value is None else str(value) for value in values)

    sides = [", ".join(map(str, side)) for side in comparison.runs]
    print_facts([("first side", sides[0]), ("second side", sides[1])])
    rows = [[name, listed(a), listed(b)] for name, (a, b) in comparison.differences.items()]
    if rows:
        print_table("Settings that differ", ["setting", "first", "second"], rows)
    else:
        print("\nNo setting differs, except for seeds.")

    def cell(figure: Any, side: int) -> str:
        if not figure.runs[side]:
            return "-"
        mean, spread = figure.mean(side), figure.spread(side)
        text = format_bytes(round(mean)) if figure.unit == "bytes" else f"{mean:,.5g} {figure.unit}".strip()
        if math.isnan(spread) or figure.unit == "bytes":
            return text
        return f"{text} ± {spread:,.2g}"

    print_table(
        "Figures (mean ± standard deviation over runs)",
        ["figure", f"first ({len(comparison.runs[0])})", f"second ({len(comparison.runs[1])})"],
        ([figure.name, cell(figure, 0), cell(figure, 1)] for figure in comparison.figures),
    )
    print(f"\n{comparison.verdict}")
