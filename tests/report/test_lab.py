"""The pictures of the laboratory show what results hold, and are written in every format."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onebasin.connectivity import PlaneGrid, PolygonGrid
from onebasin.connectivity.plane import Mark
from onebasin.connectivity.polygon import Mesh, polygon_corners, wachspress
from onebasin.errors import OptionError
from onebasin.report import PICTURES, Page, Picture, Table, save_page, save_picture
from onebasin.report.lab import picture
from onebasin.report.surface import grid_triangles, isolines, placed, polygon_triangles
from onebasin.report.tree import edge_labels, graph_edges, in_order, spanning_tree
from report.profiles import profile
from report.test_page import read

MARKS = (Mark("a", 0.0, 0.0, 0.0, 1.0, 0.1), Mark("b", 2.0, 0.0), Mark("c", 1.0, 2.0, 0.5))
PLANE = PlaneGrid(
    "networks",
    (0.0, 1.0, 2.0),
    (0.0, 1.0, 2.0),
    ((1.0, 2.0, 3.0), (2.0, 3.0, math.nan), (3.0, 4.0, 9.0)),
    ((0.1, 0.2, 0.3),) * 3,
    MARKS,
    10,
    "keep",
)
WEIGHTS = tuple(map(tuple, wachspress(Mesh.of(3, 2).points, polygon_corners(3)).tolist()))
TRIANGLE = PolygonGrid(("a", "b", "c"), WEIGHTS, tuple(1 + row[0] for row in WEIGHTS), (), 10, "keep")
PAIRS = {"names": ["a", "b", "c"], "pairs": [["a", "b", 2.0], ["a", "c", 0.5], ["b", "c", 0.25]]}
LAYERS = {"layers": ["one", "two"], "defect": [0.01, 0.0], "baseline": [0.5, 0.25], "coefficient": [0.9, 1.0]}
PROFILES = {
    "profiles": {
        "naive": replace(profile(0.5), intervals={"loss linear": (4.0, 5.5)}).to_json(),
        "aligned": replace(profile(0.021), others={"calibrated_loss": (0.1, 0.1, 0.11, 0.1, 0.2)}).to_json(),
    },
    "definitions": "naive",
}
RESULTS = {
    "profiles": PROFILES,
    "layers": LAYERS,
    "plane": PLANE,
    "triangle": TRIANGLE,
    "polygon": {"vertices": list("abcd"), "weights": np.eye(4).tolist(), "loss": [1.0, 2.0, 3.0, 4.0]},
    "graph": PAIRS,
    "matrix": PAIRS,
}


def rows(kind: str, result: object, **options: object) -> Iterator[dict[str, object]]:
    """Every row of data that a picture is drawn from."""
    spec = picture(kind, result, **options).to_dict()
    for data in spec["datasets"].values():
        yield from data


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_is_written(kind: str, tmp_path: Path) -> None:
    """PNG and SVG files of every kind begin as such files do."""
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<svg")):
        path = tmp_path / f"{kind}{suffix}"
        save_picture(kind, RESULTS[kind], path, title="A title")
        assert path.read_bytes().lstrip().startswith(start)


def test_unknown_pictures_and_measures_are_refused() -> None:
    """Another kind, a measure that was not made, and definitions of no profile are errors that say what there is."""
    with pytest.raises(OptionError, match="picture: expected profiles or layers"):
        picture("pie", PLANE)
    with pytest.raises(OptionError, match="measure: expected loss, found 'error'"):
        picture("triangle", TRIANGLE, measure="error")
    with pytest.raises(OptionError, match="definitions: expected naive or aligned, found 'x'"):
        picture("profiles", PROFILES | {"definitions": "x"})


def test_plane_has_a_tile_for_every_finite_value() -> None:
    """Tiles stand at the grid's points with its values, and every network is marked and named where it is."""
    found = list(rows("plane", PLANE))
    tiles = {(row["cx"], row["cy"]): row["value"] for row in found if "cx" in row}
    marks = {row["name"]: (row["x"], row["y"], row["own"]) for row in found if "own" in row}

    expected = {(x, y): PLANE.loss[i][j] for i, y in enumerate(PLANE.ys) for j, x in enumerate(PLANE.xs)}
    assert tiles == {place: value for place, value in expected.items() if math.isfinite(value)}
    assert marks == {"a": (0.0, 0.0, "1.0000"), "b": (2.0, 0.0, "not measured"), "c": (1.0, 2.0, "not measured")}
    errors = [row["value"] for row in rows("plane", PLANE, measure="error") if "cx" in row]
    assert errors == pytest.approx([10, 20, 30] * 3)


