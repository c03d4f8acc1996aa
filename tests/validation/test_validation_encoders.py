"""Pre-trained encoders in cross-validations, stacks and sweeps: the members that use them, and the bars they
have seen."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import moola
from moola.cli import app
from moola.errors import ConfigError, FeatureMismatchError, RunError, WeightsError
from moola.estimators import make_member
from moola.estimators.jade import JadeClassifier
from moola.labels import LabelledWindows, read_labels
from moola.models import load_encoder
from moola.models.weights import load_weights, save_weights
from moola.runs.directory import read_seen_bars
from moola.sweep import SweepResult, sweep
from moola.training import pretrain
from moola.validation import CrossValidation, assess, cross_validate, seen_windows, stack
from moola.validation.encoders import assign_encoders

# One process makes what is made once per module.
pytestmark = pytest.mark.xdist_group("validation_encoders")

TINY: dict[str, Any] = {"hidden_size": 4, "epochs": 1, "augmentation": False, "device": "cpu"}
SPACE = "sampler: grid\nparameters:\n  training.finetune.lr: {choices: [0.01]}\n"


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def pretrained(store: Path, output: Path, *, hidden_size: int = 4, **options: Any) -> Path:
    pretrain(
        store,
        output,
        model={"model": {"name": "tiny", "architecture": {"hidden_size": hidden_size}}},
        **{"epochs": 1, "batch_size": 8, "windows_per_epoch": 16, "window_length": 24, "stride": 3} | options,
        device="cpu",
        say=lambda line: None,
    )
    return output


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars of one symbol, a store of them, and its labelled windows, without a kept column and with one."""
    folder = tmp_path_factory.mktemp("market")
    moola.make_bars(folder / "bars.parquet", 4_000)
    store = moola.build_features(
        folder / "bars.parquet", folder / "store", feature_set="ohlc4", keep=("volume",), stamp="open"
    )
    labels = pa.table({"window_end": 300 + 60 * np.arange(60), "class": ["a", "b"] * 30})
    read_labels(labels, store, window_length=24).save(folder / "L.safetensors")
    read_labels(labels, store, window_length=24, extra="volume").save(folder / "kept.safetensors")
    (folder / "space.yaml").write_text(SPACE)
    return folder


@pytest.fixture(scope="module")
def encoder(market: Path) -> Path:
    return pretrained(market / "store", market / "encoder")


def command(name: str, market: Path, output: Path, *args: object, labels: str = "L") -> Any:
    """Cross-validates, stacks or sweeps tiny models."""
    given = (name, "--labels", market / f"{labels}.safetensors", "--output", output, "--folds", 2)
    given = (*given, "--device", "cpu", "--permutations", 0)
    if name == "sweep":
        settings = ("model.architecture.hidden_size=4", "training.finetune.epochs=1", "augmentation=null")
        given = (*given, "--inner-folds", 2, "--space", market / "space.yaml", "--trials", 1)
        given = (*given, *(word for setting in settings for word in ("--set", setting)))
    else:
        settings = tuple(
            f"jade_compact.{name}" for name in ("hidden_size=4", "epochs=1", "augmentation=false")
        )
        given = (*given, "--jobs", 1, "--member", "jade_compact")
        given = (*given, *(word for setting in settings for word in ("--set", setting)))
        if name == "stack":
            given = (*given, "--inner-folds", 2, "--member", "regression")
    return run(*given, *args)


COMMANDS = pytest.mark.parametrize("name", ["cross-validate", "stack", "sweep"])


@COMMANDS
def test_commands_start_from_an_encoder(name: str, market: Path, encoder: Path, tmp_path: Path) -> None:
    ran = command(name, market, tmp_path / "out", "--encoder", encoder, "--feature-dir", market / "store")
    assert ran.exit_code == 0, ran.output
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    found = evaluation if name == "sweep" else evaluation["models"]["jade_compact"]
    who = "chosen" if name == "sweep" else "jade_compact"
    assert f"{who} from scratch" in found["differences"]
    assert set(found["apart"]) == {"seen", "unseen"}
    assert (
        "windows have bars that the encoder was pre-trained on; seen and unseen windows are scored"
        in ran.stdout
    )


# Which encoder goes to which member


def networks(**hidden_sizes: int) -> dict[str, Any]:
    """Jade and JadeCompact, by kind, and a regression."""
    made = {kind: make_member(kind, **TINY | {"hidden_size": size}) for kind, size in hidden_sizes.items()}
    return made | {"regression": make_member("regression")}


