"""Makes a directory of files that this version of moola saves, and of the results of reading them.

    python tests/data/compat/make.py

It writes `tests/data/compat/VERSION`. README.md in this directory says when to run it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TZ": "UTC"}

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch

import moola
from moola.data.fast_windowed_loader import create_fast_dataloaders, create_strided_dataloaders
from moola.data.windowed_loader import WindowedConfig, create_dataloaders
from moola.gates import read_gates
from moola.labels import LabelledWindows, together
from moola.models import load_config, load_encoder, load_model
from moola.sweep import read_space
from moola.training import pretrain

HERE = Path(__file__).resolve().parent
# Runs record their paths. This one reveals nothing about the machine that made them.
SCRATCH = Path("/tmp/moola-compat")
MINUTE = 60 * 10**9
PRICES = ("open", "high", "low", "close")
SETS = ("relativity10", "relativity12", "relative_transform11", "ohlc4")
VARIES = "varies"
"""Replaces a value that differs between two runs of the same command, such as a time."""

calls: dict[str, dict[str, Any]] = {}


def moola_json(*arguments: str) -> Any:
    """The JSON that a command prints with --json."""
    command = [sys.executable, "-m", "moola", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    # A failed gate exits with 1, but prints its JSON too.
    printed = json.loads(done.stdout) if done.stdout else {"error": done.stderr}
    if "error" in printed:
        raise SystemExit(f"moola {' '.join(arguments)}\n{printed}")
    return printed


def stable(first: Any, second: Any) -> Any:
    """The first output, with values that differ in the second replaced by `VARIES`."""
    if isinstance(first, dict):
        return {key: stable(value, second[key]) for key, value in first.items()}
    if isinstance(first, list) and len(first) == len(second):
        return [stable(a, b) for a, b in zip(first, second, strict=True)]
    return first if first == second else VARIES


def call(name: str, *arguments: str, copy: str | None = None) -> None:
    """Records the arguments and the output of a command. `copy` is a directory that the command changes."""
    said = []
    for _ in range(2):
        if copy:
            shutil.copytree(copy, "kept")
        said.append(moola_json(*arguments))
        if copy:
            shutil.rmtree(copy)
            Path("kept").rename(copy)
    calls[name] = {"arguments": list(arguments), "printed": stable(*said)}


def write_json(path: str, value: Any) -> None:
    Path(path).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def digest(array: Any) -> str:
    """The SHA-256 of an array's type, shape and bytes."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


# ---- bars --------------------------------------------------------------------------------------------------


def sample(bars: int, seed: int, every: int = 1) -> pa.Table:
    """Bars of the sample market, or every n-th of them."""
    moola.make_bars("sample.parquet", bars * every, seed=seed)
    table = pq.read_table("sample.parquet")
    Path("sample.parquet").unlink()
    return table.take(np.arange(0, bars * every, every))


def shifted(table: pa.Table, by: int) -> pa.Table:
    moved = np.asarray(table["timestamp"].cast(pa.int64())) + by
    return table.set_column(0, "timestamp", pa.array(moved, pa.timestamp("ns", "UTC")))


def make_bars() -> None:
    for folder in ("bars/panel/symbol=ES", "bars/panel/symbol=NQ"):
        os.makedirs(folder)
    pq.write_table(sample(500, 3), "bars/one.parquet")
    # Stamped with the closing times of the bars.
    pq.write_table(shifted(sample(1900, 4), MINUTE), "bars/market.parquet", compression="zstd")
    pq.write_table(sample(300, 5), "bars/panel/symbol=ES/part.parquet")
    pq.write_table(sample(260, 6), "bars/panel/symbol=NQ/part.parquet")
    closes = shifted(sample(400, 7), MINUTE)
    # A night, at which a segment ends.
    closes = pa.concat_tables([closes.slice(0, 240), shifted(closes.slice(240), 600 * MINUTE)])
    with pa.ipc.new_file("bars/closes.arrow", closes.schema) as writer:
        writer.write_table(closes)
    pq.write_table(sample(90, 8), "bars/short.parquet")
    days = sample(560, 9, every=15)
    local = days["timestamp"].to_pandas().dt.tz_convert("America/New_York").dt.strftime("%d.%m.%Y %H:%M")
    lines = ["Zeit;Open;High;Low;Last;Vol"]
    for row, when in zip(days.to_pylist(), local, strict=True):
        lines.append(";".join([when, *(repr(row[name]) for name in PRICES), str(row["volume"])]))
    with gzip.GzipFile("bars/local.csv.gz", "wb", mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode())


