"""The roles that columns of bars have, and the names that files usually give them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ALIASES", "BAR_ROLES", "PRICES", "ROLES", "UTC_NAMES", "plain_name"]

PRICES = ("open", "high", "low", "close")
BAR_ROLES = ("timestamp", *PRICES)
ROLES = (*BAR_ROLES, "volume", "symbol", "contract", "date", "time")

UTC_NAMES = (
    *("gmt_time", "utc_time", "time_utc", "time_gmt", "datetime_utc", "timestamp_utc", "date_utc"),
    *("time_(utc)", "datetime_(utc)", "timestamp_(utc)", "date_(utc)", "time_(gmt)"),
)
"""Names of a time column that say its zone."""

# Usual column names, the most specific first. They are compared in lower case, with "_" for blanks, dots and dashes.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "timestamp": (
        *(
            "timestamp",
            "datetime",
            "date_time",
            "open_time",
            "opentime",
            "bar_time",
            "ts",
            "ts_event",
            *UTC_NAMES,
        ),
        *("local_time", "time", "date", "t", "unix", "unix_timestamp", "epoch", "window_start"),
    ),
    "open": ("open", "o", "open_price", "price_open"),
    "high": ("high", "h", "high_price", "price_high"),
    "low": ("low", "l", "low_price", "price_low"),
    "close": ("close", "c", "close_price", "price_close", "last"),
    "volume": ("volume", "vol", "v"),
    "symbol": ("symbol", "ticker", "sym", "instrument"),
    "contract": ("contract", "contract_symbol", "contract_id"),
    "date": ("date", "trade_date", "trading_date", "trading_day", "dtyyyymmdd", "day"),
    "time": ("time", "trade_time", "time_of_day", "ms_of_day"),
}


def plain_name(name: str) -> str:
    """A column name spelled as the aliases are; MetaTrader's <CLOSE> becomes close."""
    name = name.strip().lower().removeprefix("<").removesuffix(">")
    for sign in " .-":
        name = name.replace(sign, "_")
    return name