def test_an_encoder_is_given_to_the_members_it_fits(encoder: Path) -> None:
    run = str(encoder)
    sized = networks(jade=6, jade_compact=4)
    kinds = {name: name for name in sized}
    why = "hidden_size is 6 in the model and 4 in the encoder"
    note = f"jade is trained from scratch, because {run} does not fit it: {why}"
    assert assign_encoders([run], sized, kinds) == ({"jade_compact": run}, [note])
    assert assign_encoders([f"jade_compact={run}"], sized, kinds) == ({"jade_compact": run}, [])
    alike = networks(jade=4, jade_compact=4)
    assert assign_encoders([run], alike, kinds) == ({"jade": run, "jade_compact": run}, [])
    # An encoder given for a kind takes precedence.
    other = f"{encoder}/best.safetensors"
    both = {"jade": other, "jade_compact": run}
    assert assign_encoders([run, f"jade={other}"], alike, kinds) == (both, [])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            ["RUN"],
            "RUN fits none of these members: jade (hidden_size is 6 in the model and 4 in the encoder), jade_compact "
            "(hidden_size is 8 in the model and 4 in the encoder); give members the shape that was pre-trained (--set "
            "KIND.hidden_size=H), or train from scratch",
        ),
        (
            ["jade=RUN"],
            "RUN does not fit jade: hidden_size is 6 in the model and 4 in the encoder; give members the shape that",
        ),
        (["regression=RUN"], "cannot be used by regression; give it to jade or jade_compact"),
        (["trees=RUN"], "'trees=RUN' names no member; give one of jade, jade_compact, regression"),
    ],
)
def test_encoders_that_fit_no_member_are_refused(encoder: Path, given: list[str], words: str) -> None:
    sized = networks(jade=6, jade_compact=8)
    runs = [text.replace("RUN", str(encoder)) for text in given]
    with pytest.raises(ConfigError, match=re.escape(f"encoder: {words.replace('RUN', str(encoder))}")):
        assign_encoders(runs, sized, {name: name for name in sized})


def test_a_member_starts_from_one_encoder(encoder: Path) -> None:
    members, kinds = networks(jade_compact=4), {"jade_compact": "jade_compact", "regression": "regression"}
    run, other = str(encoder), f"{encoder}/best.safetensors"
    for given in (
        [run, other],
        [f"jade_compact={run}", other],
        [f"jade_compact={run}", f"jade_compact={other}"],
    ):
        words = f"encoder: gives jade_compact both {run} and {other}; give each kind one, as KIND=RUN"
        with pytest.raises(ConfigError, match=re.escape(words)):
            assign_encoders(given, members, kinds)
    with pytest.raises(WeightsError, match="nowhere"):
        assign_encoders(["nowhere"], members, kinds)


def test_an_encoder_of_one_size_is_used_in_a_stack_of_both_sizes(
    market: Path, encoder: Path, tmp_path: Path
) -> None:
    args = ("--encoder", encoder, "--member", "jade", "--feature-dir", market / "store")
    args = (
        *args,
        *(f"--set=jade.{setting}" for setting in ("hidden_size=2", "epochs=1", "augmentation=false")),
    )
    ran = command("stack", market, tmp_path / "out", *args)
    assert ran.exit_code == 0, ran.output
    note = f"jade is trained from scratch, because {encoder} does not fit it: hidden_size is 2 in the model and 4 in"
    assert note in ran.stderr
    assert note in ran.stdout
    settings = json.loads((tmp_path / "out" / "cross_validation.json").read_text())["settings"]
    encoders = {name: one["encoder"] for name, one in settings["members"].items()}
    assert encoders == {"jade_compact": str(encoder), "regression": None, "jade": None}
    models = json.loads((tmp_path / "out" / "evaluation.json").read_text())["models"]
    assert list(models) == ["stack", "jade_compact", "regression", "jade", "jade_compact from scratch"]


