"""Recipes: those of `onebasin merge` repeat it, those of people are checked, and mergekit's are taken as they are."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cli.networks import Files, Run
from onebasin import Symmetry, match, merge, save_checkpoint
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.recipe import Alignment, Recipe, bytes_of, read_yaml
from onebasin.cli.search import Search
from onebasin.errors import OptionError


def state(seed: int) -> dict[str, Tensor]:
    """A network of three layers."""
    generator = torch.Generator().manual_seed(seed)
    names = ["model.embed_tokens.weight", *(f"model.layers.{k}.{x}.weight" for k in range(3) for x in ("mlp", "attn"))]
    return {name: torch.randn(4, 5, generator=generator) for name in [*names, "lm_head.weight"]}


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    """A folder with three networks in folders of their own."""
    for seed, name in enumerate("abz"):
        (tmp_path / name).mkdir()
        save_checkpoint(state(seed), tmp_path / name / "model.safetensors")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    """A recipe in a folder."""
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "options",
    [
        ("--no-align", "--weights", "2,1", "--dtype", "bfloat16"),
        ("--symmetry", "SYMMETRY", "--method", "lerp", "--lam", "0.25", "--max-sweeps", "3", "--seed", "5"),
        ("--base", "C", "--method", "dare_ties", "--density", "0.5,0.7", "--no-normalize", "--seed", "3"),
        ("--task", "TASK", "--split", "val", "--correct", "repair", "--samples", "40", "--no-verify"),
        ("--task", "TASK", "--no-evaluate", "--method", "regmean", "--alpha", "0.5", "--correct", "none"),
        ("--task", "TASK", "--method", "greedy_soup", "--max-shard-size", "300"),
    ],
)
def test_recipe_beside_the_result_repeats_it(options: tuple[str, ...], files: Files, run: Run, tmp_path: Path) -> None:
    """The recipe that `merge` writes gives the same bytes again, and is written again as it was."""
    stands_for = {"SYMMETRY": files.symmetry, "TASK": files.task, "C": files.c}
    out = tmp_path / "m.safetensors"
    given = [stands_for.get(option, option) for option in options]
    first = run("merge", files.a, files.b, *given, "--out", out, "--json")
    assert first.exit_code == 0, first.stderr
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for path in list(tmp_path.iterdir()):
        if not path.name.endswith(".yaml"):
            path.unlink()
    again = run("run", f"{out}.recipe.yaml", "--json")

    assert again.exit_code == 0, again.stderr
    assert again.stdout == first.stdout
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert str(tmp_path).encode() not in b"".join(before.values())


def test_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every field survives the file, and what has its default is left out."""
    recipe = Recipe(
        (tmp_path / "a.pt", tmp_path / "sub" / "b.pt"),
        base=tmp_path / "z.pt",
        task=str(tmp_path / "my_task.py"),
        data_root=tmp_path / "data",
        align=Alignment(
            tmp_path / "s.json", (tmp_path / "b.json",), verify=False, search=Search(activations=0.5, max_sweeps=7)
        ),
        method="ties",
        parameters={"weights": [1.0, 2.0], "density": [{"filter": "mlp", "value": {"layers": [0, 1]}}, {"value": 0.5}]},
        correction={"method": "none"},
        split=None,
        seed=4,
        output=tmp_path / "m.pt",
        dtype="float16",
        max_shard_size="2GB",
    )
    recipe.save(tmp_path / "r.yaml")

    assert Recipe.from_data(read_yaml(tmp_path / "r.yaml"), tmp_path) == recipe
    assert Recipe.from_data({"parents": ["a.pt"]}, tmp_path) == Recipe((tmp_path / "a.pt",))
    assert Recipe.from_data({"parents": ["a"], "align": False, "task": "digits"}, tmp_path).align is None