# ---- configurations ----------------------------------------------------------------------------------------

CONFIGS = {
    "features": """\
range_ema_period: 16
atr_period: 8
zigzag_k: 1.1
swing_time_scale: 60
zscore_period: 12
warmup_bars: 10
""",
    "warmup": "warmup_bars: 10\n",
    "tiny": """\
model:
  name: tiny
  architecture: {hidden_size: 4}
training:
  finetune: {epochs: 2, lr: 1e-2}
augmentation: {copies: 1}
""",
    "model": """\
model:
  name: every key
  architecture:
    hidden_size: 6
    num_layers: 2
    input_dropout: 0.1
    recurrent_dropout: 0.2
    dense_dropout: 0.3
    use_position: true
    num_classes: 3
    span_head: true
training:
  pretrain:
    epochs: 3
    batch_size: 32
    lr: 2e-3
    min_lr_share: 0.02
    warmup_share: 0.1
    weight_decay: 1e-3
    clip_norm: 2.0
    patience: 4
    stride: 5
    window_length: 20
    windows_per_epoch: 64
    mask_ratio: 0.25
    mask_strategy: patch
    patch_size: 4
    extra: [volume]
    checkpoint_every: 7
    log_every: 3
    cuda_graph: true
  finetune:
    epochs: 4
    batch_size: 8
    lr: 3e-4
    lr_factor: 0.6
    lr_patience: 5
    min_lr: 1e-6
    weight_decay: 1e-3
    clip_norm: 1.0
    patience: 6
    class_weight: balanced
    freeze: 2
    unfreeze_every: 1
    span_edge: 2.5
augmentation:
  copies: 3
  jitter: {sigma: 0.05, p: 0.8}
  magnitude_warp: {sigma: 0.2, knots: 5, p: 0.5}
  time_warp: {sigma: 0.15, knots: 6, p: 0.4}
gates:
  parameters_per_window: 900
  epoch_seconds: 100
  device_memory: 2.0e+9
  validation_spread: 0.06
  calibration_error: 0.2
  regression: [macro_f1, balanced_accuracy, log_loss, calibration_error, span_iou, span_hits, center_error,
    length_error, validation_loss]
""",
    "gates": """\
parameters_per_window: 1.0e+6
epoch_seconds: null
device_memory: 1.0e+9
validation_spread: 0.9
calibration_error: 0.9
regression: [macro_f1, log_loss, validation_loss]
""",
    "windows": """\
window_length: 24
mask_ratio: 0.3
mask_strategy: patch
patch_size: 4
stride: 2
feature_set: relativity12
split: [0.6, 0.2, 0.2]
embargo: 3
range_ema_period: 16
atr_period: 8
zigzag_k: 1.5
swing_time_scale: 60
zscore_period: 12
warmup_bars: 10
""",
    "days": """\
window_length: 24
feature_set: ohlc4
train_end: 2020-06-07
val_end: 2020-06-08
test_end: 2020-06-09
warmup_bars: 10
""",
    "grid": """\
sampler: grid
parameters:
  training.finetune.lr: {choices: [1.0e-3, 1.0e-2]}
""",
    "space": """\
sampler: tpe
metric: macro_f1
prune: false
parameters:
  training.finetune.lr: {low: 1.0e-5, high: 1.0e-2, log: true}
  training.finetune.batch_size: {low: 8, high: 32}
  training.finetune.class_weight: {choices: [balanced, null]}
""",
}


def make_configs() -> None:
    os.makedirs("configs")
    for name, text in CONFIGS.items():
        Path(f"configs/{name}.yaml").write_text(text, encoding="utf-8")

    def values(made: Any) -> Any:
        return made.model_dump(mode="json")

    write_json(
        "configs/values.json",
        {
            "models": {name: values(load_config(name)) for name in ("jade", "jade_compact")}
            | {name: values(load_config(f"configs/{name}.yaml")) for name in ("tiny", "model")},
            "gates": {name: values(read_gates(f"configs/{name}.yaml")) for name in ("gates", "model")}
            | {"shipped": values(read_gates())},
            "spaces": {name: values(read_space(f"configs/{name}.yaml")) for name in ("grid", "space")}
            | {"shipped": values(read_space("grid.yaml"))},
            "windows": {
                name: values(WindowedConfig.from_yaml(f"configs/{name}.yaml")) for name in ("windows", "days")
            },
        },
    )