def test_several_encoders_have_seen_the_union_of_their_bars(
    market: Path, encoder: Path, tmp_path: Path
) -> None:
    """A bar counts as seen if any encoder has seen it."""
    other = tmp_path / "other"
    shutil.copytree(encoder, other)
    learned = read_seen_bars(encoder).stretches
    with moola.FeatureStore.open(market / "store") as store:
        late = int(store.timestamps[-1])
    (other / "learned.json").write_text(
        json.dumps({symbol: [[late - 180 * 60 * 10**9, late]] for symbol in learned})
    )
    args = (f"--encoder=jade={other}", f"--encoder=jade_compact={encoder}", "--member=jade")
    args = (
        *args,
        *(f"--set=jade.{setting}" for setting in ("hidden_size=4", "epochs=1", "augmentation=false")),
    )
    ran = command("cross-validate", market, tmp_path / "out", *args, "--feature-dir", market / "store")
    assert ran.exit_code == 0, ran.output
    windows = LabelledWindows.load(market / "L.safetensors")
    one, two = (seen_windows(run, windows, market / "store") for run in (encoder, other))
    assert (two & ~one).any()
    assert np.array_equal(CrossValidation.load(tmp_path / "out").truth.seen, one | two)


def test_an_encoder_as_a_setting_is_refused(market: Path, encoder: Path, tmp_path: Path) -> None:
    ran = command("cross-validate", market, tmp_path / "out", "--set", f"jade_compact.encoder={encoder}")
    assert ran.exit_code == 2
    assert ran.stderr == (
        f"error: --set: 'jade_compact.encoder={encoder}' is given as --encoder jade_compact={encoder}\n"
    )


# Features


@COMMANDS
def test_commands_refuse_an_encoder_of_other_features(
    name: str, market: Path, encoder: Path, tmp_path: Path
) -> None:
    args = ("--encoder", encoder, "--feature-dir", market / "store")
    ran = command(name, market, tmp_path / "out", *args, labels="kept")
    assert ran.exit_code == 1, ran.output
    assert ran.stderr == (
        "error: the kept columns of the labels are volume, the weights were trained with none. Give the same ones, in "
        "the same order, from a store built with --keep (of moola build-features)\n"
    )
    assert not (tmp_path / "out").exists()


def test_encoders_of_other_features_are_refused_before_any_fit(
    market: Path, encoder: Path, tmp_path: Path
) -> None:
    """Members with their own windows are checked against these, and bars are checked if the store is
    available."""
    plain, kept = (LabelledWindows.load(market / f"{name}.safetensors") for name in ("L", "kept"))
    members = {
        "own": make_member("jade_compact", encoder=encoder, **TINY),
        "other": make_member("regression"),
    }
    for run in (cross_validate, stack):
        with pytest.raises(FeatureMismatchError, match="the kept columns of the labels of own are volume"):
            run(plain, members, other_windows={"own": kept})
    with pytest.raises(FeatureMismatchError, match="the kept columns of the labels are volume"):
        sweep(kept, {"parameters": {"lr": {"choices": [0.01]}}}, tmp_path, trials=1, estimator=members["own"])
    # Five minutes apart.
    bars = pq.read_table(market / "bars.parquet")
    times = bars["timestamp"].cast(pa.int64()).to_numpy()
    slow = pa.array(times[0] + 5 * (times - times[0])).cast(bars["timestamp"].type)
    moola.build_features(
        bars.set_column(bars.column_names.index("timestamp"), "timestamp", slow),
        tmp_path / "slow",
        feature_set="ohlc4",
        stamp="open",
    ).close()
    slower = make_member("jade_compact", encoder=pretrained(tmp_path / "slow", tmp_path / "encoder"), **TINY)
    with pytest.raises(FeatureMismatchError, match="the bars of the labels are 1m apart, the weights were"):
        cross_validate(plain, {"slower": slower}, store=market / "store")


def test_differences_between_bars_give_a_note(market: Path, encoder: Path, tmp_path: Path) -> None:
    """An encoder trained on windows over any gap, with labels of a store that begins a segment after each
    gap."""
    store = moola.build_features(
        market / "bars.parquet", tmp_path / "store", feature_set="ohlc4", stamp="open", reset_on_gap="30m"
    )
    rows = np.flatnonzero(store.valid)[100::60][:40]
    labels = pa.table({"window_end": rows, "class": ["a", "b"] * 20})
    windows = read_labels(labels, store, window_length=24)
    note = "features of the labels restart after gaps over 30m, the training features never"
    member = make_member("jade_compact", encoder=encoder, **TINY)
    found = cross_validate(windows, {"jade": member}, folds=2, store=store)
    assert [line.startswith(note) for line in found.settings["notes"]] == [True]
    said: list[str] = []
    space = {"sampler": "grid", "parameters": {"training.finetune.weight_decay": {"choices": [0.0]}}}
    given: dict[str, Any] = {"trials": 1, "estimator": member, "folds": 2, "inner_folds": 2}
    sweep(windows, space, tmp_path / "sweep", **given, store=store, permutations=0, say=said.append)
    assert said[0].startswith(note)
    assert any(line.startswith(note) for line in assess(found, "jade", baselines={}).summary())


