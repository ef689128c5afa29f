"""Merging into files: the bytes of merging in memory, from any number of threads, whatever stopped the work before."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from checkpoint.states import assert_same
from onebasin import Symmetry, merge, save_checkpoint
from onebasin.checkpoint import open_checkpoint
from onebasin.errors import CheckpointError, MismatchError
from onebasin.merging.network import Moved, Plan
from onebasin.merging.stream import write_merged
from onebasin.progress import Progress

State = dict[str, Tensor]


def state(seed: int, dtype: torch.dtype = torch.bfloat16) -> State:
    """Tensors of several sizes and dtypes, two of them one tensor, one longer than a chunk."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"embed": (300, 150), "a.0.w": (40, 40), "a.1.w": (40, 40), "a.1.b": (40,), "none": (0, 3), "one": ()}
    made = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
    return made | {"steps": torch.tensor(seed), "odd": torch.randn(7, generator=generator), "head": made["embed"]}


@pytest.fixture
def parents(tmp_path: Path) -> list[Path]:
    """Three checkpoints."""
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    for seed, path in enumerate(paths):
        save_checkpoint(state(seed), path)
    return paths


def plan_of(parents: list[Path], method: str = "mean", **parameters: object) -> Plan:
    """Merge the first two, with the third as the base where one is needed."""
    base = open_checkpoint(parents[2]) if method == "ties" else None
    labels = [str(path) for path in parents]
    return Plan.make([open_checkpoint(p) for p in parents[:2]], method, parameters, base=base, labels=labels)


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a folder, hidden ones too."""
    return {path.name: path.read_bytes() if path.is_file() else b"folder" for path in folder.iterdir()}


@pytest.mark.parametrize("shard_bytes", [None, 20_000, 1])
@pytest.mark.parametrize("method", ["mean", "slerp", "ties"])
def test_file_holds_what_memory_would(
    method: str, shard_bytes: int | None, parents: list[Path], tmp_path: Path
) -> None:
    """Written from one thread or four, in one file or many, the checkpoint is that of `merge` and `save_checkpoint`."""
    out = tmp_path / "out"
    written = []
    for threads in (1, 4):
        folder = out.with_name(f"out{threads}")
        folder.mkdir()
        write_merged(plan_of(parents, method), folder / "m.safetensors", threads=threads, shard_bytes=shard_bytes)
        written.append(content(folder))
    base = parents[2] if method == "ties" else None
    expected = merge(parents[:2], method, base=base)
    saved = save_checkpoint(expected, tmp_path / "m.safetensors", shard_bytes=shard_bytes)

    assert_same(open_checkpoint(tmp_path / "out1" / "m.safetensors"), expected)
    assert written[0] == written[1]
    assert written[0] == {path.name: path.read_bytes() for path in saved}


@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_pickles_are_written_too(suffix: str, parents: list[Path], tmp_path: Path) -> None:
    """A pickle has the tensors of merging in memory, those that are one tensor still being one."""
    write_merged(plan_of(parents), tmp_path / f"m{suffix}")
    found = open_checkpoint(tmp_path / f"m{suffix}")

    assert_same(found, merge(parents[:2]))
    assert found.tied == (("embed", "head"),)


def test_packaging_of_the_first_is_kept(tmp_path: Path) -> None:
    """Prefix, shards and metadata are those of the checkpoint that it is to be like."""
    paths = [tmp_path / name / "m.safetensors" for name in "ab"]
    for seed, path in enumerate(paths):
        path.parent.mkdir()
        prefixed = {f"module.{name}": tensor for name, tensor in state(seed).items()}
        save_checkpoint(prefixed, path, shard_bytes=20_000, metadata={"made": "by hand"})
    first = open_checkpoint(paths[0])
    plan = Plan.make([first, open_checkpoint(paths[1])], "mean", {})
    *_, index = write_merged(plan, tmp_path / "m.safetensors", like=first)

    found = open_checkpoint(index)
    assert found.packaging == first.packaging
    assert found.metadata["made"] == "by hand"
    assert_same(found, merge(paths))


def test_moved_networks_are_moved_tensor_by_tensor(tmp_path: Path) -> None:
    """A network and its matching give what the matching's own `apply` gives."""
    a, b = ({"w": torch.randn(6, 4), "v": torch.randn(2, 6)} for _ in range(2))
    symmetry = Symmetry.from_json(
        {"format": "onebasin-symmetry/1", "groups": {"h": {"size": 6}}, "tensors": {"w": ["h", "4"], "v": ["2", "h"]}},
        "s",
    )
    matching = symmetry.random(3)
    write_merged(Plan.make([a, Moved(b, matching, "b")], "mean", {}), tmp_path / "m.safetensors")

    assert_same(open_checkpoint(tmp_path / "m.safetensors"), merge([a, matching.apply(b)]))
    with pytest.raises(MismatchError, match="b: w: expected shape"):
        Moved({"w": torch.zeros(5, 4), "v": b["v"]}, matching, "b")