def test_plane_in_part_can_be_drawn() -> None:
    """An interrupted grid is drawn as far as it was measured."""
    part = replace(PLANE, loss=PLANE.loss[:1], error=PLANE.error[:1], complete=False)

    assert sum("cx" in row for row in rows("plane", part)) == 3


def test_trajectories_and_paths_are_drawn_in_their_order() -> None:
    """A trajectory runs through the marks in their order, and a path through its points."""
    data = replace(PLANE, kind="trajectory", explained=(0.8, 0.1)).to_json() | {"paths": {"curve": [[0, 1], [2, 2]]}}
    found = [row for row in rows("plane", data) if "step" in row]

    assert [(row["x"], row["y"]) for row in found if row["path"] == "trajectory"] == [(m.x, m.y) for m in MARKS]
    assert [(row["x"], row["y"]) for row in found if row["path"] == "curve"] == [(0, 1), (2, 2)]


def test_polygon_shows_samples_where_their_weights_put_them() -> None:
    """Corners lie on the networks, every sample at the weighted sum of the corners, and the worst one is marked."""
    found = list(rows("triangle", TRIANGLE))
    corners = {row["name"]: (row["x"], row["y"]) for row in found if row.get("name") in TRIANGLE.names}
    samples = [row for row in found if "of" in row]
    worst = next(row for row in found if row.get("name") == "worst point")

    assert np.array([corners[name] for name in TRIANGLE.names]) == pytest.approx(polygon_corners(3))
    assert np.array([(row["x"], row["y"]) for row in samples]) == pytest.approx(np.array(WEIGHTS) @ polygon_corners(3))
    assert [row["value"] for row in samples] == list(TRIANGLE.loss)
    assert (worst["x"], worst["y"]) == pytest.approx(corners["a"])
    given = {**TRIANGLE.to_json(), "worst": [0.0, 1.0, 0.0]}
    worst = next(row for row in rows("triangle", given) if row.get("name") == "worst point")
    assert (worst["x"], worst["y"]) == pytest.approx(corners["b"])


def test_tiles_between_mesh_points_are_linear() -> None:
    """Values that are linear in the place are so on every tile, which together have the polygon's area."""
    mesh = Mesh.of(5, 3)
    corners, values = polygon_triangles(5, mesh.points, mesh.points @ [2.0, -1.0] + 3)
    (a, b, c) = (corners[:, k] for k in range(3))
    areas = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2

    assert values == pytest.approx(corners @ [2.0, -1.0] + 3)
    assert areas.sum() == pytest.approx(2.5 * math.sin(2 * math.pi / 5))


def test_tiles_between_scattered_points_stay_within_their_values() -> None:
    """Interpolation by distance gives constants back, and never leaves the range of what was measured."""
    points = np.random.default_rng(0).dirichlet(np.ones(3), size=20) @ polygon_corners(3)
    values = np.random.default_rng(1).uniform(1, 2, size=20)

    assert polygon_triangles(3, points, np.full(20, 4.0))[1] == pytest.approx(4.0)
    found = polygon_triangles(3, points, values)[1]
    assert values.min() <= found.min() < found.max() <= values.max()


def test_lines_of_equal_height_lie_where_the_value_is() -> None:
    """On a field that is linear in x, the line of a height is the straight line x = height, all the way up."""
    xs, ys = [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0]
    corners, values = grid_triangles(xs, ys, np.array([xs] * 3))
    found = list(isolines(corners, values, [1.25]))

    assert [row[name] for row in found for name in ("x", "x2")] == pytest.approx([1.25] * 2 * len(found))
    assert sum(abs(float(str(row["y2"])) - float(str(row["y"]))) for row in found) == pytest.approx(2.0)


def test_names_never_lie_on_each_other() -> None:
    """Of fifty crowded points those that are named have names apart from each other; a lone one has its name."""
    points = [tuple(row) for row in np.random.default_rng(0).uniform(0, 200, size=(50, 2)).tolist()]
    boxes = [
        (x - 35, y - 7.5, x + 35, y + 7.5)
        for place in placed(points, ["ten digits"] * 50)
        if place is not None
        for x, y in [place]
    ]

    assert 5 < len(boxes) < 50
    for k, a in enumerate(boxes):
        assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in boxes[:k])
    assert placed([(0.0, 0.0)], ["alone"])[0] is not None