# ---- stores ------------------------------------------------------------------------------------------------

SMALL = ("--window-length", "20", "--config", "configs/warmup.yaml")
STORES: dict[str, tuple[str, ...]] = {
    "relativity10": ("--data", "bars/one.parquet", "--stamp", "open", *SMALL),
    "relativity12": (
        *("--data", "bars/panel", "--feature-set", "relativity12", "--keep", "volume"),
        *("--split", "0.6,0.2,0.2", "--embargo", "5", *SMALL),
    ),
    "relative_transform11": (
        *("--data", "bars/local.csv.gz", "--feature-set", "relative_transform11", "--tz", "America/New_York"),
        *("--time-format", "%d.%m.%Y %H:%M", "--columns", "Zeit=timestamp,Last=close", "--keep", "Vol"),
        *("--train-end", "2020-06-10", "--val-end", "2020-06-11", "--test-end", "2020-06-14", *SMALL),
    ),
    "ohlc4": (
        *("--data", "bars/closes.arrow", "--feature-set", "ohlc4", "--stamp", "close"),
        *("--reset-on-gap", "4h", "--window-length", "20", "--config", "configs/features.yaml"),
    ),
    "windows": (
        *("--data", "bars/short.parquet", "--feature-set", "ohlc4", "--layout", "windows"),
        *("--window-length", "12", "--config", "configs/warmup.yaml"),
    ),
    "market": (
        *("--data", "bars/market.parquet", "--stamp", "close", "--reset-on-gap", "30m", "--keep", "volume"),
        *SMALL,
    ),
}


def make_stores() -> None:
    os.makedirs("stores")
    builds = {}
    for name, arguments in STORES.items():
        options = ["build-features", *arguments, "--output"]
        builds[name] = {"arguments": options, "printed": moola_json(*options, f"stores/{name}")}
        shutil.rmtree(f"stores/{name}")
        builds[name]["printed"] = stable(builds[name]["printed"], moola_json(*options, f"stores/{name}"))
        call(f"verify {name}", "verify-features", "--feature-dir", f"stores/{name}")
        data = [value for option in arguments if option == "--data" for value in ("--data", arguments[1])]
        call(f"verify {name} with bars", "verify-features", "--feature-dir", f"stores/{name}", *data)
        call(f"inspect {name}", "inspect", f"stores/{name}")
    write_json("stores/builds.json", builds)


# ---- streams -----------------------------------------------------------------------------------------------


def make_streams() -> None:
    """The state after some bars, and the rows of the following bars."""
    os.makedirs("streams")
    with pa.memory_map("bars/closes.arrow") as source:
        bars = pa.ipc.open_file(source).read_all()
    columns = [np.asarray(bars[name], dtype=np.float64) for name in PRICES]
    times = np.asarray(bars["timestamp"].cast(pa.int64()))
    config = {"zigzag_k": 1.1, "atr_period": 8, "warmup_bars": 30}
    for name in SETS:
        for kind in ("defaults", "gaps"):
            gaps = kind == "gaps"
            stream = moola.FeatureStream(name, config, "4h") if gaps else moola.FeatureStream(name)
            rows, valid = [], []
            for bar, *prices in zip(times.tolist(), *(c.tolist() for c in columns), strict=True):
                if len(rows) == 200:
                    Path(f"streams/{name}-{kind}.state").write_bytes(stream.state())
                rows.append(stream.push(*prices, bar) if gaps else stream.push(*prices))
                valid.append(stream.valid)
            # The rows before the saved state are checked too, by a new stream.
            np.savez_compressed(f"streams/{name}-{kind}.npz", rows=np.array(rows), valid=np.array(valid))
    write_json("streams/made.json", {"saved_after": 200, "gaps": {"config": config, "reset_on_gap": "4h"}})


# ---- loaders -----------------------------------------------------------------------------------------------


