"""The paths between two networks that are shown together, and their file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onebasin.connectivity import PathProfile
from onebasin.json_file import write_json

FORMAT = "onebasin-paths/1"
NAIVE = "naive"
"""The line from a to b as they are."""
ALIGNED = "aligned"
"""The line from a to b in a's coordinates."""


@dataclass(frozen=True)
class Paths:
    """Profiles of several lines between the same two networks, on the same data.

    Attributes:
        task: the name of the task.
        split: the split of its data.
        profiles: by name, such as `NAIVE` and `ALIGNED`, in the order in which they are shown.
        settings: what else the measurement depended on, such as the seed; plain JSON values.
    """

    task: str
    split: str
    profiles: Mapping[str, PathProfile]
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every path was measured to its end."""
        return all(profile.complete for profile in self.profiles.values())

    @property
    def with_error(self) -> bool:
        """Whether every path has errors beside losses."""
        return all(profile.error for profile in self.profiles.values())

    def to_json(self) -> dict[str, object]:
        """The JSON form: no times, no folders, so that the same seed gives the same bytes."""
        return {
            "format": FORMAT,
            "task": self.task,
            "split": self.split,
            "settings": dict(self.settings),
            "paths": {name: profile.to_json() for name, profile in self.profiles.items()},
        }

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`, whole or not at all.

        Raises:
            CheckpointError: the file cannot be written.
        """
        write_json(path, self.to_json())
