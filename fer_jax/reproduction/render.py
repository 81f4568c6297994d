"""The table for readers: as Markdown, as a picture, and as one page with the curves and confusion matrices."""

import base64
import html
import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from fer_jax.evaluation import plots
from fer_jax.reproduction.published import MOST_CONFUSED, RECALL, TABLE_4
from fer_jax.storage.bucket import AnyPath

_BLUE, _ORANGE, _GRAY = "#0072B2", "#E69F00", "#555555"

PROTOCOLS = (
    "Accuracy: the epoch selected on the validation split (PublicTest), the test split (PrivateTest) scored once. "
    "paper_protocol: the epoch that is best on the test split itself, which is how the paper reports and which "
    "flatters. Intervals are Wilson's at 95 %; with several seeds they are those of the first, and mean ± sample "
    "standard deviation follow. McNemar's test is exact and two-sided, against the better single network by validation "
    "accuracy, with the same seed. Time is that of all epochs with their evaluations; not in it are the start, the "
    "compilation and, for frozen hybrids with cached features, their computation."
)
_TABLE_4 = (
    "The works that the paper compares itself with, its own results, and the rows from above (mean over seeds). "
    "Figures of others are as the paper prints them, the notes are ours; without a note the protocol is not known "
    "here. A figure on PublicTest, or of the epoch that is best on the split it is reported for, is higher than the "
    "same network would have by this project's protocol; the column paper_protocol of Table 3 says how much choosing "
    "the epoch on PrivateTest gives here. Human accuracy as the makers of FER2013 give it (Goodfellow et al. 2013)."
)
_TABLE_5 = (
    "The class that each is most often mistaken for, and the share of its images, first seed; the paper's are those of "
    "its hybrid."
)
_RECALL = (
    "The recall of each class, first seed, epoch selected on PublicTest; the paper's hybrid is the one trained on FER "
    "and frozen, at its best epoch on PrivateTest."
)
_FIGURES = "Curves and confusion matrices of each experiment (the paper's Figures 7 to 15 show such), first seed"

Table = tuple[list[str], list[list[str]]]


def table_3(table: dict) -> Table:
    """Return header and rows of the main table."""
    header = [
        "Network",
        "Paper %",
        "Epoch",
        "Accuracy %",
        "Epoch",
        "Over seeds",
        "paper_protocol %",
        "Epoch",
        "Over seeds",
        "McNemar",
        "Images/s",
        "Minutes",
    ]
    rows = []
    for row in table["rows"]:
        paper = [f"{100 * row['paper']['accuracy']:.2f}", str(row["paper"]["epoch"])] if row["paper"] else ["–", "–"]
        whole = [run for run in row["runs"] if "failed" not in run]
        if not whole:
            failure = f"failed: {row['runs'][0]['failed']}" if row["runs"] else "not run"
            rows.append([row["title"], *paper, failure, *[""] * 8])
            continue
        run = whole[0]
        rows.append(
            [
                row["title"],
                *paper,
                _with_interval(run),
                str(run["epoch"]),
                _spread(row["accuracy"]),
                _with_interval(run["paper_protocol"]),
                str(run["paper_protocol"]["epoch"]),
                _spread(row["paper_protocol"]),
                _mcnemar(run),
                f"{run['images_per_second']:.0f}",
                f"{run['seconds'] / 60:.1f}",
            ]
        )
    return header, rows


def table_4(table: dict) -> Table:
    """Return what is published and ours, highest first."""
    rows = [(row.accuracy, [row.work, str(row.year), f"{row.accuracy:.2f}", row.note]) for row in TABLE_4]
    rows.append((65, ["human accuracy", "2013", "65 ± 5", ""]))
    for row in table["rows"]:
        mean = row["accuracy"]["mean"]
        if mean is not None:
            note = "epoch selected on PublicTest"
            rows.append((100 * mean, [f"here: {row['title']}", "", f"{100 * mean:.2f}", note]))
    return ["Work", "Year", "Accuracy %", "Note"], [cells for _, cells in sorted(rows, key=lambda row: -row[0])]