LOADERS: dict[str, dict[str, Any]] = {
    "train": {"feature_dir": "stores/market", "seed": 5, "extra": ["volume"]},
    "patches": {
        "feature_dir": "stores/market",
        "seed": 6,
        "mask_strategy": "patch",
        "patch_size": 4,
        "mask_ratio": 0.3,
    },
    "rank": {"feature_dir": "stores/relativity10", "seed": 7, "rank": 1, "world_size": 2},
    "weights": {"feature_dir": "stores/relativity12", "seed": 8, "weights": {"ES": 2, "NQ": 1}},
    "several": {"feature_dir": ["stores/relativity10", "stores/market"], "seed": 9, "window_length": 12},
    "windows": {"feature_dir": "stores/windows", "seed": 10, "batch_size": 4},
    "strided": {"feature_dir": "stores/market", "seed": 11, "stride": 5},
}


def read_frame() -> Any:
    return pq.read_table("bars/one.parquet")


def served(loader: Any, state: dict[str, Any] | None = None, batches: int = 3) -> dict[str, Any]:
    """The state of a loader after its second batch, and digests of the batches that follow."""
    if state is None:
        batch = iter(loader)
        next(batch, None), next(batch, None)
        state = loader.state_dict()
    loader.load_state_dict(state)
    digests: list[list[str]] = []
    while len(digests) < batches:
        for batch in loader:
            digests.append([digest(part.numpy()) for part in batch])
            if len(digests) == batches:
                break
    return {"state": state, "batches": digests}


def make_loaders() -> None:
    os.makedirs("loaders")
    made: dict[str, Any] = {}
    for name, given in LOADERS.items():
        options = {"batch_size": 16, **given}
        strided = "stride" in options
        loaders = (create_strided_dataloaders if strided else create_fast_dataloaders)(**options)
        made[name] = {"options": options, "strided": strided}
        for split in ("train", "val"):
            loader = getattr(loaders, split)
            if len(loader):
                made[name][split] = served(loader)
    options = {"batch_size": 16, "seed": 12, "stamp": "open"}
    memory = create_dataloaders(read_frame(), WindowedConfig.from_yaml("configs/windows.yaml"), **options)
    made_in_memory = {"options": options} | {
        split: served(getattr(memory, split)) for split in ("train", "val")
    }
    dataset = moola.FastWindowedDataset("stores/market", "val", 20, 3, 0.2, seed=13)
    items = {str(n): [digest(part.numpy()) for part in dataset[n]] for n in (0, 7, len(dataset) - 1)}
    dataset.set_epoch(2)
    train = moola.FastWindowedDataset("stores/market", "train", 20, 3, 0.2, seed=13)
    train.set_epoch(2)
    later = {str(n): [digest(part.numpy()) for part in train[n]] for n in (0, 7)}
    write_json(
        "loaders/states.json",
        {
            "stores": made,
            "memory": made_in_memory,
            "dataset": {"options": [20, 3, 0.2], "seed": 13, "val": items, "train, epoch 2": later},
        },
    )


# ---- labels ------------------------------------------------------------------------------------------------


def label_rows(store: moola.FeatureStore, every: int) -> list[dict[str, Any]]:
    """Labels at regular distances: whether the window's last bars rise, and where."""
    rows = []
    for segment in store.segments:
        for end in range(segment.first_row + 45, segment.last_row, every):
            if not store.valid[end]:
                continue
            close = store.bars[end - 12 : end - 1, 3]
            kind = "none" if len(rows) % 3 == 0 else "up" if close[-1] > close[0] else "down"
            rows.append(
                {
                    "end": end,
                    "class": kind,
                    "symbol": segment.symbol,
                    "span": (end - 9 - len(rows) % 3, end - 3),
                }
            )
    return rows


def table_of(store: moola.FeatureStore, every: int, *, symbols: bool = False) -> pa.Table:
    rows, times = label_rows(store, every), store.timestamps
    stamp = pa.timestamp("ns", "UTC")

    def spans(which: int) -> pa.Array:
        found = [None if r["class"] == "none" else int(times[r["span"][which]]) for r in rows]
        return pa.array(found, pa.int64()).cast(stamp)

    columns = {
        "window_end": pa.array([int(times[r["end"]]) for r in rows], pa.int64()).cast(stamp),
        "class": [r["class"] for r in rows],
        "start": spans(0),
        "end": spans(1),
        "weight": [1 + n % 4 / 4 for n in range(len(rows))],
    }
    return pa.table(({"symbol": [r["symbol"] for r in rows]} if symbols else {}) | columns)