def test_recipe_written_by_hand(networks: Path, run: Run) -> None:
    """A short recipe is carried out: paths start at its folder, and the output may be named on the command line."""
    path = written(
        networks,
        """
        parents: [a, b/model.safetensors]
        base: z
        align: false
        method: ties
        parameters: {density: 5e-1, weights: [1, {layers: [0, 1]}]}
        output: {path: merged, max_shard_size: 250}
        """,
    )
    assert run("run", path).exit_code == 0
    assert run("run", path, "--out", networks / "other.pt").exit_code == 0

    parents = [networks / "a", networks / "b"]
    expected = merge(parents, "ties", base=networks / "z", density=0.5, weights=[1, {"layers": [0, 1]}])
    for found in (open_checkpoint(networks / "merged"), open_checkpoint(networks / "other.pt")):
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert len(open_checkpoint(networks / "merged").files) == 3
    assert (networks / "merged" / "onebasin.recipe.yaml").exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("parents: [a, b]\nmehtod: ties", "mehtod: expected a key of recipe: .*; write 'method' if you mean that"),
        ("parents: [a, b]\nalign: {max_sweep: 3}", "max_sweep: expected a key of align: .*; write 'max_sweeps'"),
        ("parents: [a, b]\noutput: {shard: 3}", "shard: expected a key of output"),
        ("parents: a", "parents: expected a list of paths, found 'a'; correct the recipe"),
        ("parents: [a, 3]", r"parents: expected a list of paths, found \['a', 3\]"),
        ("method: mean", "parents: expected a list of networks, found none; add it"),
        ("parents: [a, b]\nseed: -1", "seed: expected a whole number from 0, found -1"),
        ("parents: [a, b]\nalign: {verify: 3}", "align: verify: expected true or false, found 3"),
        ("parents: [a, b]\nalign: 3", "align: expected further keys, or false, found 3"),
        ("parents: [a, b]\nparameters: [1]", "parameters: expected names with values, found"),
        ("parents: [a, b]\nformat: onebasin-recipe/9", "format: expected onebasin-recipe/1, found 'onebasin-recipe/9'"),
        ("- a", "recipe: expected keys with values, found"),
        ("parents: [a, b]\nparents: [a]", ":2:1: expected YAML, found the key 'parents', which is there twice"),
        ("parents: [a, b", ":1:15: expected YAML, found "),
        ("parents: !!python/object:os.system [a]", ":1:10: expected YAML, found could not determine a constructor"),
        ("parents: [a, b]\nalign: false\noutput: {path: m.pt}\nparameters: {wieghts: 3}", "wieghts: .*'weights' if"),
        ("parents: [a, b]\nalign: false\noutput: {path: m.pt}\nmethod: median", "--method: expected mean or lerp or"),
        (
            "parents: [a, b]\nalign: false\noutput: {path: m.pt}\ncorrection: {methot: none}",
            "methot: .*'method'",
        ),
        ("parents: [a, b]\nalign: false\noutput: {path: m.pt, dtype: int8}", "dtype: expected float32 or"),
        (
            "parents: [a, b]\nalign: false\noutput: {path: m, max_shard_size: big}",
            "max_shard_size: expected a size such",
        ),
        ("parents: [a, b]\nalign: false", "--out: expected a file or folder to write, found none; pass --out"),
        ("parents: [a, b]\nalign: false\noutput: {path: a}", "--out .*expected another folder than the inputs'"),
        (
            "parents: [a, gone]\nalign: false\noutput: {path: m.pt}",
            "gone: expected a checkpoint file, found nothing there",
        ),
    ],
)
def test_mistakes_in_a_recipe_are_named(text: str, line: str, networks: Path, run: Run) -> None:
    """A key that is unknown, or holds something else than it should, is named in one line, and nothing is written."""
    path = written(networks, text)
    before = sorted(networks.rglob("*"))
    result = run("run", path)

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert re.search(line, result.stderr), result.stderr
    assert sorted(networks.rglob("*")) == before


GRADED = [{"filter": "attn", "value": {"layers": [0, 0.5, 1]}}, {"filter": "mlp", "value": 0.75}, {"value": 0.5}]

