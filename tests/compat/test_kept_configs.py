"""Configurations of earlier versions: every key is still read, with the same meaning."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moola
from moola.data.windowed_loader import WindowedConfig
from moola.gates import check_gates, read_gates
from moola.models import build_model, load_config
from moola.sweep import read_space

Check = Callable[..., None]
Run = Callable[..., Any]

# Keys that are read, and of no effect any more: taken out of the values that are compared. By the version that left
# them out, and why.
WITHOUT_EFFECT: tuple[str, ...] = ()


@pytest.fixture(autouse=True)
def _old_names_may_say_that_they_go() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def values(kept: Path) -> dict[str, Any]:
    return json.loads((kept / "configs" / "values.json").read_text())


def dumped(config: Any) -> Any:
    return config.model_dump(mode="json")


@pytest.mark.parametrize("name", ["jade", "jade_compact", "tiny", "model"])
def test_a_model_configuration_keeps_its_meaning(name: str, kept: Path, agree: Check) -> None:
    config = load_config(name if name.startswith("jade") else f"configs/{name}.yaml")
    agree(values(kept)["models"][name], dumped(config), ignoring=WITHOUT_EFFECT)


def test_every_key_configures_a_model(kept: Path) -> None:
    model = build_model("configs/model.yaml", 10)
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


def keys(section: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Every key of a configuration by its full name, and its value."""
    found: list[tuple[str, Any]] = []
    for name, value in section.items():
        found += keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return found


def test_every_key_can_be_set_by_name(kept: Path, agree: Check) -> None:
    """As `--set KEY=VALUE` does."""
    then = values(kept)["models"]["model"]
    settings = [f"{key}={json.dumps(value)}" for key, value in keys(then)]
    assert len(settings) > 50
    agree(then, dumped(load_config("jade", settings)), ignoring=WITHOUT_EFFECT)


@pytest.mark.parametrize("name", ["gates", "model", "shipped"])
def test_gates_keep_their_meaning(name: str, kept: Path, agree: Check) -> None:
    gates = read_gates() if name == "shipped" else read_gates(f"configs/{name}.yaml")
    agree(values(kept)["gates"][name], dumped(gates))


def test_gates_in_a_file_are_read(kept: Path) -> None:
    assert len(check_gates("runs/pretrained", gates="configs/model.yaml").checks) >= 6


@pytest.mark.parametrize("name", ["grid", "space", "shipped"])
def test_a_search_space_keeps_its_meaning(name: str, kept: Path, agree: Check) -> None:
    space = read_space("grid.yaml" if name == "shipped" else f"configs/{name}.yaml")
    agree(values(kept)["spaces"][name], dumped(space))


@pytest.mark.parametrize("name", ["windows", "days"])
def test_settings_of_windows_keep_their_meaning(name: str, kept: Path, agree: Check) -> None:
    agree(values(kept)["windows"][name], dumped(WindowedConfig.from_yaml(f"configs/{name}.yaml")))


def test_parameters_of_features_keep_their_meaning(kept: Path) -> None:
    """Each of them, by name."""
    with moola.FeatureStore.open("stores/ohlc4") as store:
        parameters = store.metadata["parameters"]
        assert set(parameters) == set(dumped(moola.FeatureConfig())), (
            "a new parameter is none of an old store's"
        )
        columns = np.array(store.bars[:200].T, order="C")
        features = moola.compute_features(*columns, feature_set="ohlc4", config=parameters)
        np.testing.assert_array_equal(features, store.features[:200])


def test_models_are_listed_as_before(calls: dict[str, Any], moola_json: Run, agree: Check) -> None:
    agree(calls["models"]["printed"], moola_json(*calls["models"]["arguments"]))
