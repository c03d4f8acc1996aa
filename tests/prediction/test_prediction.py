"""Predictions on given bars: which bars fit a run, how they are read, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

import moola
from moola.cli import app
from moola.errors import ConfigError, FeatureMismatchError, InputError, RunError
from moola.errors.base import format_time
from moola.evaluation.report import evaluate
from moola.labels import LabelledWindows, read_labels
from moola.models.bar_identity import BarIdentity
from moola.models.loading import load_model
from moola.models.weights import FeatureIdentity, load_weights, save_weights
from moola.prediction.models import FinetunedModels
from moola.splits import window_starts

pytestmark = pytest.mark.xdist_group("prediction")
MINUTE, K = 60_000_000_000, 30
TINY: dict[str, Any] = {
    "model": {"name": "tiny", "architecture": {"hidden_size": 4, "num_layers": 1}},
    "training": {"finetune": {"epochs": 1, "lr": 0.01}, "pretrain": {"epochs": 1, "windows_per_epoch": 64}},
    "augmentation": None,
}
QUIET: dict[str, Any] = {"model": TINY, "device": "cpu", "say": lambda line: None}
BUILD: dict[str, Any] = {"window_length": K, "reset_on_gap": "4h"}


@pytest.fixture(scope="module", autouse=True)
def _few_guesses(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Other tests cover the baselines; here they only take time. The user's cache is not touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOOLA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("moola.evaluation.baselines.GUESSES", 1)
        patch.setattr("moola.finetuning.run.evaluate", partial(evaluate, resamples=50))
        yield


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars stamped at their close, in New York time under unusual names, and a store of them."""
    folder = tmp_path_factory.mktemp("market")
    moola.make_bars(folder / "plain.parquet", 6_000)
    bars = pq.read_table(folder / "plain.parquet")
    local = pa.array(bars["timestamp"].cast(pa.int64()).to_numpy() + MINUTE).cast(pa.timestamp("ns", "UTC"))
    written = pc.local_timestamp(local.cast(pa.timestamp("ns", "America/New_York")))
    names = ["When" if name == "timestamp" else name for name in bars.column_names]
    odd = bars.set_column(bars.column_names.index("timestamp"), "timestamp", written).rename_columns(names)
    pq.write_table(odd, folder / "bars.parquet")
    moola.build_features(folder / "bars.parquet", folder / "store", **READ, **BUILD)
    return folder


READ: dict[str, Any] = {"columns": "When=timestamp", "tz": "America/New_York", "stamp": "close"}


@pytest.fixture(scope="module")
def store(market: Path) -> moola.FeatureStore:
    return moola.FeatureStore.open(market / "store")


@pytest.fixture(scope="module")
def labels(store: moola.FeatureStore) -> LabelledWindows:
    return labelled(store)


def labelled(store: moola.FeatureStore) -> LabelledWindows:
    """Windows that do not touch; every second one is labelled with a span."""
    starts = window_starts(store.segments, [[0, len(store)]], K)[:: 2 * K][:30]
    ends = store.timestamps[starts + K - 1]
    up = np.arange(len(starts)) % 2 == 0
    table = pa.table(
        {
            "window_end": pa.array(ends).cast(pa.timestamp("ns", "UTC")),
            "class": np.where(up, "up", "none"),
            "start": pa.array(np.full(len(starts), 5), mask=~up),
            "end": pa.array(np.full(len(starts), 12), mask=~up),
        }
    )
    return read_labels(table, store, stamp="open")


@pytest.fixture(scope="module")
def run(market: Path, labels: LabelledWindows) -> Path:
    return moola.finetune(market / "store", labels, market / "run", folds=2, **QUIET).run


def forget_bars(run: Path) -> None:
    """Removes the record of the bars, which older versions of moola did not write."""
    weights = load_weights(run / "best.safetensors")
    features = {name: value for name, value in weights.record["features"].items() if name != "bars"}
    save_weights(run / "best.safetensors", weights.tensors, weights.record | {"features": features})