def raw_table(store: moola.FeatureStore, every: int, *, timed: bool) -> pa.Table:
    rows, length = label_rows(store, every), 32
    columns: dict[str, Any] = {
        "features": [store.bars[r["end"] - length + 1 : r["end"] + 1].tolist() for r in rows],
        "label": [r["class"] for r in rows],
        "expansion_start": [
            -1 if r["class"] == "none" else r["span"][0] - r["end"] + length - 1 for r in rows
        ],
        "expansion_end": [-1 if r["class"] == "none" else r["span"][1] - r["end"] + length - 1 for r in rows],
    }
    if timed:
        ends = pa.array([int(store.timestamps[r["end"]]) for r in rows], pa.int64())
        columns |= {"window_end": ends.cast(pa.timestamp("ns", "UTC")), "symbol": ["ES"] * len(rows)}
    return pa.table(columns)


IMPORTS: dict[str, tuple[str, ...]] = {
    "by_time": ("by_time.parquet", "--feature-dir", "stores/market", "--extra", "volume", "--stamp", "open"),
    "by_row": ("by_row.csv", "--feature-dir", "stores/market", "--window-length", "30"),
    "by_bar": (
        *("by_bar.csv", "--feature-dir", "stores/market", "--stamp", "close", "--columns", "kind=class"),
        *("--span-kind", "bar", "--labelled-length", "30"),
    ),
    "panel": ("panel.arrow", "--feature-dir", "stores/relativity12", "--extra", "volume"),
    "raw": (
        *("raw.parquet", "--raw", "--window-length", "32", "--feature-set", "ohlc4"),
        *("--config", "configs/features.yaml", "--bar-interval", "1m"),
    ),
    "untimed": ("untimed.parquet", "--raw", "--window-length", "32", "--feature-set", "relativity10"),
}


def fields(windows: LabelledWindows) -> dict[str, Any]:
    """Digests of the arrays, and all other fields unchanged."""
    names = ["X", "valid_mask", "y", "spans", "weight", "symbols", "starts", "ends", "times"]
    names += ["first_times", "groups", "splits"]
    arrays = {name: getattr(windows, name) for name in names}
    facts = ["classes", "feature_names", "feature_set", "parameters", "window_length", "store_id", "reach"]
    return {
        "arrays": {name: None if array is None else digest(array) for name, array in arrays.items()},
        "facts": {name: getattr(windows, name) for name in facts},
        "notices": len(windows.notices),
    }


def make_labels() -> None:
    os.makedirs("labels")
    market = moola.FeatureStore.open("stores/market")
    pq.write_table(table_of(market, 42), "labels/by_time.parquet")
    rows = label_rows(market, 42)
    by_row = ["window_end,class,start,end"]
    by_bar = ["window_end,kind,start,end"]
    for r in rows:
        first, last = r["span"]
        none = r["class"] == "none"
        by_row.append(f"{r['end']},{r['class']}," + ("," if none else f"{first},{last}"))
        closed = np.datetime64(int(market.timestamps[r["end"]]) + MINUTE, "ns").astype("datetime64[s]")
        bars = "," if none else f"{first - r['end'] + 29},{last - r['end'] + 29}"
        by_bar.append(f"{closed}Z,{r['class']},{bars}")
    Path("labels/by_row.csv").write_text("\n".join(by_row) + "\n")
    Path("labels/by_bar.csv").write_text("\n".join(by_bar) + "\n")
    panel = table_of(moola.FeatureStore.open("stores/relativity12"), 22, symbols=True)
    with pa.ipc.new_file("labels/panel.arrow", panel.schema) as writer:
        writer.write_table(panel)
    ohlc4 = moola.FeatureStore.open("stores/ohlc4")
    pq.write_table(raw_table(ohlc4, 12, timed=True), "labels/raw.parquet")
    pq.write_table(raw_table(ohlc4, 24, timed=False), "labels/untimed.parquet")
    imports = {}
    for name, (source, *options) in IMPORTS.items():
        arguments = ["import-labels", "--labels", f"labels/{source}", *options, "--output"]
        printed = moola_json(*arguments, f"labels/{name}.safetensors")
        again = moola_json(*arguments, f"labels/{name}.safetensors")
        imports[name] = {"arguments": arguments, "printed": stable(printed, again)}
    # Spans count from a window's first bar, so they depend on its length.
    longer, shorter = (
        replace(windows, spans=np.full_like(windows.spans, -1))
        for windows in (LabelledWindows.load(f"labels/{name}.safetensors") for name in ("by_row", "by_bar"))
    )
    together(shorter, {"longer": longer}).save("labels/together.safetensors")
    kept = {
        path.stem: fields(LabelledWindows.load(path)) for path in sorted(Path("labels").glob("*.safetensors"))
    }
    write_json("labels/imports.json", {"imports": imports, "windows": kept})


