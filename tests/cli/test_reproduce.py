"""`onebasin reproduce`: the claims are listed, run, resumed and put on a page."""

import json
import re
import shutil
from pathlib import Path

import pytest

from cli.networks import Run
from house.source import PACKAGE

SCRIPTS = PACKAGE.parent.parent / "reproduce"
CLAIMS = sorted(path.stem for path in SCRIPTS.glob("*.py") if "\nCLAIM = " in path.read_text(encoding="utf-8"))
SMALL = '''
"""A claim."""

import pathlib

from chart import Chart
from harness import Claim, Outcome, main

CLAIM = Claim("NAME", "One is one", "nobody, table 1", "one", "one, quickly", (1, 2))


def run(work):
    def compute():
        with pathlib.Path("computed").open("a") as file:
            file.write("x")
        return 1.0

    rows = [{"one": work.cell("one", compute), "published": "1"}]
    return Outcome(rows, "It is.", Chart(rows, "one", "one"))


if __name__ == "__main__":
    main(CLAIM, run)
'''
SHARING = """
'A claim about a network.'

import torch
from chart import Chart
from harness import Claim, Outcome, main
from measures import measured
from networks import mlp
from shared import several
from trainer import Recipe

CLAIM = Claim("NAME", "It learns", "nobody, table 1", "one", "one, quickly", (1, 2))


def build():
    return mlp(4, 8, 2)


def run(work):
    data = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0)), torch.arange(2000) % 2
    nets = several(work, "net", build, data, Recipe(0, 1), 3)
    rows = [measured(work.host(build), net, data) for net in nets]
    return Outcome(rows, "It does.", Chart(rows, "loss", "accuracy"))


if __name__ == "__main__":
    main(CLAIM, run)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one claim, beside the harness of the repository."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for path in SCRIPTS.glob("*.py"):
        if path.stem not in CLAIMS:
            (scripts / path.name).write_bytes(path.read_bytes())
    (scripts / "small.py").write_text(SMALL.replace("NAME", "small"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    return scripts


def test_claims_run_are_resumed_and_shown(run: Run, folder: Path, tmp_path: Path) -> None:
    """A claim writes its result and chart, a second run computes nothing again, and the page holds its table."""
    page = tmp_path / "results.md"
    for _ in range(2):
        result = run("reproduce", "small", "--folder", folder, "--out", tmp_path / "out", "--page", page)
        assert result.exit_code == 0, result.stderr

    assert (tmp_path / "computed").read_text() == "x"
    found = json.loads((tmp_path / "out/quick/small.json").read_text())
    assert found["rows"] == [{"one": 1.0, "published": "1"}]
    assert (tmp_path / "out/quick/small.svg").read_text().startswith("<svg")
    text = page.read_text()
    assert "## One is one" in text
    assert "| one | published |\n| --- | --- |\n| 1 | 1 |" in text


def test_claims_not_run_are_marked(run: Run, folder: Path, tmp_path: Path) -> None:
    """Without a name the claims are listed; on a page those that were not run are marked."""
    page = tmp_path / "results.md"
    result = run("reproduce", "--folder", folder, "--out", tmp_path / "out", "--page", page)

    assert "One is one" in result.stdout
    assert "`--quick`: not run." in page.read_text()
    assert "`--full`: 0 of 1 claims run." in page.read_text()


def test_claims_at_once_share_networks(run: Run, folder: Path, tmp_path: Path) -> None:
    """Two claims that run at once train a network of theirs once, and what they print has their names."""
    for name in ("first", "second"):
        (folder / f"{name}.py").write_text(SHARING.replace("NAME", name), encoding="utf-8")
    result = run("reproduce", "first", "second", "--jobs", 2, "--folder", folder, "--out", tmp_path / "out")

    assert result.exit_code == 0, result.stderr
    assert sorted(re.findall(r"trained (\w+):", result.stdout)) == ["net_0", "net_1", "net_2"]
    found = [json.loads((tmp_path / f"out/quick/{name}.json").read_text()) for name in ("first", "second")]
    assert found[0]["rows"] == found[1]["rows"]
    assert "first: " in result.stdout
    assert "second: " in result.stdout


def test_a_network_of_another_recipe_is_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    """A name stands for one recipe: a claim that gives it another meaning is stopped, whichever runs first."""
    for name, epochs in (("first", 1), ("second", 2)):
        text = SHARING.replace("NAME", name).replace("Recipe(0, 1)", f"Recipe(0, {epochs})")
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    result = run("reproduce", "first", "second", "--folder", folder, "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert "second: failed" in result.stderr
    assert "first: failed" not in result.stderr


def test_a_claim_that_fails_is_told(run: Run, folder: Path, tmp_path: Path) -> None:
    """A script that ends with an error gives status 1 and its name."""
    (folder / "small.py").write_text(
        SMALL.replace("NAME", "small").replace("return 1.0", "raise ValueError"), encoding="utf-8"
    )
    result = run("reproduce", "small", "--folder", folder, "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert "small: failed" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("large",), "large: expected one of small, found another"),
        (("--folder", "nowhere"), "--folder: expected the folder `reproduce` of a checkout of the repository"),
    ],
)
def test_bad_input(run: Run, folder: Path, arguments: tuple[str, ...], message: str) -> None:
    """An unknown claim and a folder without claims are refused in one line."""
    given = arguments if "--folder" in arguments else (*arguments, "--folder", folder)
    result = run("reproduce", *given)

    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.skipif(not CLAIMS, reason="the scripts are not beside the package")
def test_claims_of_the_repository_are_listed(run: Run) -> None:
    """Every script of the repository states its claim in a way that the command reads."""
    result = run("reproduce", "--folder", SCRIPTS, "--json")

    assert json.loads(result.stdout)["claims"] == CLAIMS


@pytest.mark.skipif(not CLAIMS, reason="the scripts are not beside the package")
def test_the_page_of_results_is_that_of_the_files(run: Run, tmp_path: Path) -> None:
    """docs/results.md is what the command writes from the results kept in the repository."""
    page, results = tmp_path / "docs" / "results.md", tmp_path / "reproduce" / "results"
    page.parent.mkdir()
    shutil.copytree(SCRIPTS / "results", results)  # so that pictures are as far from the page as they are there
    run("reproduce", "--folder", SCRIPTS, "--out", results, "--page", page)

    assert page.read_text(encoding="utf-8") == (SCRIPTS.parent / "docs/results.md").read_text(encoding="utf-8")