# Which bars fit


def every(bars: pa.Table, n: int) -> pa.Table:
    """Bars of n minutes, combined from candles of n bars."""
    rows = len(bars) // n * n
    columns = {name: bars[name].to_numpy()[:rows].reshape(-1, n) for name in bars.column_names}
    values = {"open": lambda x: x[:, 0], "high": lambda x: x.max(1), "low": lambda x: x.min(1)}
    return pa.table({name: values.get(name, lambda x: x[:, -1])(x) for name, x in columns.items()})


def test_bars_of_another_interval_are_refused(
    run: Path, market: Path, store: moola.FeatureStore, labels: LabelledWindows, tmp_path: Path
) -> None:
    pq.write_table(every(pq.read_table(market / "bars.parquet"), 5), tmp_path / "five.parquet")
    five = moola.build_features(
        tmp_path / "five.parquet", tmp_path / "five", bar_interval="5m", **READ, **BUILD
    )
    with pytest.raises(FeatureMismatchError) as caught:
        moola.predict(run, five)
    problem = f"the bars of {tmp_path / 'five'} are 5m apart, the weights were trained on bars 1m apart"
    assert str(caught.value) == f"{problem}. Give bars 1m apart, or train on those"
    with pytest.raises(FeatureMismatchError, match="are 5m apart, the weights were trained on bars 1m apart"):
        moola.predict(run, data=tmp_path / "five.parquet", output=tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()
    # An encoder of the one does not learn from labels of the other either.
    with pytest.raises(FeatureMismatchError, match="the bars of the labels are 5m apart"):
        moola.finetune(five, labelled(five), tmp_path / "tuned", encoder=run, folds=2, device="cpu")
    # A model of both reads both.
    both = FeatureIdentity.of([store, five])
    assert both.bars is not None
    assert both.bars.intervals == (MINUTE, 5 * MINUTE)
    for one in (store, five):
        both.require(FeatureIdentity.of(one), "STORE")


def test_pre_cut_windows_record_only_their_interval(
    run: Path, market: Path, store: moola.FeatureStore, labels: LabelledWindows, tmp_path: Path
) -> None:
    assert labels.times is not None
    raw = replace(labels, store_id="", splits=None, first_times=labels.times - (K - 1) * MINUTE)
    mine = BarIdentity.of_windows(raw)
    assert mine == BarIdentity((MINUTE,), {})
    unknown: tuple[dict[str, Any], ...] = ({"first_times": None}, {"times": None}, {"window_length": 1})
    for change in unknown:
        assert BarIdentity.of_windows(replace(raw, **change)) is None
    # Their gaps and rolls are unknown, and nothing is claimed about them.
    strict = {"reset_on_gap": 3 * MINUTE, "segment_by": ["symbol", "contract"]}
    for options in (strict, {"reset_on_gap": None}):
        given = BarIdentity((MINUTE,), options)
        five = replace(given, intervals=(5 * MINUTE,))
        for one, other in ((mine, given), (given, mine)):
            one.require(other, "STORE")
            assert not list(one.notes(other, "STORE"))
        for one, other in ((mine, five), (five, mine)):
            with pytest.raises(FeatureMismatchError, match=r"the bars of STORE are [15]m apart, the weights"):
                one.require(other, "STORE")

    # An encoder refuses windows of other bars, and a model tuned on windows refuses other bars.
    far = replace(raw, first_times=labels.times - (K - 1) * 5 * MINUTE)
    with pytest.raises(FeatureMismatchError, match="the bars of the labels are 5m apart, the weights were"):
        moola.finetune(None, far, tmp_path / "far", encoder=run, folds=2, device="cpu")
    tuned = moola.finetune(None, raw, tmp_path / "tuned", folds=2, **QUIET).run
    pq.write_table(every(pq.read_table(market / "bars.parquet"), 5), tmp_path / "five.parquet")
    five_minutes = moola.build_features(
        tmp_path / "five.parquet", tmp_path / "five", bar_interval="5m", **READ, **BUILD
    )
    with pytest.raises(FeatureMismatchError, match="are 5m apart, the weights were trained on bars 1m apart"):
        moola.predict(tuned, five_minutes)
    said: list[str] = []
    assert len(moola.predict(tuned, store, to="2020-06-09", say=said.append))
    assert said == []
    # Another run must record how bars are read.
    assert FinetunedModels.load(tuned).read_options == {}
    known = FinetunedModels.load(run).read_options
    assert FinetunedModels.load([tuned, run]).read_options == known
    assert known["stamp"] == "close"
    moola.predict(tuned, data=market / "plain.parquet", to="2020-06-09", say=said.append)
    assert len(said) == 1
    assert said[0].startswith("timestamps are taken as the open of each bar: the run does not record")


def test_runs_with_different_bar_intervals_are_not_combined(
    run: Path, store: moola.FeatureStore, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "five")
    weights = load_weights(run / "best.safetensors")
    bars = weights.record["features"]["bars"] | {"intervals": [5 * MINUTE]}
    record = weights.record | {"features": weights.record["features"] | {"bars": bars}}
    save_weights(tmp_path / "five" / "best.safetensors", weights.tensors, record)
    with pytest.raises(RunError) as caught:
        moola.predict([run, tmp_path / "five"], store)
    assert "five: its bars are 5m apart, and those of the runs before it are not. Combine" in str(
        caught.value
    )


def test_windows_over_longer_gaps_than_any_in_training_are_refused(
    run: Path, market: Path, tmp_path: Path
) -> None:
    gaps = moola.build_features(
        market / "bars.parquet", tmp_path / "gaps", **READ, **BUILD | {"reset_on_gap": None}
    )
    with pytest.raises(FeatureMismatchError) as caught:
        moola.predict(run, gaps)
    assert str(caught.value) == (
        f"windows of {tmp_path / 'gaps'} span gaps of any length, the training windows none longer than 4h. "
        "Build a store with --reset-on-gap '4h'"
    )
    loose = moola.build_features(
        market / "bars.parquet", tmp_path / "loose", **READ, **BUILD | {"reset_on_gap": "1d"}
    )
    with pytest.raises(FeatureMismatchError, match="span gaps of up to 1d, the training windows"):
        moola.predict(run, loose)
    said: list[str] = []
    strict = moola.build_features(
        market / "bars.parquet", tmp_path / "strict", **READ, **BUILD | {"reset_on_gap": "30m"}
    )
    assert len(moola.predict(run, strict, say=said.append))
    assert said == [
        f"features of {tmp_path / 'strict'} restart after gaps over 30m, the training features after gaps over 4h: "
        "windows after such a gap have hidden bars or are missing"
    ]
    # For stores with two gap rules, the longest gap in any window counts.
    for stores, rule in (([strict, loose], 24 * 60 * MINUTE), ([strict, gaps], None)):
        together = FeatureIdentity.of(stores).bars
        assert together is not None
        assert together.reset_on_gap == rule


def test_a_run_without_recorded_bars_is_accepted_with_a_note(
    run: Path, store: moola.FeatureStore, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "old")
    forget_bars(tmp_path / "old")
    origin = load_model(tmp_path / "old").origin
    assert origin is not None
    assert origin.features.bars is None
    said: list[str] = []
    assert moola.predict(tmp_path / "old", store, say=said.append).equals(moola.predict(run, store))
    assert len(said) == 1
    assert "the interval of the training bars is unknown" in said[0]
    assert f"the bars of {store.path} are 1m apart: check that these match" in said[0]
    # And it can be continued.
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    del config["features"]["bars"]
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    assert moola.finetune(store, labelled(store), tmp_path / "old", folds=2, resume=True, **QUIET).resumed


def test_the_warm_up_length_changes_no_feature(
    run: Path, market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    """An encoder of a store, labels of pre-cut windows, and predictions on a store."""
    raw = replace(
        labels, store_id="", times=None, splits=None, parameters=labels.parameters | {"warmup_bars": 20}
    )
    raw = replace(raw, valid_mask=np.arange(K) >= np.full((len(raw), 1), 20))
    tuned = moola.finetune(
        None, raw, tmp_path / "tuned", encoder=run, folds=2, epochs=1, device="cpu", say=str
    )
    said: list[str] = []
    assert len(moola.predict(tuned.run, market / "store", to="2020-06-09", say=said.append))
    assert ["check that these match" in line for line in said] == [True]
    # A store that shows earlier bars of a segment than training did is accepted, with a note on what that means.
    early = moola.build_features(
        market / "bars.parquet", tmp_path / "early", **READ, **BUILD, config={"warmup_bars": 20}
    )
    said.clear()
    assert len(moola.predict(run, early, to="2020-06-09", say=said.append))
    assert said == [
        f"{tmp_path / 'early'} shows bars after a warm-up of 20, the weights were trained on bars after 105: at the "
        "start of a segment, features have settled less"
    ]


# How bars are read


def test_bars_are_read_with_the_options_of_the_run(
    run: Path, market: Path, store: moola.FeatureStore
) -> None:
    said: list[str] = []
    table = moola.predict(run, data=market / "bars.parquet", say=said.append)
    # Neither a bar late nor over gaps.
    assert table.equals(moola.predict(run, store))
    assert said == [
        "bars are read as in training: columns When=timestamp, tz America/New_York, "
        "stamp close, reset_on_gap 4h"
    ]
    assert pc.any(table["seen"]).as_py()


def test_few_bars_are_as_long_as_those_of_the_run(run: Path, market: Path, tmp_path: Path) -> None:
    """Every other minute has no trade: the steps alone do not show how long a bar is."""
    bars = pq.read_table(market / "bars.parquet").slice(0, 1400)
    rng = np.random.default_rng(0)
    some = bars.take(np.cumsum(rng.choice([2, 2, 3, 4], 400)).tolist())
    pq.write_table(some, tmp_path / "some.parquet")
    with pytest.raises(InputError, match="--bar-interval"):
        moola.build_features(tmp_path / "some.parquet", tmp_path / "store", **READ, **BUILD)
    rows = moola.predict(run, data=tmp_path / "some.parquet", say=lambda line: None)
    late = (rows["known_at"][0].as_py() - rows["window_end"][0].as_py()).total_seconds()
    assert (len(rows) > 0, late) == (True, 60)
    # Bars of two minutes are not, unless the user says so.
    pq.write_table(bars.take(list(range(0, 1400, 2))), tmp_path / "two.parquet")
    with pytest.raises(
        FeatureMismatchError, match=r"are 2m apart, the weights .* 1m apart.*--bar-interval '1m'"
    ):
        moola.predict(run, data=tmp_path / "two.parquet", say=lambda line: None)
    moola.predict(run, data=tmp_path / "two.parquet", say=lambda line: None, bar_interval="1m")


def test_a_store_without_a_bar_length_asks_for_it(run: Path, market: Path, tmp_path: Path) -> None:
    bars = pq.read_table(market / "plain.parquet").slice(0, 1000)
    some = bars.take(np.cumsum(np.random.default_rng(0).choice([2, 2, 3, 4], 300)).tolist())
    store = moola.build_features(some, tmp_path / "store", stamp="open", **BUILD)
    with pytest.raises(ConfigError, match=r"bar_interval: is missing: .* --bar-interval"):
        moola.predict(run, store)
    rows = moola.predict(run, store, bar_interval="1m", say=lambda line: None)
    assert (rows["known_at"][0].as_py() - rows["window_end"][0].as_py()).total_seconds() == 60
    with pytest.raises(ConfigError, match=r"bar_interval: is 5m, but bars of .* are 1m long; leave it out"):
        moola.predict(run, market / "store", bar_interval="5m")


def test_bars_can_be_read_with_other_options_than_the_run(run: Path, market: Path, tmp_path: Path) -> None:
    """For example those of another vendor: UTC, stamped at the open, under the usual names."""
    other = {"columns": "timestamp=timestamp", "tz": "UTC", "stamp": "open"}
    said: list[str] = []
    table = moola.predict(run, data=[market / "plain.parquet"], say=said.append, **other)
    assert table.equals(moola.predict(run, market / "store"))
    assert said == ["bars are read as in training: reset_on_gap 4h"]
    late = moola.predict(run, data=market / "plain.parquet", **other | {"stamp": "close"})
    moved = (late[name][0].as_py() - table[name][0].as_py() for name in ("window_end", "known_at"))
    assert {move.total_seconds() for move in moved} == {-60.0}
    with pytest.raises(FeatureMismatchError, match="span gaps of up to 2d"):
        moola.predict(run, data=market / "plain.parquet", **other, reset_on_gap="2d")


def test_a_note_says_that_bars_are_split_again(run: Path, market: Path, store: moola.FeatureStore) -> None:
    said: list[str] = []
    table = moola.predict(run, data=market / "bars.parquet", split="test", say=said.append)
    first, last = (
        format_time(edge(table["window_end"].cast(pa.int64())).as_py()) for edge in (pc.min, pc.max)
    )
    assert said[1:] == [
        f"split test is a split of these bars, windows that end from {first} to {last}: the bars that the run was "
        "trained on may be split at other times. Rely on the column seen, or give --from and --to (from_=, to=)"
    ]
    # A store has its own splits, and split `all` needs no note.
    for given in ({"feature_dir": store, "split": "test"}, {"data": market / "bars.parquet", "split": "all"}):
        said.clear()
        moola.predict(run, **given, stride=50, say=said.append)
        assert not any("split" in line for line in said)


def test_an_unknown_time_stamp_convention_is_noted(run: Path, market: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "old")
    forget_bars(tmp_path / "old")
    said: list[str] = []
    moola.predict(tmp_path / "old", data=market / "plain.parquet", say=said.append)
    assert said[0].startswith("timestamps are taken as the open of each bar: the run does not record")
    assert said[0].endswith("each row is a bar late: give --stamp close (stamp='close')")
    said.clear()
    moola.predict(tmp_path / "old", data=market / "plain.parquet", say=said.append, stamp="open")
    assert len(said) == 1
    assert "check that these match" in said[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"data": "bars.parquet", "speed": 3},
            "speed: is no option for reading bars; the options are columns, tz, time_f",
        ),
        (
            {"feature_dir": "store", "stamp": "close"},
            "stamp: applies only to --data (data=); give bars",
        ),
        ({"feature_dir": "store", "speed": 3}, "speed: is no option for reading bars"),
        ({"data": "bars.parquet", "stamp": "end"}, "stamp: must be 'open' or 'close', not 'end'"),
    ],
)
def test_wrong_read_options_for_a_run_are_refused(
    run: Path, market: Path, given: dict[str, Any], message: str
) -> None:
    where = {name: market / given[name] for name in ("data", "feature_dir") if name in given}
    with pytest.raises(ConfigError) as caught:
        moola.predict(run, **given | where)
    assert message in str(caught.value)


