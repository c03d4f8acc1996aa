"""Verification of JSON: any value anywhere is a finding, never an exception."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tampering import (
    LAYOUTS,
    copy,
    findings,
    found,
    seal,
)

from moola import _core
from moola.files.json import dump_json
from moola.store.layout import CHECKSUMS, METADATA, SPLITS, dump_checksums
from moola.store.verify.report import verify_features

ODD: list[Any] = [None, -1, 0, 1 << 40, (1 << 63) - 1, 1 << 64, 1e308, "x", "", [], {}, [[]], True]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


# Facts about the build that neither the store nor its bars can confirm.
FREE = {
    "store_id",
    "moola_version",
    "created",
    "timings",
    "sources",
    "read_options",
    "known_after",
    "parameters",
}


@pytest.mark.parametrize("name", [METADATA, SPLITS])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_value_anywhere_is_a_finding(name: str, layout: str, built: Any, tmp_path: Path) -> None:
    store, _ = copy(built("panel", layout), tmp_path)
    original = json.loads((store / name).read_bytes())
    whole = {p: (store / p).read_bytes() for p in (METADATA, SPLITS, CHECKSUMS)}
    # Sealing puts this size right again.
    paths = [path for path in leaves(original) if path and path != ("files", SPLITS, "bytes")]
    # The first and the last of the many segments and ranges.
    paths = [
        p for p in paths if p[0] != "segments" or len(p) == 1 or p[1] in (0, len(original["segments"]) - 1)
    ]
    quiet = set()
    for i, path in enumerate(paths):
        for odd in ODD[i % 4 :: 4]:
            value = json.loads(whole[name])
            put(value, path, odd)
            if value == original:
                continue
            (store / name).write_bytes(dump_json(value))
            seal(store)
            report = verify_features(store, samples=1)
            if report.ok:
                quiet.add(path[0])
            for file, data in whole.items():
                (store / file).write_bytes(data)
    assert quiet <= (FREE if name == METADATA else set()), quiet


def test_json_that_is_not_canonical_is_found(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    value = json.loads((store / METADATA).read_bytes())
    # Too long to be compared on opening: the check does it.
    value["timings"]["padding"] = "x" * (1 << 20)
    (store / METADATA).write_bytes(dump_json(value))
    seal(store)
    assert found(store) == {}
    (store / METADATA).write_bytes(dump_json(value).replace(b": ", b":  ", 1))
    hashes = {p.name: _core.hash_file(p) for p in store.iterdir() if p.name != CHECKSUMS}
    (store / CHECKSUMS).write_bytes(dump_checksums(hashes))
    assert set(findings(verify_features(store))) == {"json"}
