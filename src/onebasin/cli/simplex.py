"""`onebasin simplex`: the worst average of several networks, as they are, matched to the first, and matched jointly."""

from pathlib import Path
from typing import Annotated

import typer

from onebasin.cli.drawing import draw
from onebasin.cli.inputs import find_subject
from onebasin.cli.screen import Screen, session
from onebasin.cli.setting import Setting, with_setting
from onebasin.cli.simplexes import JOINT, NAIVE, TO_REFERENCE, Look, Simplexes, barrier_table, with_look
from onebasin.cli.study import Study
from onebasin.connectivity import SimplexProfile
from onebasin.report import Picture
from onebasin.report.table import loss_text, percent


@with_setting
@with_look
def simplex(
    networks: Annotated[
        list[Path], typer.Argument(metavar="A B ...", help="Checkpoints of one architecture, two or more.")
    ],
    setting: Setting,
    look: Look,
    joint: Annotated[bool, typer.Option("--joint", help="Only with joint permutations.")] = False,
    reference: Annotated[bool, typer.Option("--to-reference", help="Only with each matched to the first.")] = False,
    naive: Annotated[bool, typer.Option("--naive", help="Only as they are. All three if left out.")] = False,
) -> None:
    """Look for the worst average of several networks.

    The barrier is the largest excess found of the loss over the interpolation of the networks' losses: a lower bound on
    the largest there is. `at most` bounds the share of the simplex that is worse than --tau, at 95 %.

    \b
    Examples:
      onebasin simplex a.pt b.pt c.pt --task my_task.py --out report
      onebasin simplex a.pt b.pt c.pt --task mnist --data-root data --joint --batches 4 --points 64

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted (with --out, what was finished is
    kept), 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=setting.as_json, threads=setting.threads, task=setting.task) as screen:
        study = Study.open(networks, setting, batches=look.batches)
        out = study.go_on("simplex", look)
        chosen = [n for n, on in ((NAIVE, naive), (TO_REFERENCE, reference), (JOINT, joint)) if on]
        subject = None if chosen == [NAIVE] else find_subject(screen, study.source).require()
        simplexes = Simplexes(study, look, subject, out)
        profiles = {name: _profile(screen, simplexes, name) for name in chosen or (NAIVE, TO_REFERENCE, JOINT)}
        _finish(screen, simplexes, profiles)


def _profile(screen: Screen, simplexes: Simplexes, name: str) -> SimplexProfile:
    found, subject = None, simplexes.subject
    if subject is not None and name == JOINT:
        found = simplexes.joint(screen, subject)
    elif subject is not None and name == TO_REFERENCE:
        found = simplexes.reference(screen, subject)
    return simplexes.measured(screen, name, found)


def _finish(screen: Screen, simplexes: Simplexes, profiles: dict[str, SimplexProfile]) -> None:
    study, subject, tau = simplexes.study, simplexes.subject, simplexes.look.tau
    names, corners = study.names, 3
    table = barrier_table(study.title, profiles)
    pictures = {
        name: Picture("triangle" if len(names) == corners else "polygon", profile, f"{study.title}: {name}")
        for name, profile in profiles.items()
        if len(names) >= corners
    }
    draw(screen, simplexes.out, f"{study.title}: all averages", pictures, [table], study.about)
    screen.close()
    screen.result({
        "settings": study.about,
        "simplexes": {name: profile.to_json() for name, profile in profiles.items()},
        "verification": subject.to_json() if subject else None,
    })  # fmt: skip
    if subject:
        screen.line(subject.proof, "green" if subject.verification else "")
    name, best = min(profiles.items(), key=lambda row: row[1].barrier)
    screen.line(
        f"The worst average found of the {len(names)} networks, {name}, loses {loss_text(best.barrier)} nats; "
        f"at most {percent(best.bad_volume)} of all averages lose more than {tau:g}.",
        "bold",
    )
    screen.line()
    screen.table(table)
    for kind, profile in profiles.items():
        parts = " + ".join(f"{w:.2f} {n}" for w, n in zip(profile.worst, names, strict=True) if w > 0)
        screen.line(f"worst average found, {kind}: {parts}")
    faces = " | ".join(" ".join(names[k] for k in face) for face in best.faces())
    screen.line(f"no average found that loses more than {tau:g}, {name}: {faces}")
    for file in screen.written:
        screen.line(f"written: {file}")