# Protected outputs


def test_inputs_are_not_overwritten(run: Path, market: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    shutil.copy(market / "bars.parquet", folder / "one.parquet")
    (tmp_path / "link.parquet").symlink_to(folder / "one.parquet")
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(market / "store", tmp_path / "store")
    bars, store = {"data": folder / "one.parquet"}, {"feature_dir": tmp_path / "store"}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for given, output, message in (
        (bars, folder / "one.parquet", "one.parquet is also an input; write to another file"),
        (bars, tmp_path / "link.parquet", "link.parquet is also an input; write to another file"),
        ({"data": folder}, folder / "two.parquet", "two.parquet lies in"),
        (store, tmp_path / "store" / "p.parquet", "store, which is an input; write to another directory"),
        (store, tmp_path / "run" / "best.safetensors", "best.safetensors is a file of the run; write to an"),
        (store, tmp_path, "is a directory; give the Parquet file to write"),
    ):
        with pytest.raises(ConfigError) as caught:
            moola.predict(tmp_path / "run", **given, output=output)
        assert caught.value.name == "output"
        assert message in caught.value.problem
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    # Predictions may be kept with the run that made them, and may be repeated.
    for _ in range(2):
        moola.predict(tmp_path / "run", **store, output=tmp_path / "run" / "p.parquet", to="2020-06-09")


# Requests


def test_times_are_accepted_in_every_form(run: Path, store: moola.FeatureStore) -> None:
    day = datetime(2020, 6, 9, tzinfo=UTC)
    expected = moola.predict(run, store, from_="2020-06-09", to="2020-06-10")
    assert len(expected)
    for begin, end in (
        (day.date(), day.date() + timedelta(1)),
        (day, day + timedelta(1)),
        (np.datetime64("2020-06-09"), np.datetime64("2020-06-10T00:00:00.000000000")),
    ):
        assert moola.predict(run, store, from_=begin, to=end).equals(expected)


def test_a_range_without_windows_is_reported(run: Path, store: moola.FeatureStore) -> None:
    said: list[str] = []
    assert len(moola.predict(run, store, from_="2031-01-01", say=said.append)) == 0
    first, last = (format_time(int(store.timestamps[row])) for row in (0, -1))
    assert said == [f"no window of 30 bars ends there: {store.path} has bars from {first} to {last}"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"from_": "2020-06-10", "to": "2020-06-09"}, "to: 2020-06-09 is not after 2020-06-10; windows end"),
        ({"from_": 5}, "from: 5 is no time; write 2020-06-10, or 2020-06-10T14:30:00Z"),
        ({"to": np.datetime64("NaT")}, "is no time; write 2020-06-10, or"),
        (
            {"run": None},
            "run: must be a path, or several, not a NoneType; give the directory of a fine-tuned",
        ),
        ({"run": [3]}, "run: must be a path, or several, not a list; give the directory"),
        (
            {"data": pa.table({"open": [1.0]})},
            "data: must be a path, or several, not a Table; give a file of",
        ),
        ({"data": []}, "data: is empty; give a file of bars, or several"),
        ({"stride": 0}, "stride: 0 is out of range; give a whole number from 1"),
    ],
)
def test_wrong_requests_are_refused(run: Path, market: Path, given: dict[str, Any], message: str) -> None:
    where = {} if "data" in given else {"feature_dir": market / "store"}
    with pytest.raises(ConfigError) as caught:
        moola.predict(**{"run": run} | where | given)
    assert message in str(caught.value)


