"""The objective of pre-training: a masked autoencoder that cannot see its targets."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moola.errors import DeviceError, WeightsError
from moola.models.encoder import Encoder
from moola.models.loading import load_encoder
from moola.models.weights import load_weights, weights_path

__all__ = ["MaskedAutoencoder", "huber", "load_autoencoder", "masked_sums", "uncertainty_weighted"]


def huber(predicted: Tensor, target: Tensor, delta: float = 1.0) -> Tensor:
    """Huber's loss of each element: ½d² up to δ, δ(|d| − ½δ) beyond. Huber, Ann. Math. Stat. 35 (1964)."""
    return F.huber_loss(predicted, target, reduction="none", delta=delta)


def masked_sums(errors: Tensor, mask: Tensor) -> Tensor:
    """`[D + 1]`: errors `[B, K, D]` summed over masked positions `[B, K]`, and how many positions those are."""
    # Not as a product of matrices, which autocast would carry out in bf16.
    return torch.cat([(errors * mask[..., None]).sum(dim=(0, 1)), mask.sum()[None].to(errors.dtype)])


def uncertainty_weighted(loss: Tensor, log_variance: Tensor) -> Tensor:
    """`½·exp(−s)·L + ½·s`, s = log σ²: homoscedastic weights, learned. Kendall, Gal & Cipolla, CVPR 2018."""
    return 0.5 * torch.exp(-log_variance) * loss + 0.5 * log_variance


class MaskedAutoencoder(nn.Module):
    """Encoder, the learned vector that stands in for what is masked, and the decoder of what is hidden.

    The input at masked positions is replaced before the encoder sees it, so no gradient of the loss reaches it. The
    vector, the decoder and the log-variance belong to the objective: they are no part of the model.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.mask_vector = nn.Parameter(torch.zeros(encoder.input_size))
        self.decoder = nn.Linear(encoder.output_size, encoder.input_size)
        self.log_variance = nn.Parameter(torch.zeros(()))

    def reconstruct(self, x: Tensor, mask: Tensor, valid: Tensor | None = None) -> Tensor:
        """What the model makes of windows whose masked positions it cannot see: `[B, K, D]`, standardised.

        Args:
            x: `[B, K, D]`, standardised.
            mask: `[B, K]` bool, what is hidden from the encoder and to be reconstructed.
            valid: `[B, K]` bool, or None where all is valid.
        """
        if x.device != self.mask_vector.device:
            raise DeviceError(
                f"the model is on {self.mask_vector.device}, the windows are on {x.device}",
                "Make the loader with the model's device",
            )
        shown = torch.where(mask[..., None], self.mask_vector.to(x.dtype), x)
        decoded: Tensor = self.decoder(self.encoder(shown, valid))
        return decoded.float()

    def forward(
        self, x: Tensor, mask: Tensor, valid: Tensor | None = None, target: Tensor | None = None
    ) -> Tensor:
        """`[D + 1]`: the summed errors of each feature over masked positions, and how many positions those are.

        The loss of a batch is `errors[:-1].mean() / errors[-1]`. The two are kept apart so that several ranks can
        add them up before they are divided.

        Args:
            x: `[B, K, D]`, as the loader gives it.
            mask, valid: `[B, K]` bool. Masked positions are valid ones.
            target: What to reconstruct, standardised; `x` if not given.
        """
        x = self.encoder.standardise(x)
        errors = huber(self.reconstruct(x, mask, valid), x if target is None else target)
        return masked_sums(errors, mask)

    @staticmethod
    def mean(sums: Tensor) -> Tensor:
        """The loss that sums as :meth:`forward` gives them come to; 0 where nothing is masked."""
        return sums[:-1].mean() / sums[-1].clamp(min=1)

    def weighted(self, loss: Tensor) -> Tensor:
        """What is minimised: the loss, weighted with the learned log-variance."""
        return uncertainty_weighted(loss, self.log_variance)


def load_autoencoder(run: str | os.PathLike[str]) -> MaskedAutoencoder:
    """The masked autoencoder of a pre-training run, on the CPU and in evaluation mode; for pictures and checks.

    Raises `WeightsError`, also for a run that was not pre-training.
    """
    encoder = load_encoder(run)
    path = weights_path(run)
    if encoder.origin is None or encoder.origin.kind != "pretrain":
        raise WeightsError(path, "holds no autoencoder", "Give a run of moola pretrain")
    objective = MaskedAutoencoder(encoder)
    objective.load_state_dict(load_weights(path).tensors)
    return objective.eval()
