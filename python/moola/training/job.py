"""A pre-training job: its data, model, optimizer and loss, and the settings that identify it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from moola.data.device import DeviceWindowLoader
from moola.data.fast_windowed_loader import create_fast_dataloaders
from moola.data.stores import StorePath, open_stores
from moola.devices.placement import Placement
from moola.errors import ConfigError, NotFiniteError, WeightsError
from moola.models.encoder import Encoder
from moola.models.loading import load_encoder
from moola.models.training_bars import hides_bars, standardise_extra, training_bars
from moola.models.weights import FeatureIdentity, Origin, load_weights, weights_path
from moola.runs.directory import SEEN_BARS, read_seen_bars
from moola.runs.seen_bars import SeenBars
from moola.settings.models import Config
from moola.training.objective import MaskedAutoencoder, huber, masked_sums
from moola.training.predictors import best_constants, interpolate

__all__ = ["Batch", "Job", "Scores"]

Batch: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Windows `[B, K, D]`, masks `[B, K]` and valid bars `[B, K]`."""


class Scores(NamedTuple):
    """Sums of errors over masked bars for the model and the two trivial predictors, each `[D + 1]` as
    :func:`moola.training.objective.masked_sums` returns them."""

    model: Tensor
    constant: Tensor
    interpolation: Tensor