def test_a_missing_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nope: there is no such run. Give the directory that moola finetune"):
        moola.predict(tmp_path / "nope", tmp_path)


def test_stores_without_the_needed_windows_or_columns_are_refused(
    run: Path, market: Path, tmp_path: Path
) -> None:
    dense = moola.build_features(
        market / "bars.parquet", tmp_path / "dense", **READ, **BUILD | {"window_length": 40}, layout="windows"
    )
    with pytest.raises(FeatureMismatchError) as caught:
        moola.predict(run, dense)
    assert "holds windows of 40 bars, and the weights were trained on windows of 30. Build a" in str(
        caught.value
    )

    shutil.copytree(run, tmp_path / "kept")
    weights = load_weights(run / "best.safetensors")
    assert [name for name, tensor in weights.tensors.items() if tensor.shape[-1:] == (10,)]
    features = weights.record["features"] | {"extra": ["volume"]}
    wider = {
        name: torch.cat([tensor, tensor[..., :1]], -1) if tensor.shape[-1:] == (10,) else tensor
        for name, tensor in weights.tensors.items()
    }
    save_weights(tmp_path / "kept" / "best.safetensors", wider, weights.record | {"features": features})
    with pytest.raises(FeatureMismatchError) as caught:
        moola.predict(tmp_path / "kept", market / "store")
    assert "store are none, the weights were trained with volume. Give the same ones" in str(caught.value)
    assert len(moola.predict(tmp_path / "kept", data=market / "bars.parquet", say=str, to="2020-06-09"))


