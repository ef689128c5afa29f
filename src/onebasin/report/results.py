"""The page of results: every claim of the literature that was repeated, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = """# Results: claims of the literature, repeated

Generated from the JSON files that the scripts in `reproduce/` write. Means and standard deviations of the pairs named.
Where the published side has other data or sizes than ours, the columns cannot be compared one to one; `--full` runs the
papers' settings on a GPU. Minutes of `--quick` are those of one core, and every claim counts the networks that it
shares with others: all claims together take less.

```text
onebasin reproduce --all --jobs 2 --data-root DIR --out reproduce/results --page docs/results.md
```
"""


def results_page(titles: Mapping[str, tuple[str, str]], found: Mapping[str, Mapping[str, Any]], folder: str) -> str:
    """The page.

    Args:
        titles: for every claim its title and source.
        found: results by mode, `quick` and `full`, and claim, as their scripts wrote them; what was not run is marked.
        folder: of the results, relative to the page, for the pictures.
    """
    parts = [HEAD, "\n".join(took(mode, results, len(titles)) for mode, results in found.items())]
    for name, (title, source) in titles.items():
        parts.append(f"## {title}\n\n{source}. `reproduce/{name}.py`")
        for mode, results in found.items():
            if name not in results:
                parts.append(f"`--{mode}`: not run.")
                continue
            result = results[name]
            settings = result["claim"]["quick" if mode == "quick" else "settings"]
            about = f"`--{mode}`: {settings}. {result['minutes']:g} minutes on {result['machine']}."
            picture = f"![{title}]({folder}/{mode}/{name}.svg)"
            parts += [about, table(result["rows"]), result["reading"], picture]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def took(mode: str, results: Mapping[str, Any], count: int) -> str:
    """How many claims were run, and for how long."""
    return f"- `--{mode}`: {len(results)} of {count} claims run."


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a table of Markdown."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([text(row[column]) for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text(value: object) -> str:
    """A cell."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
