"""The roles that columns of bars have, and the names that files usually give them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ALIASES", "BAR_ROLES", "PRICES", "ROLES"]

PRICES = ("open", "high", "low", "close")
BAR_ROLES = ("timestamp", *PRICES)
ROLES = (*BAR_ROLES, "volume", "symbol", "contract")

# Usual column names, the most specific first. They are compared in lower case, with "_" for blanks, dots and dashes.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "timestamp": (
        *("timestamp", "datetime", "date_time", "open_time", "opentime", "bar_time", "ts", "ts_event"),
        *("time", "date", "t", "unix", "window_start"),
    ),
    "open": ("open", "o", "open_price", "price_open"),
    "high": ("high", "h", "high_price", "price_high"),
    "low": ("low", "l", "low_price", "price_low"),
    "close": ("close", "c", "close_price", "price_close"),
    "volume": ("volume", "vol", "v"),
    "symbol": ("symbol", "ticker", "sym", "instrument"),
    "contract": ("contract", "contract_symbol", "contract_id"),
}
