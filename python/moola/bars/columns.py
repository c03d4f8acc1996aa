"""Finds which column of a file plays which role, such as timestamp, open or symbol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, cast

from moola.bars.formats.inputs import Input, is_temporal, is_text, is_type
from moola.bars.roles import ALIASES, PRICES, plain_name
from moola.bars.time_columns import find_times, kind_of_times, no_zone

if TYPE_CHECKING:
    from moola.bars.options import ReadOptions

__all__ = ["Layout", "find_column", "find_layout", "listed", "named_columns"]


@dataclass
class Layout:
    """The places of a bar's columns in a file."""

    timestamp: int
    """The time of a bar, or its date."""
    numbers: list[int]
    """Open, high, low, close and the columns to keep."""
    name_columns: dict[str, int]
    """Symbol and contract, where they are columns."""
    partitions: dict[str, str]
    """Symbol and contract, where directories, a file's name or its header name them."""
    time: int | None = None
    """The time of day, where it stands beside the date."""
    utc: bool = False
    """The name of the time column says that times are in UTC."""
    agreeing: dict[str, int] = field(default_factory=dict)
    """Columns of a role that partitions name too: every row must agree with the partition."""
    columns: list[int] = field(init=False)
    """Every column needed, each once."""

    def __post_init__(self) -> None:
        times = {self.timestamp} if self.time is None else {self.timestamp, self.time}
        self.columns = sorted({*times, *self.numbers, *self.text_columns()})

    def text_columns(self) -> list[int]:
        """Columns of names, which repeat."""
        return sorted({*self.name_columns.values(), *self.agreeing.values()})

    def at(self, column: int) -> int:
        """The place of a column among the columns that are read."""
        return self.columns.index(column)

    def has(self, role: str) -> bool:
        return role in self.name_columns or role in self.partitions


def find_column(source: Input, role: str, aliases: Iterable[str], named: Mapping[str, int]) -> int | None:
    """The column that plays a role: the one the user named, or else the only one with the first usual name found."""
    if role in named:
        return named[role]
    if source.headerless:
        return None
    taken = set(named.values())
    for alias in aliases:
        found = [i for i, name in enumerate(source.names) if i not in taken and plain_name(name) == alias]
        if len(found) > 1:
            both = " and ".join(repr(source.names[i]) for i in found)
            raise source.refusal(
                f"has {len(found)} columns that may be the {role}: {both}",
                f"Say which with --columns {found[0]}={role}, where {found[0]} is its position counted from 0, or "
                "rename one",
            )
        if found:
            return found[0]
    return None


def find_layout(source: Input, options: ReadOptions) -> Layout:
    """The columns that are read. Raises `InputError` for columns that are missing, ambiguous or of a wrong type."""
    named = named_columns(source, options.columns)
    times = find_times(source, named, options)
    prices = {role: find_column(source, role, ALIASES[role], named) for role in PRICES}
    missing = [role for role, column in prices.items() if column is None]
    if times is None:
        missing = ["timestamp", *missing]
    if times is None or missing:
        _refuse_missing(source, missing)
    kept: list[int] = []
    for name in options.keep:
        column = find_column(source, name, [plain_name(name), *ALIASES.get(name, ())], named)
        if column is None:
            raise source.refusal(
                f"has no column {name!r} to keep; its columns are {listed(source.names)}",
                f"Name the column with --columns FILE_COLUMN={name}, or leave it out of --keep",
            )
        kept.append(column)
    names, partitions, agreeing = _find_names(source, options, named)
    layout = Layout(
        times.timestamp,
        [*(cast(int, prices[price]) for price in PRICES), *kept],
        names,
        partitions,
        times.time,
        times.utc,
        agreeing,
    )
    _check_types(source, layout, options)
    return layout


def _find_names(
    source: Input, options: ReadOptions, named: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, str], dict[str, int]]:
    """Symbol and contract: their columns, those that partitions name, and columns that must agree with a partition."""
    wanted = ("symbol", "contract") if "contract" in options.segment_by else ("symbol",)
    partitions: dict[str, str] = {}
    for key, value in source.partitions.items():
        role = (options.columns or {}).get(key) or next(
            (role for role in ("symbol", "contract") if plain_name(key) in ALIASES[role]), None
        )
        if role is not None and role in wanted:
            partitions[role] = value
    columns: dict[str, int] = {}
    agreeing: dict[str, int] = {}
    for role in wanted:
        column = find_column(source, role, ALIASES[role], named)
        if column is not None:
            (agreeing if role in partitions else columns)[role] = column
        elif role == "contract" and role not in partitions:
            raise source.refusal(
                f"has no contract column to divide segments by; its columns are {listed(source.names)}",
                "Name it with --columns FILE_COLUMN=contract, or leave contract out of --segment-by",
            )
    return columns, partitions, agreeing


