"""`onebasin merge` makes one network out of several, and measures what each step was worth."""

import json
from pathlib import Path

import pytest
import torch

from cli.networks import MODEL_ONLY, Files, Run
from onebasin import Matching, Symmetry, discover, match, merge, refit, save_checkpoint
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.options import CORRECTIONS
from onebasin.correction import METHODS
from onebasin.tasks import load_task


def test_aligned_merger_is_the_network_itself(files: Files, run: Run, tmp_path: Path) -> None:
    """Merging a with itself reordered gives a, all controls are measured, and BatchNorm is re-estimated."""
    out = tmp_path / "merged.safetensors"
    result = run("merge", files.a, files.b, "--task", files.task, "--out", out, "--json")

    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    merged, a = open_checkpoint(out), open_checkpoint(files.a)
    torch.testing.assert_close(merged["5.weight"], a["5.weight"])
    assert not torch.allclose(merged["1.running_mean"], a["1.running_mean"])
    assert found["correction"] == {"method": "batchnorm", "notes": ["re-estimated on 60 samples"]}
    assert list(found["networks"]) == [
        "a: a.safetensors",
        "b: b.safetensors",
        "merged as they are",
        "merged as they are, BatchNorm re-estimated",
        "merged, aligned",
        "merged, aligned, BatchNorm re-estimated",
    ]
    losses = [sums["loss"] for sums in found["networks"].values()]
    assert losses[1] == pytest.approx(losses[0])
    assert losses[4] == pytest.approx(losses[0])
    assert losses[2] != pytest.approx(losses[0], rel=1e-3)
    assert all(0 <= sums["accuracy"] <= 1 for sums in found["networks"].values())


def test_table_is_shown(files: Files, run: Run, tmp_path: Path) -> None:
    """The table for people has a row for every network and control."""
    result = run("merge", files.a, files.b, "--task", files.task, "--out", tmp_path / "merged.pt")

    assert result.exit_code == 0
    assert result.stderr == ""
    assert "proved on the model" in result.stdout
    assert "merged, aligned, BatchNorm re-estimated" in result.stdout


def test_parents_are_in_the_metadata(files: Files, run: Run, tmp_path: Path) -> None:
    """The merged file says what it was made of, without folders, and keeps the metadata of the first."""
    out = tmp_path / "merged.safetensors"
    run("merge", files.a, files.b, "--symmetry", files.symmetry, "--out", out, "--seed", 4)

    about = json.loads(open_checkpoint(out).metadata["onebasin"])
    assert about["parents"] == ["a.safetensors", "b.safetensors"]
    assert about["matchings"][0]["seed"] == 4
    assert about["matchings"][0]["objective"] > 0
    assert (about["method"], about["correction"]) == ("mean", None)
    known = {"parents", "base", "method", "parameters", "aligned", "matchings", "correction"}
    assert set(about) - known == {"onebasin"}


def test_saved_matchings_are_used(files: Files, run: Run, symmetry: Symmetry, tmp_path: Path) -> None:
    """With a matching for every network but the first, no search is made."""
    saved = [tmp_path / "b.json", tmp_path / "c.json"]
    symmetry.random(3).save(saved[0])
    symmetry.random(4).save(saved[1])
    out = tmp_path / "merged.pt"
    options = ("--matching", saved[0], "--matching", saved[1], "--weights", "2,1,1")
    result = run("merge", files.a, files.b, files.c, *options, "--out", out)

    assert result.exit_code == 0, result.stderr
    moved = [Matching.load(path).apply(network) for path, network in zip(saved, (files.b, files.c), strict=True)]
    expected = merge([files.a, *moved], weights=[2, 1, 1])
    found = open_checkpoint(out)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_line_between_two(files: Files, run: Run, symmetry: Symmetry, tmp_path: Path) -> None:
    """With --method lerp and --lam the result is that point of the line to the aligned network."""
    out = tmp_path / "merged.pt"
    options = ("--symmetry", files.symmetry, "--method", "lerp", "--lam", 0.25)
    result = run("merge", files.a, files.c, *options, "--out", out)

    aligned = match(files.a, files.c, symmetry).apply(files.c)
    expected = merge([files.a, aligned], "lerp", lam=0.25)
    assert result.exit_code == 0
    assert torch.equal(open_checkpoint(out)["3.weight"], expected["3.weight"])


