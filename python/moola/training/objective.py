"""The objective of pre-training: a masked autoencoder whose targets are hidden from its encoder."""

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
    """The Huber loss of each element: ½d² up to δ, δ(|d| − ½δ) beyond. Huber, Ann. Math. Stat. 35 (1964)."""
    return F.huber_loss(predicted, target, reduction="none", delta=delta)


def masked_sums(errors: Tensor, mask: Tensor) -> Tensor:
    """`[D + 1]`: errors `[B, K, D]` summed over masked positions `[B, K]`, then the number of masked positions."""
    # Not as a matrix product, which autocast would compute in bf16.
    return torch.cat([(errors * mask[..., None]).sum(dim=(0, 1)), mask.sum()[None].to(errors.dtype)])


def uncertainty_weighted(loss: Tensor, log_variance: Tensor) -> Tensor:
    """`½·exp(−s)·L + ½·s` with s = log σ²: learned homoscedastic weights. Kendall, Gal & Cipolla, CVPR 2018."""
    return 0.5 * torch.exp(-log_variance) * loss + 0.5 * log_variance


class MaskedAutoencoder(nn.Module):
    """An encoder, a learned vector that replaces masked bars, and a linear decoder that reconstructs them.

    Masked bars are replaced before the encoder, which therefore cannot see its targets. The vector, the decoder and the
    log-variance belong to the objective and are not part of the model.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.mask_vector = nn.Parameter(torch.zeros(encoder.input_size))
        self.decoder = nn.Linear(encoder.output_size, encoder.input_size)
        self.log_variance = nn.Parameter(torch.zeros(()))

    def reconstruct(self, x: Tensor, mask: Tensor, valid: Tensor | None = None) -> Tensor:
        """Reconstructs windows from their unmasked bars: `[B, K, D]`, standardised.

        Args:
            x: `[B, K, D]`, standardised.
            mask: `[B, K]` bool, the bars to hide from the encoder and to reconstruct.
            valid: `[B, K]` bool; None if all bars are valid.

        Raises `DeviceError` if the windows are on another device than the model.
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
        """`[D + 1]`: each feature's Huber loss summed over masked positions, then the number of masked positions.

        The loss of a batch is `errors[:-1].mean() / errors[-1]`. Sums and count are returned separately so that ranks
        can add them up before the division.

        Args:
            x: `[B, K, D]`, as the loader returns it.
            mask: `[B, K]` bool, the masked positions. All of them must be valid.
            valid: `[B, K]` bool; None if all bars are valid.
            target: `[B, K, D]`, the values to reconstruct, standardised; `x` if not given.
        """
        x = self.encoder.standardise(x)
        errors = huber(self.reconstruct(x, mask, valid), x if target is None else target)
        return masked_sums(errors, mask)

    @staticmethod
    def mean(sums: Tensor) -> Tensor:
        """The loss for sums as :meth:`forward` returns them; 0 if nothing is masked."""
        return sums[:-1].mean() / sums[-1].clamp(min=1)

    def weighted(self, loss: Tensor) -> Tensor:
        """The value to minimise: the loss weighted by the learned log-variance."""
        return uncertainty_weighted(loss, self.log_variance)


def load_autoencoder(run: str | os.PathLike[str]) -> MaskedAutoencoder:
    """The masked autoencoder of a pre-training run, on the CPU and in evaluation mode, for figures and checks.

    Raises `WeightsError` as :func:`moola.models.load_encoder` does, and for a run that is not a pre-training run.
    """
    encoder = load_encoder(run)
    path = weights_path(run)
    if encoder.origin is None or encoder.origin.kind != "pretrain":
        raise WeightsError(path, "holds no autoencoder", "Give a run of moola pretrain")
    objective = MaskedAutoencoder(encoder)
    objective.load_state_dict(load_weights(path).tensors)
    return objective.eval()
