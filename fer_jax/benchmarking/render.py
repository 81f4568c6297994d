"""The results of a benchmark as tables for a terminal, as JSON, and as a chart."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from fer_jax.benchmarking.section import Section
from fer_jax.evaluation.plots import save_figure
from fer_jax.storage import files

# Okabe and Ito's palette, told apart with any colour vision.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00")


def print_section(section: Section, console: Console) -> None:
    """Print a section: speeds as median with lowest and highest, then its figures, its rows and its note."""
    console.print(f"\n{section.title}", style="bold", highlight=False)
    if section.speeds:
        table = Table("", "img/s", "lowest to highest", "CPU ms/img", "speed")
        first = next(iter(section.speeds.values()))
        for name, speed in section.speeds.items():
            span, share = f"{speed.low:.1f} to {speed.high:.1f}", f"{speed.median / first.median:.2f} x"
            table.add_row(name, f"{speed.median:.1f}", span, f"{speed.cpu_milliseconds:.2f}", share)
        _right_align(table)
        console.print(table)
    if section.figures:
        table = Table(show_header=False)
        for name, value in section.figures.items():
            table.add_row(name, f"{value:,.2f}")
        _right_align(table)
        console.print(table)
    if section.rows:
        table = Table(*section.rows[0])
        for row in section.rows:
            table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
        _right_align(table)
        console.print(table)
    if section.note:
        # Unwrapped, so that a command line in it can be copied.
        console.print(section.note, highlight=False, markup=False, soft_wrap=True)


def _right_align(table: Table) -> None:
    for column in table.columns[1:]:
        column.justify = "right"


def write_json(path: Path, setting: dict, sections: Sequence[Section]) -> None:
    """Write what was measured, on what, as JSON: `setting`, and every section by its name."""
    results = {section.what: dataclasses.asdict(section) for section in sections}
    files.write_text(path, json.dumps({"setting": setting, "results": results}, indent=2) + "\n")


def write_chart(path: Path, heading: str, sections: Sequence[Section]) -> bool:
    """Draw the speeds and the rows of each section as bars, a panel each, as PNG; False where there are none."""
    panels = [(section, _draw_speeds, len(section.speeds)) for section in sections if section.speeds]
    panels += [(section, _draw_rows, len(section.rows)) for section in sections if section.rows]
    if not panels:
        return False
    heights = [1.2 + 0.42 * bars for *_, bars in panels]
    figure = Figure(figsize=(9, 0.6 + sum(heights)), layout="constrained")
    figure.suptitle(heading, fontsize=11)
    places = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (section, draw, _) in zip(places, panels, strict=True):
        draw(axes, section)
        axes.set_title(section.title, fontsize=10.5, loc="left")
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
    return True


def _draw_speeds(axes: Axes, section: Section) -> None:
    speeds = section.speeds.values()
    medians = [speed.median for speed in speeds]
    spans = [[s.median - s.low for s in speeds], [s.high - s.median for s in speeds]]
    names = list(section.speeds)
    if max(medians) > 20 * min(medians):
        # Bars mean their length, which a logarithmic axis does not have.
        axes.errorbar(medians, names, xerr=spans, fmt="o", color=_COLOURS[0], ecolor="#555555", capsize=4)
        axes.set_xscale("log")
    else:
        colours = [_COLOURS[place % len(_COLOURS)] for place in range(len(names))]
        axes.barh(names, medians, xerr=spans, capsize=4, height=0.6, color=colours, ecolor="#555555")
    for place, speed in enumerate(speeds):
        axes.annotate(f" {speed.median:.0f}", (speed.high, place), va="center", fontsize=9)
    axes.set_xlabel("images a second: median, lowest and highest round", fontsize=9)


def _draw_rows(axes: Axes, section: Section) -> None:
    """Draw each row as one bar for each way, the sum of its columns of that way, such as `forward, native (ms)`."""
    ways: dict[str, list[float]] = {}
    for row in section.rows:
        totals: dict[str, float] = {}
        for name, value in row.items():
            if name.endswith(" (ms)") and isinstance(value, float):
                way = name.removesuffix(" (ms)").rpartition(", ")[2]
                totals[way] = totals.get(way, 0.0) + value
        for way, total in totals.items():
            ways.setdefault(way, []).append(total)
    height = 0.8 / len(ways)
    for index, (way, by_row) in enumerate(ways.items()):
        shift = (index - (len(ways) - 1) / 2) * height
        places = [row + shift for row in range(len(by_row))]
        axes.barh(places, by_row, height, label=way, color=_COLOURS[index])
    axes.set_yticks(range(len(section.rows)), [str(row["shape"]) for row in section.rows], fontsize=8)
    axes.set_xlabel("milliseconds: forward, input gradient and kernel gradient together", fontsize=9)
    axes.legend(frameon=False, fontsize=9, ncols=len(ways), loc="lower right", bbox_to_anchor=(1, 1))
