"""A whole step of training as one CUDA graph: for small models, whose kernels take less time than their launches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from moola.models.dropout import Dropout

__all__ = ["GraphedStep", "set_learning_rate"]

_WARM_UPS = 3


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Of all parameters; in place where it is a tensor, which a captured step reads."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


class GraphedStep:
    """Captures a step when it is first called, and replays it from then on.

    What the step reads must stay where it is: batches are copied into tensors of its own, and the optimizer's learning
    rate is a tensor. Dropout goes on from its generator, which is registered with the graph, so that a seed set
    between steps counts.

    Args:
        update: A step without anything that waits for the device: a batch to scalars and sums on the device.
        model: Whose parameters it changes.
        optimizer: That it ends with; capturable.
    """

    def __init__(
        self,
        update: Callable[[tuple[Tensor, Tensor, Tensor]], tuple[Tensor, Tensor]],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._update, self._model, self._optimizer = update, model, optimizer
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: tuple[Tensor, Tensor, Tensor]
        self._out: tuple[Tensor, Tensor]

    def __call__(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The step's results; copies, since the next replay writes over them."""
        if self._graph is None:
            self._capture(batch)
        assert self._graph is not None
        for mine, given in zip(self._batch, batch, strict=True):
            mine.copy_(given)
        self._graph.replay()
        sums, norm = self._out
        return sums.clone(), norm.clone()

    def _capture(self, batch: tuple[Tensor, Tensor, Tensor]) -> None:
        x, mask, valid = batch
        self._batch = (x.clone(), mask.clone(), valid.clone())
        parameters = list(self._model.parameters())
        before = [parameter.detach().clone() for parameter in parameters]
        remembered = {
            parameter: {name: value.clone() for name, value in self._optimizer.state[parameter].items()}
            for parameter in parameters
            if parameter in self._optimizer.state
        }
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._update(self._batch)
        torch.cuda.current_stream().wait_stream(side)
        # The warm-up has trained: take that back, in the very tensors that the graph will use.
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
                for name, tensor in self._optimizer.state[parameter].items():
                    if parameter in remembered:
                        tensor.copy_(remembered[parameter][name])
                    else:
                        tensor.zero_()
        graph = torch.cuda.CUDAGraph()
        generators = {
            m.generator for m in self._model.modules() if isinstance(m, Dropout) and m.generator is not None
        }
        for generator in generators:
            graph.register_generator_state(generator)
        self._optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self._out = self._update(self._batch)
        self._graph = graph
