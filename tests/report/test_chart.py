"""The chart shows what the profiles hold."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from onebasin.errors import CheckpointError, OptionError
from onebasin.report import NAIVE, Paths, path_chart, save_chart
from onebasin.report.chart import LABELS, config, panel
from report.profiles import both, interrupted, profile, without_errors


def values(spec: object) -> Iterator[dict[str, object]]:
    """Every row of data in a specification."""
    if isinstance(spec, dict):
        if isinstance(spec.get("values"), list) and "axis" not in spec:
            yield from (row for row in spec["values"] if isinstance(row, dict))
        for part in spec.values():
            yield from values(part)
    elif isinstance(spec, list):
        for part in spec:
            yield from values(part)


def barriers(paths: Paths, measure: str) -> dict[object, dict[str, object]]:
    """What is drawn of barriers, by path."""
    spec = panel(paths, measure).to_dict()
    rows = [*values(spec["layer"]), *(row for part in spec.get("datasets", {}).values() for row in part)]
    return {row["path"]: row for row in rows if "text" in row}


def test_barriers_are_those_of_the_profiles() -> None:
    """Height, place and text of every barrier agree with the profile's own."""
    paths = both()
    found = barriers(paths, "loss")

    assert set(found) == {LABELS[name] for name in paths.profiles}
    naive = found[LABELS[NAIVE]]
    assert (naive["peak"], naive["height"]) == (0.5, 5.0)
    assert naive["height"] - naive["base"] == pytest.approx(paths.profiles[NAIVE].loss_barrier())
    assert naive["text"] == "barrier 4.8000"
    assert barriers(paths, "error")[LABELS[NAIVE]]["text"] == "barrier 48.00 points"


def test_labels_keep_their_distance() -> None:
    """The labels of two barriers of one height do not lie on each other."""
    paths = Paths("digits", "test", {"one": profile(0.5), "other": profile(0.5)})
    heights = [row["label"] for row in barriers(paths, "loss").values()]

    assert abs(heights[0] - heights[1]) > 0.1 * 5


def test_errors_are_left_out_where_there_are_none() -> None:
    """A task that counts no correct answers gives the panel of the loss alone."""
    assert len(path_chart(both()).to_dict()["hconcat"]) == 2
    assert len(path_chart(without_errors()).to_dict()["hconcat"]) == 1


def test_interrupted_paths_are_refused() -> None:
    """A path that was not measured to its end has no barrier to draw."""
    with pytest.raises(OptionError, match="complete paths"):
        path_chart(interrupted())


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<svg"), (".html", b"<!DOCTYPE html")])
def test_chart_is_saved_in_the_format_of_its_name(suffix: str, start: bytes, tmp_path: Path) -> None:
    """The suffix decides the format, and nothing else is left in the folder."""
    path = tmp_path / f"chart{suffix}"
    save_chart(path_chart(both()), path)

    assert path.read_bytes().lstrip().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_picture_fits_a_page(tmp_path: Path) -> None:
    """The PNG has two pixels for each of about 800, which a page of text can show."""
    path = tmp_path / "chart.png"
    save_chart(path_chart(both()), path)
    header = path.read_bytes()

    assert 1500 < int.from_bytes(header[16:20], "big") <= 1640


def test_other_formats_and_places_are_refused(tmp_path: Path) -> None:
    """An unknown suffix and a missing folder are errors that name the file."""
    with pytest.raises(OptionError, match=r"chart\.bmp"):
        save_chart(path_chart(both()), tmp_path / "chart.bmp")
    with pytest.raises(CheckpointError, match="nowhere"):
        save_chart(path_chart(both()), tmp_path / "nowhere" / "chart.svg")


def test_themes_have_the_same_parts() -> None:
    """Light and dark set the same things, to different colours."""
    light, dark = config("light"), config("dark")

    assert light.keys() == dark.keys()
    assert light["background"] != dark["background"]
    assert light["range"] != dark["range"]
