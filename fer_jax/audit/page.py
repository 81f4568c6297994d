"""The page of an audit: its counts, and the pairs themselves, side by side. It holds images: not for publication."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from fer_jax.audit.audit import Audit, Pair
from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.twins import KINDS

MOST_SHOWN = 200
"""Pairs of each group that the page shows; twins.csv lists them all."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid #ddd; padding: .2rem .8rem; text-align: right; }
td:first-child, th:first-child { text-align: left; }
.pairs { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; padding: .4rem; border: 1px solid #ddd; } figure.conflict { border-color: #c00; }
figure div { display: flex; gap: 2px; }
figure img { width: 96px; height: 96px; image-rendering: pixelated; }
figcaption { font-size: 12px; line-height: 1.3; max-width: 200px; overflow-wrap: anywhere; }
"""


def page(audit: Audit, data: Dataset) -> str:
    """Return the page of `audit`, which is one of `data`, as HTML in one file."""
    images = _Images(data)
    parts = [
        f"<h1>Audit of {html.escape(audit.source)}</h1>",
        "<p>This page shows images of the data set: keep it where the data are.</p>",
        _counts(audit),
    ]
    for title, pairs in _groups(audit):
        parts.append(f"<h2>{title}: {len(pairs):,}</h2>")
        if len(pairs) > MOST_SHOWN:
            parts.append(f"<p>{MOST_SHOWN} of them, the least similar first; all are in twins.csv.</p>")
        shown = sorted(pairs, key=lambda pair: pair.similarity)[:MOST_SHOWN]
        parts.append('<div class="pairs">' + "".join(_pair(audit, images, pair) for pair in shown) + "</div>")
    empty = np.flatnonzero(audit.constant)
    parts.append(f"<h2>Constant images: {len(empty):,}</h2>")
    parts.append(f"<p>{html.escape(', '.join(map(audit.name, empty[:MOST_SHOWN].tolist())))}</p>")
    title = html.escape(f"Audit of {audit.source}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


class _Images:
    """The images of a data set by their index in its audit."""

    def __init__(self, data: Dataset):
        self._places = [(data.split(name).images, index) for name in SPLITS for index in range(len(data.split(name)))]

    def source(self, index: int) -> str:
        """Return the image as the source of an `img`."""
        images, place = self._places[index]
        file = io.BytesIO()
        Image.fromarray(images[place]).save(file, format="PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _groups(audit: Audit) -> list[tuple[str, Sequence[Pair]]]:
    across = {kind: [p for p in audit.pairs if p.kind == kind and audit.across(p)] for kind in KINDS}
    within = [pair for pair in audit.pairs if not audit.across(pair)]
    return [
        ("Pairs with different labels", [pair for pair in audit.pairs if audit.conflicting(pair)]),
        ("Near twins across splits", across["near"]),
        ("Mirrored twins across splits", across["mirrored"]),
        ("Exact twins across splits", across["exact"]),
        ("Near and mirrored twins within a split", [pair for pair in within if pair.kind != "exact"]),
        ("Exact twins within a split", [pair for pair in within if pair.kind == "exact"]),
    ]


def _counts(audit: Audit) -> str:
    summary = audit.summary()
    rows = ["<table><tr><th></th>" + "".join(f"<th>{kind}</th>" for kind in KINDS) + "</tr>"]
    for key in ("pairs", "across_splits", "conflicting_labels"):
        cells = "".join(f"<td>{summary['pairs'][kind][key]:,}</td>" for kind in KINDS)
        rows.append(f"<tr><td>{key.replace('_', ' ')}</td>{cells}</tr>")
    for key, counts in summary["images_with_a_twin"].items():
        one, _, other = key.partition(" in ")
        cells = "".join(f"<td>{counts[kind]:,}</td>" for kind in KINDS)
        rows.append(f"<tr><td>{one} images with a twin in {other}</td>{cells}</tr>")
    return "".join(rows) + "</table>"


def _pair(audit: Audit, images: _Images, pair: Pair) -> str:
    ends = (pair.first, pair.second)
    pictures = "".join(f'<img src="{images.source(index)}" alt="{html.escape(audit.name(index))}">' for index in ends)
    lines = [
        html.escape(f"{SPLITS[audit.splits[i]]} {audit.name(i)}: {audit.class_names[audit.labels[i]]}") for i in ends
    ]
    caption = "<br>".join([f"{pair.kind} {pair.similarity:.2f}", *lines])
    marked = ' class="conflict"' if audit.conflicting(pair) else ""
    return f"<figure{marked}><div>{pictures}</div><figcaption>{caption}</figcaption></figure>"
