"""Pre-trained encoders of members: assigns runs to members, and checks that their features match the windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from moola.errors import ConfigError
from moola.estimators.kinds import KINDS, kind_named
from moola.folds.dealing import StorePath, open_labelled_store
from moola.labels.windows import LabelledWindows
from moola.models.encoder import Encoder
from moola.models.loading import load_encoder
from moola.models.weights import FeatureIdentity
from moola.settings.models import ModelConfig, load_config
from moola.training.new_model import check_shape

__all__ = ["assign_encoders", "check_encoders", "model_of"]


def assign_encoders(
    given: Sequence[str], members: Mapping[str, Any], kinds: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """By member's name, the run whose encoder it starts from; and notes on members that get none.

    Args:
        given: Each a run, for those Jade members whose shape its encoder has, or `KIND=RUN`, for the members of a kind.
        members: Estimators by name.
        kinds: By member's name, a name of :data:`moola.estimators.KINDS`.

    Raises `ConfigError` for a run that fits no member or not the named kind, and for two runs for one member; and
    `WeightsError`.
    """
    networks = {name: member for name, member in members.items() if kinds[name].startswith("jade")}
    if not networks:
        raise ConfigError("encoder", "cannot be used by these members; add jade or jade_compact")
    chosen: dict[str, str] = {}
    named = {
        text: text.partition("=")
        for text in given
        if "=" in text and kind_named(text.partition("=")[0]) in KINDS
    }
    for text, (kind, _, run) in named.items():
        theirs = [name for name in members if kinds[name] == kind]
        if not theirs:
            among = ", ".join(dict.fromkeys(kinds.values()))
            raise ConfigError("encoder", f"{text!r} names no member; give one of {among}")
        if not kind.startswith("jade"):
            raise ConfigError("encoder", f"cannot be used by {kind}; give it to jade or jade_compact")
        for name in theirs:
            if (why := _misfit(networks[name], run)) is not None:
                raise ConfigError("encoder", f"{run} does not fit {name}: {why}; {_ADVICE}")
            _choose(chosen, name, run)
    fixed = {*chosen}
    misfits: dict[str, str] = {}
    for run in given:
        if run in named:
            continue
        whys = {name: _misfit(member, run) for name, member in networks.items()}
        fitting = [name for name, why in whys.items() if why is None]
        if not fitting:
            reasons = ", ".join(f"{name} ({why})" for name, why in whys.items())
            raise ConfigError("encoder", f"{run} fits none of these members: {reasons}; {_ADVICE}")
        # A run that was given for a kind takes precedence over one that merely fits.
        for name in [name for name in fitting if name not in fixed] or fitting:
            _choose(chosen, name, run)
        misfits |= {name: f"{run} does not fit it: {why}" for name, why in whys.items() if why is not None}
    notes = [
        f"{name} is trained from scratch, because {why}"
        for name, why in misfits.items()
        if name not in chosen
    ]
    return {name: chosen[name] for name in members if name in chosen}, notes


def _choose(chosen: dict[str, str], name: str, run: str) -> None:
    if name in chosen:
        problem = f"gives {name} both {chosen[name]} and {run}; give each kind one, as KIND=RUN"
        raise ConfigError("encoder", problem)
    chosen[name] = run


def _misfit(member: Any, run: str) -> str | None:
    """Why a member cannot start from a run's encoder; None if it can."""
    model, encoder = model_of(member), load_encoder(run)
    try:
        check_shape(model, encoder)
    except ConfigError as error:
        return f"{error.name} {error.problem.partition(';')[0]}"
    return None


_ADVICE = "give members the shape that was pre-trained (--set KIND.hidden_size=H), or train from scratch"


def model_of(estimator: Any) -> ModelConfig:
    """The model that :class:`moola.JadeClassifier`, or an estimator with its parameters, makes; except for classes."""
    parameters = estimator.get_params(deep=False)
    size = parameters["hidden_size"]
    given = () if size is None else (f"model.architecture.hidden_size={size}",)
    return load_config(parameters["model"], [*parameters["settings"], *given]).model


def check_encoders(
    members: Mapping[str, Any],
    windows: LabelledWindows,
    other_windows: Mapping[str, LabelledWindows] | None = None,
    store: StorePath | None = None,
) -> list[str]:
    """Notes on how the bars of members' encoders differ from those of the windows.

    Args:
        members: Estimators by name. Encoders that were not loaded from a run are skipped: their features are unknown.
        windows: Labelled windows.
        other_windows: By member's name, the member's own windows.
        store: The store of `windows`, which knows their bars.

    Raises `FeatureMismatchError` for an encoder with other features than its member's windows, and `WeightsError` for
    one that cannot be loaded.
    """
    notes: list[str] = []
    others = other_windows or {}
    for name, member in members.items():
        encoder = _encoder_of(member)
        if encoder is None or encoder.origin is None:
            continue
        own = others.get(name, windows)
        source = "the labels" if own is windows else f"the labels of {name}"
        known = None
        if store is not None and own.store_id and own.store_id == windows.store_id:
            known = open_labelled_store(own, store)
        given = FeatureIdentity.of_windows(own, known)
        if known is None and any(one.window_length > own.window_length for one in others.values()):
            # `together` gives pre-cut windows the begin of the longest of them, so the interval of their bars is
            # unknown.
            given = replace(given, bars=None)
        encoder.origin.features.require(given, source)
        notes += encoder.origin.features.notes(given, source)
    return list(dict.fromkeys(notes))


def _encoder_of(estimator: Any) -> Encoder | None:
    encoder = estimator.get_params(deep=False).get("encoder")
    return encoder if encoder is None or isinstance(encoder, Encoder) else load_encoder(encoder)
