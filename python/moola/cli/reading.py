"""The options that say how bars are read, for every command that reads them."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["INPUT", "TIME", "Columns", "Dedup", "DropBadBars", "ResetOnGap", "Sort", "TimeFormat", "Zone"]

INPUT, TIME = "Reading bars", "Reading times"

ResetOnGap = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="A step longer than this begins a new segment, such as 4h. `moola inspect` suggests a value.",
        rich_help_panel=INPUT,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="FILE_COLUMN=ROLE,…",
        help="The role of each column. In a CSV without a header, columns have numbers: 0=timestamp,1=open,…",
        rich_help_panel=INPUT,
    ),
]
DropBadBars = Annotated[
    bool,
    typer.Option(
        "--drop-bad-bars",
        help="Leave out bars with NaN or infinite values. Each becomes a gap.",
        rich_help_panel=INPUT,
    ),
]
Dedup = Annotated[
    str | None,
    typer.Option(metavar="identical", help="Drop exact repeats of the bar before.", rich_help_panel=INPUT),
]
Sort = Annotated[
    bool,
    typer.Option(
        "--sort", help="Sort the bars by time. This holds all of them in memory.", rich_help_panel=INPUT
    ),
]
Zone = Annotated[
    str | None,
    typer.Option(
        metavar="ZONE", help="The zone of local times, such as America/New_York.", rich_help_panel=TIME
    ),
]
TimeFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT", help="The format of times, such as '%d.%m.%Y %H:%M'.", rich_help_panel=TIME
    ),
]
