"""Finding a backbone among the layers of a file: inside wrappers, behind prefixes, in front of any classifier."""

import dataclasses
import re
from collections.abc import Container, Iterator, Mapping, Sequence

import numpy as np

from fer_jax.errors import InputError
from fer_jax.models.spec import BackboneSpec
from fer_jax.pretrained.array_forms import shapes_in_file
from fer_jax.pretrained.layers import Layer
from fer_jax.pretrained.naming import Naming
from fer_jax.pretrained.source_file import Layers, SourceFile

_AVERAGED = re.compile(r"(^|[./_])(ema|swa|averaged?|avg)($|[./_\d])", re.IGNORECASE)
_ONLY = "keep one of them alone in a file and give that"


@dataclasses.dataclass(frozen=True)
class Found:
    """A backbone in a file.

    `layers` has the arrays of each layer by the name that `expected` gives it, and those of `head`, which is None or
    the name of the classifier that it was trained with. `model` is the key in `SourceFile.models`. `notes` are lines
    that say where in the file the backbone was found and what was left out.
    """

    layers: Layers
    expected: Mapping[str, Layer]
    head: str | None
    model: str
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """The layers of one model whose names begin with `prefix`, without it, under one naming."""

    model: str
    prefix: str
    naming: Naming
    expected: Mapping[str, Layer]
    layers: Layers

    @property
    def place(self) -> str:
        return "/".join(part for part in (self.model, self.prefix) if part)

    @property
    def missing(self) -> list[str]:
        return [name for name in self.expected if name not in self.layers]

    @property
    def surplus(self) -> list[str]:
        return [name for name in self.layers if name not in self.expected]


def find_backbone(
    file: SourceFile, spec: BackboneSpec, namings: Sequence[Naming], elsewhere: Container[str] = ()
) -> Found:
    """Return the one backbone of `spec` in `file`.

    By name where all names are known, whatever stands before them. Otherwise a file that comes in the order of
    computation is matched by that order, as Keras itself matches it: Keras has renamed layers since it published its
    files. Where a file has a backbone and its moving average, the average is taken, as evaluation would. `elsewhere`
    are names of layers of other backbones, which may lie beside this one in a hybrid.

    Raises `InputError` unless there is one whole backbone, for one that is part of a larger network of its family, and
    where other layers come before it.
    """
    candidates = list(_candidates(file, spec, namings))
    whole = [candidate for candidate in candidates if not candidate.missing]
    if whole:
        chosen, notes = _the_one(file, whole)
        if file.ordered:
            _check_nothing_before(file, chosen, elsewhere)
        return _found_by_name(file, spec, chosen, notes)
    model, layers = max(file.models.items(), key=lambda item: len(item[1]), default=("", {}))
    if file.ordered and not model and (found := _found_by_order(layers, namings[-1].names(spec))):
        return found
    raise InputError(f"{file.path}: {_not_whole(spec, namings, file, candidates)}")


def _candidates(file: SourceFile, spec: BackboneSpec, namings: Sequence[Naming]) -> Iterator[_Candidate]:
    seen = set()
    for naming in namings:
        expected = naming.names(spec)
        stem = next(iter(expected))
        for model, layers in file.models.items():
            for name in layers:
                if name.endswith(stem) and (model, name) not in seen:
                    prefix = name.removesuffix(stem)
                    inside = {n.removeprefix(prefix): arrays for n, arrays in layers.items() if n.startswith(prefix)}
                    candidate = _Candidate(model, prefix, naming, expected, inside)
                    if not candidate.missing:
                        seen.add((model, name))
                    yield candidate


def _the_one(file: SourceFile, whole: Sequence[_Candidate]) -> tuple[_Candidate, list[str]]:
    """Return the candidate to take, and what to say about the choice."""
    averaged = [candidate for candidate in whole if _AVERAGED.search(candidate.place)]
    if len(averaged) == 1 and len(whole) > 1:
        beside = ", ".join(candidate.place or "the top level" for candidate in whole if candidate is not averaged[0])
        return averaged[0], [f"the file has a moving average beside {beside}: this is taken"]
    first, *others = whole
    if all(_same(first, other) for other in others):
        return first, []
    places = ", ".join(candidate.place or "the top level" for candidate in whole)
    raise InputError(f"{file.path}: holds {len(whole)} such networks, at {places}; {_ONLY}")


def _same(one: _Candidate, other: _Candidate) -> bool:
    """Whether a network is there twice, as when a module has two names."""
    return one.expected.keys() == other.expected.keys() and all(
        one.layers[name].keys() == other.layers[name].keys()
        and all(np.array_equal(array, other.layers[name][weight]) for weight, array in one.layers[name].items())
        for name in one.expected
    )


