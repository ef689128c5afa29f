"""`onebasin reproduce`: the claims are listed, run, resumed and put on a page."""

import json
from pathlib import Path

import pytest

from cli.networks import Run
from house.source import PACKAGE

SCRIPTS = PACKAGE.parent.parent / "reproduce"
CLAIMS = sorted(path.stem for path in SCRIPTS.glob("*.py") if "\nCLAIM = " in path.read_text(encoding="utf-8"))
SMALL = '''
"""A claim."""

import pathlib

from harness import Claim, Outcome, main

CLAIM = Claim("small", "One is one", "nobody, table 1", "one", "one, quickly", (1, 2))


def run(work):
    def compute():
        with pathlib.Path("computed").open("a") as file:
            file.write("x")
        return 1.0

    return Outcome([{"one": work.cell("one", compute), "published": "1"}], "It is.", "one", "one")


if __name__ == "__main__":
    main(CLAIM, run)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one claim, beside the harness of the repository."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("harness.py", "trainer.py"):
        (scripts / name).write_bytes((SCRIPTS / name).read_bytes())
    (scripts / "small.py").write_text(SMALL, encoding="utf-8")
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
    assert "Not run (`--quick`)." in page.read_text()


def test_a_claim_that_fails_is_told(run: Run, folder: Path, tmp_path: Path) -> None:
    """A script that ends with an error gives status 1 and its name."""
    (folder / "small.py").write_text(SMALL.replace("return 1.0", "raise ValueError"), encoding="utf-8")
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
    page = tmp_path / "results.md"
    run("reproduce", "--folder", SCRIPTS, "--out", SCRIPTS / "results", "--page", page)

    assert page.read_text(encoding="utf-8") == (SCRIPTS.parent / "docs/results.md").read_text(encoding="utf-8")
