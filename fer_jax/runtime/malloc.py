"""Keep the memory that the process has freed, so that a training step on CPU finds its pages already mapped.

XLA's CPU backend asks `malloc` for the memory of a step and frees it after the step. glibc gives such large blocks back
to the operating system at once, and the system has to clear and map every page again at the next step: for a training
step of MobileNetV2 at 96 pixels, batch 16, 72,000 page faults and as much time in the kernel as in the network.
`docs/performance.md` has the measurement.
"""

import ctypes
import platform

# malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Tell glibc's `malloc` to keep freed memory; return whether it does, False with another C library.

    The memory of the process then stays at its peak. Call it before anything touches a device: threads that have
    already allocated keep their own pools.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # No block of its own from the system however large, nothing given back, and one pool for all threads: the pools of
    # other threads than the first cannot hold blocks of more than 64 MiB.
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1))
    return all(mallopt(option, value) for option, value in settings)
