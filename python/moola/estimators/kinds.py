"""Kinds of members by name, and how to make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moola.errors import ConfigError

__all__ = ["KINDS", "kind_named", "make_member"]


def _jade(name: str) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        from moola.estimators.jade import JadeClassifier

        return JadeClassifier(name, **options)

    return make


def _convolution(**options: Any) -> Any:
    from moola.estimators.convolutional import TemporalConvolution

    return TemporalConvolution(**options)


def _regression(**options: Any) -> Any:
    from moola.evaluation.baselines import PooledLogisticRegression

    return PooledLogisticRegression(**options)


def _boosted_trees(**options: Any) -> Any:
    from moola.estimators.boosted_trees import PooledTrees

    return PooledTrees(**options)


def _rocket(**options: Any) -> Any:
    from moola.estimators.rocket import RandomKernels

    return RandomKernels(**options)


# Kinds that need torch are imported only on use.
KINDS: Mapping[str, Callable[..., Any]] = {
    "jade": _jade("jade"),
    "jade_compact": _jade("jade_compact"),
    "convolution": _convolution,
    "regression": _regression,
    "boosted_trees": _boosted_trees,
    "rocket": _rocket,
}
"""The function that makes an unfitted member of each kind, from its parameters."""

# The names of kinds in 0.1, which are still accepted.
_OLD_KINDS = {"trees": "boosted_trees", "kernels": "rocket"}


def kind_named(name: str) -> str:
    """The current name of a kind; accepts names of 0.1 too."""
    return _OLD_KINDS.get(name, name)


def make_member(kind: str, *, encoder: Any = None, **parameters: Any) -> Any:
    """An unfitted member of a kind.

    Args:
        kind: A name of :data:`KINDS`.
        encoder: A pre-trained encoder for Jade, as :class:`moola.JadeClassifier` takes it.
        parameters: Parameters of the estimator's constructor.

    Raises `ConfigError` for an unknown kind, an encoder that the kind cannot use, and unknown parameters.

    >>> make_member("boosted_trees", trees=20)
    PooledTrees(trees=20)
    """
    kind = kind_named(kind)
    if kind not in KINDS:
        raise ConfigError("member", f"{kind!r} is not a kind of model; give one of {', '.join(KINDS)}")
    if encoder is not None:
        if not kind.startswith("jade"):
            raise ConfigError("encoder", f"cannot be used by {kind}; give it to jade or jade_compact")
        parameters["encoder"] = encoder
    member = KINDS[kind]()
    known = member.get_params(deep=False)
    if unknown := sorted(set(parameters) - set(known)):
        raise ConfigError(
            "member", f"{kind} has no parameter {unknown[0]!r}; give some of {', '.join(sorted(known))}"
        )
    return member.set_params(**parameters)