# Seen bars


@COMMANDS
def test_pre_cut_windows_start_from_an_encoder(
    name: str, market: Path, encoder: Path, tmp_path: Path
) -> None:
    """They hold their times; without times, the report says that it is unknown."""
    windows = LabelledWindows.load(market / "L.safetensors")
    raw = replace(windows, store_id="", splits=None)
    raw.save(market / "raw.safetensors")
    replace(raw, times=None, first_times=None).save(market / "timeless.safetensors")
    ran = command(name, market, tmp_path / "out", "--encoder", encoder, labels="raw")
    assert ran.exit_code == 0, ran.output
    seen = int(seen_windows(encoder, windows, market / "store").sum())
    assert f"{seen} of 60 windows have bars that the encoder was pre-trained on" in ran.stdout
    assert "may have been" not in ran.output

    ran = command(name, market, tmp_path / "timeless", "--encoder", encoder, labels="timeless")
    assert ran.exit_code == 0, ran.output
    note = "the times of these windows are unknown: the encoder may have been pre-trained on bars of any of"
    assert note in ran.stderr
    assert note in ran.stdout
    if name != "sweep":
        assert note in (tmp_path / "timeless" / "evaluation.json").read_text()


# Sweeps


def test_a_sweep_is_identified_by_encoder_weights_and_yaml_content(
    market: Path, encoder: Path, tmp_path: Path
) -> None:
    """The place of the files does not matter, but changed content does."""
    windows, model = LabelledWindows.load(market / "L.safetensors"), tmp_path / "model.yaml"
    text = "model: {architecture: {hidden_size: 4}}\ntraining: {finetune: {epochs: 1}}\naugmentation: null\n"
    model.write_text(text)

    def search(start: Any) -> SweepResult:
        return sweep(
            windows,
            {"sampler": "grid", "parameters": {"training.finetune.lr": {"choices": [0.01]}}},
            tmp_path / "sweep",
            trials=1,
            estimator=JadeClassifier(model, encoder=start, device="cpu"),
            folds=2,
            inner_folds=2,
            scratch=False,
            permutations=0,
            say=lambda line: None,
        )

    shutil.copytree(encoder, tmp_path / "copy")
    assert search(encoder).record() == search(tmp_path / "copy").record()
    weights = load_weights(encoder / "best.safetensors")
    changed = {name: tensor + 1 for name, tensor in weights.tensors.items()}
    save_weights(tmp_path / "copy" / "best.safetensors", changed, weights.record)
    with pytest.raises(
        RunError, match=r"the sweep was begun with estimator.encoder '\w+', not '\w+'. Continue it"
    ):
        search(tmp_path / "copy")
    with pytest.raises(
        RunError, match=r"the sweep was begun with estimator.encoder '\w+', not '\w+'. Continue it"
    ):
        search(load_encoder(tmp_path / "copy"))
    model.write_text(text.replace("epochs: 1", "epochs: 2"))
    with pytest.raises(
        RunError, match=r"begun with estimator.model.training.finetune.epochs 1, not 2. Continue"
    ):
        search(encoder)


# Kept columns


def test_commands_scale_kept_columns(market: Path, tmp_path: Path) -> None:
    """By each member's own windows: members trained from scratch have no other source of scales."""
    assert command("sweep", market, tmp_path / "sweep", labels="kept").exit_code == 0
    args = ("--member", f"jade_compact={market / 'L.safetensors'}", "--member", "regression")
    assert command("cross-validate", market, tmp_path / "both", *args, labels="kept").exit_code == 0
    members = json.loads((tmp_path / "both" / "cross_validation.json").read_text())["settings"]["members"]
    kept = {name: one["parameters"].get("kept_columns") for name, one in members.items()}
    assert kept == {"jade_compact": 1, "jade_compact (L)": 0, "regression": None}
    estimator = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["estimator"]
    assert estimator["kept_columns"] == "1"