# ---- runs --------------------------------------------------------------------------------------------------

PRETRAIN = (
    *(
        "--feature-dir",
        "stores/market",
        "--model",
        "configs/tiny.yaml",
        "--epochs",
        "2",
        "--batch-size",
        "32",
    ),
    *(
        "--stride",
        "4",
        "--extra",
        "volume",
        "--precision",
        "fp32",
        "--device",
        "cpu",
        "--checkpoint-every",
        "3",
    ),
)
FINETUNE = ("--folds", "2", "--permutations", "2", "--jobs", "1", "--device", "cpu")
RUNS: dict[str, tuple[str, ...]] = {
    "tuned": (
        "--feature-dir",
        "stores/market",
        "--labels",
        "labels/by_time.safetensors",
        "--encoder",
        "runs/pretrained",
    ),
    "frozen": (
        *(
            "--feature-dir",
            "stores/market",
            "--labels",
            "labels/by_time.safetensors",
            "--encoder",
            "runs/pretrained",
        ),
        *("--freeze", "always", "--no-scratch", "--validation-share", "0", "--seed", "5"),
    ),
    "spans": (
        *(
            "--feature-dir",
            "stores/market",
            "--labels",
            "labels/by_time.safetensors",
            "--model",
            "configs/tiny.yaml",
        ),
        *(
            "--set",
            "model.architecture.span_head=true",
            "--set",
            "augmentation=null",
            "--validation-share",
            "0",
        ),
    ),
    "raw": ("--labels", "labels/raw.safetensors", "--model", "configs/tiny.yaml", "--validation-share", "0"),
    "untimed": (
        "--labels",
        "labels/untimed.safetensors",
        "--model",
        "configs/tiny.yaml",
        "--validation-share",
        "0",
    ),
}


class _StopError(Exception):
    """Ends a training, as if its process were killed."""


def make_runs() -> None:
    os.makedirs("runs")
    made: dict[str, Any] = {}
    for name, seed, more in (
        ("pretrained", 3, ()),
        ("pretrained-2", 4, ()),
        ("continued", 3, ("--init", "runs/pretrained")),
    ):
        arguments = ["pretrain", *PRETRAIN, "--seed", str(seed), *more, "--output", f"runs/{name}"]
        made[name] = {"arguments": arguments, "printed": moola_json(*arguments)}

    def stop(progress: Any) -> None:
        if progress.step >= 14:
            raise _StopError

    options = {"epochs": 2, "batch_size": 32, "stride": 4, "extra": ("volume",), "checkpoint_every": 3}
    quiet: Callable[[str], None] = lambda line: None  # noqa: E731
    try:
        pretrain(
            "stores/market", "runs/interrupted", model="configs/tiny.yaml", seed=3, device="cpu", precision="fp32",
            report=stop, say=quiet, settings=("training.pretrain.log_every=1",), **options,
        )  # fmt: skip
    except _StopError:
        shutil.copy("runs/interrupted/config.json", "interrupted.json")
    Path("interrupted.json").unlink()
    arguments = ["pretrain", *PRETRAIN, "--seed", "3", "--set", "training.pretrain.log_every=1"]
    made["interrupted"] = {"arguments": [*arguments, "--output", "runs/interrupted"], "printed": None}
    for name, options_of in RUNS.items():
        arguments = ["finetune", *options_of, *FINETUNE, "--output", f"runs/{name}"]
        printed = moola_json(*arguments)
        made[name] = {"arguments": arguments, "printed": stable(printed, moola_json(*arguments, "--resume"))}
    arguments = ["ensemble", "runs/tuned", "runs/frozen", "--output", "runs/both"]
    made["both"] = {"arguments": arguments, "printed": moola_json(*arguments)}
    write_json("runs/made.json", made)

    windows = LabelledWindows.load("labels/by_time.safetensors")
    x, valid = torch.from_numpy(windows.X[:6]), torch.from_numpy(windows.valid_mask[:6])
    outputs: dict[str, Any] = {}
    with torch.no_grad():
        for name in ("pretrained", "interrupted", "continued", "tuned", "frozen", "spans"):
            if name == "interrupted":
                continue
            encoder = load_encoder(f"runs/{name}")
            outputs[f"{name}.encoder"] = encoder(encoder.standardise(x), valid).numpy()
        for name in RUNS:
            file = name if name in ("raw", "untimed") else "by_time"
            some = LabelledWindows.load(f"labels/{file}.safetensors")
            model = load_model(f"runs/{name}")
            said = model(torch.from_numpy(some.X[:6]), torch.from_numpy(some.valid_mask[:6]))
            outputs |= {
                f"{name}.{part}": value.numpy() for part, value in said._asdict().items() if value is not None
            }
    np.savez_compressed("runs/outputs.npz", **outputs)


