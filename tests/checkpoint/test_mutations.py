"""Whatever is done to the bytes of a checkpoint, reading and merging it either works or says in one line why not."""

import resource
from pathlib import Path

import pytest

from checkpoint.mutations import PICKLE, SAFETENSORS, Mutation, mutated, outcome, save_small


@pytest.mark.parametrize(
    ("name", "kinds", "count"), [("m.safetensors", SAFETENSORS, 220), ("m.pt", PICKLE, 80)], ids=["safetensors", "pt"]
)
def test_mutated_files_are_read_or_refused(name: str, kinds: tuple[Mutation, ...], count: int, tmp_path: Path) -> None:
    """Of hundreds of damaged files some are still whole, most are refused by name, and none does anything else."""
    partner, path, out = tmp_path / f"partner{Path(name).suffix}", tmp_path / name, tmp_path / "out.safetensors"
    data = save_small(partner)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = []
    for seed in range(count):
        path.write_bytes(mutated(data, seed, kinds))
        lines.append(outcome(path, partner, out))

    refused = [line for line in lines if line != "merged"]
    assert count / 2 < len(refused) < count
    assert all(name in line or "model " in line for line in refused)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # kB, on Linux
    assert {entry.name for entry in tmp_path.iterdir()} == {partner.name, name}
