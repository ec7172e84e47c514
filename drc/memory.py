"""Memory for many small operations on a CPU."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as in glibc's malloc.h


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
