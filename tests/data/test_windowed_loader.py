"""Loaders over bars in memory serve the same as those of a store, to the bit."""

from __future__ import annotations

import gc
import json
import os
import pickle
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from torch.utils.data import DataLoader

import moola
from moola import FeatureConfig
from moola.data.fast_windowed_loader import create_fast_dataloaders
from moola.data.windowed_loader import WindowedConfig, create_dataloaders
from moola.errors import BarError, ConfigError, InputError, StateError

BARS = 6_000
OPTIONS = {"batch_size": 64, "seed": 5, "stamp": "open"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Bars of three symbols, with their volume."""
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    moola.make_bars(path, BARS // 3, seed=3, symbols=3)
    return pq.read_table(path)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of temporary directories."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def equal(one, other) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize(
    "convert", [pa.Table.to_pandas, pl.from_arrow, lambda table: table], ids=["pandas", "polars", "pyarrow"]
)
@pytest.mark.parametrize(
    "config",
    [
        {},
        {
            "feature_set": "relativity12",
            "window_length": 40,
            "stride": 7,
            "warmup_bars": 60,
            "zigzag_k": 2.0,
            "mask_ratio": 0.4,
            "mask_strategy": "patch",
            "patch_size": 4,
            "split": [0.5, 0.25, 0.25],
            "embargo": 30,
        },
    ],
    ids=["defaults", "everything set"],
)
def test_batches_equal_those_of_a_store(table, tmp_path, convert, config):
    extra = ["volume"] if config else []
    loaders = create_dataloaders(convert(table), config, extra=extra, **OPTIONS)
    features = {name: config[name] for name in FeatureConfig.model_fields if name in config}
    masks = {name: config[name] for name in ("mask_ratio", "mask_strategy", "patch_size") if name in config}
    store = moola.build_features(
        table,
        tmp_path / "store",
        feature_set=config.get("feature_set", "relativity10"),
        config=features,
        window_length=config.get("window_length", 105),
        split=config.get("split"),
        embargo=config.get("embargo", 0),
        keep=extra,
        stamp="open",
    )
    stored = create_fast_dataloaders(
        store.path, 64, seed=5, stride=config.get("stride", 1), extra=extra, **masks
    )
    for mine, theirs in zip(loaders, stored, strict=True):
        assert mine.dataset.symbols == theirs.dataset.symbols == ["SIM1", "SIM2", "SIM3"]
        assert mine.dataset.feature_names == theirs.dataset.feature_names
        assert len(mine) > 0
        # Train in two epochs, with two orders and two sets of masks.
        for _ in range(2):
            assert equal(list(mine), list(theirs))


def test_days_split_as_in_a_store(tmp_path):
    moola.make_bars(tmp_path / "bars.parquet", 8_000, seed=1)
    table = pq.read_table(tmp_path / "bars.parquet")
    days = sorted({time.date() for time in table["timestamp"].to_pylist()})
    ends = {"train_end": days[2], "val_end": str(days[3]), "test_end": days[4]}
    loaders = create_dataloaders(table, ends, **OPTIONS)
    store = moola.build_features(table, tmp_path / "store", **ends, stamp="open")
    for loader, name in zip(loaders, ("train", "val", "test"), strict=True):
        assert len(loader.dataset) == store.splits[name].windows > 0


def test_a_loader_state_continues_in_another_process(table, tmp_path):
    """The other process computes the features of bars in memory again, so the state must identify the bars by
    content."""
    loader = create_dataloaders(table, {"window_length": 30}, **OPTIONS).train
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    state = json.loads(json.dumps(loader.state_dict()))
    wanted = next(batches)
    pq.write_table(table, tmp_path / "bars.parquet")
    code = """
import json, sys, torch
import pyarrow.parquet as pq
from moola.data.windowed_loader import create_dataloaders
loader = create_dataloaders(
    pq.read_table(sys.argv[1]), {"window_length": 30}, batch_size=64, seed=99, stamp="open"
).train
loader.load_state_dict(json.loads(sys.argv[2]))
torch.save(next(iter(loader)), sys.argv[3])
"""
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "bars.parquet", json.dumps(state), tmp_path / "batch.pt"],
        check=True,
    )
    assert equal([torch.load(tmp_path / "batch.pt")], [wanted])
    frame = table.to_pandas()
    frame.loc[BARS - 1, "high"] += 0.25
    other = create_dataloaders(frame, {"window_length": 30}, **OPTIONS).train
    with pytest.raises(StateError, match="fingerprint"):
        other.load_state_dict(state)


def test_the_arrays_are_freed_with_the_last_dataset(table, scratch):
    loaders = create_dataloaders(table, **OPTIONS)
    assert len(list(scratch.iterdir())) == 1
    dataset = loaders.val.dataset
    del loaders
    gc.collect()
    # Workers that are spawned open them by name.
    loader = DataLoader(dataset, 64, num_workers=1, multiprocessing_context="spawn")
    assert equal([next(iter(loader))], [dataset.batch(range(64))])
    copy = pickle.loads(pickle.dumps(dataset))
    assert equal([copy.batch([0, 1])], [dataset.batch([0, 1])])
    # A fork that releases its copy removes nothing from its parent.
    child = os.fork()
    if child == 0:
        del dataset, loader
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(scratch.iterdir())) == 1
    del dataset, loader, copy
    gc.collect()
    assert list(scratch.iterdir()) == []


def test_the_arrays_are_freed_with_the_process(table, tmp_path, scratch):
    pq.write_table(table, tmp_path / "bars.parquet")
    code = """
import sys
import pyarrow.parquet as pq
from moola.data.windowed_loader import create_dataloaders
loaders = create_dataloaders(pq.read_table(sys.argv[1]), stamp="open")
next(iter(loaders.train))
sys.exit(3)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "bars.parquet"],
        env=os.environ | {"TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 3, result.stderr
    assert list(scratch.iterdir()) == []


def test_bad_bars_are_refused_and_leave_nothing(table, scratch):
    frame = table.to_pandas()
    frame.loc[50, "high"] = frame.loc[50, "low"] - 1
    with pytest.raises(BarError, match="high below low"):
        create_dataloaders(frame, **OPTIONS)
    with pytest.raises(InputError, match="fewer than one window"):
        create_dataloaders(table.slice(0, 50), **OPTIONS)
    gc.collect()
    assert list(scratch.iterdir()) == []


def test_notes_for_the_user_are_warnings(table):
    with pytest.warns(UserWarning, match="taken as the open of each bar"):
        create_dataloaders(table)


def test_only_tables_are_accepted(table, tmp_path):
    for df, message in [(tmp_path, "the path .*moola.build_features"), ([1, 2], "a list")]:
        with pytest.raises(TypeError, match=f"df must be a table of bars .*{message}"):
            create_dataloaders(df)
    with pytest.raises(TypeError, match="must be a WindowedConfig, a dict or None, not str"):
        create_dataloaders(table, "config.yaml")


# The configuration


def test_a_configuration_is_read_from_yaml(tmp_path):
    (tmp_path / "windows.yaml").write_text(
        "window_length: 50\nstride: 5\nwarmup_bars: 60\nmask_ratio: 1e-1\nmask_strategy: patch\n"
        "train_end: 2024-01-31\nval_end: '2024-02-29'\ntest_end: 2024-03-31\nzigzag_k: 1.5\n"
    )
    assert WindowedConfig.from_yaml(tmp_path / "windows.yaml") == WindowedConfig(
        window_length=50,
        stride=5,
        warmup_bars=60,
        mask_ratio=0.1,
        mask_strategy="patch",
        train_end=date(2024, 1, 31),
        val_end="2024-02-29",
        test_end=date(2024, 3, 31),
        zigzag_k=1.5,
    )
    (tmp_path / "windows.yaml").write_text("split: [0.6, 0.2, 0.2]\n")
    assert WindowedConfig.from_yaml(str(tmp_path / "windows.yaml")).split == (0.6, 0.2, 0.2)
    (tmp_path / "windows.yaml").write_text("")
    assert WindowedConfig.from_yaml(tmp_path / "windows.yaml") == WindowedConfig()
    (tmp_path / "windows.yaml").write_text("stride: 5\nstride: 6\n")
    with pytest.raises(InputError, match="not valid YAML"):
        WindowedConfig.from_yaml(tmp_path / "windows.yaml")
    (tmp_path / "windows.yaml").write_text("window_lenght: 50\n")
    with pytest.raises(ConfigError, match=r"window_lenght: there is no such parameter; .*, window_length,"):
        WindowedConfig.from_yaml(tmp_path / "windows.yaml")


@pytest.mark.parametrize(
    ("config", "name", "message"),
    [
        ({"window_length": 9}, "window_length", "greater than or equal to 10, not 9"),
        ({"window_length": 501}, "window_length", "less than or equal to 500, not 501"),
        ({"window_length": 50.0}, "window_length", "valid integer"),
        ({"window_length": True}, "window_length", "valid integer"),
        ({"stride": 0}, "stride", "greater than or equal to 1, not 0"),
        ({"warmup_bars": -1}, "warmup_bars", "greater than or equal to 0"),
        ({"mask_ratio": 1.5}, "mask_ratio", "less than or equal to 1"),
        ({"mask_ratio": "0.15"}, "mask_ratio", "valid number"),
        ({"mask_ratio": float("nan")}, "mask_ratio", "not nan"),
        ({"mask_strategy": "block"}, "mask_strategy", "'random' or 'patch'"),
        ({"patch_size": 0}, "patch_size", "greater than or equal to 1"),
        ({"feature_set": "relativity11"}, "feature_set", "Choose one of relativity10"),
        ({"zigzag_k": 0}, "zigzag_k", "greater than 0"),
        ({"train_end": "2024-01-31"}, "val_end", "give train_end, val_end and test_end together"),
        (
            {"train_end": 20240131, "val_end": "2024-02-29", "test_end": "2024-03-31"},
            "train_end",
            "20240131 is not a day",
        ),
        (
            {"train_end": "31.1.2024", "val_end": "2024-02-29", "test_end": "2024-03-31"},
            "train_end",
            "give it as YYYY-MM-DD",
        ),
        ({"split": [0.7, 0.3]}, "split.2", "field required"),
        ({"split": [0.7, 0.2, 0.2]}, "split", "sum to 1.1"),
        ({"embargo": -1}, "embargo", "greater than or equal to 0"),
        ({"seed": 1}, "seed", "there is no such parameter"),
    ],
)
def test_wrong_arguments_are_refused_by_name(table, config, name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        create_dataloaders(table, config)
    assert caught.value.name == name
    with pytest.raises(ValidationError):
        WindowedConfig(**config)
