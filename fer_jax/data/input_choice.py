"""Whether the images of a run lie on the devices or are read during training. Nothing here imports JAX."""

INPUTS = ("auto", "resident", "streaming")
"""Where training takes its batches from; `auto` decides by size."""

RESIDENT_LIMIT = 2 * 2**30
"""Bytes of images up to which `auto` puts all of them on every device.

It is the same on every machine, so that a run resumes with the same input on another one. Accelerators with the 8 GiB
of memory that a large backbone needs have this much to spare.
"""


def choose_input(requested: str, num_bytes: int) -> tuple[str, str]:
    """Return `resident` or `streaming` for images of `num_bytes` in all, and the reason in words."""
    if requested != "auto":
        return requested, "as config.data.input says"
    mebibytes, limit = (f"{amount / 2**20:,.0f} MiB" for amount in (num_bytes, RESIDENT_LIMIT))
    if num_bytes <= RESIDENT_LIMIT:
        return "resident", f"{mebibytes} of images, at most {limit}"
    return "streaming", f"{mebibytes} of images, more than {limit}"
