"""One HTML page with everything of a comparison, which needs no network."""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template

from onebasin.files import write_text
from onebasin.report.chart import MEASURES, config, measures, panel, vegalite_version
from onebasin.report.graph import group_chart
from onebasin.report.headline import headline
from onebasin.report.paths import Paths
from onebasin.report.table import Table
from onebasin.symmetry import Symmetry


@dataclass(frozen=True)
class Page:
    """What a page shows, from top to bottom.

    Attributes:
        title: a few words.
        paths: complete profiles: the headline and the charts.
        tables: below the charts, in this order.
        settings: what the result depends on, by name: options, seeds, versions.
        symmetry: its groups are drawn below the tables.
    """

    title: str
    paths: Paths
    tables: tuple[Table, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    symmetry: Symmetry | None = None


def save_page(page: Page, path: str | Path) -> None:
    """Write a page to `path`, whole or not at all; a browser opens it without a network.

    Raises:
        OptionError: a path is not complete.
        CheckpointError: the file cannot be written.
    """
    write_text(path, render(page))


def render(page: Page) -> str:
    """The HTML of a page: text, tables, charts and the libraries that draw them."""
    # Slow to import, and only reports draw.
    import vl_convert

    specs = {
        f"chart-{measure}": panel(page.paths, measure)
        .properties(width="container", autosize={"type": "fit-x", "contains": "padding"})
        .to_dict()
        for measure in measures(page.paths)
    }
    charts = "\n".join(f'<div class="chart" id="{name}"></div>' for name in specs)
    groups = page.symmetry is not None and bool(page.symmetry.groups)
    parts = {
        "title": html.escape(page.title),
        "headline": html.escape(headline(page.paths)),
        "chart_label": html.escape(" and ".join(MEASURES[name] for name in measures(page.paths)) + " along the paths"),
        "charts": charts,
        "tables": "\n".join(map(_table, page.tables)),
        "groups": GROUPS if groups else "",
        "settings": "\n".join(
            f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in page.settings.items()
        ),
        "library": vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vegalite_version()),
        "specs": _script(specs | _group_spec(page.symmetry if groups else None)),
        "configs": _script({theme: config(theme) for theme in ("light", "dark")}),
    }
    frame = files("onebasin.report").joinpath("page.html").read_text(encoding="utf-8")
    return Template(frame).substitute(parts)


GROUPS = """<h2>Where the groups meet</h2>
<div class="chart" id="chart-groups"></div>
<p class="note">One dot a group in the order the data flows, as wide as it is large; an arc joins two that share a
tensor. Point at either for names.</p>"""


def _group_spec(symmetry: Symmetry | None) -> dict[str, object]:
    if symmetry is None:
        return {}
    chart = group_chart(symmetry).properties(width="container", autosize={"type": "fit-x", "contains": "padding"})
    return {"chart-groups": chart.to_dict()}


def _table(table: Table) -> str:
    kinds = ['class="number"' if column in table.numeric else "" for column in table.columns]

    def row(tag: str, texts: tuple[str, ...]) -> str:
        cells = (f"<{tag} {kind}>{html.escape(text)}</{tag}>" for kind, text in zip(kinds, texts, strict=True))
        return f"<tr>{''.join(cells)}</tr>".replace(" >", ">")

    body = "\n".join(row("td", texts) for texts in table.rows)
    head = row("th", table.columns)
    return (
        f"<h2>{html.escape(table.title)}</h2>\n"
        f'<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
    )


def _script(data: object) -> str:
    """JSON that is safe inside a script element, where `</` would end it."""
    return json.dumps(data, sort_keys=True).replace("<", "\\u003c")
