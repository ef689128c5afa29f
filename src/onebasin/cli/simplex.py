"""`onebasin simplex`: the worst average of several networks, as they are, matched to the first, and matched jointly."""

from pathlib import Path
from typing import Annotated

import typer

from onebasin.cli.drawing import draw
from onebasin.cli.inputs import Source, Subject, check_folder, find_subject
from onebasin.cli.options import (
    TASK,
    DataRootOption,
    JsonOption,
    PointStatisticsOption,
    SeedOption,
    SplitOption,
    SymmetryOption,
    ThreadsOption,
    VerifyOption,
)
from onebasin.cli.screen import Screen, session
from onebasin.cli.simplexes import (
    JOINT,
    NAIVE,
    TO_REFERENCE,
    Setting,
    barrier_table,
    find_joint,
    find_reference,
    measured,
    moved,
)
from onebasin.connectivity import SimplexProfile
from onebasin.report import Picture
from onebasin.report.table import loss_text, percent
from onebasin.tasks.protocol import check_split

NetworksArgument = Annotated[
    list[Path], typer.Argument(metavar="A B ...", help="Checkpoints of one architecture, two or more.")
]
PointsDrawnOption = Annotated[int, typer.Option("--samples", metavar="N", min=0, help="Points drawn from the simplex.")]
AscentsOption = Annotated[
    int, typer.Option("--ascents", metavar="N", min=0, help="From how many of the worst points to climb on.")
]
TauOption = Annotated[float, typer.Option("--tau", metavar="X", help="The excess above which a point is bad, in nats.")]
BatchesOption = Annotated[
    int | None,
    typer.Option("--batches", metavar="N", min=1, help="Only the first N batches of every split.", show_default=False),
]
SearchEpochsOption = Annotated[
    int, typer.Option("--epochs", metavar="N", min=0, help="Of the joint search: passes over the training data.")
]
OutFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="A folder that keeps all that is done; run again, it goes on.", show_default=False
    ),
]


def simplex(
    networks: NetworksArgument,
    task: Annotated[str, TASK],
    joint: Annotated[bool, typer.Option("--joint", help="Only with joint permutations.")] = False,
    reference: Annotated[bool, typer.Option("--to-reference", help="Only with each matched to the first.")] = False,
    naive: Annotated[bool, typer.Option("--naive", help="Only as they are. All three if left out.")] = False,
    samples: PointsDrawnOption = 512,
    ascents: AscentsOption = 16,
    tau: TauOption = 0.05,
    epochs: SearchEpochsOption = 5,
    batches: BatchesOption = None,
    split: SplitOption = "test",
    batchnorm: PointStatisticsOption = None,
    data_root: DataRootOption = None,
    symmetry: SymmetryOption = None,
    out: OutFolderOption = None,
    proving: VerifyOption = True,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for the worst average of several networks.

    The barrier is the largest excess found of the loss over the interpolation of the networks' losses: a lower bound on
    the largest there is. `at most` bounds the share of the simplex that is worse than --tau, at 95 %.

    \b
    Examples:
      onebasin simplex a.pt b.pt c.pt --task my_task.py --out report
      onebasin simplex a.pt b.pt c.pt --task mnist --data-root data --joint --batches 4 --samples 64

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted (with --out, what was finished is
    kept), 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json, threads=threads, task=task) as screen:
        check_split(split, "--split")
        check_folder("--out", out)
        source = Source(task, data_root, symmetry, proving, seed=seed)
        setting = Setting(networks, source, split, batches, batchnorm, samples, ascents, tau, epochs, out)
        wanted = [n for n, on in ((NAIVE, naive), (TO_REFERENCE, reference), (JOINT, joint)) if on]
        setting.evaluation().data()  # fails now, and not after the search, where there is no data
        subject = None if wanted == [NAIVE] else find_subject(screen, source).require()
        profiles = {name: _profile(screen, setting, subject, name) for name in wanted or (NAIVE, TO_REFERENCE, JOINT)}
        _finish(screen, setting, subject, profiles)


def _profile(screen: Screen, setting: Setting, subject: Subject | None, name: str) -> SimplexProfile:
    found = None
    if subject is not None and name == JOINT:
        found = find_joint(screen, setting, subject)
    elif subject is not None and name == TO_REFERENCE:
        found = find_reference(screen, setting, subject)
    return measured(screen, setting, name, lambda: moved(setting, found), None)


def _finish(screen: Screen, setting: Setting, subject: Subject | None, profiles: dict[str, SimplexProfile]) -> None:
    table = barrier_table(setting, profiles)
    title = f"{setting.task.name}, {setting.split} split: all averages"
    corners = 3
    pictures = {
        name: Picture("triangle" if len(setting.names) == corners else "polygon", profile, f"{title}, {name}")
        for name, profile in profiles.items()
        if len(setting.names) >= corners
    }
    told = setting.settings("split", "samples", "ascents", "tau", "epochs")
    draw(screen, setting.out, title, pictures, [table], told)
    screen.close()
    screen.result({
        "settings": told,
        "simplexes": {name: profile.to_json() for name, profile in profiles.items()},
        "verification": subject.to_json() if subject else None,
    })  # fmt: skip
    if subject:
        screen.line(subject.proof, "green" if subject.verification else "")
    name, best = min(profiles.items(), key=lambda row: row[1].barrier)
    screen.line(
        f"The worst average found of the {len(setting.names)} networks, {name}, loses {loss_text(best.barrier)} nats; "
        f"at most {percent(best.bad_volume)} of all averages lose more than {setting.tau:g}.",
        "bold",
    )
    screen.line()
    screen.table(table)
    for kind, profile in profiles.items():
        parts = " + ".join(f"{w:.2f} {n}" for w, n in zip(profile.worst, setting.names, strict=True) if w > 0)
        screen.line(f"worst average found, {kind}: {parts}")
    faces = " | ".join(" ".join(setting.names[k] for k in face) for face in best.faces())
    screen.line(f"no average found that loses more than {setting.tau:g}, {name}: {faces}")
    for file in screen.written:
        screen.line(f"written: {file}")
