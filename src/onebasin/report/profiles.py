"""Losses along several lines or curves in one panel, with the definitions of a barrier and what is uncertain."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onebasin.connectivity.path import BASELINES
from onebasin.errors import OptionError
from onebasin.report.chart import Row
from onebasin.report.surface import TITLES, measured
from onebasin.report.table import loss_text, points

if TYPE_CHECKING:
    import altair as alt

WIDTH, HEIGHT = 560, 300
PALETTE = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
"""Colours of Okabe and Ito, the first two those of a path's two lines; those too light for thin lines left out."""
DASHES = {"linear": [6, 4], "mean": [2, 3], "worst": [9, 3, 2, 3]}
CALIBRATED = "calibrated"


def profiles_chart(data: Mapping[str, Any], measure: str = "loss") -> "alt.LayerChart":
    """Draw lines or curves over their parameter, from one end to the other.

    Ends are marked. The 95 % interval of a barrier, where it is known, is a bar around the highest point; losses at the
    best temperature, where they were measured, are a dashed line.

    Args:
        data: `profiles`: for every name a `PathProfile` or a profile of a curve, as JSON, with `lams` or `t`;
            `definitions`: the name of the one for which the three definitions of a barrier are drawn and told.
        measure: `"loss"` or `"error"`.

    Returns:
        A chart without colours of its own but those of the lines.

    Raises:
        OptionError: if the measure is missing, or `definitions` names no profile.
    """
    # Slow to import, and only reports draw.
    import altair as alt

    profiles: dict[str, Any] = data["profiles"]
    chosen = data.get("definitions")
    if chosen is not None and chosen not in profiles:
        raise OptionError("definitions", expected=" or ".join(profiles), found=repr(chosen), remedy="choose one")
    rows = list(_rows(profiles, measure))
    top = max(float(str(row["value"])) for row in rows)
    bars = [bar for name, profile in profiles.items() for bar in _interval(name, profile, measure)]
    top = 1.06 * max([top, *(float(str(bar["high"])) for bar in bars)])
    x = alt.X("at:Q", title=_parameter(profiles), scale=alt.Scale(domain=[0, 1], nice=False))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, top], nice=False))
    colour = alt.Color(
        "name:N",
        title=None,
        scale=alt.Scale(domain=list(profiles), range=[PALETTE[k % len(PALETTE)] for k in range(len(profiles))]),
        legend=alt.Legend(orient="top", symbolType="stroke", symbolOpacity=1, labelLimit=400, columns=4),
    )
    curves = alt.Chart({"values": rows})
    tooltip = [
        alt.Tooltip("name:N", title="path"),
        alt.Tooltip("at:Q", title=_parameter(profiles), format=".3f"),
        alt.Tooltip("value:Q", title=TITLES[measure], format=".4~g"),
    ]
    layers = [
        *(_definitions(profiles[chosen], measure, x, y) if chosen is not None else []),
        alt.Chart({"values": bars}).mark_rule(strokeWidth=7, opacity=0.35).encode(
            x=alt.X("at:Q"), y=alt.Y("low:Q"), y2="high:Q", color=colour),
        curves.transform_filter(f"datum.kind == '{CALIBRATED}'").mark_line(
            strokeWidth=1.5, strokeDash=[3, 3]).encode(x=x, y=y, color=colour),
        curves.transform_filter("datum.kind == 'plain'").mark_line(strokeWidth=2.5).encode(x=x, y=y, color=colour),
        curves.transform_filter("datum.end").mark_point(style="end").encode(x=x, y=y),
        curves.mark_point(size=220, opacity=0).encode(x=x, y=y, tooltip=tooltip),
    ]  # fmt: skip
    title = alt.TitleParams(
        TITLES[measure].capitalize(), anchor="start", fontSize=13, subtitle=_notes(rows, bars), subtitlePadding=4
    )
    found: alt.LayerChart = alt.LayerChart(layer=layers, width=WIDTH, height=HEIGHT, title=title)
    return found


def _places(profile: Mapping[str, Any]) -> Sequence[float]:
    places: Sequence[float] = profile["t"] if "t" in profile else profile["lams"]
    return places


def _parameter(profiles: Mapping[str, Any]) -> str:
    return "t" if any("t" in profile for profile in profiles.values()) else "λ"


def _rows(profiles: Mapping[str, Any], measure: str) -> Iterator[Row]:
    """Every point of every profile, and of its calibrated losses."""
    for name, profile in profiles.items():
        places = _places(profile)
        lines = {"plain": measured(dict(profile), measure)}
        if measure == "loss" and "calibrated_loss" in profile.get("others", {}):
            lines[CALIBRATED] = np.array(profile["others"]["calibrated_loss"], dtype=np.float64)
        for kind, values in lines.items():
            for at, value in zip(places, values.tolist(), strict=True):
                end = kind == "plain" and at in (places[0], places[-1])
                if np.isfinite(value):
                    yield {"name": name, "at": at, "value": value, "kind": kind, "end": end}


def _interval(name: str, profile: Mapping[str, Any], measure: str) -> Iterator[Row]:
    """The interval of the barrier above the line between the ends, put on that line where the barrier is."""
    found = profile.get("intervals", {}).get(f"{measure} linear")
    if found is not None:
        values, places = measured(dict(profile), measure), np.array(_places(profile))
        chord = values[0] + places * (values[-1] - values[0])
        peak = int(np.nanargmax(values - chord))
        low, high = (float(chord[peak]) + (100 if measure == "error" else 1) * end for end in found)
        yield {"name": name, "at": float(places[peak]), "low": max(0.0, low), "high": high}


def _notes(rows: Sequence[Row], bars: Sequence[Row]) -> list[str]:
    """What is drawn beside the lines, in words; only what there is."""
    words = []
    if any(row["kind"] == CALIBRATED for row in rows):
        words.append("dashed: at the best temperature")
    if bars:
        words.append("bar: 95 % interval of the barrier")
    return ["; ".join(words)] if words else []


def _definitions(profile: Mapping[str, Any], measure: str, x: "alt.X", y: "alt.Y") -> "list[alt.Chart]":
    """The three baselines, with the barrier above each in the legend."""
    # Slow to import, and only reports draw.
    import altair as alt

    values, places = measured(dict(profile), measure), np.array(_places(profile))
    first, last = float(values[0]), float(values[-1])
    ends = {
        "linear": (first, last),
        "mean": ((first + last) / 2,) * 2,
        "worst": (max(first, last),) * 2,
    }
    rows, names = [], []
    for baseline in BASELINES:
        low, high = ends[baseline]
        barrier = float(np.nanmax(values - (low + places * (high - low))))
        text = f"{points(barrier / 100)} points" if measure == "error" else loss_text(barrier)
        names.append(f"{baseline}: {text}")
        rows += [{"definition": names[-1], "at": at, "value": value} for at, value in ((0, low), (1, high))]
    dash = alt.StrokeDash(
        "definition:N",
        title="barrier above",
        scale=alt.Scale(domain=names, range=[DASHES[baseline] for baseline in BASELINES]),
        legend=alt.Legend(orient="bottom", symbolType="stroke", labelLimit=300),
    )
    return [alt.Chart({"values": rows}).mark_line(style="baseline").encode(x=x, y=y, strokeDash=dash)]
