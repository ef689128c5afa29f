"""The chart of a report: loss and error along the lines between two networks."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from onebasin.connectivity import PathProfile
from onebasin.errors import OptionError
from onebasin.files import write_bytes, write_text
from onebasin.report.paths import ALIGNED, NAIVE, Paths
from onebasin.report.table import loss_text, points

if TYPE_CHECKING:
    import altair as alt

# Vermilion and blue of Okabe and Ito's set, which people with any kind of colour blindness tell apart.
COLOURS = {"light": ("#d55e00", "#0072b2"), "dark": ("#ff8f3f", "#5db8f5")}
_INKS = {
    "light": ("#1f2328", "#59636e", "#e4e7eb", "#ffffff"),
    "dark": ("#e6e9ed", "#9aa4af", "#343a42", "#171b21"),
}
"""Text, lesser text, grid and background."""
LABELS = {NAIVE: "naive (as they are)", ALIGNED: "aligned (units reordered)"}
MEASURES = {"error": "Error (%)", "loss": "Loss"}
FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
PANEL_WIDTH, PANEL_HEIGHT = 332, 250
"""Pixels: two panels with their axes fill the 800 of a README."""
SCALE = 2
"""Pixels of a PNG for one of the chart."""
_ROOM = 0.14
"""Room for one label, as a part of the height of the highest curve."""
_LABEL_REACH = 0.2
"""How far from the middle the label of a barrier reaches."""

Row = dict[str, object]
Values = NDArray[np.float64]


def path_chart(paths: Paths) -> "alt.HConcatChart":
    """Error and loss side by side along every path, with the ends marked and each barrier drawn and named.

    Args:
        paths: complete profiles; without errors there is the panel of the loss alone.

    Returns:
        A chart of two panels, about 800 pixels wide, with the colours for light backgrounds.
    """
    # Slow to import, and only reports draw.
    import altair as alt

    panels = [panel(paths, measure).properties(width=PANEL_WIDTH) for measure in measures(paths)]
    chart: alt.HConcatChart = alt.hconcat(*panels, spacing=34).properties(
        title=alt.TitleParams(
            f"{paths.task}: the line between two trained networks ({paths.split} split)", anchor="start", offset=12
        ),
        config=config("light"),
        padding=10,
    )
    return chart


def measures(paths: Paths) -> list[str]:
    """What a chart of these paths has panels for."""
    return ["error", "loss"] if paths.with_error else ["loss"]


def panel(paths: Paths, measure: str) -> "alt.LayerChart":
    """One measure along every path, `"error"` or `"loss"`, without a width and without colours of its own.

    Raises:
        OptionError: a profile is not complete, so that it has no barrier.
    """
    # Slow to import, and only reports draw.
    import altair as alt

    if not paths.complete:
        raise OptionError(
            "chart", expected="complete paths", found="an interrupted one", remedy="measure the path again"
        )
    values = {name: _values(profile, measure) for name, profile in paths.profiles.items()}
    barriers = _barrier_rows(paths, values, measure)
    top = max(*(float(row.max()) for row in values.values()), *(row["label"] for row in barriers)) * (1 + _ROOM)
    curves = alt.Chart({"values": list(_curve_rows(paths, values, measure))})
    marks = alt.Chart({"values": barriers})
    names = [LABELS.get(name, name) for name in paths.profiles]
    ticks = alt.Axis(
        values=[0, 0.25, 0.5, 0.75, 1], labelExpr="datum.value == 0 ? 'a' : datum.value == 1 ? 'b' : datum.value"
    )
    x = alt.X("lam:Q", title="λ, from a to b", scale=alt.Scale(domain=[0, 1], nice=False), axis=ticks)
    y = alt.Y(f"{measure}:Q", title=None, scale=alt.Scale(domain=[0, top], nice=False, zero=True))
    colour = alt.Color(
        "path:N",
        title=None,
        # A path has its own colour, also where it is alone.
        scale=alt.Scale(domain=list(dict.fromkeys([*LABELS.values(), *names]))),
        legend=alt.Legend(orient="top", symbolType="stroke", values=names),
    )
    tooltip = [
        alt.Tooltip("path:N", title="path"),
        alt.Tooltip("lam:Q", title="λ", format=".3f"),
        alt.Tooltip(f"{measure}:Q", title=MEASURES[measure], format=".2f" if measure == "error" else ".4f"),
    ]
    near = alt.selection_point(
        name=f"near_{measure}", nearest=True, on="pointerover", clear="pointerout", fields=["lam"], empty=False
    )
    seen = alt.when(near).then(alt.value(1)).otherwise(alt.value(0))
    label = marks.encode(x="at:Q", y="label:Q", text="text:N")
    layers = [
        marks.mark_rule(style="chord").encode(x="x0:Q", x2="x1:Q", y="y0:Q", y2="y1:Q"),
        curves.mark_line(strokeWidth=2.5).encode(x=x, y=y, color=colour),
        marks.mark_rule(strokeWidth=1.5, strokeDash=[2, 3]).encode(x="peak:Q", y="base:Q", y2="height:Q", color=colour),
        curves.transform_filter("datum.lam == 0 || datum.lam == 1").mark_point(style="end").encode(x=x, y=y),
        label.mark_text(style=["barrier", "halo"]),
        label.mark_text(style="barrier").encode(color=colour),
        curves.mark_point(size=300, opacity=0).encode(x=x, y=y, tooltip=tooltip).add_params(near),
        curves.mark_point(size=70, filled=True).encode(x=x, y=y, color=colour, opacity=seen),
    ]
    title = alt.TitleParams(MEASURES[measure], anchor="start", fontSize=13)
    return alt.LayerChart(layer=layers, height=PANEL_HEIGHT, title=title)


def _values(profile: PathProfile, measure: str) -> Values:
    """A profile's losses, or its errors in percent."""
    return 100 * np.array(profile.error) if measure == "error" else np.array(profile.loss)


