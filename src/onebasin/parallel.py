"""Threads whose number does not change a result.

A matrix product sums in another order when it is spread over another number of threads, and a search that compares
nearly equal sums may then take another way. So products are cut into blocks of a fixed size, every block is the work
of one thread, and a pool of threads takes the blocks.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_ROWS = 256
"""Rows of a product that one thread computes: fixed, so that the blocks do not depend on the number of threads."""

_pool: ContextVar[Executor | None] = ContextVar("pool", default=None)


@contextmanager
def workers() -> Iterator[None]:
    """Inside, `product` uses as many threads as PyTorch was set to, and PyTorch itself only one.

    One inside another changes nothing.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        # A new thread would begin with as many threads of its own as the machine has.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            token = _pool.set(pool)
            try:
                yield
            finally:
                _pool.reset(token)
    finally:
        torch.set_num_threads(threads)


def product(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right.T` of two matrices; inside `workers` the same for any number of threads.

    Args:
        left: `[n, k]`.
        right: `[m, k]`, of the same dtype and device.
    """
    if left.is_cuda or len(left) <= _ROWS:
        return left @ right.T
    result = left.new_empty(len(left), len(right))
    blocks = [slice(i, i + _ROWS) for i in range(0, len(left), _ROWS)]

    def work(rows: slice) -> None:
        torch.mm(left[rows], right.T, out=result[rows])

    pool = _pool.get()
    for _ in map(work, blocks) if pool is None else pool.map(work, blocks):
        pass
    return result
