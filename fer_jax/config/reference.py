"""The reference of all keys, `docs/config.md`: python -m fer_jax.config.reference > docs/config.md"""

from fer_jax.config.defaults import SECTIONS

_HEAD = """\
# The keys of a config

<!-- Written by `python -m fer_jax.config.reference > docs/config.md`. -->

`python scripts/train.py --config=configs/X.py --config.KEY=VALUE` changes any of them. The defaults are the paper's
Table 1 for EfficientNetB0, with this project's options at rest; they stand in `fer_jax/config/defaults.py`.
"""


def markdown() -> str:
    """Return all keys by section, each with its default, what it may hold and its meaning, as Markdown."""
    sections = []
    for section, declared in SECTIONS.items():
        rows = ["| key | default | may hold | meaning |", "| --- | --- | --- | --- |"]
        for name, key in declared.items():
            full = f"{section}.{name}" if section else name
            cells = (f"`{full}`", f"`{key.default!r}`", key.rule.expected, key.meaning)
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        sections.append("\n".join([f"## `{section}`" if section else "## The run", "", *rows, ""]))
    return "\n".join([_HEAD, *sections])


if __name__ == "__main__":
    print(markdown(), end="")
