"""Put pictures and a page beside the results of a command."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from onebasin.cli.screen import Screen
from onebasin.cli.versions import versions
from onebasin.report import Page, Picture, Table, save_page, save_picture

PAGE_FILE = "report.html"


def draw(
    screen: Screen,
    out: Path | None,
    title: str,
    pictures: Mapping[str, Picture],
    tables: Sequence[Table],
    settings: Mapping[str, object],
    sentence: str = "",
) -> None:
    """Write every picture as PNG and SVG, and all of them with the tables as one page.

    Args:
        screen: learns which files there are.
        out: the folder; None draws nothing.
        title: of the page.
        pictures: by the stem of their files.
        tables: of the page.
        settings: what the results depend on; plain values, nested ones are left out.
        sentence: what the page begins with.

    Raises:
        CheckpointError: a file cannot be written.
    """
    if out is None:
        return
    with screen.during("drawing"):
        for stem, one in pictures.items():
            for suffix in (".png", ".svg"):
                file = out / f"{stem}{suffix}"
                save_picture(one.kind, one.result, file, title=one.title, **one.options)
                screen.wrote(file)
        told = {name: str(value) for name, value in settings.items() if isinstance(value, str | int | float)}
        page = Page(
            title,
            tables=tuple(tables),
            settings=told | versions(),
            sentence=sentence,
            pictures=tuple(pictures.values()),
        )
        save_page(page, out / PAGE_FILE)
        screen.wrote(out / PAGE_FILE)
