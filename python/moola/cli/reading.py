"""The options for reading bars, shared by all commands that read them."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "INPUT",
    "TIME",
    "BarInterval",
    "Columns",
    "Dedup",
    "DropBadBars",
    "MaxBad",
    "ResetOnGap",
    "Sort",
    "TimeFormat",
    "Zone",
]

INPUT, TIME = "Reading bars", "Reading times"

ResetOnGap = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Begin a new segment after a gap longer than this, such as 4h. `moola inspect` suggests a value.",
        rich_help_panel=INPUT,
    ),
]
BarInterval = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="How long a bar is, such as 1m.",
        show_default="inferred from all steps",
        rich_help_panel=TIME,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="FILE_COLUMN=ROLE,…",
        help="The roles of columns, such as Last=close. Without a header, count columns from 0: 0=timestamp,1=open,…",
        rich_help_panel=INPUT,
    ),
]
DropBadBars = Annotated[
    bool,
    typer.Option(
        "--drop-bad-bars",
        help="Leave out bars with NaN or infinite values, and a few with impossible prices. Each becomes a gap.",
        rich_help_panel=INPUT,
    ),
]
MaxBad = Annotated[
    float,
    typer.Option(
        help="The share of bars that may have impossible prices with --drop-bad-bars; 3 bars may always.",
        rich_help_panel=INPUT,
    ),
]
Dedup = Annotated[
    str | None,
    typer.Option(
        metavar="identical", help="Drop a bar that repeats the previous bar exactly.", rich_help_panel=INPUT
    ),
]
Sort = Annotated[
    bool,
    typer.Option(
        "--sort", help="Sort the bars by time. All bars are then held in memory.", rich_help_panel=INPUT
    ),
]
Zone = Annotated[
    str | None,
    typer.Option(
        metavar="ZONE",
        help="The zone of times that state none, such as America/New_York.",
        rich_help_panel=TIME,
    ),
]
TimeFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT", help="The format of times, such as '%d.%m.%Y %H:%M'.", rich_help_panel=TIME
    ),
]