def test_progress_counts_bytes(parents: list[Path], tmp_path: Path) -> None:
    """Reports count bytes up to those of all tensors, each tensor once."""
    steps: list[Progress] = []
    write_merged(plan_of(parents), tmp_path / "m.safetensors", progress=steps.append)

    total = sum(tensor.nbytes for name, tensor in state(0).items() if name != "head")
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert (steps[-1].done, steps[-1].total, steps[-1].unit) == (total, total, "bytes")


@pytest.mark.parametrize("threads", [1, 3])
def test_broken_networks_are_named_and_nothing_is_left(threads: int, parents: list[Path], tmp_path: Path) -> None:
    """NaN in one entry is found while merging; the file, tensor and count are named, and old files stay."""
    broken = state(1)
    broken["a.1.w"][3, 3] = float("nan")
    save_checkpoint(broken, parents[1])
    (tmp_path / "m.safetensors").write_bytes(b"old")
    before = content(tmp_path)
    with pytest.raises(
        MismatchError, match=r"1\.safetensors: a\.1\.w: expected no NaN, found NaN in 1 of 1600 entries"
    ):
        write_merged(plan_of(parents), tmp_path / "m.safetensors", threads=threads, shard_bytes=10_000)

    assert content(tmp_path) == before


class Stopping:
    """A report that interrupts the work after some bytes."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, step: Progress) -> None:
        """Raise once it is far enough."""
        if step.done > self.after:
            raise KeyboardInterrupt


def test_interrupted_work_goes_on(parents: list[Path], tmp_path: Path) -> None:
    """Files finished before an interruption are not written again, and the result is that of one go."""
    out, plain = tmp_path / "out" / "m.safetensors", tmp_path / "plain" / "m.safetensors"
    for path in (out, plain):
        path.parent.mkdir()
    write_merged(plan_of(parents), plain, shard_bytes=20_000)
    with pytest.raises(KeyboardInterrupt):
        write_merged(plan_of(parents), out, shard_bytes=20_000, progress=Stopping(91_000))
    kept = out.parent / ".m.safetensors.onebasin"
    assert list(content(out.parent)) == [kept.name]
    times = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.safetensors")}
    assert times

    write_merged(plan_of(parents), out, shard_bytes=20_000)
    assert content(out.parent) == content(plain.parent)
    assert times == {name: (out.parent / name).stat().st_mtime_ns for name in times}


@pytest.mark.parametrize("change", ["weights", "parent", "shards"])
def test_other_work_does_not_go_on(change: str, parents: list[Path], tmp_path: Path) -> None:
    """After another weight, parent or size of shards nothing is taken over from what was interrupted."""
    out = tmp_path / "out" / "m.safetensors"
    out.parent.mkdir()
    with pytest.raises(KeyboardInterrupt):
        write_merged(plan_of(parents), out, shard_bytes=20_000, progress=Stopping(91_000))
    weights, size = [1, 1], 20_000
    if change == "weights":
        weights = [1, 2]
    elif change == "parent":
        save_checkpoint(state(7), parents[1])
    else:
        size = 30_000
    written = write_merged(plan_of(parents, weights=weights), out, shard_bytes=size)

    assert_same(open_checkpoint(written[-1]), merge(parents[:2], weights=weights))
    assert set(content(out.parent)) == {path.name for path in written}


def test_two_processes_do_not_write_one_output(parents: list[Path], tmp_path: Path) -> None:
    """While one merger writes, another into the same output is refused, and the first goes on."""
    pytest.importorskip("fcntl")
    out = tmp_path / "m.safetensors"
    refused = []

    def meddle(_: Progress) -> None:
        with pytest.raises(CheckpointError, match="found one that does; wait for it") as caught:
            write_merged(plan_of(parents), out)
        refused.append(caught.value)

    write_merged(plan_of(parents), out, progress=meddle)
    assert refused
    assert_same(open_checkpoint(out), merge(parents[:2]))


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import torch
from onebasin.checkpoint import open_checkpoint
from onebasin.merging.network import Plan
from onebasin.merging.stream import write_merged
a, b, *outputs = sys.argv[1:]
for number, out in enumerate(outputs):
    child = os.fork()
    if child == 0:
        plan = Plan.make([open_checkpoint(a), open_checkpoint(b)], "mean", {})
        Path(out).with_name("begun").touch()
        write_merged(plan, Path(out), shard_bytes=20_000, threads=2, progress=lambda _: time.sleep(0.02))
        os._exit(0)
    while not Path(out).with_name("begun").exists():
        time.sleep(0.001)
    time.sleep(0.03 * number)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of this kind exist on POSIX only")
def test_killed_work_leaves_no_half_file_and_can_be_finished(parents: list[Path], tmp_path: Path) -> None:
    """Killed at seven moments, it leaves no half file, and the same call then gives the same bytes."""
    plain = tmp_path / "plain"
    plain.mkdir()
    write_merged(plan_of(parents), plain / "m.safetensors", shard_bytes=20_000)
    expected = content(plain)
    folders = [tmp_path / f"killed{k}" for k in range(7)]
    for folder in folders:
        folder.mkdir()
    command = [sys.executable, "-c", SCRIPT, *parents[:2], *(folder / "m.safetensors" for folder in folders)]
    subprocess.run(command, check=True)
    unfinished = 0
    for folder in folders:
        (folder / "begun").unlink()
        left = content(folder)
        unfinished += left != expected
        assert all(expected[name] == data for name, data in left.items() if not name.startswith("."))
        write_merged(plan_of(parents), folder / "m.safetensors", shard_bytes=20_000)
        assert content(folder) == expected
    assert unfinished


def test_memory_does_not_grow_with_the_checkpoint(tmp_path: Path) -> None:
    """A process merges two files of 64 MB each with less than 20 MB of memory that is not the files'."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the kernel does not tell how much memory is anonymous")
    for name in "ab":
        save_checkpoint({"w": torch.zeros(32, 1 << 20, dtype=torch.bfloat16)}, tmp_path / f"{name}.safetensors")
    script = """
import re, sys
from pathlib import Path
from onebasin.checkpoint import open_checkpoint
from onebasin.merging.network import Plan
from onebasin.merging.stream import write_merged
anonymous = lambda: int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
write_merged(Plan.make([{"w": __import__("torch").zeros(9)}], "mean", {}), Path(sys.argv[3]))
before, most = anonymous(), []
plan = Plan.make([open_checkpoint(a) for a in sys.argv[1:3]], "mean", {})
write_merged(plan, Path(sys.argv[3]), progress=lambda _: most.append(anonymous()))
print(max(most) - before)
"""
    command = [sys.executable, "-c", script, *(tmp_path / f"{name}.safetensors" for name in ("a", "b", "m"))]
    used = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    assert used < 20_000
    assert open_checkpoint(tmp_path / "m.safetensors").shapes() == {"w": (32, 1 << 20)}


def test_index_tells_ties_and_sizes(parents: list[Path], tmp_path: Path) -> None:
    """The index of shards has every name once, the bytes of all tensors, and the names that share one."""
    *shards, index = write_merged(plan_of(parents), tmp_path / "m.safetensors", shard_bytes=20_000)
    written = json.loads(index.read_text())

    assert set(written["weight_map"].values()) == {path.name for path in shards}
    assert set(written["weight_map"]) == set(state(0)) - {"head"}
    assert written["metadata"]["total_size"] == sum(t.nbytes for n, t in state(0).items() if n != "head")
    assert open_checkpoint(index).tied == (("embed", "head"),)
