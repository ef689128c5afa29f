"""`onebasin merge`: one network out of several."""

from pathlib import Path
from typing import Annotated

import typer

from onebasin.cli.method_options import ALL, checked, with_method_options
from onebasin.cli.options import (
    SAMPLES,
    CorrectOption,
    DataRootOption,
    JsonOption,
    MatchingsOption,
    SamplesOption,
    SeedOption,
    SplitOption,
    SymmetryOption,
    TaskOption,
    ThreadsOption,
    VerifyOption,
)
from onebasin.cli.recipe import DTYPES, Alignment, Recipe
from onebasin.cli.screen import session
from onebasin.cli.search import Search, with_search_options

ModelsArgument = Annotated[
    list[Path], typer.Argument(metavar="A B", help="Checkpoints of one architecture, two or more; one with --base.")
]
OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="PATH",
        help="The merged network, packed as A is; a folder gets A's settings and tokenizer too.",
    ),
]
BaseOption = Annotated[
    Path | None,
    typer.Option(
        "--base", metavar="FILE", help="The common ancestor, for methods that combine differences.", show_default=False
    ),
]
AlignOption = Annotated[
    bool | None,
    typer.Option(
        "--align/--no-align",
        help="Reorder all networks to match A first, as is done unless there is a base.",
        show_default=False,
    ),
]
MethodOption = Annotated[str, typer.Option("--method", metavar="METHOD", help=f"One of {', '.join(ALL)}.")]
EvaluateOption = Annotated[bool, typer.Option("--evaluate/--no-evaluate", help="Measure all on the task's data.")]
PerClassOption = Annotated[
    bool, typer.Option("--per-class", help="Accuracy class by class, too: what each network knows and what was lost.")
]
DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", metavar="|".join(DTYPES), help="Of the result; A's if left out.", show_default=False),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--max-shard-size", metavar="2GB", help="The most that one file of weights holds.", show_default=False
    ),
]


@with_method_options
@with_search_options
def merge(
    models: ModelsArgument,
    out: OutOption,
    parameters: dict[str, object],
    search: Search,
    base: BaseOption = None,
    method: MethodOption = "mean",
    task: TaskOption = None,
    data_root: DataRootOption = None,
    symmetry: SymmetryOption = None,
    matching: MatchingsOption = None,
    aligning: AlignOption = None,
    correct: CorrectOption = None,
    samples: SamplesOption = SAMPLES,
    split: SplitOption = "test",
    evaluating: EvaluateOption = True,
    per_class: PerClassOption = False,
    dtype: DtypeOption = None,
    max_shard_size: ShardOption = None,
    proving: VerifyOption = True,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Align networks to the first and merge them into one.

    With a task that has data, a table shows what each step was worth: the networks by themselves, and their average
    with and without alignment and with and without correction. The result is written tensor by tensor in
    little memory; interrupted, the same command goes on. A recipe for `onebasin run` is written beside it.

    \b
    Examples:
      onebasin merge a.safetensors b.safetensors --task my_task.py --out merged.safetensors
      onebasin merge a.pt b.pt --task my_task.py --correct refit --samples 2000 --out merged.pt
      onebasin merge a.pt b.pt --symmetry symmetry.json --method lerp --lam 0.3 --out merged.pt
      onebasin merge math/ code/ --base llama/ --method ties --density 0.5 --out merged/

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json, threads=threads, task=task) as screen:
        from onebasin.cli.merging import carry_out

        wanted = base is None if aligning is None else aligning
        recipe = Recipe(
            parents=tuple(models),
            base=base,
            task=task,
            data_root=data_root,
            align=Alignment(symmetry, tuple(matching or ()), proving, search) if wanted else None,
            method=method,
            parameters=checked(method, parameters),
            correction=({"method": correct} if correct else {}) | {"samples": samples},
            split=split if evaluating else None,
            per_class=per_class,
            seed=seed,
            output=out,
            dtype=dtype,
            max_shard_size=max_shard_size,
        )
        carry_out(screen, recipe, threads)
