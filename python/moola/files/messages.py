"""Where library functions send the lines that a person should read: the caller's function, or the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["teller"]


def teller(say: Callable[[str], None] | None) -> Callable[[str], None]:
    """The function that a line goes to: `say` itself, or the logger `moola` at level INFO if there is none.

    To see the log of a script: `logging.basicConfig(level="INFO", format="%(message)s")`. The command line gives a
    function of its own and writes to standard error.
    """
    return _log if say is None else say


def _log(line: str) -> None:
    # As an argument, so that a percent sign in a line is text.
    logging.getLogger("moola").info("%s", line)
