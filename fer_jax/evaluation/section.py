"""A part of a report, in a form that every page can show: paragraphs, figures and tables, and its numbers as JSON."""

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from fer_jax.evaluation.page.charts import Chart


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as texts; the columns after the first are numbers unless `numbers` is false. `caption` may be empty."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: bool = True
    caption: str = ""

    def markdown(self) -> list[str]:
        """Return the lines of a Markdown table, numbers aligned right."""
        alignment = [":--"] + (["--:"] if self.numbers else [":--"]) * (len(self.header) - 1)
        # Names of folders may hold what separates the cells.
        escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in (self.header, *self.rows))
        first, *others = ["| " + " | ".join(cells) + " |" for cells in escaped]
        table = [first, "| " + " | ".join(alignment) + " |", *others]
        return [self.caption, "", *table] if self.caption else table


@dataclasses.dataclass(frozen=True)
class Section:
    """One subject of a report.

    `content` are its numbers as plain JSON values, under `key` in report.json; `figures` maps the name of a PNG file
    to the figure and its description in words, for report.md; `charts` show the same on the page.
    """

    key: str
    title: str
    content: Mapping[str, object]
    paragraphs: Sequence[str] = ()
    figures: Mapping[str, tuple[Figure, str]] = dataclasses.field(default_factory=dict)
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()

    def markdown(self) -> list[str]:
        """Return the lines of the section in Markdown, a blank one at the end."""
        lines = [f"## {self.title}", ""]
        for paragraph in self.paragraphs:
            lines += [paragraph, ""]
        for name, (_, description) in self.figures.items():
            lines += [f"![{description}]({name})", ""]
        for table in self.tables:
            lines += [*table.markdown(), ""]
        return lines


def proportion_cells(found: Mapping) -> list[str]:
    """Return the cells n, right, accuracy and interval of a `fer_jax.evaluation.metrics.proportion`."""
    if not found["n"]:
        return ["0", "0", "–", "–"]
    interval = " to ".join(percent(bound) for bound in found["wilson_95"])
    return [f"{found['n']:,}", f"{found['correct']:,}", percent(found["accuracy"]), interval]


PROPORTION_HEADER = ("n", "Right", "Accuracy %", "95 % interval (Wilson)")


def percent(fraction: float) -> str:
    """Return a fraction in percent with two digits."""
    return f"{100 * fraction:.2f}"
