"""The documents say what the files beside them say."""

import json
import re

import pytest

from fer_jax.config.defaults import keys


def results(repository):
    return sorted((repository / "docs" / "results").glob("*/report.json"))


def test_readme_table_gives_the_accuracies_of_the_reports(repository):
    readme = (repository / "README.md").read_text()
    assert results(repository)
    for path in results(repository):
        row = next((line for line in readme.splitlines() if f"docs/results/{path.parent.name}/" in line), None)
        assert row, f"{path.parent.name} is not in the README's table"
        report = json.loads(path.read_text())
        best = max(entry["validation_accuracy"] for entry in report["history"])
        numbers = [float(number) for number in re.findall(r"\d+\.\d\d", row)]
        low, high = report["metrics"]["accuracy_wilson_95"]
        expected = [100 * value for value in (best, report["metrics"]["accuracy"], low, high)]
        assert numbers == pytest.approx(expected, abs=0.00501), row


def test_published_reports_show_no_faces(repository):
    for path in results(repository):
        assert not (path.parent / "samples.png").exists()


def test_twins_table_is_what_its_program_finds_in_the_predictions(repository):
    text = (repository / "docs" / "twins.md").read_text()
    program = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1), program)
    rows = re.findall(
        r"^\| \[.*\]\((results/.*)/report.md\).* \| (.*) \| (.*) \| (.*) \| \*\*(.*)\*\* .* \|", text, re.MULTILINE
    )
    assert len(rows) == 7
    for folder, whole, *printed in rows:
        groups = list(program["scores"](repository / "docs" / folder / "predictions.csv").values())
        assert [n for _, n in groups] == [288, 580, 2721]
        expected = [100 * right / n for right, n in groups]
        assert [float(text) for text in printed] == pytest.approx(expected, abs=0.00501), folder
        assert float(whole.split()[0]) == pytest.approx(100 * sum(right for right, _ in groups) / 3589, abs=0.00501)


def test_readme_names_scripts_and_configs_that_exist(repository):
    readme = (repository / "README.md").read_text()
    names = set(re.findall(r"(?:scripts|configs|docs)/[\w/]+\.\w+", readme))
    assert len(names) > 5
    for name in names:
        assert (repository / name).exists(), name


def test_readme_names_every_package_and_no_other_key(repository):
    readme = (repository / "README.md").read_text()
    packages = {path.parent.name for path in (repository / "fer_jax").glob("*/__init__.py")}
    of_map = re.findall(r"^\| `(\w+)`(?: \||,)", readme.partition("## The code")[2], re.MULTILINE)
    assert packages == set(of_map)
    table = readme.partition("### Options")[2].partition("## ")[0]
    known = {re.sub(r"^backbone_checkpoints\..*", "backbone_checkpoints.NAME", key) for key in keys()}
    assert set(re.findall(r"^\| `([\w.]+)`", table, re.MULTILINE)) < known


def test_readme_table_gives_the_accuracies_of_the_papers_experiments(repository):
    readme = (repository / "README.md").read_text()
    table = json.loads((repository / "docs" / "results" / "paper_small" / "table3.json").read_text())
    assert len(table["rows"]) == 6
    for experiment in table["rows"]:
        row = next((line for line in readme.splitlines() if line.startswith(f"| {experiment['title']} |")), None)
        assert row, f"{experiment['title']} is not in the README's table"
        [run] = experiment["runs"]
        accuracies = [run["validation_accuracy"], run["accuracy"], *run["accuracy_wilson_95"]]
        expected = [100 * value for value in (*accuracies, run["paper_protocol"]["accuracy"])]
        assert [float(n) for n in re.findall(r"\d+\.\d\d", row)] == pytest.approx(expected, abs=0.00501), row
