"""The options of reading bars: columns, zone, time format, numbers, symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, cast

from moola import _core
from moola.bars.formats.csv_options import TextOptions
from moola.bars.roles import ROLES
from moola.bars.zones import check_zone
from moola.errors import ConfigError

__all__ = ["ReadOptions", "parse_columns", "parse_names"]

_SINCE_0_2 = {
    "skip_lines": 0,
    "decimal": None,
    "thousands": None,
    "symbols": (),
    "exclude_symbols": (),
    "symbol_from_name": None,
    "one_series": False,
}
"""Options that records of 0.1 lack, with the values that mean the same."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How bars are read. Raises `ConfigError`, which names the option, for a wrong value.

    Attributes:
        columns: from a file's column to its role: timestamp (or date and time), open, high, low, close, volume,
            symbol, contract, or a name of `keep`. Whole numbers are always positions, counted from 0. As text:
            ``"A=open,B=high"``. Columns not named here are found by their usual names.
        keep: further numeric columns to read along.
        tz: the zone of times that carry none, such as ``"America/New_York"``, or an offset such as ``"UTC+2"``.
        time_format: how times in text (or in whole numbers) are written, as for ``strptime``. Of a date and a time
            column it reads the date, one space, and the time.
        stamp: whether a timestamp is the bar's ``"open"`` or ``"close"`` time; recorded, not applied here.
        segment_by: ``("symbol",)`` or ``("symbol", "contract")``.
        skip_lines: lines of a text file before its header, or before its first row where it has none.
        decimal: the decimal mark of numbers in text, ``"."`` or ``","``; found from the whole file where None.
        thousands: the sign between thousands, such as ``","``; found from the whole file where None.
        symbols, exclude_symbols: patterns such as ``("ES*",)``; only bars of symbols that match one of `symbols`, and
            none of `exclude_symbols`, are read. ``*`` stands for any text, ``?`` for one sign. Case counts.
        symbol_from_name: a pattern of file names such as ``"{symbol}_1min.csv"``, whose part ``{symbol}`` is the
            symbol of the file's bars. It may begin with directories.
        one_series: files whose names seem to name several instruments hold one series.
    """

    columns: Mapping[str, str] | None = None
    keep: tuple[str, ...] = ()
    tz: str | None = None
    time_format: str | None = None
    stamp: Literal["open", "close"] = "open"
    segment_by: tuple[str, ...] = ("symbol",)
    skip_lines: int = 0
    decimal: str | None = None
    thousands: str | None = None
    symbols: tuple[str, ...] = ()
    exclude_symbols: tuple[str, ...] = ()
    symbol_from_name: str | None = None
    one_series: bool = False

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "keep", parse_names("keep", self.keep))
        set_field(self, "columns", parse_columns(self.columns, ROLES, self.keep))
        for name in self.keep:
            if name in ROLES and name != "volume":
                raise ConfigError("keep", f"{name!r} is always read; keep further columns, such as volume")
        self._check_times()
        segment_by = parse_names("segment_by", self.segment_by)
        if not segment_by or not set(segment_by) <= {"symbol", "contract"}:
            raise ConfigError(
                "segment_by", f"must be symbol, or symbol,contract, not {','.join(segment_by)!r}"
            )
        # Bars of two symbols never share a segment, whatever else divides them.
        set_field(self, "segment_by", ("symbol", "contract") if "contract" in segment_by else ("symbol",))
        self._check_text()
        for option in ("symbols", "exclude_symbols"):
            set_field(self, option, parse_names(option, getattr(self, option) or (), "('ES*',)"))
        pattern = self.symbol_from_name
        if pattern is not None and (not isinstance(pattern, str) or pattern.count("{symbol}") != 1):
            raise ConfigError(
                "symbol_from_name", f"must hold {{symbol}} once, as in '{{symbol}}_1min.csv', not {pattern!r}"
            )
        if pattern is not None and self.one_series:
            raise ConfigError("one_series", "cannot be combined with symbol_from_name: give one of them")

    def _check_times(self) -> None:
        if self.tz is not None:
            check_zone(self.tz)
        if self.time_format is not None:
            if not isinstance(self.time_format, str):
                raise ConfigError(
                    "time_format", f"must be text such as '%d.%m.%Y %H:%M', not {self.time_format!r}"
                )
            _core.time_format_has_offset(self.time_format)
        if self.stamp not in ("open", "close"):
            raise ConfigError("stamp", f"must be 'open' or 'close', not {self.stamp!r}")
        roles = set((self.columns or {}).values())
        for one, other in (("date", "time"), ("time", "date")):
            if one in roles and other not in roles and "timestamp" in roles:
                raise ConfigError("columns", f"gives timestamp and {one}; give timestamp, or date and time")
        if {"timestamp", "date", "time"} <= roles:
            raise ConfigError("columns", "gives timestamp, date and time; give timestamp, or date and time")

    def _check_text(self) -> None:
        from moola.settings.whole_numbers import whole_number

        object.__setattr__(self, "skip_lines", whole_number("skip_lines", self.skip_lines, 0, of="lines"))
        if self.decimal not in (None, ".", ","):
            raise ConfigError("decimal", f"must be '.' or ',', not {self.decimal!r}")
        if self.thousands not in (None, ".", ",", "'", " ", "_", "\u00a0", "\u202f"):
            raise ConfigError("thousands", f"must be one of . , ' _ or a blank, not {self.thousands!r}")
        if self.thousands is not None and self.thousands == (
            self.decimal or ("," if self.thousands == "." else ".")
        ):
            raise ConfigError("thousands", f"{self.thousands!r} is the decimal mark too; give another")

    @property
    def text(self) -> TextOptions:
        """The options that concern text files alone."""
        return TextOptions(self.skip_lines, self.decimal, self.thousands)

    def record(self) -> dict[str, Any]:
        """The options as JSON can hold them; :meth:`from_record` reads them back."""
        lists = ("keep", "segment_by", "symbols", "exclude_symbols")
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        record |= {name: list(record[name]) for name in lists}
        record["columns"] = None if self.columns is None else dict(self.columns)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ReadOptions:
        """The options that :meth:`record` wrote, in this version or in 0.1. Raises ConfigError for others."""
        fields = set(cls.__dataclass_fields__)
        record = _SINCE_0_2 | dict(record)
        if set(record) != fields:
            odd = ", ".join(sorted(set(record) ^ fields))
            raise ConfigError("read_options", f"must hold exactly {', '.join(sorted(fields))}; check {odd}")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        return cls(**cast("dict[str, Any]", values))


def parse_names(option: str, value: object, example: str = "('volume',)") -> tuple[str, ...]:
    """A tuple of distinct names, from a sequence of them or from a text with commas."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError(option, f"must be names, such as {example}, not {value!r}")
    names = tuple(name.strip() for name in names if name.strip())
    if len(set(names)) < len(names):
        what = "a symbol" if "symbols" in option else "a column"
        raise ConfigError(option, f"names {what} twice: {','.join(names)}")
    return names


