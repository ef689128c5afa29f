"""The page of results: every claim of the literature that was repeated, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = """# Results: claims of the literature, repeated

Generated from the JSON files that the scripts in `reproduce/` write. Means and standard deviations of the pairs named.
Where the published side has other data or sizes than ours, the columns cannot be compared one to one; `--full` runs the
papers' settings on a GPU.

```text
onebasin reproduce --all --data-root DIR --out reproduce/results --page docs/results.md
```
"""


def results_page(titles: Mapping[str, tuple[str, str]], found: Mapping[str, Any], mode: str) -> str:
    """The page.

    Args:
        titles: for every claim its title and source.
        found: results by claim, as their scripts wrote them; claims that were not run are marked.
        mode: `quick` or `full`.
    """
    parts = [HEAD]
    for name, (title, source) in titles.items():
        parts.append(f"## {title}\n\n{source}. `reproduce/{name}.py`")
        if name not in found:
            parts.append(f"Not run (`--{mode}`).")
            continue
        result = found[name]
        settings = result["claim"]["quick" if result["mode"] == "quick" else "settings"]
        parts += [f"Settings: {settings}. {result['machine']}.", table(result["rows"]), result["reading"]]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a table of Markdown."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([text(row[column]) for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text(value: object) -> str:
    """A cell."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