def _found_by_name(file: SourceFile, spec: BackboneSpec, chosen: _Candidate, notes: list[str]) -> Found:
    surplus = chosen.surplus
    if larger := [name for name in surplus if chosen.naming.is_of_a_block(name)]:
        raise InputError(
            f"{file.path}: not a whole {spec.name} and no more: it has besides {some(larger)}, as a larger network of "
            "the family or a changed one; is --arch right?"
        )
    heads = [name for name in chosen.naming.heads if name in surplus]
    others = [name for name in surplus if name not in heads]
    head = heads[0] if len(heads) == 1 and _is_classifier(file, chosen, spec, heads[0], others) else None
    kept = {name: chosen.layers[name] for name in (*chosen.expected, *([head] if head else []))}
    if chosen.place:
        notes = [*notes, f"found at {chosen.place}"]
    taken = {chosen.prefix + name for name in kept}
    left_out = [
        _as_in_file(name, arrays)
        for model, layers in file.models.items()
        # Beside a state dict there are those of optimizers; around a model of Keras there is its classifier.
        if model == chosen.model or file.library == "keras"
        for name, arrays in layers.items()
        if model != chosen.model or name not in taken
    ]
    return Found(kept, chosen.expected, head, chosen.model, (*notes, *_left_out(left_out)))


def _left_out(names: Sequence[str]) -> list[str]:
    return [f"left out, as no part of the backbone: {some(names, 8)}"] if names else []


def _is_classifier(file: SourceFile, chosen: _Candidate, spec: BackboneSpec, head: str, others: list[str]) -> bool:
    """Whether `head` alone makes logits of the pooled features: one dense layer, and no other layers with kernels."""
    arrays, names = chosen.layers[head], ("kernel", "bias") if file.library == "keras" else ("weight", "bias")
    if arrays.keys() != set(names) or any(a.ndim > 1 for name in others for a in chosen.layers[name].values()):
        return False
    kernel = arrays[names[0]]
    return kernel.ndim == 2 and kernel.shape[0 if file.library == "keras" else 1] == spec.top_channels


def _check_nothing_before(file: SourceFile, chosen: _Candidate, elsewhere: Container[str]) -> None:
    """Raise `InputError` for layers before the first one of the backbone: without them it would see other images."""
    names = list(file.models[chosen.model])
    before = names[: names.index(chosen.prefix + next(iter(chosen.expected)))]
    # A file may hold the backbone's own layers in any order.
    before = [name for name in before if name.removeprefix(chosen.prefix) not in chosen.expected]
    models = list(file.models)
    if "" in models[: models.index(chosen.model)]:  # the first layers of the model around this one
        before += list(file.models[""])[:1]
    if before := [name for name in before if name not in elsewhere]:
        raise InputError(
            f"{file.path}: {some(before)} stands before the backbone and changes what it sees; weights of a network "
            "that takes RGB images as they are can be converted"
        )


def _found_by_order(layers: Layers, expected: Mapping[str, Layer]) -> Found | None:
    names = list(layers)
    backbone, rest = names[: len(expected)], names[len(expected) :]
    if len(backbone) < len(expected):
        return None
    renamed = dict(zip(expected, backbone, strict=True))
    for name, layer in expected.items():
        if {weight: array.shape for weight, array in layers[renamed[name]].items()} != shapes_in_file("keras", layer):
            return None
    head = rest[0] if len(rest) == 1 and {array.ndim for array in layers[rest[0]].values()} == {1, 2} else None
    found = {name: layers[theirs] for name, theirs in renamed.items()} | ({head: layers[head]} if head else {})
    return Found(found, expected, head, "", tuple(_left_out([] if head else rest)))


def _not_whole(
    spec: BackboneSpec, namings: Sequence[Naming], file: SourceFile, candidates: Sequence[_Candidate]
) -> str:
    """Say what keeps the nearest candidate from being the backbone."""
    if not candidates:
        layers = max(file.models.values(), key=len, default={})
        naming = namings[0]
        candidates = [_Candidate("", "", naming, naming.names(spec), layers)]
    nearest = min(candidates, key=lambda candidate: len(candidate.missing))
    if len(nearest.missing) > len(nearest.expected) // 2:
        return (
            f"its layers ({some(list(nearest.layers))}) are not those of {spec.name} ({some(list(nearest.expected))}); "
            "are --arch and --flavour right?"
        )
    faults = [
        f"{what} {some(names)}"
        for what, names in (
            ("lacks", [nearest.prefix + name for name in nearest.missing]),
            ("has besides", [_as_in_file(nearest.prefix + n, nearest.layers[n]) for n in nearest.surplus]),
        )
        if names
    ]
    return f"not a whole {spec.name} and no more: it {' and '.join(faults)}"


def _as_in_file(layer: str, arrays: Mapping[str, np.ndarray]) -> str:
    """A layer's name, or those of its arrays if they stand alone."""
    return layer or ", ".join(arrays)


def some(names: Sequence[str], limit: int = 3) -> str:
    """List up to `limit` of `names`, and count the others."""
    if not names:
        return "none"
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
