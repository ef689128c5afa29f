"""The README's set-up commands are the ones that are run."""

import re

from house.source import ROOT

BLOCK = re.compile(r"^```bash\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def test_set_up_is_two_commands_and_the_second_is_run() -> None:
    """The README's set-up is one line for users and one for developers, and CI runs the latter."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, *rest = re.split(r"^## Set up$", readme, flags=re.MULTILINE)
    assert len(rest) == 1
    section = re.split(r"^## ", rest[0], flags=re.MULTILINE)[0]
    user, developer = BLOCK.findall(section)

    assert "\n" not in user + developer
    assert developer in [line.strip() for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()]