MEMORY = """
import resource, sys, torch, moola
run, store, output = sys.argv[1:]
for stride in (10, 1):
    moola.predict(run, store, output, stride=stride, device="cpu", say=str)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_windows(run: Path, tmp_path: Path) -> None:
    moola.make_bars(tmp_path / "bars.parquet", 40_000)
    store = moola.build_features(
        tmp_path / "bars.parquet", tmp_path / "store", stamp="open", reset_on_gap="4h"
    )
    shutil.copytree(run, tmp_path / "run")
    weights = load_weights(run / "best.safetensors")
    save_weights(
        tmp_path / "run" / "best.safetensors", weights.tensors, weights.record | {"window_length": 105}
    )
    command = [sys.executable, "-c", MEMORY, tmp_path / "run", store.path, tmp_path / "p.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    few, many = (int(line) / 1024 for line in done.stdout.split())
    windows = pq.read_metadata(tmp_path / "p.parquet").num_rows
    # All of them at once would take more than twice the limit.
    assert windows * 105 * 10 * 4 / 2**20 > 120
    assert many - few < 60


# The command


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        app([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_predicts(
    run: Path, market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.parquet"
    asked = ["predict", "--run", run, "--output", file]
    some = ["--from", "2020-06-09", "--to", "2020-06-10"]
    assert command(*asked, "--data", market / "bars.parquet", *some) == 0
    shown = capsys.readouterr()
    assert "note: bars are read as in training: columns When=time" in shown.err
    assert "the models have seen bars" in shown.out
    expected = moola.predict(run, market / "store", from_="2020-06-09", to="2020-06-10")
    assert pq.read_table(file).equals(expected)
    other = ["--columns", "timestamp=timestamp", "--tz", "UTC", "--stamp", "open", "--reset-on-gap", "4h"]
    other += ["--dedup", "identical", "--sort", "--drop-bad-bars"]
    assert command(*asked, "--data", market / "plain.parquet", *some, *other, "--json") == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []
    assert pq.read_table(file).equals(expected)

    before = file.read_bytes()
    for more, code, message in (
        (["--feature-dir", market / "store", "--stride", 0], 2, "--stride: 0 is out of range"),
        (
            ["--feature-dir", market / "store", "--from", "2020-06-10", "--to", "2020-06-09"],
            2,
            "--to: 2020-06-09 is",
        ),
        (
            ["--feature-dir", market / "store", "--tz", "UTC"],
            2,
            "--tz: applies only to --data",
        ),
        (["--data", file], 2, "--output: "),
        (
            ["--data", market / "bars.parquet", "--stamp", "end"],
            2,
            "--stamp: must be 'open' or 'close', not 'end'",
        ),
        (
            ["--run", tmp_path / "nope", "--feature-dir", market / "store"],
            1,
            "nope: there is no such run. Give",
        ),
    ):
        assert command(*asked, *more) == code
        assert message in capsys.readouterr().err
    assert file.read_bytes() == before
    assert command(*asked, "--feature-dir", market / "store", "--from", "2031-01-01") == 0
    assert "note: no window of 30 bars ends there: " in capsys.readouterr().err
    assert pq.read_metadata(file).num_rows == 0
