"""Results do not depend on the number of threads."""

from collections.abc import Iterator

import pytest
import torch

from onebasin import AxisGroup, match
from onebasin.parallel import product, workers
from strategies import normal, written


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_products_are_the_same_for_any_number_of_threads() -> None:
    """Long sums, which a library spreads over threads, come out bit by bit alike."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 300, 3000, generator=generator)
    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        with workers():
            found.append(product(left, right))
        assert torch.get_num_threads() == threads

    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    torch.testing.assert_close(found[0], (left.double() @ right.double().T).float(), rtol=1e-4, atol=1e-3)


def test_matchings_are_the_same_for_any_number_of_threads() -> None:
    """Two wide networks are matched alike, history and all, by one thread and by three."""
    s = written([AxisGroup("f", 300), AxisGroup("g", 280)], {"w": "f,1500", "v": "g,f,3", "x": "9,g"})
    a, b = normal(s, 0, torch.float32), normal(s, 1, torch.float32)
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(match(a, b, s))

    assert found[0] == found[1]
