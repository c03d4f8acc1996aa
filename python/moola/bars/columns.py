"""Finds which column of a file plays which role, such as timestamp, open or symbol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, cast

from moola.bars.formats.inputs import Input, is_temporal, is_text, is_type
from moola.bars.roles import ALIASES, BAR_ROLES, PRICES
from moola.errors import InputError

if TYPE_CHECKING:
    from moola.bars.options import ReadOptions

__all__ = ["Layout", "find_column", "find_layout", "listed", "named_columns", "no_zone"]

# The index that pandas writes beside the columns: a time only where no other column is one.
_INDEX_NAMES = ("__index_level_0__", "", "unnamed:_0", "index")


@dataclass
class Layout:
    """The places of a bar's columns in a file."""

    timestamp: int
    numbers: list[int]
    """Open, high, low, close and the columns to keep."""
    name_columns: dict[str, int]
    """Symbol and contract, where they are columns."""
    partitions: dict[str, str]
    """Symbol and contract, where directories name them."""
    columns: list[int] = field(init=False)
    """Every column needed, each once."""

    def __post_init__(self) -> None:
        self.columns = sorted({self.timestamp, *self.numbers, *self.name_columns.values()})

    def at(self, column: int) -> int:
        """The place of a column among the columns that are read."""
        return self.columns.index(column)

    def has(self, role: str) -> bool:
        return role in self.name_columns or role in self.partitions


def plain_name(name: str) -> str:
    """A column name spelled as the aliases are; MetaTrader's <CLOSE> becomes close."""
    name = name.strip().lower().removeprefix("<").removesuffix(">")
    for sign in " .-":
        name = name.replace(sign, "_")
    return name


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
                f"Say which with --columns FILE_COLUMN={role}, or rename one",
            )
        if found:
            return found[0]
    return None


def find_layout(source: Input, options: ReadOptions) -> Layout:
    """The columns that are read. Raises `InputError` for columns that are missing, ambiguous or of a wrong type."""
    named = named_columns(source, options.columns)
    partitions: dict[str, str] = {}
    for key, value in source.partitions.items():
        role = (options.columns or {}).get(key) or next(
            (role for role in ("symbol", "contract") if plain_name(key) in ALIASES[role]), None
        )
        if role in ("symbol", "contract"):
            partitions[role] = value
    taken = set(named.values())
    plain = [None if i in taken else plain_name(name) for i, name in enumerate(source.names)]

    roles = {role: find_column(source, role, ALIASES[role], named) for role in BAR_ROLES}
    if roles["timestamp"] is None:
        roles["timestamp"] = _index_column(source, plain)
    elif "timestamp" not in named:
        _refuse_split_time(source, plain, roles["timestamp"])
    missing = [role for role, column in roles.items() if column is None]
    if missing:
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
    name_columns: dict[str, int] = {}
    wanted = ("symbol", "contract") if "contract" in options.segment_by else ("symbol",)
    for role in wanted:
        column = find_column(source, role, ALIASES[role], named)
        if role not in partitions and column is not None:
            name_columns[role] = column
        elif role == "contract" and role not in partitions:
            raise source.refusal(
                f"has no contract column to divide segments by; its columns are {listed(source.names)}",
                "Name it with --columns FILE_COLUMN=contract, or leave contract out of --segment-by",
            )
    layout = Layout(
        cast(int, roles["timestamp"]),
        [*(cast(int, roles[price]) for price in PRICES), *kept],
        name_columns,
        {role: value for role, value in partitions.items() if role in wanted},
    )
    _check_types(source, layout, options)
    return layout


def named_columns(source: Input, columns: Mapping[str, str] | None) -> dict[str, int]:
    """From role to column, for the columns that the user named."""
    columns = columns or {}
    if source.headerless and not (columns and all(key.isdecimal() for key in columns)):
        raise source.refusal(
            f"has no header: its first line is {source.first_line!r}"
            + (", and --columns gives names" if columns else ""),
            "Say what its columns are, counted from 0, for example "
            "--columns 0=timestamp,1=open,2=high,3=low,4=close,5=volume",
        )
    positions = source.headerless or (
        bool(columns) and all(key.isdecimal() and key not in source.names for key in columns)
    )
    named: dict[str, int] = {}
    for key, role in columns.items():
        if positions:
            if int(key) >= len(source.names):
                raise source.refusal(
                    f"has {len(source.names)} columns, counted from 0, and no column {key} to be the {role}",
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
                "Correct --columns",
            )
        named[role] = found[0]
    return named


def _index_column(source: Input, plain: Sequence[str | None]) -> int | None:
    """The column in which pandas has written a DatetimeIndex."""
    for i, name in enumerate(plain):
        unnamed = name in _INDEX_NAMES and (source.types is None or is_temporal(source.types[i]))
        if unnamed or source.names[i] in source.index_columns:
            return i
    return None


def _refuse_split_time(source: Input, plain: Sequence[str | None], timestamp: int) -> None:
    if {"date", "time"} <= set(plain) and plain[timestamp] in ("date", "time"):
        date, time = (source.names[plain.index(name)] for name in ("date", "time"))
        raise source.refusal(
            f"has its times in two columns, {date!r} and {time!r}",
            "Join them into one column; or, if one of them is the whole time, say so with --columns "
            f"{time}=timestamp",
        )


def _refuse_missing(source: Input, missing: Sequence[str]) -> NoReturn:
    if source.headerless:
        raise source.refusal(
            f"--columns does not say which column is the {', the '.join(missing)}",
            "Bars need timestamp, open, high, low and close, for example "
            "--columns 0=timestamp,1=open,2=high,3=low,4=close",
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
    if not (is_temporal(dtype) or is_text(dtype) or is_type("integer", dtype) or is_type("floating", dtype)):
        refuse(layout.timestamp, "times must be timestamps, dates, text or whole numbers")
    if is_temporal(dtype) and not getattr(dtype, "tz", None) and options.tz is None:
        raise no_zone(source, f"column {source.names[layout.timestamp]!r} ({dtype})")


def no_zone(source: Input, what: str) -> InputError:
    return source.refusal(
        f"{what} has no time zone",
        "Say which zone the times are in with --tz, for example --tz UTC or --tz America/New_York",
    )
