"""Damaged copies of a checkpoint, drawn at random, and what reading one may do."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

from checkpoint.states import small_state
from onebasin.checkpoint import open_checkpoint, save_checkpoint
from onebasin.errors import OneBasinError
from onebasin.merging.network import Plan
from onebasin.merging.stream import write_merged

Mutation = Callable[[bytes, random.Random], bytes]

HUGE = (0, 1, 2**31, 2**40, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -1)


def truncated(data: bytes, draw: random.Random) -> bytes:
    """The beginning of the file."""
    return data[: draw.randrange(len(data))]


def flipped(data: bytes, draw: random.Random) -> bytes:
    """A few bits turned over, most of them in the first half, where the header is."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(len(data) // draw.choice((1, 2)))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def spliced(data: bytes, draw: random.Random) -> bytes:
    """A piece of the file at another place, or left out."""
    start, end = sorted(draw.randrange(len(data)) for _ in range(2))
    place = draw.randrange(len(data))
    return data[:start] + data[end:] if draw.random() < 0.5 else data[:place] + data[start:end] + data[place:]


def lengthened(data: bytes, draw: random.Random) -> bytes:
    """Another length of the header."""
    wrong = draw.choice([*(size for size in HUGE if size >= 0), len(data), draw.randrange(2 * len(data))])
    return struct.pack("<Q", wrong % 2**64) + data[8:]


def reworded(data: bytes, draw: random.Random) -> bytes:
    """A header that is JSON and says something else: shapes, offsets, dtypes, names, and names twice."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = draw.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    change = draw.choice(("shape", "offsets", "dtype", "name", "twice", "drop", "kind", "metadata", "deep"))
    if change == "shape":
        entry["shape"] = [draw.choice(HUGE) for _ in range(draw.randint(0, 3))]
    elif change == "offsets":
        entry["data_offsets"] = [draw.choice((*HUGE, *entry["data_offsets"])) for _ in range(draw.choice((2, 2, 1, 3)))]
    elif change == "dtype":
        entry["dtype"] = draw.choice(("F64", "BOOL", "F4", "x", "", "I64", "C64", "F8_E8M0"))
    elif change == "name":
        header[draw.choice(("", "__metadata__", "a\nb", "\u0000", "x" * 5000))] = header.pop(name)
    elif change == "drop":
        del entry[draw.choice(list(entry))]
    elif change == "kind":
        header[name] = draw.choice(([], "x", 3, None, {}))
    elif change == "metadata":
        header["__metadata__"] = draw.choice(([], {"a": 3}, {"onebasin.tied": "[[0]]"}, {"onebasin.tied": "["}, None))
    text = json.dumps(header)
    if change == "twice":
        text = text[:-1] + f", {json.dumps(name)}: {json.dumps(draw.choice(list(header.values())))}" + "}"
    elif change == "deep":
        text = '{"a":' * draw.choice((100, 100_000)) + "1"
    encoded = text.encode("utf-8", errors="surrogatepass")
    return struct.pack("<Q", len(encoded)) + encoded + data[8 + size :]


SAFETENSORS: tuple[Mutation, ...] = (truncated, flipped, spliced, lengthened, reworded, reworded)
PICKLE: tuple[Mutation, ...] = (truncated, flipped, spliced)


def mutated(data: bytes, seed: int, kinds: tuple[Mutation, ...]) -> bytes:
    """The copy of a seed."""
    draw = random.Random(seed)
    return draw.choice(kinds)(data, draw)


def outcome(path: Path, partner: Path, out: Path) -> str:
    """Read a file and merge it with another: `"merged"`, or the line of our error.

    Any other exception passes, and an error of several lines or of another class than ours is one.
    """
    try:
        plan = Plan.make([open_checkpoint(path), open_checkpoint(partner)], "mean", {}, infinity=False)
        if path.suffix == ".safetensors":
            write_merged(plan, out)
        else:
            plan.gather()
    except OneBasinError as error:
        line = str(error)
        if "\n" in line or not line:
            raise ValueError("an error of several lines") from error
        return line
    finally:
        out.unlink(missing_ok=True)
    return "merged"


def save_small(path: Path) -> bytes:
    """Write a small checkpoint and give its bytes."""
    save_checkpoint(small_state(), path, metadata={"made": "by hand"})
    return path.read_bytes()
