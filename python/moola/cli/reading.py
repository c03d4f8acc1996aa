"""The options for reading bars, shared by all commands that read them."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "INPUT",
    "TIME",
    "AllowNonpositive",
    "BarInterval",
    "Columns",
    "Decimal",
    "Dedup",
    "DropBadBars",
    "ExcludeSymbols",
    "MaxBad",
    "OneSeries",
    "ResetOnGap",
    "SkipLines",
    "Sort",
    "SymbolFromName",
    "Symbols",
    "Thousands",
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
        help="The roles of columns, such as 'Last=close' or '<DATE>=date'. Numbers are positions: 0=timestamp,1=open,…",
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
AllowNonpositive = Annotated[
    bool,
    typer.Option(
        "--allow-nonpositive",
        help="Take zero and negative prices too, as of spreads; not for relative_transform11.",
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
        help="The zone of times that state none: America/New_York, UTC, or an offset such as UTC+2.",
        rich_help_panel=TIME,
    ),
]
TimeFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT", help="The format of times, such as '%d.%m.%Y %H:%M'.", rich_help_panel=TIME
    ),
]
SkipLines = Annotated[
    int,
    typer.Option(
        min=0, help="Lines of a text file to skip before its header or its first row.", rich_help_panel=INPUT
    ),
]
Decimal = Annotated[
    str | None,
    typer.Option(
        metavar=".|,",
        help="The decimal mark of text files. By default the whole file decides.",
        rich_help_panel=INPUT,
    ),
]
Thousands = Annotated[
    str | None,
    typer.Option(
        metavar="SIGN",
        help="The sign between thousands in text files. By default the whole file decides.",
        rich_help_panel=INPUT,
    ),
]
Symbols = Annotated[
    str,
    typer.Option(
        metavar="PATTERNS", help="Read these symbols only, such as 'ES*,NQ*'.", rich_help_panel=INPUT
    ),
]
ExcludeSymbols = Annotated[
    str,
    typer.Option(
        metavar="PATTERNS", help="Leave out these symbols, such as '*-*' for spreads.", rich_help_panel=INPUT
    ),
]
SymbolFromName = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="Take each file's symbol from its name, such as '{symbol}_1min.csv'.",
        rich_help_panel=INPUT,
    ),
]
OneSeries = Annotated[
    bool,
    typer.Option(
        "--one-series",
        help="The files hold one series, although their names differ.",
        rich_help_panel=INPUT,
    ),
]
