"""Does discovery ever invent a symmetry? Random networks from all families of operations, discovered and proved.

    python benchmarks/fuzz.py --networks 2000 --seed 0

Network k of a run is drawn from `seed + k` alone, so that one that fails can be repeated by itself:
`--networks 1 --seed K`. Prints invented symmetries and crashes as they are met, then totals. A network that takes
longer than --limit seconds counts as a crash.
"""

import argparse
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

import onebasin as ob

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from programs import Program  # the random programs of the tests


class TooLongError(BaseException):
    """A network took longer than the limit; not an Exception, since discovery answers those by a second attempt."""


def stop(*_: object) -> None:
    """Answer the alarm."""
    raise TooLongError


def network(seed: int) -> tuple[Program, torch.Tensor]:
    """A random program of 3 to 13 steps, and its input: a batch of two, flat or of sequences."""
    draw = random.Random(seed)  # noqa: S311 - random networks are no secrets
    choices = [draw.randrange(10_000) for _ in range(draw.randrange(9, 40))]
    shape = (2, 8) if draw.randrange(3) == 0 else (2, 6, 8)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return Program(choices, x), x


def failures(seed: int, orders: list[float]) -> Iterator[str]:
    """What goes wrong on one network; notes ln of the number of its reorderings."""
    try:
        model, x = network(seed)
        symmetry = ob.discover(model, (x,))
        check = ob.verify(model, symmetry, (x,), trials=2, seed=seed)
    except (Exception, TooLongError):  # noqa: BLE001 - whatever it is, it is counted and shown
        yield f"crash: network {seed}\n{traceback.format_exc()}"
        return
    orders.append(symmetry.log_order)
    if not check.ok:
        why = ", ".join(check.culprits or check.notes)
        yield f"invented: network {seed}, error {check.max_relative_error:.1e}, {why}"


def main() -> None:
    """Draw, discover, prove, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=60, metavar="SECONDS", help="for one network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, stop)
    started, orders, counts = time.perf_counter(), list[float](), {"invented": 0, "crash": 0}
    for seed in range(options.seed, options.seed + options.networks):
        signal.alarm(options.limit)
        for line in failures(seed, orders):
            counts[line.partition(":")[0]] += 1
            print(line, flush=True)
    print(f"networks {options.networks}")
    print(f"invented symmetries {counts['invented']}")
    print(f"crashes {counts['crash']}")
    print(f"with symmetry to find {sum(order > 0 for order in orders)}")
    print(f"mean log_order {sum(orders) / max(1, len(orders)):.2f}")
    print(f"seconds {time.perf_counter() - started:.0f}")
    sys.exit(1 if sum(counts.values()) else 0)


if __name__ == "__main__":
    main()
