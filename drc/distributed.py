"""Training on several processes: the batch is shared out by image, gradients are summed, chains are exchanged.

A chain's noise depends on its image and not on the process that holds it, and nothing in the networks looks across
images, so several processes compute what one does, but for the order in which gradients are summed. Every process
holds all chains; the first one writes checkpoints, from which any number of processes can go on. Without a process
group all of this is one process.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from drc.tensors import is_usable

DESCRIBED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # by torchrun, beside WORLD_SIZE


def rank() -> int:
    """Which process this is; 0 writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the only process, or the first of those that torchrun describes in the environment."""
    return "WORLD_SIZE" not in os.environ or os.environ.get("RANK", "0") == "0"


def join(device: str) -> str:
    """Join the process group that torchrun describes in the environment, if it does; the device of this process.

    ValueError where it is described in part, as some launchers do, and there is more than one process, and where
    there are more processes than GPUs.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or dist.is_initialized():
        return device
    if missing := [name for name in DESCRIBED if name not in os.environ]:
        raise ValueError(
            f"the environment has WORLD_SIZE={os.environ['WORLD_SIZE']} and no {', '.join(missing)}: "
            "start several processes with torchrun, or unset WORLD_SIZE"
        )
    cuda = torch.device(device).type == "cuda"
    if cuda:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        if not is_usable(device):
            raise ValueError(
                f"there is no GPU {device} for a process of its own: start at most as many as this machine has, "
                f"{torch.cuda.device_count()}"
            )
        torch.cuda.set_device(device)
    # Imported after the group is there, as by an optimiser's first step, this module keeps it in the defaults of its
    # functions: its threads then outlive `leave`, and may end in an abort with the interpreter.
    from torch.distributed import nn  # noqa: F401

    dist.init_process_group("nccl" if cuda else "gloo")
    return device


def leave() -> None:
    """Leave the process group, if there is one, when all have come so far."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process of the group has gone."""
    return dist.is_initialized() and (isinstance(error, dist.DistError) or "gloo" in str(error))


def summed(tensor: Tensor) -> Tensor:
    """The sum of `tensor` over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def differing(facts: dict[str, Any]) -> list[str]:
    """The names of those facts that are not the same in every process."""
    if not dist.is_initialized():
        return []
    theirs: list[dict[str, Any]] = [{}] * processes()
    dist.all_gather_object(theirs, facts)
    return [name for name, value in facts.items() if any(other[name] != value for other in theirs)]


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is set in any process."""
    if not dist.is_initialized():
        return flag
    return bool(summed(torch.tensor(float(flag), device=device)).item())
