"""Memory: kept for many small operations on a CPU, and lacking."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as in glibc's malloc.h
LACKING = (
    "can't allocate memory",
    "Storage size calculation overflowed",
    "STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks of up to 32 MB for the next operation instead of returning them to the system.

    A sampler step frees just the blocks that the next one asks for; mapping them anew costs a third of the step.
    Does nothing where malloc is not glibc's.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 512 << 20)


def is_lacking(error: BaseException) -> bool:
    """Whether an error of PyTorch says that a machine or a GPU has not enough memory for what was asked."""
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in LACKING)
