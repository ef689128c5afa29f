"""What every test shares: how Hypothesis runs, and where randomness starts."""

import os

import pytest
import torch
from hypothesis import settings

SEED = 20

# No deadline: a busy machine may pause an example for any time, and pytest-timeout catches the endless ones.
settings.register_profile("explore", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # a process a core already
settings.load_profile("ci" if os.environ.get("CI") else "explore")


@pytest.fixture(autouse=True)
def seed() -> int:
    """The seed of every test, already given to torch's own generator, which initialises the layers of a model."""
    torch.manual_seed(SEED)
    return SEED