def test_plain_average(files: Files, run: Run, tmp_path: Path) -> None:
    """With --no-align nothing is reordered, no symmetry is needed, and averaged statistics are mentioned."""
    out = tmp_path / "merged.pt"
    result = run("merge", files.a, files.b, "--no-align", "--out", out)

    assert result.exit_code == 0
    assert "pass --task to re-estimate them" in result.stderr
    assert torch.equal(open_checkpoint(out)["3.weight"], merge([files.a, files.b])["3.weight"])


def test_statistics_can_be_kept(files: Files, run: Run, tmp_path: Path) -> None:
    """With --correct none the merged statistics are the average, and no control re-estimates them."""
    out = tmp_path / "merged.pt"
    options = ("--no-align", "--task", files.task, "--correct", "none", "--json")
    found = json.loads(run("merge", files.a, files.b, *options, "--out", out).stdout)

    assert found["correction"] is None
    assert list(found["networks"]) == ["a: a.safetensors", "b: b.safetensors", "merged as they are"]
    expected = merge([files.a, files.b])["1.running_var"]
    assert torch.equal(open_checkpoint(out)["1.running_var"], expected)


@pytest.mark.parametrize("method", ["refit", "rescale_from_weights", "auto"])
def test_corrections_are_applied_with_their_control(files: Files, run: Run, tmp_path: Path, method: str) -> None:
    """With --correct the written network is the corrected one, and the correction without alignment is in the table."""
    out = tmp_path / "merged.pt"
    options = ("--task", files.task, "--correct", method, "--samples", 40, "--json")
    result = run("merge", files.a, files.c, *options, "--out", out)

    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["correction"]["method"] in {method, *METHODS, "none"}
    assert found["correction"]["notes"] or method == "rescale_from_weights"
    assert [name.count(",") for name in found["networks"]] == [0, 0, 0, 1, 1, 2]
    if method == "refit":
        task = load_task(str(files.task))
        moved = match(files.a, files.c, discover(task.build_model(), task.example_inputs())).apply(files.c)
        parents = [dict(open_checkpoint(files.a)), moved]
        model = task.build_model()
        expected = refit(model, merge(parents), parents, task.batches("train"), task.evaluate, samples=40).params
        torch.testing.assert_close(dict(open_checkpoint(out)), {name: expected[name] for name in open_checkpoint(out)})


def test_names_of_corrections_are_those_of_the_library() -> None:
    """The list that the help shows without loading torch names every method."""
    assert set(CORRECTIONS) == {"none", "auto", *METHODS}


def test_classes_are_shown_apart(run: Run, tmp_path: Path) -> None:
    """With --per-class there is a row a class with what was lost to the better parent."""
    parents = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        parents.append(tmp_path / f"{seed}.safetensors")
        save_checkpoint(load_task("digits").build_model().state_dict(), parents[-1])
    options = ("--task", "digits", "--no-align", "--per-class", "--out", tmp_path / "merged.safetensors")
    shown = run("merge", *parents, *options).stdout
    found = json.loads(run("merge", *parents, *options, "--json").stdout)

    assert "lost to the best" in shown
    assert sum(found["classes"]["counts"]) == found["networks"]["merged as they are"]["count"]
    accuracy = sum(
        share * count
        for share, count in zip(
            found["classes"]["accuracies"]["merged as they are"], found["classes"]["counts"], strict=True
        )
    ) / sum(found["classes"]["counts"])
    assert accuracy == pytest.approx(found["networks"]["merged as they are"]["accuracy"])


def test_task_without_data_still_aligns(files: Files, run: Run, tmp_path: Path) -> None:
    """A task that has a model and no data is enough to merge; notes say what was left out."""
    task, out = tmp_path / "model_only.py", tmp_path / "merged.pt"
    task.write_text(MODEL_ONLY, encoding="utf-8")
    result = run("merge", files.a, files.b, "--task", task, "--out", out)

    assert result.exit_code == 0
    assert "BatchNorm was not re-estimated:" in result.stderr
    assert "not evaluated:" in result.stderr
    assert out.exists()


def test_ensemble_is_measured_on_built_in_tasks(run: Run, tmp_path: Path) -> None:
    """On digits the mean of the softmax outputs is a control, too; of a network with itself it is that network."""
    demo = tmp_path / "a.safetensors"
    save_checkpoint(load_task("digits").build_model().state_dict(), demo)
    options = ("--task", "digits", "--no-align", "--split", "val", "--json")
    found = json.loads(run("merge", demo, demo, *options, "--out", tmp_path / "merged.pt").stdout)

    networks = found["networks"]
    assert networks["ensemble of all"]["loss"] == pytest.approx(networks["a: a.safetensors"]["loss"], rel=1e-5)
    assert networks["ensemble of all"]["count"] == 200