def make_predictions() -> None:
    os.makedirs("predictions")
    market = ("--feature-dir", "stores/market", "--device", "cpu")
    asked = {
        "tuned": ("--run", "runs/tuned", *market, "--stride", "7"),
        "tuned-test": ("--run", "runs/tuned", *market, "--split", "test"),
        "tuned-days": (
            "--run",
            "runs/tuned",
            *market,
            "--from",
            "2020-06-08T12:00Z",
            "--to",
            "2020-06-09",
            "--stride",
            "5",
        ),
        "tuned-bars": (
            "--run",
            "runs/tuned",
            "--data",
            "bars/market.parquet",
            "--device",
            "cpu",
            "--stride",
            "9",
        ),
        "frozen": ("--run", "runs/frozen", *market, "--stride", "17"),
        "spans": ("--run", "runs/spans", *market, "--stride", "17"),
        "both": ("--run", "runs/both", *market, "--stride", "17"),
        "several": ("--run", "runs/tuned", "--run", "runs/spans", *market, "--stride", "23"),
        "raw": ("--run", "runs/raw", "--feature-dir", "stores/ohlc4", "--device", "cpu", "--stride", "11"),
    }
    for name, options in asked.items():
        call(f"predict {name}", "predict", *options, "--output", f"predictions/{name}.parquet")
    for name in ("pretrained", "tuned"):
        options = (
            "--run",
            f"runs/{name}",
            "--stride",
            "13",
            "--output",
            f"predictions/{name}-vectors.parquet",
        )
        call(f"embed {name}", "embed", *options, *market)
    vectors = ("--run", "runs/pretrained", "--split", "val", "--window-length", "12")
    call("embed 12", "embed", *vectors, "--output", "predictions/12-vectors.parquet", *market)


# ---- validation --------------------------------------------------------------------------------------------


def make_validation() -> None:
    os.makedirs("validation")
    labels = ("--labels", "labels/by_time.safetensors")
    quick = ("--folds", "2", "--permutations", "0", "--jobs", "1", "--seed", "3")
    members = ("regression", "trees", "kernels", "convolution", "jade", "jade_compact")
    given = [part for member in members for part in ("--member", member)]
    small = [
        *("jade.epochs=1", "jade.hidden_size=4", "jade.augmentation=false"),
        *("jade_compact.epochs=1", "jade_compact.hidden_size=4", "jade_compact.augmentation=false"),
        *("convolution.epochs=1", "convolution.channels=4", "convolution.blocks=2"),
        *("kernels.kernels=84", "trees.trees=5"),
    ]
    settings = [part for setting in small for part in ("--set", setting)]
    made: dict[str, Any] = {}

    def make(name: str, *arguments: str) -> None:
        arguments = (*arguments, "--output", f"validation/{name}")
        printed = moola_json(*arguments)
        # For the others, the evaluations are kept, which contain the same facts.
        made[name] = {"arguments": list(arguments), "printed": printed if name == "mean" else None}

    encoder = ("--encoder", "jade=runs/pretrained", "--feature-dir", "stores/market")
    panel = ("--labels", "labels/panel.safetensors", "--feature-dir", "stores/relativity12")
    make("kinds", "cross-validate", *labels, *given, *settings, *encoder, *quick)
    make(
        "repeated",
        "cross-validate",
        *labels,
        "--member",
        "regression",
        "--repeats",
        "2",
        "--embargo",
        "3",
        *quick,
    )
    make("other", "cross-validate", *labels, "--member", "trees", *quick)
    make("panel", "cross-validate", *panel, "--member", "regression", *quick)
    both = ("--member", "regression", "--member", "trees")
    make("stack", "stack", *labels, *both, "--inner-folds", "2", *quick)
    make("mean", "ensemble", "validation/repeated", "--permutations", "0", "--jobs", "1", "--seed", "3")
    for name, model in (
        ("kinds", "jade"),
        ("repeated", "regression"),
        ("stack", "stack"),
        ("mean", "regression"),
    ):
        arguments = ("evaluate", f"validation/{name}", "--model", model, "--permutations", "0", "--jobs", "1")
        call(f"evaluate {name}", *arguments, copy=f"validation/{name}")
    shuffled = ("evaluate", "validation/repeated", "--permutations", "3", "--jobs", "1")
    call("evaluate shuffled", *shuffled, copy="validation/repeated")
    against = ("evaluate", "validation/stack", "--model", "trees", "--against", "validation/other")
    call("evaluate against", *against, "--permutations", "0", "--jobs", "1", copy="validation/stack")
    write_json("validation/made.json", made)