# mergekit's YAML, and the method, the parents and the parameters of ours that it stands for.
MERGEKIT = [
    (
        """
models:
  - model: a
    parameters: {weight: 1.0}
  - model: b
    parameters: {weight: 0.3}
merge_method: linear
dtype: float16
""",
        ("mean", "ab", {"weights": [1.0, 0.3], "dtype": torch.float16}),
    ),
    (
        """
merge_method: linear
models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: [0, 1]}}]
parameters: {normalize: false, int8_mask: true}
""",
        ("mean", "ab", {"weights": [1, {"layers": [0, 1]}], "normalize": False}),
    ),
    (
        """
slices:
  - sources:
      - model: a
        layer_range: [0, 3]
      - model: b
        layer_range: [0, 3]
merge_method: slerp
base_model: b
parameters:
  t:
    - filter: attn
      value: [0, 0.5, 1]
    - filter: mlp
      value: 0.75
    - value: 0.5
dtype: float32
""",
        ("slerp", "ba", {"lam": GRADED}),
    ),
    (
        "{merge_method: slerp, base_model: a, models: [{model: b}], parameters: {t: 0.4}}",
        ("slerp", "ab", {"lam": 0.4}),
    ),
    (
        """
merge_method: task_arithmetic
base_model: z
models:
  - model: z
  - {model: a, parameters: {weight: 0.5}}
  - {model: b, parameters: {weight: -0.5}}
parameters: {lambda: 1.5}
""",
        ("task_arithmetic", "ab", {"weights": [0.5, -0.5], "scale": 1.5, "base": "z"}),
    ),
    (
        """
merge_method: ties
base_model: {model: {path: z}}
models:
  - {model: a, parameters: {weight: 0.5, density: 0.4}}
  - {model: b, parameters: {weight: [{filter: mlp, value: 0.5}, {value: 0.2}]}}
parameters: {normalize: true}
tokenizer_source: base
""",
        (
            "ties",
            "ab",
            {"weights": [0.5, [{"filter": "mlp", "value": 0.5}, {"value": 0.2}]], "density": [0.4, 1.0], "base": "z"},
        ),
    ),
    (
        """
merge_method: dare_linear
base_model: z
models: [{model: a}, {model: b, parameters: {density: 0.6}}]
parameters: {weight: 0.5, density: 0.3, rescale: false}
""",
        ("dare_linear", "ab", {"weights": [0.5, 0.5], "density": [0.3, 0.6], "rescale": False, "base": "z"}),
    ),
    (
        "{merge_method: dare_ties, base_model: z, models: [{model: a}], parameters: {weight: 1, density: 0.5}}",
        ("dare_ties", "a", {"weights": [1], "density": [0.5], "base": "z"}),
    ),
]


