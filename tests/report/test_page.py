"""The page holds everything, and needs nothing from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path

from onebasin.report import Page, Table, barrier_table, save_page
from report.profiles import both, without_errors


class Reader(HTMLParser):
    """Collects the elements that could load something, and the text outside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.loading: list[str] = []
        self.text = ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note addresses other than those that hold their own content."""
        self._inside = tag
        self.loading += [
            f"{tag} {value}" for name, value in attrs if name in {"src", "href"} and not str(value).startswith("data:")
        ]

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - the parser passes it
        """Leave an element."""
        self._inside = ""

    def handle_data(self, data: str) -> None:
        """Keep what people read."""
        if self._inside not in {"script", "style"}:
            self.text += data


def read(path: Path) -> Reader:
    """Parse a page."""
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def test_page_holds_headline_tables_and_settings(tmp_path: Path) -> None:
    """Title, headline with figures, every table and every setting are on the page, with markup escaped."""
    path = tmp_path / "report.html"
    odd = Table("A <b> title", ("name", "count"), (("x & y", "3"),), frozenset({"count"}))
    save_page(Page("One & two", both(), (barrier_table(both()), odd), {"torch": "<2.6>"}), path)
    reader = read(path)

    for part in (
        "One & two",
        "accuracy of 50.00 %",
        "97.90 %",
        "Barriers: how far a path rises",
        "48.00",
        "A <b> title",
        "x & y",
        "<2.6>",
    ):
        assert part in reader.text
    assert 'id="chart-error"' in path.read_text(encoding="utf-8")


def test_page_loads_nothing(tmp_path: Path) -> None:
    """No element and no style sheet of the page refers to another file, so that it works without a network."""
    path = tmp_path / "report.html"
    save_page(Page("One", both()), path)
    text = path.read_text(encoding="utf-8")

    assert read(path).loading == []
    assert not re.search(r"@import|url\(http|\bimport\(", text)
    # The drawing library is inside: nothing less has this size.
    assert len(text) > 500_000
    assert "vegaEmbed(" in text


def test_page_without_errors_has_one_chart(tmp_path: Path) -> None:
    """A task that counts no correct answers gives a page of losses."""
    path = tmp_path / "report.html"
    save_page(Page("One", without_errors()), path)
    text = path.read_text(encoding="utf-8")

    assert 'id="chart-loss"' in text
    assert 'id="chart-error"' not in text
    assert "give a loss of 5.0000" in read(path).text


def test_script_cannot_be_ended_by_data(tmp_path: Path) -> None:
    """The name of a path that ends a script element stays data."""
    paths = both()
    named = type(paths)(paths.task, paths.split, {"</script>": paths.profiles["naive"]})
    path = tmp_path / "report.html"
    save_page(Page("One", named), path)

    assert path.read_text(encoding="utf-8").count("</script>") == 2
