"""Documented import paths keep working."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import warnings
from typing import Any

import pytest

# What README.md, CHANGELOG.md, docs/ and examples/ have ever named, over their whole history, in 0.1.0 and before:
# modules, and the names in them. They import without a warning. Add what a later version names; take nothing out.
DOCUMENTED: dict[str, tuple[str, ...]] = {
    "moola": (
        "FastWindowedDataset",
        "FastWindowedDataset.collate",
        "FastWindowedDataset.set_epoch",
        "FeatureStore",
        "FeatureStore.bars",
        "FeatureStore.extra_names",
        "FeatureStore.feature_names",
        "FeatureStore.features",
        "FeatureStore.open",
        "FeatureStore.splits",
        "FeatureStore.timestamps",
        "FeatureStore.valid",
        "FeatureStore.window",
        "FeatureStream",
        "FeatureStream.from_state",
        "FeatureStream.from_store",
        "FeatureStream.push",
        "FeatureStream.state",
        "FeatureStream.valid",
        "JadeClassifier",
        "JadeClassifier.fit",
        "JadeClassifier.predict_spans",
        "build_features",
        "compute_features",
        "compute_swings",
        "finetune",
        "predict",
        "verify_features",
    ),
    "moola.augment": ("Jitter", "MagnitudeWarp", "TimeWarp"),
    "moola.data.device": (
        "DeviceWindowLoader",
        "DeviceWindowLoader.load_state_dict",
        "DeviceWindowLoader.numbers",
        "DeviceWindowLoader.start_at",
        "DeviceWindowLoader.state_dict",
    ),
    "moola.data.fast_windowed_loader": ("create_fast_dataloaders", "create_strided_dataloaders"),
    "moola.data.windowed_loader": ("WindowedConfig", "WindowedConfig.from_yaml", "create_dataloaders"),
    # `out_of_fold` is a function here; a module of that name must not take its place.
    "moola.evaluation": ("Truth", "bootstrap", "out_of_fold"),
    "moola.evaluation.baselines": ("PooledLogisticRegression",),
    "moola.gates": ("check_gates",),
    "moola.labels": ("LabelledWindows", "LabelledWindows.load", "together"),
    "moola.models": ("Jade", "JadeCompact", "build_model", "load_encoder"),
    "moola.splits": (
        "CombinatorialPurgedKFold",
        "PurgedKFold",
        "PurgedKFold.split",
        "PurgedKFold.get_n_splits",
        "WalkForward",
        "assert_no_shared_bars",
        "window_starts",
    ),
    "moola.sweep": ("sweep",),
    "moola.training": ("pretrain",),
    # CHANGELOG names LabelError, and says "every moola error".
    "moola.errors": (
        "BarError",
        "BuildConflictError",
        "ConfigError",
        "DamagedStoreError",
        "DeviceError",
        "FeatureMismatchError",
        "InputDeniedError",
        "InputError",
        "InputMissingError",
        "LabelError",
        "LabelProblem",
        "LeakError",
        "MoolaError",
        "NotFiniteError",
        "Problem",
        "RunError",
        "SharedBarsError",
        "SplitError",
        "StaleStoreError",
        "StateError",
        "StoreError",
        "StoreExistsError",
        "StoreMissingError",
        "StoreWriteError",
        "TimestampError",
        "WeightsError",
    ),
}

# What those modules, and moola.validation and moola.features, had in `__all__` in 0.1.0 beside that. Pages name none of
# it, docstrings do. It still imports; it may say that it goes.
EXPORTED: dict[str, tuple[str, ...]] = {
    "moola": ("FeatureConfig", "MoolaError", "SampleMarket", "Swings", "__version__", "make_bars"),
    "moola.augment": (
        "Augmentation",
        "AugmentationConfig",
        "Augmented",
        "feature_ranges",
        "feature_scale",
        "window_keys",
    ),
    "moola.data": ("FastWindowedDataset",),
    "moola.data.fast_windowed_loader": ("Loaders", "main"),
    "moola.evaluation": (
        "Evaluation",
        "Predictions",
        "evaluate",
        "paired_differences",
        "permutation_null",
        "scores",
    ),
    "moola.evaluation.baselines": (
        "BASELINES",
        "POOLED",
        "MajorityClass",
        "MeanSpan",
        "StratifiedGuess",
        "baseline_predictions",
        "pool_features",
    ),
    "moola.features": ("FeatureStream", "Swings", "compute_features", "compute_swings"),
    "moola.gates": ("EVALUATION", "GateCheck", "GateReport", "read_gates"),
    "moola.labels": ("check_folds", "read_labels", "read_raw_windows"),
    "moola.models": (
        "Config",
        "Encoder",
        "FeatureIdentity",
        "JadeOutput",
        "decode_spans",
        "encode_spans",
        "load_config",
        "load_model",
        "most_likely_spans",
        "pool",
    ),
    "moola.splits": (
        "DEFAULT_FRACTIONS",
        "NAMES",
        "Pieces",
        "Segment",
        "Split",
        "SplitOptions",
        "Splits",
        "count_windows",
        "make_splits",
        "window_pieces",
    ),
    "moola.sweep": ("Space", "SweepResult", "read_space"),
    "moola.training": ("PretrainResult", "TrainingProgress"),
    "moola.validation": (
        "CrossValidation",
        "MetaLearner",
        "OutOfFold",
        "assess",
        "cross_validate",
        "dropout_spread",
        "ensemble",
        "purged_folds",
        "seen_windows",
        "stack",
    ),
}

# Not here: modules that ARCHITECTURE.md and CONTRIBUTING.md name as files, for whoever works on them (moola.build,
# moola.config, moola.classifier, moola.members, moola.prediction, moola.embedding, moola.ensembles, moola.splitters,
# moola.cli, moola.configs). Every path that the pages have named existed in 0.1.0: none had to be left out.

COMMANDS = ("moola", "moola.data.fast_windowed_loader")
"""What runs by `python -m`."""


def found(module: str, name: str) -> Any:
    thing: Any = importlib.import_module(module)
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


FRESH = """
import importlib, json, sys, warnings
warnings.simplefilter("error")
for module, names in json.loads(sys.argv[1]).items():
    # As if nothing of moola had been imported before. The engine can be loaded once alone.
    for known in [name for name in sys.modules if name.partition(".")[0] == "moola" and name != "moola._core"]:
        del sys.modules[known]
    for name in names:
        try:
            exec(f"from {module} import {name.partition('.')[0]}", {})
            thing = importlib.import_module(module)
            for part in name.split("."):
                thing = getattr(thing, part)
        except BaseException as error:
            print(f"{module}.{name}: {error!r}")
"""


def test_documented_paths_import_without_a_warning() -> None:
    """In a separate interpreter: another test may have imported them already and consumed their warnings."""
    command = [sys.executable, "-c", FRESH, json.dumps(DOCUMENTED)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("module", DOCUMENTED)
def test_documented_names_keep_their_kind(module: str) -> None:
    """A class, a function or an attribute, never a module of the same name."""
    for name in DOCUMENTED[module]:
        thing = found(module, name)
        assert not isinstance(thing, type(sys)), f"{module}.{name}"
        last = name.rpartition(".")[2]
        if "." not in name:
            assert isinstance(thing, type) == last[0].isupper(), f"{module}.{name}"
            assert callable(thing), f"{module}.{name}"


@pytest.mark.parametrize("module", EXPORTED)
def test_exported_names_import(module: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for name in EXPORTED[module]:
            found(module, name)


@pytest.mark.parametrize("module", COMMANDS)
def test_documented_modules_run(module: str) -> None:
    command = [sys.executable, "-W", "error", "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout
    assert done.stderr == ""
