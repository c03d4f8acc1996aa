"""The placement of training: device, precision, and this process's rank."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from moola.errors import ConfigError, DeviceError

__all__ = ["Placement", "forget_peak_memory", "peak_memory", "place", "ranks"]

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Placement:
    """The device, the precision, and this process's rank among all ranks."""

    device: torch.device
    precision: Literal["fp32", "bf16"]
    rank: int = 0
    world_size: int = 1
    """The number of ranks."""
    notices: tuple[str, ...] = ()
    """Lines for the user, such as one about a GPU that is not used."""

    @property
    def writes(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def autocast(self) -> torch.autocast:
        """The autocast context for forward passes. It has no effect at fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sums a tensor over all ranks, in place, and returns it."""
        if self.world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def memory(self) -> dict[str, int]:
        """The peak of bytes allocated and reserved on the device, as :func:`peak_memory`; empty on a CPU."""
        return peak_memory(self.device)


def peak_memory(device: torch.device) -> dict[str, int]:
    """The peak of bytes `allocated` and `reserved` on a device since the last reset; empty on a CPU."""
    if device.type != "cuda":
        return {}
    return {
        "allocated": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.max_memory_reserved(device),
    }


def forget_peak_memory(device: torch.device) -> None:
    """Resets :func:`peak_memory` to the memory in use now. Something must have been allocated on the device."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def place(device: str | torch.device = "auto", precision: str = "auto") -> Placement:
    """Chooses device and precision, and reads this process's rank from torchrun's environment variables.

    Args:
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
        precision: `fp32`, `bf16`, or `auto` for bf16 if the device computes it in hardware, where it was measured to be
            faster.

    Raises `DeviceError` for a missing device and `ConfigError` for an unknown name.
    """
    if precision not in PRECISIONS:
        raise ConfigError("precision", f"{precision!r} is not a precision; give {', '.join(PRECISIONS)}")
    rank, world_size = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1))
    )
    if device == "auto":
        index = int(os.environ.get("LOCAL_RANK", 0))
        chosen = torch.device("cuda", index) if torch.cuda.is_available() else torch.device("cpu")
    else:
        try:
            chosen = torch.device(device)
        except RuntimeError:
            raise ConfigError("device", f"{device!r} is not a device; give auto, cpu or cuda") from None
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError(f"there is no GPU that torch can use{_why_not()}", "Give --device cpu or auto")
        if chosen.index is None:
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if chosen.index >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise DeviceError(
                f"there is no GPU {chosen.index}: torch sees {count}, numbered from 0",
                "Start as many ranks as there are GPUs",
            )
    elif chosen.type != "cpu":
        raise ConfigError("device", f"{str(device)!r} is not supported; give auto, cpu or cuda")
    resolved: Literal["fp32", "bf16"] = "fp32"
    if precision == "bf16" or (precision == "auto" and _computes_bf16(chosen)):
        resolved = "bf16"
    return Placement(chosen, resolved, rank, world_size, tuple(_notices(chosen, device)))


@contextmanager
def ranks(placement: Placement) -> Iterator[None]:
    """Joins the other ranks, if there are any, for the duration of the context."""
    if placement.world_size == 1 or torch.distributed.is_initialized():
        yield
        return
    options: dict[str, Any] = {}
    if placement.device.type == "cuda":
        torch.cuda.set_device(placement.device)
        options["device_id"] = placement.device
    torch.distributed.init_process_group("nccl" if placement.device.type == "cuda" else "gloo", **options)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        flags = Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition("\n")[0].split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _notices(chosen: torch.device, asked: str | torch.device) -> Iterator[str]:
    if chosen.type == "cuda":
        return
    if torch.cuda.is_available():
        yield f"this machine has a GPU ({torch.cuda.get_device_name()}), which --device {asked} does not use"
    elif why := _why_not():
        yield f"this machine seems to have a GPU, which is not used{why}"


def _why_not() -> str:
    """Why torch cannot use the machine's GPU, as an ending for a message; empty if no GPU was found."""
    if not Path("/dev/nvidia0").exists():
        return ""
    if torch.version.cuda is None:
        return ": this torch was built without CUDA; install one built with it"
    return ": torch cannot start CUDA; check the driver, and CUDA_VISIBLE_DEVICES"
