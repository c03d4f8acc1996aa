"""How a model is pre-trained and fine-tuned."""

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
    """How a masked autoencoder is trained."""

    epochs: Count = 50
    batch_size: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 256
    """Windows a step, on each rank."""
    lr: Positive = 1e-3
    """Where warm-up ends and the cosine begins."""
    min_lr_share: Share = 0.01
    """Where the cosine ends, as a share of `lr`."""
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
    """K; the store's own if not given."""
    windows_per_epoch: Count | None = None
    """Windows in an epoch, over all ranks; all there are if not given."""
    mask_ratio: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.15
    mask_strategy: Literal["random", "patch"] = "random"
    patch_size: Count = 10
    extra: tuple[str, ...] = ()
    """Kept columns as inputs, standardised."""
    checkpoint_every: Steps = 0
    """Steps from one checkpoint to the next; 0 has one an epoch. Each epoch ends with one."""
    log_every: Count = 20
    """Steps from one reading of the device's losses to the next."""
    cuda_graph: Annotated[bool, Field(strict=True)] = False
    """Whether a whole step is captured and replayed, on a GPU."""


class FinetuneConfig(Section):
    """How a model is fine-tuned on labelled windows. The defaults are for few of them."""

    epochs: Count = 60
    """At most; without validation windows all of them."""
    batch_size: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 16
    lr: Positive = 1e-4
    lr_factor: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.7
    """What the learning rate is multiplied by where the validation loss stands still."""
    lr_patience: Steps = 8
    """Epochs without a better validation loss after which it is."""
    min_lr: NotNegative = 1e-7
    weight_decay: NotNegative = 1e-4
    clip_norm: Positive = 1.5
    """The largest norm of the gradient."""
    patience: Count = 15
    """Epochs without a better validation loss after which training stops."""
    class_weight: Literal["balanced"] | tuple[NotNegative, ...] | None = None
    """`balanced` has each class weigh the same in the loss; or a factor for each class, in their order."""
    freeze: Literal["none", "always"] | Count = "none"
    """Whether a pre-trained encoder stays as it is: never, always, or for so many epochs. Others are never frozen.

    Heads alone learn little from few labels: see the table of few labels in `benches/results`."""
    unfreeze_every: Steps = 0
    """Epochs from one layer's thaw to the next, from the top; 0 thaws all of them at once. Of an encoder that is frozen
    for some epochs."""
    span_edge: Positive = 3.0
    """Bars in which the span head's targets fall from 1 to 0 around a span's end."""