class Job:
    """A pre-training before its first step: data, model, optimizer, loss and evaluation.

    Args:
        feature_dir: A feature store, or several with the same features.
        config: The configuration of model and training.
        placement: Device, precision and rank.
        seed: The seed for initial weights, order of windows, masks and dropout.
        init: A run or weights file to start from.
    """

    def __init__(
        self,
        feature_dir: StorePath | Sequence[StorePath],
        config: Config,
        placement: Placement,
        seed: int,
        init: str | os.PathLike[str] | None,
    ) -> None:
        self.config, self.placement, self.seed = config, placement, seed
        self.settings = s = config.training.pretrain
        stores = open_stores(feature_dir)
        self.loaders = create_fast_dataloaders(
            stores,
            s.batch_size,
            s.mask_ratio,
            seed=seed,
            window_length=s.window_length,
            stride=s.stride,
            mask_strategy=s.mask_strategy,
            patch_size=s.patch_size,
            extra=s.extra,
            device=placement.device,
            rank=placement.rank,
            world_size=placement.world_size,
        )
        self.train, self.val = self.loaders.train.dataset, self.loaders.val.dataset
        self.steps_per_epoch = self._steps_per_epoch()
        self.steps = s.epochs * self.steps_per_epoch
        self.windows_per_step = s.batch_size * placement.world_size
        self.features = FeatureIdentity.of(stores, s.extra)
        self.seen_bars = SeenBars.of(self.train, self.val)
        self.some_hidden = hides_bars(self.train) or hides_bars(self.val)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = Encoder(self.features.width, config.model.architecture)
            standardise_extra(encoder, self.train)
            self.objective = MaskedAutoencoder(encoder)
        self.init_digest = self._start_from(init) if init is not None else None
        self.objective.to(placement.device)
        self.model: nn.Module = self.objective
        if placement.world_size > 1:
            on_gpu = placement.device.type == "cuda"
            self.model = DistributedDataParallel(
                self.objective, device_ids=[placement.device] if on_gpu else None
            )
        self.parameters = list(self.objective.parameters())
        on_gpu = placement.device.type == "cuda"
        if s.cuda_graph:
            message = (
                "training.pretrain.cuda_graph has no effect since 0.2.0 and will be removed in 0.3.0; "
                "leave it out"
            )
            warnings.warn(message, DeprecationWarning, stacklevel=2)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": s.weight_decay},
                {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=s.lr,
            fused=on_gpu,
        )
        self.constants: Tensor | None = None
        self.rivals: Scores | None = None
        self.output: Path | None = None

    def resolved(self) -> dict[str, Any]:
        """Everything that the outcome depends on, for `config.json`."""
        return {
            "kind": "pretrain",
            "model": self.config.model.model_dump(),
            "training": self.settings.model_dump(mode="json"),
            "seed": self.seed,
            "device": self.placement.device.type,
            "precision": self.placement.precision,
            "ranks": self.placement.world_size,
            "init": self.init_digest,
            "features": self.features.record(),
            "window_length": self.train.window_length,
            "windows": {
                "train": len(self.train),
                "val": len(self.val),
                "fingerprint": self.train.fingerprint,
                "validation_fingerprint": self.val.fingerprint,
            },
            "stores": [str(store.path) for store in self.train.stores],
        }

    def _steps_per_epoch(self) -> int:
        s, available = self.settings, len(self.loaders.train)
        windows = s.batch_size * self.placement.world_size
        if not available:
            raise ConfigError(
                "batch_size",
                f"a step needs {windows:,} windows, and the train split has {len(self.train):,} at stride {s.stride}; "
                "give a smaller batch or stride",
            )
        if s.windows_per_epoch is None:
            return available
        steps = s.windows_per_epoch // windows
        if not 1 <= steps <= available:
            raise ConfigError(
                "windows_per_epoch",
                f"{s.windows_per_epoch:,} is not between a step's {windows:,} and a full epoch's "
                f"{available * windows:,} windows; give a number between these",
            )
        return steps

    def _start_from(self, init: str | os.PathLike[str]) -> str:
        """Loads the weights of another run: its whole autoencoder if it was pre-trained, else its encoder.

        Returns the digest of the weights.
        """
        encoder = load_encoder(init)
        assert encoder.origin is not None
        encoder.origin.features.require(self.features, "the store")
        path = weights_path(init)
        weights = load_weights(path)
        if encoder.origin.model.architecture != self.config.model.architecture:
            mine, theirs = self.config.model.architecture, encoder.origin.model.architecture
            names = [n for n in type(mine).model_fields if getattr(mine, n) != getattr(theirs, n)]
            problem = f"its model has another {', '.join(names)}"
            raise WeightsError(path, problem, "Give the --model and --set of that run")
        whole = encoder.origin.kind == "pretrain"
        target: nn.Module = self.objective if whole else self.objective.encoder
        target.load_state_dict(weights.tensors if whole else encoder.state_dict())
        if path.parent.joinpath(SEEN_BARS).exists():
            self.seen_bars |= read_seen_bars(path.parent)
        return weights.digest

    def weights_record(self, epoch: int, step: int, best_epoch: int) -> dict[str, Any]:
        """The record for weights that are saved in this epoch, after this step."""
        more = {"epoch": epoch, "step": step, "best_epoch": best_epoch, "seed": self.seed}
        return Origin("pretrain", self.config.model, self.features, self.train.window_length, more).record()

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss to minimise for a batch, and the sums `[D + 1]` over all ranks that it comes from."""
        x, mask, valid = batch
        with self.placement.autocast():
            sums = self.model(x, mask, valid if self.some_hidden else None)
        total = self.placement.sum(sums.detach().clone())
        # Divided by the masked bars of all ranks, and multiplied by the ranks, because gradients are averaged.
        loss = sums[:-1].mean() * self.placement.world_size / total[-1].clamp(min=1)
        return self.objective.weighted(loss), total

    def wait_for_others(self) -> None:
        """Waits until every rank reaches this call."""
        if self.placement.world_size > 1:
            torch.distributed.barrier()

    def not_finite(self, step: int, what: str) -> NotFiniteError:
        """The error for a step (counted from 1) that is not finite. It names this rank's windows, bad ones first."""
        epoch, batch = divmod(step - 1, self.steps_per_epoch)
        numbers = self.loaders.train.numbers(epoch, batch)
        x = self.train.batch(numbers)[0]
        spoilt = (~torch.isfinite(x)).any(dim=2).any(dim=1).numpy()
        order = np.argsort(~spoilt, kind="stable")
        places = self.train.places(numbers[order])
        windows = list(zip(self.train.symbols_of(places), places.last_timestamp.tolist(), strict=True))
        return NotFiniteError(step, what, windows, int(spoilt.sum()), self.output)

    def evaluate(self, loader: DeviceWindowLoader) -> Scores:
        """Sums of the model's and the trivial predictors' errors over a loader's masked bars."""
        device, width = self.placement.device, self.features.width
        sums = torch.zeros(3, width + 1, dtype=torch.float64, device=device)
        first = self.rivals is None
        if self.constants is None:
            constants = best_constants(training_bars(self.train))
            self.constants = self.objective.encoder.standardise(
                torch.from_numpy(constants).float().to(device)
            )
        self.objective.eval()
        # Validation masks never change, so the trivial predictors are evaluated only once.
        loader.start_at(0)
        with torch.no_grad():
            for x, mask, valid in loader:
                with self.placement.autocast():
                    sums[0] += self.objective(x, mask, valid if self.some_hidden else None)
                if first:
                    x = self.objective.encoder.standardise(x)
                    sums[1] += masked_sums(huber(self.constants.expand_as(x), x), mask)
                    sums[2] += masked_sums(huber(interpolate(x, mask, valid), x), mask)
        self.objective.train()
        self.placement.sum(sums)
        model, constant, interpolation = sums.cpu()
        self.rivals = self.rivals or Scores(model, constant, interpolation)
        return self.rivals._replace(model=model)
