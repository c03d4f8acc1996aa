"""Names of time zones: which are known, and what a wrong one may have meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from moola import _core
from moola.errors import ConfigError

__all__ = ["CITIES", "check_zone", "zone_note"]

CITIES: Mapping[str, str] = {
    **dict.fromkeys(("ET", "EDT", "EASTERN", "NEW YORK", "NYC", "NY"), "America/New_York"),
    **dict.fromkeys(("CT", "CDT", "CENTRAL", "CHICAGO"), "America/Chicago"),
    **dict.fromkeys(("MT", "MDT", "MOUNTAIN", "DENVER"), "America/Denver"),
    **dict.fromkeys(("PT", "PDT", "PST", "PACIFIC", "LOS ANGELES"), "America/Los_Angeles"),
    **dict.fromkeys(("CST",), "America/Chicago"),
    **dict.fromkeys(("BST", "LONDON", "UK"), "Europe/London"),
    **dict.fromkeys(("CEST", "MESZ", "FRANKFURT", "BERLIN"), "Europe/Berlin"),
    **dict.fromkeys(("EEST", "ATHENS"), "Europe/Athens"),
    **dict.fromkeys(("MSK", "MOSCOW"), "Europe/Moscow"),
    **dict.fromkeys(("JST", "TOKYO"), "Asia/Tokyo"),
    **dict.fromkeys(("HKT",), "Asia/Hong_Kong"),
    **dict.fromkeys(("SGT",), "Asia/Singapore"),
    **dict.fromkeys(("AEST", "AEDT", "SYDNEY"), "Australia/Sydney"),
    "EST": "America/New_York",
}
"""The city whose clocks people mean by an abbreviation. EST is a zone of IANA too, without summer time."""

_ABBREVIATIONS: Mapping[str, tuple[str, str]] = {
    "EST": ("five hours behind UTC all year", "America/New_York"),
    "MST": ("seven hours behind UTC all year", "America/Denver"),
    "HST": ("ten hours behind UTC all year", "Pacific/Honolulu"),
    "EST5EDT": ("New York's clocks", "America/New_York"),
    "CST6CDT": ("Chicago's clocks", "America/Chicago"),
    "MST7MDT": ("Denver's clocks", "America/Denver"),
    "PST8PDT": ("Los Angeles' clocks", "America/Los_Angeles"),
    "CET": ("Central European time with summer time", "Europe/Berlin"),
    "EET": ("Eastern European time with summer time", "Europe/Athens"),
    "MET": ("Central European time with summer time", "Europe/Berlin"),
    "WET": ("Western European time with summer time", "Europe/Lisbon"),
}


def check_zone(tz: object, option: str = "tz") -> None:
    """Raises `ConfigError` for a text that is neither a name of IANA's database nor an offset such as UTC+2."""
    if isinstance(tz, str) and _core.is_time_zone(tz):
        return
    raise ConfigError(option, f"{tz!r} is not a time zone; {_hint(tz)}")


def _hint(tz: object) -> str:
    usual = "use a name such as UTC, America/New_York or Europe/Berlin, or an offset such as UTC+2"
    if not isinstance(tz, str):
        return usual
    if city := CITIES.get(tz.strip().upper()):
        return f"for the clocks of that place use {city}"
    wanted = tz.strip().lower().replace(" ", "_")
    for zone in _core.time_zones():
        if zone.lower() == wanted:
            return f"did you mean {zone}?"
    # Only for names long enough that a near one means the same place.
    if len(wanted) < 5 or any(sign.isdecimal() for sign in wanted):
        return usual
    zones = [zone for zone in _core.time_zones() if not zone.startswith("Etc/")]
    by_lower = {zone.lower(): zone for zone in zones}
    by_city = {zone.lower().rpartition("/")[2]: zone for zone in zones}
    found = get_close_matches(wanted, by_lower, 3, 0.75) + get_close_matches(wanted, by_city, 1, 0.75)
    near = list(dict.fromkeys((by_lower | by_city)[name] for name in found))
    return f"did you mean {' or '.join(near)}?" if near else usual


def zone_note(tz: str | None) -> str | None:
    """What a zone's name was taken for, where people may mean another; None for other names."""
    if tz is None:
        return None
    if meaning := _ABBREVIATIONS.get(tz):
        said, city = meaning
        return f"--tz {tz} was taken for {said}; for the clocks of a place give its name, such as {city}"
    if match := re.fullmatch(r"Etc/GMT([+-])(\d+)", tz):
        sign, hours = match.groups()
        ahead, turned = ("behind", "-") if sign == "+" else ("ahead of", "+")
        return (
            f"--tz {tz} is {hours} hours {ahead} UTC, because signs in Etc/GMT are turned round; UTC{turned}{hours} is "
            "the same"
        )
    if match := re.fullmatch(r"(?:UTC|GMT)?([+-])(\d{1,2}(?::?\d{2})?)", tz, re.IGNORECASE):
        ahead = "ahead of" if match[1] == "+" else "behind"
        return f"--tz {tz} was taken for a fixed offset: {match[2]} hours {ahead} UTC all year"
    return None