def make_sweeps() -> None:
    os.makedirs("sweeps")
    options = [
        *("sweep", "--labels", "labels/by_time.safetensors", "--space", "configs/grid.yaml", "--model"),
        *("configs/tiny.yaml", "--folds", "2", "--inner-folds", "2", "--seed", "3", "--device", "cpu"),
        *("--permutations", "0"),
    ]
    made = {}
    for name, trials in (("halted", "1"), ("finished", "2")):
        arguments = [*options, "--trials", trials, "--output", f"sweeps/{name}"]
        made[name] = {"arguments": arguments, "printed": moola_json(*arguments)}
        # A worker's name is that of its machine.
        journal = Path(f"sweeps/{name}/journal.log")
        journal.write_text(journal.read_text().replace(os.uname().nodename, "machine"))
        shutil.rmtree(f"sweeps/{name}/workers")
        Path(f"sweeps/{name}/lock").unlink()
    write_json("sweeps/made.json", made)


def make_reports() -> None:
    """What reads runs of all kinds."""
    call("compare", "compare", "runs/pretrained", "--against", "runs/pretrained-2")
    call("compare tuned", "compare", "runs/tuned", "--against", "runs/frozen")
    bounds = ("--gates", "configs/gates.yaml")
    for run in ("pretrained", "tuned", "both"):
        call(f"gate {run}", "gate", f"runs/{run}", *bounds)
    call("gate pretrained shipped", "gate", "runs/pretrained")
    call("gate tuned against", "gate", "runs/tuned", "--against", "runs/frozen", *bounds)
    call(
        "gate seeds",
        "gate",
        "runs/pretrained",
        "--against",
        "runs/pretrained-2",
        "--against",
        "runs/continued",
        *bounds,
    )
    call("gate kinds", "gate", "validation/kinds", "--model", "jade", *bounds)
    call("gate mean", "gate", "validation/mean", "--model", "regression ensemble", *bounds)
    call("gate finished", "gate", "sweeps/finished", *bounds)
    call("models", "models", "configs/model.yaml", "--features", "10")


def main() -> None:
    version = moola.__version__
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir()
    os.chdir(SCRATCH)
    os.environ["MOOLA_CACHE"] = str(SCRATCH / "cache")
    for make in (
        make_bars,
        make_configs,
        make_stores,
        make_streams,
        make_loaders,
        make_labels,
        make_runs,
        make_predictions,
        make_validation,
        make_sweeps,
        make_reports,
    ):
        print(make.__name__, flush=True)
        make()
    write_json("calls.json", calls)
    processor = json.loads(Path("runs/pretrained/environment.json").read_text())["processor"]
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    digest = hashlib.blake2b(" ".join(sorted(flags.split())).encode(), digest_size=8).hexdigest()
    made_by = {
        "moola": version,
        "torch": torch.__version__,
        "processor": processor,
        "processor_flags": digest,
    }
    write_json("made_by.json", made_by)
    # Pictures and events are for people, and large.
    for picture in Path().rglob("*.png"):
        picture.unlink()
    for events in Path("runs").rglob("tensorboard"):
        shutil.rmtree(events)
    shutil.rmtree("cache", ignore_errors=True)
    target = HERE / version
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(SCRATCH, target)
    shutil.rmtree(SCRATCH)
    print(target, sum(path.stat().st_size for path in target.rglob("*") if path.is_file()), "bytes")


if __name__ == "__main__":
    main()
