"""Select leaves of nested dicts of arrays by path, and merge them back."""

from collections.abc import Callable
from typing import Any

Path = tuple[str | int, ...]
"""The keys from the root of nested dicts to a leaf."""


def leaves_by_path(tree: dict) -> dict[Path, Any]:
    """Return the leaves of nested dicts by path."""
    # Here and not above, so that a config is checked without waiting for JAX, which Flax imports.
    from flax import traverse_util

    return traverse_util.flatten_dict(tree)


def from_paths(leaves: dict[Path, Any]) -> dict:
    """Return the nested dicts that have these leaves: the inverse of `leaves_by_path`."""
    from flax import traverse_util

    return traverse_util.unflatten_dict(leaves)


def select(tree: dict, keep: Callable[[Path], bool]) -> dict:
    """Return the nested dicts with only the leaves whose path `keep` accepts, without empty dicts."""
    return from_paths({path: leaf for path, leaf in leaves_by_path(tree).items() if keep(path)})


def select_like(tree: dict, part: dict) -> dict:
    """Return the leaves of `tree` whose paths are in `part` too."""
    paths = leaves_by_path(part)
    return select(tree, lambda path: path in paths)


def overlay(tree: dict, part: dict) -> dict:
    """Return `tree` with its leaves replaced by those of `part`, whose paths are in `tree`; neither is changed."""
    return from_paths(leaves_by_path(tree) | leaves_by_path(part))
