"""Tables and sentences say what the values say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from onebasin import AxisGroup, AxisLayout, AxisRef, Symmetry
from onebasin.errors import OptionError
from onebasin.report import (
    Paths,
    Table,
    barrier_table,
    headline,
    matching_table,
    network_table,
    pin_table,
    symmetry_table,
)
from onebasin.report.table import listed, loss_text, percent, points
from report.profiles import both, interrupted, profile, without_errors


def layouts(*texts: str) -> tuple[AxisLayout, ...]:
    """Layouts from their text."""
    return tuple(map(AxisLayout.parse, texts))


@pytest.fixture
def nested() -> Symmetry:
    """Two heads of three units, and four hidden units."""
    return Symmetry(
        {
            "heads": AxisGroup("heads", 2),
            "units": AxisGroup("units", 3, ("heads",)),
            "hidden": AxisGroup("hidden", 4),
        },
        {
            "q": layouts("heads*units", "5"),
            "k": layouts("heads*units", "5"),
            "f.weight": layouts("hidden", "5"),
            "f.bias": layouts("hidden"),
        },
        {
            AxisRef("q", 1): "an input of the model: addmm in q (model.py:3)",
            AxisRef("k", 1): "an input of the model: addmm in k (model.py:4)",
            AxisRef("f.weight", 1): "an operation without a rule: cummax in f (model.py:5)",
        },
    )


def test_symmetry_table_names_what_moves_together(nested: Symmetry) -> None:
    """Every group has a row with its size, the groups around it and its axes, with the layout where it holds more."""
    table = symmetry_table(nested, most=2)

    assert table.columns == ("group", "size", "inside", "made of")
    assert table.rows == (
        ("heads", "2", "", "q:0 (heads*units), k:0 (heads*units)"),
        ("units", "3", "heads", "q:0 (heads*units), k:0 (heads*units)"),
        ("hidden", "4", "", "f.weight:0, f.bias:0"),
    )


def test_pins_are_gathered_by_reason(nested: Symmetry) -> None:
    """Axes pinned for one reason at several places make one row; an operation without a rule is named."""
    assert pin_table(nested).rows == (
        ("an input of the model", "2", "q:1, k:1"),
        ("an operation without a rule: cummax", "1", "f.weight:1"),
    )


def test_matching_table_counts_moved_members(nested: Symmetry) -> None:
    """The share of moved members is that of the permutations, over all members of the groups around."""
    index = {"heads": [0, 1], "units": [[0, 1, 2], [1, 0, 2]], "hidden": [1, 2, 3, 0]}
    matching = nested.identity().replace(
        permutations={name: type(nested.identity().permutations[name])(rows) for name, rows in index.items()}
    )

    assert [row[-1] for row in matching_table(matching).rows] == ["0.00 %", "33.33 %", "100.00 %"]


def test_column_of_nesting_is_left_out_where_nothing_is_nested() -> None:
    """A symmetry of plain groups has no column `inside`."""
    flat = Symmetry({"hidden": AxisGroup("hidden", 4)}, {"w": layouts("hidden")})

    assert symmetry_table(flat).columns == ("group", "size", "made of")
    assert matching_table(flat.identity()).rows == (("hidden", "4", "0.00 %"),)


def test_network_table_shows_accuracy_where_it_is_counted() -> None:
    """Accuracy is a column only if every network has one."""
    counted = {"a": {"loss": 0.5, "correct": 0.75, "count": 4.0}}

    assert network_table("t", counted).rows == (("a", "75.00 %", "0.5000"),)
    assert network_table("t", counted | {"b": {"loss": 2.0, "count": 4.0}}).columns == ("network", "loss")


def test_barrier_table_has_three_definitions() -> None:
    """Each complete path has a row for its error and its loss, with the values of the profile."""
    table = barrier_table(both())
    loss = both().profiles["naive"]

    assert [row[:2] for row in table.rows] == [
        ("naive", "error (points)"),
        ("naive", "loss"),
        ("aligned", "error (points)"),
        ("aligned", "loss"),
    ]
    assert table.rows[1][2:] == tuple(loss_text(loss.loss_barrier(name)) for name in ("linear", "mean", "worst"))
    assert [row[1] for row in barrier_table(without_errors()).rows] == ["loss", "loss"]
    assert barrier_table(interrupted()).rows == ()


def test_headline_compares_the_averages() -> None:
    """The sentence has the accuracy half way on both lines and at the ends; for one line it says which."""
    assert headline(both()) == (
        "Averaged as they are, the two networks give an accuracy of 50.00 %; with b's units reordered to match a's, "
        "97.90 %. By themselves they reach 99.00 % and 97.00 %."
    )
    assert headline(Paths("t", "test", {"aligned": profile(0.021)})).startswith("Averaged with b's units reordered")
    assert "a loss of 5.0000; with b's" in headline(without_errors())


def test_paths_are_saved_without_times(tmp_path: Path) -> None:
    """The file holds task, split, settings and profiles, and no seconds."""
    both().save(tmp_path / "path.json")
    found = json.loads((tmp_path / "path.json").read_text(encoding="utf-8"))

    assert (found["format"], found["task"], found["settings"]) == ("onebasin-paths/1", "digits", {"seed": 3})
    assert found["paths"]["naive"] == both().profiles["naive"].to_json()
    assert "seconds" not in json.dumps(found)


def test_rows_must_fit_the_columns() -> None:
    """A row of another length is an error that names the table."""
    with pytest.raises(OptionError, match="table t: expected 2 texts in a row, found 1"):
        Table("t", ("a", "b"), (("1",),))


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (percent(0.98254), "98.25 %"),
        (points(-1e-7), "0.00"),
        (points(0.265), "26.50"),
        (loss_text(0.0), "0.0000"),
        (loss_text(-1e-9), "-1.00e-09"),
        (loss_text(12.34567), "12.3457"),
        (loss_text(2.5e-5), "2.50e-05"),
        (loss_text(123456.0), "1.23e+05"),
        (listed(["a", "b", "c"], 2), "a, b and 1 more"),
        (listed(["a", "b"], 2), "a, b"),
    ],
)
def test_numbers_are_written_for_people(found: str, text: str) -> None:
    """Figures have as many digits as tell something."""
    assert found == text


def test_nothing_is_drawn_on_import() -> None:
    """The report package is imported without the chart library."""
    code = "import sys, onebasin.report, onebasin.cli; print('altair' in sys.modules or 'vl_convert' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout == "False\n"
