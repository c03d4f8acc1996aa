"""The command that imports labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from moola.cli.app import Json, app, describe_file, print_json
from moola.cli.features import STORE
from moola.cli.reading import INPUT, TIME
from moola.errors import ConfigError

__all__ = ["import_labels"]


@app.command()
def import_labels(
    labels: Annotated[
        str,
        typer.Option(
            metavar="LABELS",
            help="A table (Parquet, CSV, Arrow IPC) with window_end and class, optionally symbol, start, end, weight.",
        ),
    ],
    output: Annotated[str, typer.Option(metavar="OUT", help="The file to write, such as L.safetensors.")],
    feature_dir: Annotated[
        str | None, typer.Option(metavar="STORE", help="The store that the labels refer to.")
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="LABELS itself holds the windows: lists of open, high, low and close."),
    ] = False,
    window_length: Annotated[
        int | None, typer.Option(help="Bars in a window.", show_default="the store's; 105 with --raw")
    ] = None,
    bar_interval: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="The time between bars: with --raw and a column window_end, or with times of closes if the store "
            "does not know it.",
            show_default="the store's; 1m with --raw",
            rich_help_panel=INPUT,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="FILE_COLUMN=ROLE,…",
            help="The roles of columns with other names, such as kind=class.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    span_kind: Annotated[
        str | None,
        typer.Option(
            metavar="bar|row|time",
            help="What start and end are: bars of the window from 0, rows of the store, or times.",
            show_default="detected",
            rich_help_panel=INPUT,
        ),
    ] = None,
    labelled_length: Annotated[
        int | None,
        typer.Option(
            help="Length in bars of the windows when they were labelled.",
            show_default="the store's",
            rich_help_panel=INPUT,
        ),
    ] = None,
    extra: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNS", help="Kept columns to append to the features.", rich_help_panel=STORE
        ),
    ] = None,
    feature_set: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The feature set to compute, with --raw.",
            show_default="ohlc4",
            rich_help_panel=INPUT,
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="YAML",
            help="A file of parameters that differ from the defaults, with --raw. There warmup_bars defaults to 20.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    tz: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="The zone of times that state none, such as America/New_York.",
            rich_help_panel=TIME,
        ),
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT", help="The format of times, such as '%d.%m.%Y %H:%M'.", rich_help_panel=TIME
        ),
    ] = None,
    stamp: Annotated[
        str | None,
        typer.Option(
            metavar="open|close",
            help="Whether the times of labels are the open or the close of their bars.",
            rich_help_panel=TIME,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Import labelled windows into one file, for training and validation."""
    from moola.labels import read_labels, read_raw_windows
    from moola.settings.yaml import read_yaml

    of_store: dict[str, Any] = {
        "span_kind": span_kind,
        "labelled_length": labelled_length,
        "extra": extra,
        "stamp": stamp,
    }
    of_raw = {"feature_set": feature_set, "config": config}
    for name, value in (of_store | {"feature_dir": feature_dir} if raw else of_raw).items():
        if value is not None:
            problem = (
                "with --raw; leave one of them out" if raw else "without --raw; add --raw, or leave it out"
            )
            raise ConfigError(name, f"has no effect {problem}")
    for source in (labels, config):
        if source is not None and os.path.exists(output) and os.path.samefile(source, output):
            raise ConfigError(
                "output", f"is {source}, an input of this command; give another file, such as L.safetensors"
            )
    if not output.endswith(".safetensors"):
        problem = f"{output} does not end in .safetensors, as every file of imported labels must"
        raise ConfigError("output", f"{problem}; give a name such as L.safetensors")
    options: dict[str, Any] = {"columns": columns, "tz": tz, "time_format": time_format}
    if window_length is not None:
        options["window_length"] = window_length
    if raw:
        options |= {"feature_set": feature_set or "ohlc4", "config": config and read_yaml(config)}
        options |= {"bar_interval": bar_interval} if bar_interval else {}
        windows = read_raw_windows(labels, **options)
    elif feature_dir is None:
        raise ConfigError("feature_dir", "is missing; give the store that was labelled, or --raw")
    else:
        options["bar_interval"] = bar_interval
        windows = read_labels(labels, feature_dir, **options, **of_store | {"extra": extra or ()})
    windows.save(output)
    if not json:
        print("\n".join([*windows.report(), f"file: {describe_file(Path(output))}"]))
        return
    counts = {name: int((windows.y == code).sum()) for code, name in enumerate(windows.classes)}
    print_json(
        {
            "output": output,
            "windows": len(windows),
            "window_length": windows.window_length,
            "feature_set": windows.feature_set,
            "features": windows.feature_names,
            "classes": counts,
            "groups": len(set(windows.groups.tolist())),
            "notices": windows.notices,
            "report": windows.report(),
        }
    )
