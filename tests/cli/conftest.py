"""What the tests of all commands share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from cli.networks import Files, Run, make_files
from onebasin import Symmetry, merge
from onebasin.cli import app

Damage = Callable[[dict[str, Tensor | None]], Path]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files, made once and not to be written to."""
    return make_files(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def symmetry(files: Files) -> Symmetry:
    """The symmetry of the networks."""
    return Symmetry.load(files.symmetry)


@pytest.fixture
def run() -> Run:
    """Run a command with arguments of any type; an exception that is not an exit is raised."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)

    return call


@pytest.fixture
def damaged(files: Files, tmp_path: Path) -> Damage:
    """Write network a with some tensors replaced; None leaves one out."""

    def write(changes: dict[str, Tensor | None]) -> Path:
        params = merge([files.a]) | changes
        path = tmp_path / "damaged.pt"
        torch.save({name: tensor for name, tensor in params.items() if tensor is not None}, path)
        return path

    return write