def table_5(table: dict) -> Table:
    """Return for each class the one that it is most often mistaken for, by experiment; first seed."""
    whole = _first_seeds(table)
    rows = []
    for name in _classes(whole, "most_confused"):
        ours = [run["most_confused"][name] for _, run in whole]
        cells = [f"{pair['with']} ({100 * pair['share']:.1f} %)" if pair["with"] else "–" for pair in ours]
        theirs = MOST_CONFUSED.get(name)
        rows.append([name, f"{theirs[0]} ({100 * theirs[1]:.0f} %)" if theirs else "–", *cells])
    return ["Class", "The paper", *(title for title, _ in whole)], rows


def recall_table(table: dict) -> Table:
    """Return the recall of each class by experiment; first seed."""
    whole = _first_seeds(table)
    rows = [
        [name, f"{RECALL[name]:.2f}" if name in RECALL else "–", *(f"{run['recall'][name]:.3f}" for _, run in whole)]
        for name in _classes(whole, "recall")
    ]
    return ["Class", "The paper's hybrid", *(title for title, _ in whole)], rows


def _first_seeds(table: dict) -> list[tuple[str, dict]]:
    """The title and the run of each experiment whose first seed has not failed."""
    return [(row["title"], run) for row in table["rows"] for run in row["runs"][:1] if "failed" not in run]


def _classes(runs: Sequence[tuple[str, dict]], key: str) -> list[str]:
    return list(runs[0][1][key]) if runs else []


def about_lines(table: dict) -> list[list[str]]:
    """Return where the numbers come from: the arguments, and data, resolution and weights of the first whole run."""
    lines = [["scale", f"{table['scale']}: {table['description']}"], ["seeds", ", ".join(map(str, table["seeds"]))]]
    whole = [(row["title"], run) for row in table["rows"] for run in row["runs"] if "failed" not in run]
    if whole:
        provenance = whole[0][1]["provenance"]
        keys = ("training data", "training data fingerprint", "evaluated on", "resolution")
        lines += [[key, str(provenance[key])] for key in keys]
        lines.append(["epoch selected", str(provenance["epoch selected"]).partition(", ")[2]])
    # Those of the first seed, for a hybrid of runs of one's own starts from others with each seed.
    weights = {title: str(run["provenance"]["initial weights"]) for title, run in reversed(whole)}
    return lines + [[f"initial weights: {title}", text] for title, text in reversed(weights.items())]


def markdown(table: dict) -> str:
    """Return the whole as `table3.md`."""
    sections = [
        ("Table 3", *_lines(table_3(table)), "", PROTOCOLS),
        ("Table 4", _TABLE_4, "", *_lines(table_4(table))),
        ("Table 5", _TABLE_5, "", *_lines(table_5(table))),
        ("Recall", _RECALL, "", *_lines(recall_table(table))),
        ("Where these numbers come from", *_lines((["", ""], about_lines(table)))),
    ]
    text = ["# The paper's experiments", ""]
    for title, *lines in sections:
        text += [f"## {title}", "", *lines, ""]
    return "\n".join(text)