def named_columns(source: Input, columns: Mapping[str, str] | None) -> dict[str, int]:
    """From role to column, for the columns that the user named."""
    columns = columns or {}
    if source.headerless and not (columns and all(key.isdecimal() for key in columns)):
        what = "a header of numbers" if source.numbered else "no header"
        raise source.refusal(
            f"has {what}: its first line is {source.first_line!r}"
            + (", and --columns gives names" if columns else ""),
            f"Say what its columns are, counted from 0, for example --columns {_example(source)}",
        )
    named: dict[str, int] = {}
    for key, role in columns.items():
        if key.isdecimal():
            if int(key) >= len(source.names):
                raise source.refusal(
                    f"has {len(source.names)} columns, and no column at position {key} (counted from 0) to be the "
                    f"{role}; a number in --columns is always a position",
                    "Correct --columns",
                )
            named[role] = int(key)
            continue
        if key in source.partitions:
            continue
        found = [i for i, name in enumerate(source.names) if name == key] or [
            i for i, name in enumerate(source.names) if plain_name(name) == plain_name(key)
        ]
        if len(found) != 1:
            count = "no column" if not found else f"{len(found)} columns"
            raise source.refusal(
                f"has {count} {key!r} to be the {role}; its columns are {listed(source.names)}",
                "Correct --columns"
                if not found
                else f"Name it by its position counted from 0: --columns {found[0]}={role}",
            )
        named[role] = found[0]
    return named


def _example(source: Input) -> str:
    """Roles for the columns of a file without a header, as far as its first values tell them."""
    roles: list[str] = []
    for column in range(min(3, len(source.names))):
        texts = source.first_texts(column)
        kind = kind_of_times(source, column) if texts else ""
        if kind in ("zoned", "local", "day") and "timestamp" not in roles:
            beside = column + 1 < len(source.names) and kind_of_times(source, column + 1) == "clock"
            clock = beside and ":" in "".join(source.first_texts(column + 1)[:1])
            roles += ["date", "time"] if kind == "day" and clock else ["timestamp"]
            break
        roles.append("symbol" if texts and not any(sign.isdecimal() for sign in texts[0]) else "-")
    if not roles or roles[-1] not in ("timestamp", "time"):
        roles = ["timestamp"]
    named = [*roles, *PRICES, "volume"][: max(len(source.names), len(roles) + len(PRICES))]
    return ",".join(f"{i}={role}" for i, role in enumerate(named) if role != "-")


def _refuse_missing(source: Input, missing: Sequence[str]) -> NoReturn:
    if source.headerless:
        raise source.refusal(
            f"--columns does not say which column is the {', the '.join(missing)}",
            "Bars need timestamp, open, high, low and close, for example "
            "--columns 0=timestamp,1=open,2=high,3=low,4=close",
        )
    if len(source.names) == 1 and source.names[0].count(" ") >= len(PRICES):
        raise source.refusal(
            f"seems to have blanks between its columns: its first line is {source.first_line!r}",
            "Write it with commas, semicolons or tabs between them",
        )
    raise source.refusal(
        f"has no column for {', '.join(missing)}; its columns are {listed(source.names)}",
        "Bars need timestamp, open, high, low and close. Name what is called otherwise with "
        f"--columns FILE_COLUMN={missing[0]}",
    )


def listed(names: Sequence[str]) -> str:
    shown = [repr(name if len(name) <= 40 else f"{name[:40]}…") for name in names[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _check_types(source: Input, layout: Layout, options: ReadOptions) -> None:
    if source.types is None:
        return

    def refuse(column: int, needed: str) -> NoReturn:
        raise source.refusal(
            f"column {source.names[column]!r} has the wrong type {source.types[column]}; {needed}",  # type: ignore[index]
            "Convert it, or name the right column with --columns FILE_COLUMN=ROLE",
        )

    for column in layout.numbers:
        dtype = source.types[column]
        if not any(is_type(kind, dtype) for kind in ("floating", "integer", "decimal")):
            refuse(column, "prices and kept columns must be numbers")
    for role, column in layout.name_columns.items():
        dtype = source.types[column]
        if not (
            is_text(dtype) or is_type("integer", dtype.value_type if is_type("dictionary", dtype) else dtype)
        ):
            refuse(column, f"a {role} must be text")
    dtype = source.types[layout.timestamp]
    if layout.time is not None:
        return
    if not (is_temporal(dtype) or is_text(dtype) or is_type("integer", dtype) or is_type("floating", dtype)):
        refuse(layout.timestamp, "times must be timestamps, dates, text or whole numbers")
    if is_temporal(dtype) and not getattr(dtype, "tz", None) and options.tz is None and not layout.utc:
        raise no_zone(source, f"column {source.names[layout.timestamp]!r} ({dtype})")
