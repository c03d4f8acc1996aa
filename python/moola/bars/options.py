"""The options of reading bars: columns, zone, time format, symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, cast

from moola import _core
from moola.bars.roles import ROLES
from moola.errors import ConfigError

__all__ = ["ReadOptions", "parse_columns", "parse_names"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How bars are read. Raises `ConfigError`, which names the option, for a wrong value.

    Attributes:
        columns: from a file's column to its role: timestamp, open, high, low, close, volume, symbol,
            contract, or a name of `keep`. Numbers (from 0) name columns by position. As text:
            ``"A=open,B=high"``. Columns not named here are found by their usual names.
        keep: further numeric columns to read along.
        tz: the zone of times that carry none, such as ``"America/New_York"``.
        time_format: how times in text (or in whole numbers) are written, as for ``strptime``.
        stamp: whether a timestamp is the bar's ``"open"`` or ``"close"`` time; recorded, not applied here.
        segment_by: ``("symbol",)`` or ``("symbol", "contract")``.
    """

    columns: Mapping[str, str] | None = None
    keep: tuple[str, ...] = ()
    tz: str | None = None
    time_format: str | None = None
    stamp: Literal["open", "close"] = "open"
    segment_by: tuple[str, ...] = ("symbol",)

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "keep", parse_names("keep", self.keep))
        set_field(self, "columns", parse_columns(self.columns, ROLES, self.keep))
        for name in self.keep:
            if name in ROLES and name != "volume":
                raise ConfigError("keep", f"{name!r} is always read; keep further columns, such as volume")
        if self.tz is not None:
            _check_zone(self.tz)
        if self.time_format is not None:
            if not isinstance(self.time_format, str):
                raise ConfigError(
                    "time_format", f"must be text such as '%d.%m.%Y %H:%M', not {self.time_format!r}"
                )
            _core.time_format_has_offset(self.time_format)
        if self.stamp not in ("open", "close"):
            raise ConfigError("stamp", f"must be 'open' or 'close', not {self.stamp!r}")
        segment_by = parse_names("segment_by", self.segment_by)
        if not segment_by or not set(segment_by) <= {"symbol", "contract"}:
            raise ConfigError(
                "segment_by", f"must be symbol, or symbol,contract, not {','.join(segment_by)!r}"
            )
        # Bars of two symbols never share a segment, whatever else divides them.
        set_field(self, "segment_by", ("symbol", "contract") if "contract" in segment_by else ("symbol",))

    def record(self) -> dict[str, Any]:
        """The options as JSON can hold them; :meth:`from_record` reads them back."""
        return {
            "columns": None if self.columns is None else dict(self.columns),
            "keep": list(self.keep),
            "tz": self.tz,
            "time_format": self.time_format,
            "stamp": self.stamp,
            "segment_by": list(self.segment_by),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ReadOptions:
        """The options that :meth:`record` wrote. Raises ConfigError for any other mapping."""
        fields = set(cls.__dataclass_fields__)
        if set(record) != fields:
            odd = ", ".join(sorted(set(record) ^ fields))
            raise ConfigError("read_options", f"must hold exactly {', '.join(sorted(fields))}; check {odd}")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        return cls(**cast("dict[str, Any]", values))


def parse_names(option: str, value: object) -> tuple[str, ...]:
    """A tuple of distinct names, from a sequence of them or from a text with commas."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError(option, f"must be names, such as ('volume',), not {value!r}")
    names = tuple(name.strip() for name in names if name.strip())
    if len(set(names)) < len(names):
        raise ConfigError(option, f"names a column twice: {','.join(names)}")
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


def _check_zone(tz: object) -> None:
    zones = _core.time_zones()
    if tz in zones:
        return
    near: list[str] = []
    if isinstance(tz, str):
        by_lower = {zone.lower(): zone for zone in zones}
        wanted = tz.strip().lower().replace(" ", "_")
        by_city = {zone.lower().rpartition("/")[2]: zone for zone in zones}
        found = get_close_matches(wanted, by_lower, 3, 0.75) + get_close_matches(wanted, by_city, 1, 0.75)
        near = list(dict.fromkeys((by_lower | by_city)[name] for name in found))
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "use a name such as UTC, America/New_York or Europe/Berlin"
    )
    raise ConfigError("tz", f"{tz!r} is not a time zone; {hint}")