def _curve_rows(paths: Paths, values: dict[str, Values], measure: str) -> Iterator[Row]:
    for name, profile in paths.profiles.items():
        for lam, value in zip(profile.lams, values[name].tolist(), strict=True):
            yield {"path": LABELS.get(name, name), "lam": lam, measure: value}


class _Barrier(TypedDict):
    """What is drawn of a barrier, in the units of the panel."""

    path: str
    peak: float
    base: float
    height: float
    at: float
    label: float
    text: str
    x0: float
    x1: float
    y0: float
    y1: float


def _barrier_rows(paths: Paths, values: dict[str, Values], measure: str) -> list[_Barrier]:
    """For every path its chord between the ends, and its highest point above that: the barrier, `baseline="linear"`."""
    rows: list[_Barrier] = []
    for name, profile in paths.profiles.items():
        heights, lams = values[name], np.array(profile.lams)
        chord = (1 - lams) * heights[0] + lams * heights[-1]
        peak = int(np.argmax(heights - chord))
        barrier = float(heights[peak] - chord[peak])
        rows.append({
            "path": LABELS.get(name, name),
            "peak": float(lams[peak]),
            "base": float(chord[peak]),
            "height": float(heights[peak]),
            "at": 0.5,
            "label": float(heights[abs(lams - 0.5) <= _LABEL_REACH].max(initial=0.0)),
            "text": "barrier " + (f"{points(barrier / 100)} points" if measure == "error" else loss_text(barrier)),
            "x0": 0,
            "x1": 1,
            "y0": float(heights[0]),
            "y1": float(heights[-1]),
        })  # fmt: skip
    rows.sort(key=lambda row: row["label"])
    apart = _ROOM * max(float(row.max()) for row in values.values())
    for lower, upper in pairwise(rows):
        upper["label"] = max(upper["label"], lower["label"] + apart)
    return rows


def config(theme: str) -> dict[str, object]:
    """Colours, fonts and line widths of a chart on a `"light"` or `"dark"` background."""
    ink, soft, grid, paper = _INKS[theme]
    return {
        "background": paper,
        "font": FONT,
        "view": {"stroke": None},
        "range": {"category": list(COLOURS[theme])},
        "axis": {
            "labelColor": soft, "titleColor": soft, "gridColor": grid, "domainColor": soft, "tickColor": soft,
            "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        },
        "axisX": {"grid": False},
        "axisY": {"domain": False, "ticks": False, "tickCount": 5},
        "legend": {
            "titleColor": ink, "labelColor": ink, "labelFontSize": 13, "symbolStrokeWidth": 3, "symbolSize": 260,
            "offset": 4, "titlePadding": 9,
        },
        "title": {"color": ink, "subtitleColor": soft, "fontSize": 15, "fontWeight": "bold"},
        "style": {
            "chord": {"color": soft, "strokeDash": [4, 4]},
            "baseline": {"color": soft, "strokeWidth": 1.5},
            "end": {"color": ink, "filled": True, "size": 60, "opacity": 1},
            "barrier": {"fontSize": 13, "fontWeight": "bold", "align": "center", "dy": -12},
            "name": {"fontSize": 12, "color": ink, "baseline": "middle"},
            "edge": {"color": ink, "strokeWidth": 1.5},
            "halo": {"stroke": paper, "strokeWidth": 5, "strokeJoin": "round"},
        },
    }  # fmt: skip


def save_chart(chart: "alt.HConcatChart | alt.LayerChart", path: str | Path) -> None:
    """Write a chart in the format of the suffix: `.png` (two pixels for one), `.svg`, or `.html` without a network.

    Raises:
        OptionError: another suffix.
        CheckpointError: the file cannot be written.
    """
    # Slow to import, and only reports draw.
    import vl_convert

    suffix = Path(path).suffix.lower()
    spec, version = chart.to_dict(), vegalite_version()
    if suffix == ".png":
        write_bytes(path, vl_convert.vegalite_to_png(spec, vl_version=version, scale=SCALE))
    elif suffix == ".svg":
        write_text(path, vl_convert.vegalite_to_svg(spec, vl_version=version))
    elif suffix == ".html":
        write_text(path, vl_convert.vegalite_to_html(spec, vl_version=version, bundle=True))
    else:
        raise OptionError(
            str(path), expected="a name ending in .png, .svg or .html", found=suffix or "no suffix", remedy="rename it"
        )


def vegalite_version() -> str:
    """The version of Vega-Lite that altair writes for, as vl-convert names it: `6.1` for `v6.1.0`."""
    # Slow to import, and only reports draw.
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
