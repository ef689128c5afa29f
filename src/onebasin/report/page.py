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
from onebasin.report.lab import picture
from onebasin.report.paths import Paths
from onebasin.report.table import Table
from onebasin.symmetry import Symmetry


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        kind: a key of `onebasin.report.lab.PICTURES`.
        result: what is drawn: a result with a method `to_json`, or what that returns.
        title: above it.
        note: below it, in small print.
        options: of the function that draws it.
    """

    kind: str
    result: object
    title: str
    note: str = ""
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """What a page shows, from top to bottom.

    Attributes:
        title: a few words.
        paths: complete profiles: the headline and the charts; None for a page of other pictures.
        tables: below the charts, in this order.
        settings: what the result depends on, by name: options, seeds, versions.
        symmetry: its groups are drawn below the tables.
        sentence: what the page begins with, in place of the headline of the paths.
        pictures: above the tables.
    """

    title: str
    paths: Paths | None = None
    tables: tuple[Table, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    symmetry: Symmetry | None = None
    sentence: str = ""
    pictures: tuple[Picture, ...] = ()


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

    specs = _path_specs(page.paths) | {
        f"picture-{number}": picture(one.kind, one.result, **one.options).to_dict()
        for number, one in enumerate(page.pictures)
    }
    groups = page.symmetry is not None and bool(page.symmetry.groups)
    parts = {
        "title": html.escape(page.title),
        "headline": html.escape(page.sentence or (headline(page.paths) if page.paths is not None else "")),
        "charts": "\n".join([_path_section(page.paths), *map(_picture, range(len(page.pictures)), page.pictures)]),
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


def _path_specs(paths: Paths | None) -> dict[str, object]:
    return {
        f"chart-{measure}": panel(paths, measure)
        .properties(width="container", autosize={"type": "fit-x", "contains": "padding"})
        .to_dict()
        for measure in (measures(paths) if paths is not None else ())
        if paths is not None
    }


def _path_section(paths: Paths | None) -> str:
    if paths is None:
        return ""
    label = html.escape(" and ".join(MEASURES[name] for name in measures(paths)) + " along the paths")
    charts = "\n".join(f'<div class="chart" id="chart-{measure}"></div>' for measure in measures(paths))
    return f'<section class="charts" aria-label="{label}">\n{charts}\n</section>\n{NOTE}'


def _picture(number: int, one: Picture) -> str:
    note = f'\n<p class="note">{html.escape(one.note)}</p>' if one.note else ""
    return f'<h2>{html.escape(one.title)}</h2>\n<div class="scroll"><div id="picture-{number}"></div></div>{note}'


NOTE = (
    '<p class="note">λ runs from a (0) to b (1). The dashed line joins the ends; '
    "a barrier is how far a path rises above it.</p>"
)
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
