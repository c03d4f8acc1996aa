"""Tells instruments apart by the names of files: by a pattern that the user gives, or refuses to guess."""

from __future__ import annotations

import re
from collections.abc import Sequence

from moola.bars.formats.inputs import Input
from moola.errors import InputError

__all__ = ["check_one_series", "name_symbols"]

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_DATE_WORDS = frozenset((*_MONTHS, *(month[:3] for month in _MONTHS), "sept", "q"))
_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_SUFFIXES = re.compile(
    r"(\.(csv|tsv|txt|parquet|pq|arrow|arrows|feather|ipc|zip|gz|zst|bz2))+$", re.IGNORECASE
)
_HASH = re.compile(r"(?=[a-f]*\d)[0-9a-f]{12,}", re.IGNORECASE)


def name_symbols(inputs: Sequence[Input], pattern: str) -> None:
    """Gives each file the symbol that its name holds, as a partition. Raises `InputError` for a name that does not fit.

    A pattern is compared with the end of the path. `{symbol}` stands for a part of one name, `*` for any such part.
    """
    whole = "".join(
        "(?P<symbol>[^/]+?)" if part == "{symbol}" else "[^/]*" if part == "*" else re.escape(part)
        for part in re.split(r"(\{symbol\}|\*)", pattern.replace("\\", "/"))
    )
    wanted = re.compile(rf"(?:.*/)?{whole}", re.DOTALL)
    for source in inputs:
        match = wanted.fullmatch(source.name.replace("\\", "/"))
        if match is None or not match["symbol"].strip():
            raise InputError(
                f"its name does not fit --symbol-from-name {pattern!r}",
                "Correct the pattern: {symbol} stands for the symbol, * for anything else, as in '{symbol}_*.csv'",
                source=source.name,
            )
        source.partitions["symbol"] = match["symbol"].strip()
        source.symbol_from = "the file's name"


def check_one_series(inputs: Sequence[Input]) -> None:
    """Refuses files without a symbol whose names differ in letters: they may hold several instruments."""
    paths = [source.name.replace("\\", "/").split("/") for source in inputs if source.path is not None]
    if len(paths) < 2:
        return
    common = 0
    while all(len(path) > common + 1 and path[common] == paths[0][common] for path in paths):
        common += 1
    inner = [[part for part in path[common:] if "=" not in part] for path in paths]
    letters = {tuple(map(_letters, parts)): parts for parts in inner}
    if len(letters) > 1:
        one, other = list(letters.values())[:2]
        raise InputError(
            f"{'/'.join(one)} and {'/'.join(other)} have names of different letters, and nothing in them says which "
            "instrument they hold",
            "If each file is of one instrument, say where its name stands, for example --symbol-from-name "
            f"'{_pattern(one, other)}'; if all hold one series, give --one-series",
        )


def _letters(name: str) -> str:
    """The letters of a name without its suffixes, dates, numbers and hashes."""
    stem = _SUFFIXES.sub("", name)
    text = _HASH.sub(" ", _UUID.sub(" ", stem))
    words = [word.lower() for word in re.findall(r"[^\W\d_]+", text)]
    return " ".join(word for word in words if word not in _DATE_WORDS) if len(words) > 1 else " ".join(words)


def _pattern(one: Sequence[str], other: Sequence[str]) -> str:
    """A pattern that reads the symbols of two paths: the first part whose letters differ, and anything below it."""
    at = next(
        (i for i, pair in enumerate(zip(one, other, strict=False)) if _letters(pair[0]) != _letters(pair[1])),
        -1,
    )
    below = ["*"] * (len(one) - 1 - at) if at >= 0 else []
    return "/".join([_part(one[at], other[at]), *below])


def _part(one: str, other: str) -> str:
    """A pattern for one part of a path, as far as what two of them share tells."""
    first = 0
    while first < min(len(one), len(other)) and one[first] == other[first]:
        first += 1
    last = 0
    while last < min(len(one), len(other)) - first and one[-1 - last] == other[-1 - last]:
        last += 1
    # Names such as EURUSD and GBPUSD share letters; a part of a name ends at a sign that is no letter.
    while first and one[first - 1].isalnum():
        first -= 1
    while last and one[len(one) - last].isalnum():
        last -= 1
    return f"{one[:first]}{{symbol}}{one[len(one) - last :] if last else ''}"
