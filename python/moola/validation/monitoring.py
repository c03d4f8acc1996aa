"""What monitoring wants to know of fitted models: how much they learn from how little, how long, how steadily."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

__all__ = ["monitored", "of_several"]


def monitored(fitted: Any, windows: int) -> dict[str, Any]:
    """Of a fitted network, what :meth:`moola.training.fitting.FitResult.record` has, and how many parameters it has.

    Args:
        fitted: A network that records its epochs, in `model_` and `result_`; of any other model nothing is known.
        windows: How many labelled windows there are, all folds together: what `parameters_per_window` is counted by.
    """
    model, result = (getattr(fitted, name, None) for name in ("model_", "result_"))
    if not isinstance(model, nn.Module) or result is None:
        return {}
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters_per_window": parameters / windows, **result.record()}


def of_several(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of models that answer together: the parameters and seconds of all, and otherwise the worst of them."""
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
