"""How linear features are, layer by layer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onebasin.report.chart import Row

if TYPE_CHECKING:
    import altair as alt

ROW = 24
"""Pixels from one layer to the next."""
LEAST = 1e-8
"""Where smaller defects are drawn: below it they are rounding errors of float32."""
KINDS = ("defect", "baseline")
COLOURS = {"defect": "#0072b2", "baseline": "#d55e00"}
LABELS = {"defect": "of the networks", "baseline": "baseline"}


def layers_chart(data: Mapping[str, Any]) -> "alt.HConcatChart":
    """Draw 1 - cos of features between networks, a row a layer in the order of the model, and the coefficient beside.

    Args:
        data: `layers`, names; `defect`, a number each; where there are any `baseline`, the same of networks that are
            not matched, and `coefficient`, the length of the features of the average over that of the average of
            features.

    Returns:
        A chart without colours of its own but those of the dots; defects on a logarithmic axis.
    """
    # Slow to import, and only reports draw.
    import altair as alt

    layers = list(data["layers"])
    rows: list[Row] = [
        {"layer": layer, "kind": LABELS[kind], "value": max(value, LEAST), "exact": value}
        for kind in KINDS
        for layer, value in zip(layers, data.get(kind) or (), strict=False)
        if value is not None
    ]
    height = ROW * max(3, len(layers))
    y = alt.Y("layer:N", sort=layers, title=None, axis=alt.Axis(labelLimit=260, grid=True, ticks=False))
    kinds = [LABELS[kind] for kind in KINDS if data.get(kind)]
    colour = alt.Color(
        "kind:N",
        title=None,
        scale=alt.Scale(domain=list(LABELS.values()), range=list(COLOURS.values())),
        legend=alt.Legend(orient="top", values=kinds, symbolType="circle", symbolSize=90),
    )
    x = alt.X("value:Q", title="1 - cos (log scale)", scale=alt.Scale(type="log"), axis=alt.Axis(
        grid=True, tickCount=5, format="~g", labelOverlap=True))  # fmt: skip
    dots = alt.Chart({"values": rows})
    tooltip = [alt.Tooltip("layer:N"), alt.Tooltip("kind:N"), alt.Tooltip("exact:Q", title="1 - cos", format=".3~g")]
    panels = [
        alt.LayerChart(
            layer=[
                dots.mark_line(color="#9aa4af", strokeWidth=1.5).encode(x=x, y=y, detail="layer:N"),
                dots.mark_point(filled=True, size=90, opacity=1).encode(x=x, y=y, color=colour, tooltip=tooltip),
            ],
            height=height,
            width=380,
        )
    ]
    if data.get("coefficient"):
        shown = [
            {"layer": layer, "value": value}
            for layer, value in zip(layers, data["coefficient"], strict=True)
            if value is not None
        ]
        panels.append(_coefficients(shown, layers, height))
    found: alt.HConcatChart = alt.hconcat(*panels, spacing=24)
    return found


def _coefficients(rows: list[dict[str, Any]], layers: list[str], height: int) -> "alt.LayerChart":
    """Dots around 1, the value of linear features."""
    # Slow to import, and only reports draw.
    import altair as alt

    values = [1.0, *(row["value"] for row in rows)]
    room = max(0.05, 0.1 * (max(values) - min(values)))
    x = alt.X(
        "value:Q",
        title="coefficient",
        scale=alt.Scale(domain=[min(values) - room, max(values) + room], nice=False, zero=False),
        axis=alt.Axis(grid=True, tickCount=4),
    )
    y = alt.Y("layer:N", sort=layers, title=None, axis=alt.Axis(labels=False, ticks=False, grid=True))
    one = alt.Chart({"values": [{"value": 1}]}).mark_rule(style="chord").encode(x=x)
    tooltip = [alt.Tooltip("layer:N"), alt.Tooltip("value:Q", title="coefficient", format=".4~g")]
    dots = alt.Chart({"values": rows}).mark_point(filled=True, size=90, opacity=1, color=COLOURS["defect"])
    found: alt.LayerChart = alt.LayerChart(
        layer=[one, dots.encode(x=x, y=y, tooltip=tooltip)], height=height, width=180
    )
    return found
