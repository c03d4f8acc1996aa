"""Figures of fitted networks for monitoring: parameters per window, epochs, spread of the loss, time and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

__all__ = ["monitored", "of_several"]


def monitored(fitted: Any, windows: int) -> dict[str, Any]:
    """The :meth:`moola.training.fitting.FitResult.record` of a fitted network, and its parameters per window.

    Args:
        fitted: A network with `model_`, and its epochs in `result_`; the record of any other model is empty.
        windows: Number of labelled windows in all folds, which `parameters_per_window` divides by.
    """
    model, result = (getattr(fitted, name, None) for name in ("model_", "result_"))
    if not isinstance(model, nn.Module) or result is None:
        return {}
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters_per_window": parameters / windows, **result.record()}


def of_several(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The record of models that predict together: sums of parameters and seconds, otherwise the worst figure."""
    known = [record for record in records if record]
    if not known:
        return {}

    def over(
        pick: Callable[[Iterable[Any]], Any], name: str, within: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        values = [record[name] for record in within if record.get(name) is not None]
        return {name: pick(values)} if values else {}

    timings = [record["timing"] for record in known]
    return {
        **over(sum, "parameters_per_window", known),
        **over(max, "epochs", known),
        **over(max, "validation_spread", known),
        "timing": over(sum, "seconds", timings)
        | over(max, "slowest_epoch", timings)
        | over(max, "allocated", timings)
        | over(max, "reserved", timings),
    }