def page(table: dict, reports: AnyPath) -> str:
    """Return the whole as one self-contained page, `table3.html`, with the pictures of `reports/NAME-seedN`."""
    parts = [
        f"<h2>Table 3</h2>{_html(table_3(table))}<p>{html.escape(PROTOCOLS)}</p>",
        f"<h2>Table 4</h2><p>{html.escape(_TABLE_4)}</p>{_html(table_4(table))}",
        f"<h2>Table 5</h2><p>{html.escape(_TABLE_5)}</p>{_html(table_5(table))}",
        f"<h2>Recall</h2><p>{html.escape(_RECALL)}</p>{_html(recall_table(table))}",
        f"<h2>Figures</h2><p>{html.escape(_FIGURES)}</p>",
    ]
    for row in table["rows"]:
        runs = [run for run in row["runs"] if "failed" not in run]
        if not runs:
            continue
        parts.append(f"<h3>{html.escape(row['title'])}</h3>")
        curves = io.BytesIO()
        plots.training_curves_figure(runs[0]["history"]).savefig(curves, format="png", dpi=110, facecolor="white")
        matrix = reports / f"{row['name']}-seed{runs[0]['seed']}" / "confusion_matrix.png"
        for caption, content in (("training curves", curves.getvalue()), ("confusion matrix", matrix.read_bytes())):
            data = base64.b64encode(content).decode()
            parts.append(f'<img alt="{html.escape(row["title"])}: {caption}" src="data:image/png;base64,{data}">')
    parts.append(f"<h2>Where these numbers come from</h2>{_html((['', ''], about_lines(table)))}")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>The paper\'s experiments</title>\n'
        "<style>body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left}img{max-width:100%}</style>\n"
        "<h1>The paper's experiments</h1>\n" + "\n".join(parts) + "\n</html>\n"
    )


def figure(table: dict) -> Figure:
    """Draw the accuracy of every row with its interval, beside the paper's: `table3.png`."""
    rows = table["rows"][::-1]
    picture = Figure(figsize=(10, 1.4 + 0.75 * len(rows)), layout="constrained")
    axes = picture.subplots()
    series = (
        ("accuracy", "here: epoch selected on validation, first seed", _BLUE, "o", 0.15),
        ("paper_protocol", "here: paper_protocol, first seed", _ORANGE, "s", -0.15),
    )
    for key, label, colour, marker, shift in series:
        for place, row in enumerate(rows):
            run = next((run for run in row["runs"] if "failed" not in run), None)
            if run is None:
                continue
            found = run if key == "accuracy" else run["paper_protocol"]
            low, high = found["accuracy_wilson_95"]
            value = found["accuracy"]
            bars = [[100 * (value - low)], [100 * (high - value)]]
            axes.errorbar(
                100 * value, place + shift, xerr=bars, color=colour, marker=marker, capsize=3, label=label, linestyle=""
            )
    for place, row in enumerate(rows):
        if row["paper"]:
            axes.plot(100 * row["paper"]["accuracy"], place, "|", color=_GRAY, markersize=22, label="the paper")
        elif all("failed" in run for run in row["runs"]):
            axes.text(0.5, place, "failed", transform=axes.get_yaxis_transform(), ha="center", color=_GRAY)
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("Accuracy on the test split (%), 95 % interval")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    legend = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    if legend:
        picture.legend(legend.values(), legend.keys(), loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    picture.supxlabel(f"scale: {table['scale']}, seeds {', '.join(map(str, table['seeds']))}", fontsize=8)
    return picture


def _with_interval(found: dict) -> str:
    low, high = found["accuracy_wilson_95"]
    return f"{100 * found['accuracy']:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def _spread(over: dict) -> str:
    deviation = over["standard_deviation"]
    return "–" if deviation is None else f"{100 * over['mean']:.2f} ± {100 * deviation:.2f} (n = {over['seeds']})"


def _mcnemar(run: dict) -> str:
    test = run.get("mcnemar")
    if not test:
        return "–"
    counts = f"{test['only_first_right']} : {test['only_second_right']}"
    return f"p = {test['p_value']:.2g}, {counts} against {test['against']}"


def _lines(table: Table) -> list[str]:
    header, rows = table
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in cells] for cells in (header, *rows)]
    first, *others = ["| " + " | ".join(cells) + " |" for cells in escaped]
    return [first, "|" + " :-- |" * len(header), *others]


def _html(table: Table) -> str:
    header, rows = table

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line("th", header) + "".join(line("td", cells) for cells in rows) + "</table>"
