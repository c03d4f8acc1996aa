"""The configuration of pre-training and of fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moola.settings.sections import Section

__all__ = ["FinetuneConfig", "Positive", "PretrainConfig", "Share"]


Count = Annotated[int, Field(ge=1, le=1 << 40, strict=True)]

Steps = Annotated[int, Field(ge=0, le=1 << 40, strict=True)]

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]

NotNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class PretrainConfig(Section):
    """Pre-training of a masked autoencoder."""

    epochs: Count = 50
    batch_size: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 256
    """Windows of a step, on each rank."""
    lr: Positive = 1e-3
    """The learning rate where warm-up ends and the cosine begins."""
    min_lr_share: Share = 0.01
    """The learning rate where the cosine ends, as a share of `lr`."""
    warmup_share: Share = 0.05
    """The share of all steps in which the learning rate rises."""
    weight_decay: NotNegative = 1e-4
    clip_norm: Positive = 1.0
    """The largest norm of the gradient."""
    patience: Count = 10
    """Epochs without a better validation loss after which training stops."""
    stride: Count = 52
    """Bars from one window to the next."""
    window_length: Annotated[int, Field(ge=2, le=100_000, strict=True)] | None = None
    """K; the window length of the store if not given."""
    windows_per_epoch: Count | None = None
    """Windows in an epoch, over all ranks; all windows if not given."""
    mask_ratio: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.15
    mask_strategy: Literal["random", "patch"] = "random"
    patch_size: Count = 10
    extra: tuple[str, ...] = ()
    """Kept columns that are inputs, standardised."""
    checkpoint_every: Steps = 0
    """Steps between checkpoints. Each epoch ends with a checkpoint; 0 writes no others."""
    log_every: Count = 20
    """Steps between readings of the losses from the device."""
    cuda_graph: Annotated[bool, Field(strict=True)] = False
    """Without effect since 0.2.0: no GPU had measured it. It is still read, and goes in 0.3.0."""


class FinetuneConfig(Section):
    """Fine-tuning on labelled windows. The defaults suit few labels."""

    epochs: Count = 60
    """The most epochs; without validation windows all of them run."""
    batch_size: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 16
    lr: Positive = 1e-4
    lr_factor: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.7
    """The factor of the learning rate where the validation loss has stopped falling."""
    lr_patience: Steps = 8
    """Epochs without a better validation loss after which `lr_factor` applies."""
    min_lr: NotNegative = 1e-7
    weight_decay: NotNegative = 1e-4
    clip_norm: Positive = 1.5
    """The largest norm of the gradient."""
    patience: Count = 15
    """Epochs without a better validation loss after which training stops."""
    class_weight: Literal["balanced"] | tuple[NotNegative, ...] | None = None
    """`balanced` gives each class the same weight in the loss. Otherwise a factor for each class, in their order."""
    freeze: Literal["none", "always"] | Count = "none"
    """How long a pre-trained encoder is frozen: never, always, or for so many epochs. Other encoders are never frozen.

    Heads alone learn little from few labels: see the table of few labels in `benches/results`."""
    unfreeze_every: Steps = 0
    """Epochs between unfreezing one layer and the next, from the top; 0 unfreezes all at once. Applies to an encoder
    that is frozen for some epochs."""
    span_edge: Positive = 3.0
    """Over how many bars the span head's targets fall from 1 to 0 around a span's end."""
