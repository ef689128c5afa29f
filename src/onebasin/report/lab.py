"""The pictures of the laboratory: every kind by its name, from results or their JSON forms."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebasin.errors import OptionError
from onebasin.report.chart import config, save_chart
from onebasin.report.layers import layers_chart
from onebasin.report.plane import plane_chart
from onebasin.report.polygon import polygon_chart
from onebasin.report.profiles import profiles_chart
from onebasin.report.tree import graph_chart, matrix_chart

if TYPE_CHECKING:
    import altair as alt

    Chart = alt.LayerChart | alt.HConcatChart

PICTURES: Mapping[str, Callable[..., "Chart"]] = {
    "profiles": profiles_chart,
    "layers": layers_chart,
    "plane": plane_chart,
    "triangle": polygon_chart,
    "polygon": polygon_chart,
    "graph": graph_chart,
    "matrix": matrix_chart,
}
"""For every kind of picture the function that draws it, from the JSON form of a result."""


def picture(kind: str, result: object, **options: object) -> "Chart":
    """Draw a result, without colours for a background.

    Args:
        kind: a key of `PICTURES`.
        result: with a method `to_json`, or what that returns.
        options: of the function that draws it, such as `measure="error"`.

    Raises:
        OptionError: if there is no such kind, or the result holds nothing to draw.
    """
    if kind not in PICTURES:
        raise OptionError("picture", expected=" or ".join(PICTURES), found=repr(kind), remedy="choose one")
    data: Any = result if isinstance(result, Mapping) else result.to_json()  # type: ignore[attr-defined]
    return PICTURES[kind](data, **options)


def save_picture(kind: str, result: object, path: str | Path, *, title: str = "", **options: object) -> None:
    """Draw a result for light backgrounds into a file: `.png` (two pixels for one), `.svg`, or `.html`.

    Args:
        kind: a key of `PICTURES`.
        result: with a method `to_json`, or what that returns.
        path: of the file; its suffix decides the format.
        title: above the picture.
        options: of the function that draws it.

    Raises:
        OptionError: another kind or suffix, or nothing to draw.
        CheckpointError: the file cannot be written.
    """
    # Slow to import, and only reports draw.
    import altair as alt

    # A frame around the picture: its own title, where it has one, stays.
    framed: Any = alt.hconcat(picture(kind, result, **options))
    if title:
        framed = framed.properties(title=alt.TitleParams(title, anchor="start", offset=12))
    save_chart(framed.properties(config=config("light"), padding=10), path)