def test_profiles_show_lines_definitions_and_intervals() -> None:
    """All points are drawn, the three barriers are told as the profile has them, and the bar is its interval."""
    found = list(rows("profiles", PROFILES))
    naive = profile(0.5)

    plain = [(row["at"], row["value"]) for row in found if row.get("name") == "naive" and row.get("kind") == "plain"]
    assert plain == list(zip(naive.lams, naive.loss, strict=True))
    assert sum(row.get("kind") == "calibrated" for row in found) == 5
    told = {row["definition"] for row in found if "definition" in row}
    assert told == {f"{name}: {naive.loss_barrier(name):.4f}" for name in ("linear", "mean", "worst")}
    (bar,) = [row for row in found if "high" in row]
    assert (bar["at"], bar["low"], bar["high"]) == pytest.approx((0.5, 4.2, 5.7))


def test_curves_are_drawn_over_their_parameter() -> None:
    """A profile with `t` in place of `lams` is drawn over t, and errors in percent."""
    curve = profile(0.5).to_json()
    curve["t"] = curve.pop("lams")
    found = list(rows("profiles", {"profiles": {"curve": curve}}, measure="error"))

    assert [row["value"] for row in found if "kind" in row] == pytest.approx([100 * e for e in profile(0.5).error])
    assert '"title": "t"' in picture("profiles", {"profiles": {"curve": curve}}).to_json()


def test_layers_keep_their_order_and_exact_values() -> None:
    """There is a dot a layer and kind; a defect of 0, which has no logarithm, is told as it is."""
    found = list(rows("layers", LAYERS))

    exact = {(row["layer"], row["kind"]): row["exact"] for row in found if "exact" in row}
    assert exact == {
        ("one", "of the networks"): 0.01,
        ("two", "of the networks"): 0.0,
        ("one", "baseline"): 0.5,
        ("two", "baseline"): 0.25,
    }
    assert all(float(str(row["value"])) > 0 for row in found)
    assert len(list(rows("layers", {"layers": ["one"], "defect": [0.5]}))) == 1


def test_tree_is_the_least_that_joins_all() -> None:
    """The spanning tree leaves out the highest edge of a triangle, whatever form the edges have."""
    assert spanning_tree(PAIRS["names"], PAIRS["pairs"]) == [("b", "c", 0.25), ("a", "c", 0.5)]
    faces = [{"vertices": list(row[:2]), "barrier": row[2]} for row in PAIRS["pairs"]]
    for data in (PAIRS, {"vertices": list("abc"), "faces": [*faces, {"vertices": list("abc"), "barrier": 3.0}]}):
        names, tree, every = graph_edges(data)
        assert (names, sorted(tree), len(every)) == (["a", "b", "c"], [("a", "c", 0.5), ("b", "c", 0.25)], 3)
    assert in_order(["a", "b", "c"], [("b", "c", 0.25), ("a", "c", 0.5)]) == ["a", "b", "c"]
    assert in_order(["a", "b", "c", "d"], [("a", "c", 0.1), ("b", "d", 0.1)]) == ["a", "c", "b", "d"]


def test_heights_on_edges_keep_apart() -> None:
    """Two edges that cross in their middles have their heights in different places."""
    places = {"a": (0.0, 1.0), "b": (1.0, 0.0), "c": (0.0, -1.0), "d": (-1.0, 0.0)}
    first, second = edge_labels([("a", "c", 1.0), ("b", "d", 2.0)], places)

    assert math.dist((first["x"], first["y"]), (second["x"], second["y"])) > 0.1


def test_matrix_holds_every_pair_twice() -> None:
    """Cells on both sides of the diagonal hold the height between two networks."""
    cells = {(row["row"], row["column"]): row["height"] for row in rows("matrix", PAIRS)}

    assert cells == {key: h for a, b, h in PAIRS["pairs"] for key in ((a, b), (b, a))}


def test_page_holds_pictures_without_paths(tmp_path: Path) -> None:
    """A page of pictures begins with its sentence and holds titles, notes, specifications and tables."""
    path = tmp_path / "page.html"
    pictures = (Picture("plane", PLANE, "The <plane>", "A note"), Picture("matrix", PAIRS, "All pairs"))
    table = Table("Pairs", ("a", "b"), (("x", "y"),))
    save_page(Page("Title", None, (table,), {"seed": "7"}, sentence="Average all & go.", pictures=pictures), path)
    reader = read(path)

    assert reader.loading == []
    for text in ("Average all & go.", "The <plane>", "A note", "All pairs", "Pairs", "seed"):
        assert text in reader.text
    page = path.read_text(encoding="utf-8")
    assert 'id="picture-0"' in page
    assert '"picture-1": {' in page
    assert "λ runs from a" not in reader.text
