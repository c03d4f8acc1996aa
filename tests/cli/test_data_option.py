"""Several files of bars: after one --data, as a shell expands a pattern, repeated, or without an option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import moola


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    whole = pq.read_table(moola.make_bars(folder / "whole.parquet", 3000).output)
    paths = [folder / f"bars_{i}.parquet" for i in range(3)]
    for i, path in enumerate(paths):
        pq.write_table(whole.slice(i * 1000, 1000), path)
    return paths


@pytest.mark.parametrize(
    "words",
    [
        ["--data", "0", "1", "2", "--output", "S"],
        ["--output", "S", "--data", "0", "1", "--stamp", "open", "--data", "2"],
        ["--data", "0", "--data", "1", "--data", "2", "--output", "S"],
        ["0", "1", "2", "--output", "S"],
        ["--output", "S", "--stamp", "open", "0", "1", "2"],
        ["--data=*", "--output", "S"],
    ],
)
def test_every_way_to_give_files_reads_all(
    run: Any, parts: list[Path], tmp_path: Path, words: list[str]
) -> None:
    names = {"0": str(parts[0]), "1": str(parts[1]), "2": str(parts[2]), "S": str(tmp_path / "store")}
    names["--data=*"] = f"--data={parts[0].parent}/bars_*.parquet"
    done = run("build-features", *(names.get(word, word) for word in words))
    assert done.code == 0, done.err
    with moola.FeatureStore.open(tmp_path / "store") as store:
        assert len(store) == 3000
        assert [source["rows"] for source in store.metadata["sources"]] == [1000] * 3
    verified = run("verify-features", "--feature-dir", tmp_path / "store", "--data", *parts)
    assert verified.code == 0, verified.out
