"""Parts of nested dicts of arrays: the trainable ones taken out, and put back over the whole."""

from collections.abc import Callable
from typing import Any

from flax import traverse_util

Path = tuple[str | int, ...]
"""The keys from the root of nested dicts to a leaf."""


def leaves_by_path(tree: dict) -> dict[Path, Any]:
    """The leaves of nested dicts by path."""
    return traverse_util.flatten_dict(tree)


def from_paths(leaves: dict[Path, Any]) -> dict:
    """Return the nested dicts that have these leaves: the inverse of `leaves_by_path`."""
    return traverse_util.unflatten_dict(leaves)


def select(tree: dict, keep: Callable[[Path], bool]) -> dict:
    """The nested dicts with those leaves alone whose path `keep` accepts; what becomes empty is left out."""
    return traverse_util.unflatten_dict({path: leaf for path, leaf in leaves_by_path(tree).items() if keep(path)})


def select_like(tree: dict, part: dict) -> dict:
    """The leaves of `tree` that `part` has as well."""
    paths = leaves_by_path(part)
    return select(tree, lambda path: path in paths)


def overlay(tree: dict, part: dict) -> dict:
    """`tree` with the leaves of `part`, some of its own paths, in the place of its own; neither is changed."""
    return traverse_util.unflatten_dict(leaves_by_path(tree) | leaves_by_path(part))
