"""Loaders over a feature store, for training scripts: train, val and test in one call.

`python -m moola.data.fast_windowed_loader` runs `moola serve-windows`, which measures their speed.
"""

from __future__ import annotations

import runpy
import secrets
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

    from moola.data.device import DeviceWindowLoader
    from moola.data.stores import StorePath

__all__ = ["Loaders", "create_fast_dataloaders", "create_strided_dataloaders", "main"]


class Loaders(NamedTuple):
    """One loader for each split."""

    train: DeviceWindowLoader
    val: DeviceWindowLoader
    test: DeviceWindowLoader


def create_fast_dataloaders(
    feature_dir: StorePath | Sequence[StorePath],
    batch_size: int = 256,
    mask_ratio: float = 0.15,
    num_workers: int = 0,
    pin_memory: bool = False,
    seed: int | None = None,
    *,
    window_length: int | None = None,
    stride: int = 1,
    mask_strategy: Literal["random", "patch"] = "random",
    patch_size: int = 10,
    extra: Sequence[str] = (),
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    weights: Mapping[str, float] | None = None,
) -> Loaders:
    """Loaders of the train, val and test windows: batches `X [B, K, D]`, `mask [B, K]`, `valid_mask [B, K]`.

    Train is shuffled differently in each epoch and drops its last partial batch. Val and test are served in order and
    completely, with masks that never change. Each has `state_dict()` and `load_state_dict()`.

    Args:
        num_workers: Has no effect, because threads make the batches. It is accepted for scripts that pass it.
        pin_memory: Whether to put batches into pinned memory, if there is a GPU.
        seed: The seed of masks and shuffling. None draws one at random; `loader.dataset.seed` shows it.
        device, rank, world_size, weights: See `moola.data.device.DeviceWindowLoader`. The weights affect train only.

    The other arguments and the errors are those of `moola.FastWindowedDataset`.
    """
    from moola.data.dataset import FastWindowedDataset
    from moola.data.device import DeviceWindowLoader
    from moola.data.stores import open_stores
    from moola.settings.whole_numbers import whole_number

    whole_number("num_workers", num_workers, 0)
    seed = secrets.randbits(63) if seed is None else seed
    loaders = []
    # Opened once, so that all three splits come from the same store even if it is replaced meanwhile.
    stores = open_stores(feature_dir)
    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    for split in splits:
        dataset = FastWindowedDataset(
            stores, split, window_length, stride, mask_ratio, mask_strategy, patch_size, seed, extra
        )
        train = split == "train"
        loaders.append(
            DeviceWindowLoader(
                dataset,
                batch_size,
                device=device,
                shuffle=train,
                drop_last=train,
                rank=rank,
                world_size=world_size,
                weights=weights if train else None,
                pin_memory=pin_memory,
            )
        )
    return Loaders(*loaders)


def create_strided_dataloaders(
    feature_dir: StorePath | Sequence[StorePath],
    stride: int = 52,
    batch_size: int = 256,
    mask_ratio: float = 0.15,
    num_workers: int = 0,
    pin_memory: bool = False,
    seed: int | None = None,
    *,
    window_length: int | None = None,
    mask_strategy: Literal["random", "patch"] = "random",
    patch_size: int = 10,
    extra: Sequence[str] = (),
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    weights: Mapping[str, float] | None = None,
) -> Loaders:
    """:func:`create_fast_dataloaders` with only every `stride`-th window, so that neighbours share fewer bars."""
    return create_fast_dataloaders(
        feature_dir,
        batch_size,
        mask_ratio,
        num_workers,
        pin_memory,
        seed,
        window_length=window_length,
        stride=stride,
        mask_strategy=mask_strategy,
        patch_size=patch_size,
        extra=extra,
        device=device,
        rank=rank,
        world_size=world_size,
        weights=weights,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `moola serve-windows`, which measures how fast the loaders of a store serve, and ends the process.

    It runs the command line as a program, because this package must not import `moola.cli`.
    """
    given = sys.argv[1:] if arguments is None else arguments
    sys.argv = ["moola", "serve-windows", *_one_store_an_option(given)]
    runpy.run_module("moola", run_name="__main__", alter_sys=True)


def _one_store_an_option(arguments: Sequence[str]) -> list[str]:
    """Repeats `--feature-dir` before each directory. Here several directories may follow one `--feature-dir`."""
    words: list[str] = []
    in_list = False
    for word in arguments:
        if in_list and not word.startswith("-") and words[-1] != "--feature-dir":
            words.append("--feature-dir")
        elif word.startswith("-"):
            in_list = word == "--feature-dir"
        words.append(word)
    return words


if __name__ == "__main__":
    main()