@pytest.mark.parametrize(("text", "ours"), MERGEKIT)
def test_mergekit_is_taken_as_it_is(
    text: str, ours: tuple[str, str, dict[str, object]], networks: Path, run: Run
) -> None:
    """Models, levels of parameters, filters and gradients mean what they mean there, and the result is written so."""
    method, names, options = ours
    out = networks / "out"
    result = run("run", written(networks, text), "--out", out)
    assert result.exit_code == 0, result.stderr
    if "base" in options:
        options = options | {"base": networks / str(options["base"])}
    expected = merge([networks / name for name in names], method, **options)

    found = open_checkpoint(out)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert ("int8_mask: left out" in result.stderr) == ("int8_mask" in text)
    again = run("run", out / "onebasin.recipe.yaml", "--out", networks / "again")
    assert again.exit_code == 0, again.stderr
    assert (networks / "again" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def test_seed_of_a_recipe_reaches_the_method(networks: Path, run: Run) -> None:
    """The seed of everything random is that of random drops, unless the method is given its own."""
    text = (
        "{parents: [a, b], base: z, align: false, method: dare_linear, seed: 7, output: {path: m.pt}, parameters: {P}}"
    )
    for given, seed in (("", 7), ("seed: 3", 3)):
        assert run("run", written(networks, text.replace("P", given))).exit_code == 0
        expected = merge([networks / "a", networks / "b"], "dare_linear", base=networks / "z", seed=seed)
        found = open_checkpoint(networks / "m.pt")
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_folder_goes_again_if_nothing_comes_into_it(networks: Path, run: Run) -> None:
    """Where a network turns out to be broken while it is merged, no empty folder is left."""
    broken = state(1)
    broken["lm_head.weight"][0, 0] = torch.nan
    save_checkpoint(broken, networks / "b" / "model.safetensors")
    result = run("merge", networks / "a", networks / "b", "--no-align", "--out", networks / "new")

    assert result.exit_code == 2
    assert "lm_head.weight: expected finite numbers, found NaN or infinity in 1 of 20 entries" in result.stderr
    assert not (networks / "new").exists()


def test_mergekit_with_a_block_to_align(files: Files, run: Run, symmetry: Symmetry, tmp_path: Path) -> None:
    """With a block `align` the networks are matched first, which mergekit cannot do."""
    models = [{"model": str(path), "parameters": {"weight": 1}} for path in (files.a, files.c)]
    data = {"merge_method": "linear", "models": models, "align": {"symmetry": str(files.symmetry)}}
    out = tmp_path / "m.pt"
    result = run("run", written(tmp_path, json.dumps(data)), "--out", out)
    assert result.exit_code == 0, result.stderr

    expected = merge([files.a, match(files.a, files.c, symmetry).apply(files.c)])
    assert torch.equal(open_checkpoint(out)["3.weight"], expected["3.weight"])


SLICE = """
merge_method: slerp
base_model: a
parameters: {t: 0.5}
slices: [{sources: [{model: a, layer_range: RANGE}, {model: b, layer_range: RANGE}]}]
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{merge_method: passthrough, models: [{model: a}]}", "merge_method: expected linear or slerp or"),
        ("{merge_method: linear, modles: []}", "modles: expected a key of mergekit's: .*write 'models' if you mean"),
        ("{merge_method: linear}", "models: expected either models or slices, found both or none"),
        ("{merge_method: linear, models: [{model: a, paramters: 1}]}", "paramters: .*write 'parameters' if"),
        ("{merge_method: linear, models: [{model: a}, {model: b}]}", "weight: expected a number for every model"),
        ("{merge_method: linear, models: [{model: a}], parameters: {wieght: 1}}", "wieght: .*write 'weight' if"),
        (
            "{merge_method: linear, models: [{model: a}, {model: b}], parameters: {weight: x}}",
            "weights: expected a finite number",
        ),
        (
            "{merge_method: linear, models: [{model: gone}], parameters: {weight: 1}}",
            "model gone: expected a folder or",
        ),
        ("{merge_method: linear, models: [{model: a+lora/x}], parameters: {weight: 1}}", "model: expected the path"),
        (
            "{merge_method: linear, models: [{model: 3}], parameters: {weight: 1}}",
            "model: expected the path of a model",
        ),
        ("{merge_method: linear, models: 3}", "models: expected a list, found 3"),
        ("{merge_method: linear, models: [{model: a}], parameters: 3}", "parameters: expected keys with values"),
        ("{merge_method: ties, models: [{model: a}], parameters: {weight: 1}}", "base_model: expected the common"),
        ("{merge_method: slerp, models: [{model: a}, {model: b}], parameters: {t: 1}}", "base_model: expected one of"),
        (
            "{merge_method: linear, models: [{model: a}], parameters: {weight: 1}, dtype: int4}",
            "dtype: expected float32",
        ),
        ("{merge_method: linear, slices: [{}, {}]}", "slices: expected one slice that holds all layers, found 2"),
        (
            SLICE.replace("RANGE", "[0, 2]"),
            r"layer_range: expected all layers, \[0, 3\], found \[0, 2\]",
        ),
        (
            SLICE.replace(", layer_range: RANGE}]", "}]").replace("RANGE", "[0, 3]"),
            "layer_range: expected the same two numbers for all",
        ),
    ],
)
def test_mistakes_in_mergekit_are_named(text: str, line: str, networks: Path, run: Run) -> None:
    """What cannot be read or is not done here is named with the file, and nothing is written."""
    path = written(networks, text)
    result = run("run", path, "--out", networks / "m.pt")

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert re.search(line, result.stderr), result.stderr
    assert not (networks / "m.pt").exists()


@pytest.mark.parametrize(
    ("text", "count"), [("2GB", 2 * 10**9), ("1.5 MiB", 3 << 19), ("100", 100), ("3k", 3000), ("7gb", 7 * 10**9)]
)
def test_sizes_are_read(text: str, count: int) -> None:
    """Sizes have decimal and binary units, in any case."""
    assert bytes_of(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "two", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Other texts are refused."""
    with pytest.raises(OptionError, match="max_shard_size: expected a size such as 2GB"):
        bytes_of(text)
