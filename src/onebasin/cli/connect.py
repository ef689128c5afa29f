"""`onebasin connect`: which of several networks may be averaged, before it is done."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from onebasin import Matching, Status
from onebasin.checkpoint import Source as Network
from onebasin.cli.drawing import draw
from onebasin.cli.inputs import Subject, find_subject, make_folder
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.searching import find_matchings
from onebasin.cli.setting import Setting, with_setting
from onebasin.cli.study import Study
from onebasin.connectivity import Preflight, preflight
from onebasin.connectivity.advice import Align, Gather
from onebasin.connectivity.verdict import AS_THEY_ARE, CORRECT, ERROR_BARRIER, LOSS_BARRIER, Average, Line, Pair
from onebasin.report import Picture, Table
from onebasin.report.table import loss_text, percent
from onebasin.report.table import points as in_points

JSON_FILE, PAGE_FILE, PAIRS = "connect.json", "report.html", "pairs"
PICTURES = {"raw": ("as-they-are", "Barriers, as they are"), "aligned": ("aligned", "Barriers, aligned")}

PointsOption = Annotated[
    int, typer.Option("--points", metavar="N", min=3, help="Points on every line, ends included; odd has the average.")
]


@with_setting
@with_search_options
def connect(
    models: Annotated[
        list[Path], typer.Argument(metavar="A B ...", help="Checkpoints of one architecture, two or more.")
    ],
    setting: Setting,
    search: Search,
    points: PointsOption = 7,
) -> None:
    """Say which of several networks may be averaged, and how.

    Every two of them are measured on the line between them, as they are and aligned, and where neither helps also
    corrected. Two may be averaged if the error rises by at most one point on the way (where errors are not counted, the
    loss by 0.05); networks joined by such pairs form a group. The command that averages each group is printed.

    \b
    Examples:
      onebasin connect a.safetensors b.safetensors c.safetensors --task my_task.py
      onebasin connect runs/*.pt --task cifar10 --data-root data --points 5 --split val --out answer

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted (with --out, finished pairs are
    kept), 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=setting.as_json, threads=setting.threads, task=setting.task) as screen:
        study = Study.open(models, setting)
        out = study.go_on("connect", search, {"points": points})
        subject = find_subject(screen, study.source).require()
        answer = _answer(screen, study, subject, search, points, out)
        _finish(screen, answer, _commands(answer, study), out, study.about | {"symmetry": subject.proof})


def _answer(screen: Screen, study: Study, subject: Subject, search: Search, points: int, out: Path | None) -> Preflight:
    """Measure all pairs that were not measured before."""
    names, seed = study.names, study.setting.seed
    return preflight(
        study.model,
        study.sources,
        subject.symmetry,
        study.evaluation,
        names=names,
        points=points,
        align=_searching(screen, subject, search, seed),
        gather=_gathering(screen, subject, search, seed),
        seed=seed,
        done=_finished(out),
        after_pair=lambda pair: _keep(screen, out, names, pair),
        progress=screen.stage("pairs"),
    )


def _searching(screen: Screen, subject: Subject, search: Search, seed: int) -> Align:
    """A search for the matching of two networks, with the options of the command."""

    def find(a: Network, b: Network) -> Matching:
        found = find_matchings(screen, [Path(str(a)), Path(str(b))], subject, search, seed)[0]
        if found.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return found

    return find


def _gathering(screen: Screen, subject: Subject, search: Search, seed: int) -> Gather:
    """A search for the matchings of several networks, as `onebasin merge` makes it."""

    def find(networks: Sequence[Network]) -> Sequence[Matching]:
        found = find_matchings(screen, [Path(str(network)) for network in networks], subject, search, seed)
        if any(matching.status is Status.INTERRUPTED for matching in found):
            raise KeyboardInterrupt
        return found

    return find


def _finished(out: Path | None) -> list[Pair]:
    """The pairs that were measured before."""
    return [Pair.load(file) for file in sorted((out / PAIRS).glob("*.json"))] if out is not None else []


def _keep(screen: Screen, out: Path | None, names: Sequence[str], pair: Pair) -> None:
    """Write a pair to a file that is named by the numbers of its networks."""
    if out is not None:
        file = make_folder(out / PAIRS) / f"{names.index(pair.a) + 1}-{names.index(pair.b) + 1}.json"
        pair.save(file)
        screen.wrote(file)


def _commands(answer: Preflight, study: Study) -> list[str]:
    """The command that averages each group of networks."""
    source = study.source
    options = ["--task", str(source.task), *(["--data-root", str(source.data_root)] if source.data_root else [])]
    options += ["--symmetry", str(source.symmetry)] if source.symmetry else []
    groups = [group for group in answer.clusters if len(group) > 1]
    rows = []
    for number, cluster in enumerate(groups, start=1):
        group, how = answer.advised(cluster)
        out = "merged.safetensors" if len(groups) == 1 else f"merged-{number}.safetensors"
        words = ["onebasin", "merge", *(str(study.paths[name]) for name in group), *options, "--out", out]
        further = {AS_THEY_ARE: ["--no-align"], CORRECT: ["--correct", "repair"]}
        rows.append(shlex.join(words + further.get(how, [])))
    return rows


def pair_table(answer: Preflight) -> Table:
    """A row a pair: barriers as they are, aligned and corrected, how linear the outputs are, and the suggestion."""
    counted = all(pair.raw.error_barrier is not None for pair in answer.pairs)
    corrected = any(pair.corrected for pair in answer.pairs)
    barriers = ("as they are", "aligned", *(("corrected",) if corrected else ()))
    rows = []
    for pair in answer.pairs:
        low = pair.suggestion == AS_THEY_ARE
        score = pair.raw_features if low else pair.aligned_features
        interval = pair.line.error_interval if counted else pair.line.loss_interval
        lines = [pair.raw, pair.aligned, pair.corrected][: len(barriers)]
        rows.append((
            pair.a,
            pair.b,
            *("" if line is None else _text(_height(line), counted=counted) for line in lines),
            "" if interval is None else _text(interval[1] * (100 if counted else 1), counted=counted),
            "" if score is None else f"{score:.4f}",
            pair.suggestion,
        ))  # fmt: skip
    title = f"{'Error barriers in points' if counted else 'Loss barriers'}; up to: the end of the 95 % interval"
    columns = ("a", "b", *barriers, "up to", "1 - cos", "suggestion")
    return Table(title, columns, tuple(rows), frozenset(columns[2:-1]))


def group_table(averages: Sequence[Average]) -> Table:
    """A row a group of three or more: the average of all against the networks."""
    rows = []
    for average in averages:
        losses = (loss_text(average.networks_loss), loss_text(average.loss))
        counted = average.error is not None and average.networks_error is not None
        errors = (percent(average.networks_error or 0), percent(average.error or 0)) if counted else ("", "")
        rows.append(
            (", ".join(average.networks), average.suggestion, *losses, *errors, "yes" if average.good else "no")
        )
    columns = ("group", "how", "loss, networks", "average", "error, networks", "its error", "good")
    return Table("Averages of whole groups", columns, tuple(rows), frozenset(columns[2:-1]))


def _text(height: float, *, counted: bool) -> str:
    return in_points(height / 100) if counted else loss_text(height)


def _finish(
    screen: Screen, answer: Preflight, commands: Sequence[str], out: Path | None, about: Mapping[str, str]
) -> None:
    """Write and show the answer."""
    tables = [pair_table(answer), group_table(answer.averages)]
    if out is not None:
        answer.save(out / JSON_FILE)
        screen.wrote(out / JSON_FILE)
        if answer.complete:
            _draw(screen, answer, tables, commands, out, about)
    screen.close()
    screen.result(answer.to_json() | {"commands": list(commands) if answer.complete else [], "settings": dict(about)})
    screen.line(about["symmetry"], "green")
    for table in tables:
        screen.table(table)
    if not answer.complete:
        count = len(answer.names)
        screen.refuse(f"interrupted: measured {len(answer.pairs)} of {count * (count - 1) // 2} pairs")
        return
    screen.line(answer.sentence, "bold")
    limit = f"{100 * ERROR_BARRIER:g} point of error, or {LOSS_BARRIER:g} of loss where errors are not counted"
    screen.line(f"A barrier may be at most {limit}; 1 - cos is 0 where outputs are linear between the networks.")
    for command in commands:
        screen.line(f"go on    {command}")
    for file in screen.written:
        if file.parent == out:
            screen.line(f"written: {file}")


def _draw(
    screen: Screen,
    answer: Preflight,
    tables: Sequence[Table],
    commands: Sequence[str],
    out: Path,
    about: Mapping[str, str],
) -> None:
    counted = all(pair.raw.error_barrier is not None for pair in answer.pairs)
    pictures = {}
    for which, (name, title) in PICTURES.items():
        what = "points" if counted else "nats"
        rows = [(pair.a, pair.b, _height(getattr(pair, which))) for pair in answer.pairs]
        data = {"names": list(answer.names), "pairs": rows, "what": what}
        note = "Networks that are joined first stand side by side."
        pictures[name] = Picture("matrix", data, title, note)
    groups = [Table("To average them", ("command",), tuple((command,) for command in commands))] if commands else []
    title = f"{about['task']}: which networks may be averaged?"
    draw(screen, out, title, pictures, [*filter(lambda table: table.rows, tables), *groups], about, answer.sentence)


def _height(line: Line) -> float:
    return line.loss_barrier if line.error_barrier is None else 100 * line.error_barrier
