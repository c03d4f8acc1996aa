"""Pre-trained encoders of members: which goes to whom, and that it was trained on what the member is given."""

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
    """By member's name, the run whose encoder it starts from; and what a person should know of that.

    Args:
        given: Each a run, which goes to those members of Jade whose shape its encoder has, or `KIND=RUN`, to those of a
            kind.
        members: Estimators by name.
        kinds: By member's name, a name of :data:`moola.estimators.KINDS`.

    Raises `ConfigError` for a run that no member, or not the one that is named, can start from, and for two that one
    member would, and `WeightsError`.
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
        # What is given to a kind goes before what is given to whom it fits.
        for name in [name for name in fitting if name not in fixed] or fitting:
            _choose(chosen, name, run)
        misfits |= {name: f"{run} does not fit it: {why}" for name, why in whys.items() if why is not None}
    notes = [
        f"{name} is trained from scratch, for {why}" for name, why in misfits.items() if name not in chosen
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
    """What :class:`moola.JadeClassifier`, or another of its parameters, makes when it is fitted, but for classes."""
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
    """What a person should know of the bars that members' encoders were pre-trained on, and those of the windows.

    Args:
        members: Estimators by name. Encoders that were not loaded from a run say nothing of their features.
        windows: Labelled windows.
        other_windows: By member's name, its own.
        store: That of `windows`, which knows their bars.

    Raises `FeatureMismatchError` for an encoder of other features than its member is given, and `WeightsError` for one
    that cannot be loaded.
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
            # What `together` made of windows that were cut beforehand begins with the longest of them, so that nobody
            # knows from it how far apart its bars are.
            given = replace(given, bars=None)
        encoder.origin.features.require(given, source)
        notes += encoder.origin.features.notes(given, source)
    return list(dict.fromkeys(notes))


def _encoder_of(estimator: Any) -> Encoder | None:
    encoder = estimator.get_params(deep=False).get("encoder")
    return encoder if encoder is None or isinstance(encoder, Encoder) else load_encoder(encoder)
