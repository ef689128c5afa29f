"""`onebasin demo`: two networks trained on handwritten digits, aligned, merged and connected."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor, nn

import onebasin
from onebasin import Matching, Status, save_checkpoint
from onebasin.cli.evaluation import Gauge, networks_to_json
from onebasin.cli.inputs import Source, Subject, check_folder, find_subject, make_folder
from onebasin.cli.lines import PAGE_FILE, Measurement, Report, measure_lines, write_lines
from onebasin.cli.match import matching_to_json
from onebasin.cli.options import POINTS, JsonOption, SeedOption
from onebasin.cli.screen import Screen, session
from onebasin.cli.study import built, evaluation_of
from onebasin.cli.versions import versions
from onebasin.report import ALIGNED, NAIVE, Paths, Table, headline, network_table
from onebasin.report.table import loss_text
from onebasin.report.table import points as in_points
from onebasin.tasks import Task, load_task, train

TASK, SPLIT = "digits", "test"
EPOCHS, BATCH, RATE = 40, 50, 1e-3
FOLDER = Path("onebasin-demo")
A, B, ENSEMBLE = "a", "b", "ensemble of a and b"
AVERAGE = {NAIVE: "average, as they are", ALIGNED: "average, aligned"}

OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder for all results.")]
# Networks this small are not faster on several threads, and on one they have the same bytes on any number of cores.
OneThreadOption = Annotated[int, typer.Option("--threads", metavar="N", min=1, help="Threads that torch may use.")]


@dataclass(frozen=True)
class Story:
    """Everything the demo finds out."""

    a: nn.Module
    b: nn.Module
    subject: Subject
    matching: Matching
    merged: dict[str, Tensor]
    paths: Paths
    networks: dict[str, dict[str, float]]


def demo(
    out: OutOption = FOLDER, seed: SeedOption = 0, threads: OneThreadOption = 1, as_json: JsonOption = False
) -> None:
    """Train two small networks, align and merge them, write a report.

    They learn handwritten digits that come with the installation, and differ only in their seeds. Their plain average
    fails; reorder the units of one of them, which changes nothing about what it computes, and the average works.

    \b
    Examples:
      onebasin demo
      onebasin demo --seed 1 --out second

    Exit status: 0 done, 1 interrupted (nothing is written), 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json, threads=threads, task=TASK) as screen:
        started = time.perf_counter()
        check_folder("--out", out)
        story = _tell(screen, seed)
        make_folder(out)
        _write(screen, story, out)
        screen.close()
        _show(screen, story, out, time.perf_counter() - started)
        screen.result(
            {
                "networks": networks_to_json(story.networks),
                "paths": story.paths.to_json()["paths"],
                "matching": matching_to_json(story.matching),
                "verification": story.subject.to_json(),
                "files": [path.name for path in screen.written],
            }
        )


def _tell(screen: Screen, seed: int) -> Story:
    """Train, discover, verify, match, merge and measure."""
    task = load_task(TASK)
    a, b = (_trained(screen, task, name, 2 * seed + number) for number, name in enumerate((A, B)))
    subject = find_subject(screen, Source(TASK, seed=seed)).require()
    matching = onebasin.match(a, b, subject.symmetry, seed=seed, progress=screen.stage("matching"))
    if matching.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    aligned = matching.apply(b)
    averages = {NAIVE: onebasin.merge([a, b]), ALIGNED: onebasin.merge([a, aligned])}
    model = built(task)
    measurement = Measurement(model, evaluation_of(task, model, SPLIT, None, 0), POINTS)
    profiles = measure_lines(screen, measurement, a, {NAIVE: b, ALIGNED: aligned})
    settings = {"a": f"seed {2 * seed}", "b": f"seed {2 * seed + 1}", "seed": seed}
    paths = Paths(TASK, SPLIT, profiles, settings | {"matching": matching_to_json(matching)})
    if not paths.complete:
        raise KeyboardInterrupt
    gauge = Gauge(screen, task, SPLIT)
    ends = {A: a.state_dict(), B: b.state_dict()}
    for name, params in ends.items():
        gauge.measure(name, params)
    gauge.measure_ensemble(ENSEMBLE, list(ends.values()))
    for name, params in averages.items():
        gauge.measure(AVERAGE[name], params)
    return Story(a, b, subject, matching, averages[ALIGNED], paths, gauge.networks)


def _trained(screen: Screen, task: Task, name: str, seed: int) -> nn.Module:
    report = screen.stage(f"training {name}")
    return train(
        task, seed=seed, epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE, schedule="cosine", progress=report
    )


def _write(screen: Screen, story: Story, out: Path) -> None:
    about = {
        "parents": ["a.safetensors", "b.safetensors"],
        "method": "mean",
        "weights": None,
        "aligned": True,
        "matchings": [matching_to_json(story.matching)],
        "onebasin": versions()["onebasin"],
    }
    screen.wrote(
        *save_checkpoint(story.a.state_dict(), out / "a.safetensors"),
        *save_checkpoint(story.b.state_dict(), out / "b.safetensors"),
        *save_checkpoint(story.merged, out / "merged.safetensors", metadata={"onebasin": json.dumps(about)}),
    )
    story.subject.symmetry.save(out / "symmetry.json")
    screen.wrote(out / "symmetry.json")
    story.matching.save(out / "matching.json")
    screen.wrote(out / "matching.json")
    settings = {
        "task": f"{TASK}, {SPLIT} split",
        "training": f"{EPOCHS} epochs of AdamW, batches of {BATCH}, learning rate {RATE:g} falling as a cosine",
        "seeds": f"{story.paths.settings['a']} for a, {story.paths.settings['b']} for b",
        "symmetry": story.subject.proof,
        "matching": f"weight matching, {story.matching.status.value}",
    }
    table = network_table("Networks", story.networks)
    report = Report(
        "onebasin demo: two networks on handwritten digits",
        (table,),
        story.subject.symmetry,
        story.matching,
        settings | versions(),
    )
    write_lines(screen, out, story.paths, report)


def _show(screen: Screen, story: Story, out: Path, seconds: float) -> None:
    """The headline, one table, and where to look further."""
    screen.line(headline(story.paths), "bold")
    screen.line(story.subject.proof, "green")
    screen.line()
    networks = network_table(f"{TASK}, {SPLIT} split, in {seconds:.0f} s", story.networks)
    names = {AVERAGE[name]: profile for name, profile in story.paths.profiles.items()}
    rows = tuple(
        (*row, in_points(names[row[0]].error_barrier()), loss_text(names[row[0]].loss_barrier()))
        if row[0] in names
        else (*row, "", "")
        for row in networks.rows
    )
    barriers = ("error barrier (points)", "loss barrier")
    screen.table(Table(networks.title, (*networks.columns, *barriers), rows, networks.numeric.union(barriers)))
    screen.line(f"written to {out}: {', '.join(path.name for path in screen.written)}")
    screen.line(f"look at  {out / PAGE_FILE}")
    screen.line(f"go on    onebasin path {out / 'a.safetensors'} {out / 'b.safetensors'} --task {TASK}")