def parse_columns(
    value: object, roles: Sequence[str], keep: tuple[str, ...] | None = None
) -> dict[str, str] | None:
    """From a file's columns to their roles, given as a mapping or as text. `keep` holds further roles, where allowed.

    Raises `ConfigError` for an unknown role, and for a column or a role that occurs twice.
    """
    if value is None:
        return None
    pairs: list[tuple[Any, Any]]
    if isinstance(value, str):
        pairs = []
        for part in value.split(","):
            column, equals, role = part.rpartition("=")
            if not equals:
                raise ConfigError("columns", f"must be FILE_COLUMN=ROLE,… but {part!r} has no '='")
            pairs.append((column.strip(), role.strip()))
    elif isinstance(value, Mapping):
        pairs = [(str(column) if isinstance(column, int) else column, role) for column, role in value.items()]
    else:
        raise ConfigError(
            "columns", f"must map file columns to roles, such as {{'Last': 'close'}}, not {value!r}"
        )
    columns: dict[str, str] = {}
    for column, role in pairs:
        if not isinstance(column, str) or not isinstance(role, str) or not role:
            raise ConfigError("columns", f"must map column names to roles, not {column!r} to {role!r}")
        known = [*roles, *(keep or ())]
        if role not in known:
            near = get_close_matches(role, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            kept = "" if keep is None else " and not among the columns to keep"
            raise ConfigError("columns", f"{role!r} is not a role ({', '.join(roles)}){kept}{hint}")
        if column in columns:
            raise ConfigError("columns", f"column {column!r} is given two roles")
        if role in columns.values():
            raise ConfigError("columns", f"role {role!r} is given to two columns")
        columns[column] = role
    return columns
