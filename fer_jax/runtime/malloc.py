"""Keeps the memory that the process has freed, so that every step of training on CPU finds its pages in place.

XLA's CPU backend asks `malloc` for the memory of a step and frees it after the step. glibc gives such large blocks back
to the operating system at once, which then has to clear and map every page anew at the next step: for a training step
of MobileNetV2 at 96 pixels, batch 16, 72,000 page faults and as much time in the kernel as in the network.
`docs/performance.md` has the measurement.
"""

import ctypes
import platform

# malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Tells glibc's `malloc` to keep what is freed; True if it does, False with another C library.

    The memory of the process then stays at its peak. To be called before anything touches a device: threads that have
    allocated already keep pools of their own.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # No block of its own from the system however large, nothing given back, and one pool for all threads: the pools of
    # other threads than the first cannot hold blocks of more than 64 MiB.
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1))
    return all(mallopt(option, value) for option, value in settings)
