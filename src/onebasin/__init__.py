"""One basin for every network: align, merge and connect trained networks modulo their symmetries.

symmetry = discover(model, args=(x,))          which axes of which tensors move together
check = verify(model, symmetry, args=(x,))     proved on the model
matching = match(a, b, symmetry)               b's units in a's order
universe = match_many([a, b, c], symmetry)     all in the order of the first
merged = merge([a, matching.apply(b)])         one network
fixed = refit(model, merged, [a, matching.apply(b)], batches, evaluate)   corrected on unlabeled data
profile = profile_path(model, a, matching.apply(b), Evaluation(evaluate, batches))
"""

from typing import TYPE_CHECKING as _TYPES

from onebasin.lazy import lazily as _lazily

if _TYPES:
    from onebasin.checkpoint import open_checkpoint as open_checkpoint
    from onebasin.checkpoint import save_checkpoint as save_checkpoint
    from onebasin.connectivity import PathProfile as PathProfile
    from onebasin.connectivity import profile_path as profile_path
    from onebasin.correction import Correction as Correction
    from onebasin.correction import class_accuracies as class_accuracies
    from onebasin.correction import correct as correct
    from onebasin.correction import expand as expand
    from onebasin.correction import reestimate_batchnorm as reestimate_batchnorm
    from onebasin.correction import refit as refit
    from onebasin.correction import repair as repair
    from onebasin.discovery import Verification as Verification
    from onebasin.discovery import discover as discover
    from onebasin.discovery import verify as verify
    from onebasin.errors import OneBasinError as OneBasinError
    from onebasin.evaluation import Evaluation as Evaluation
    from onebasin.layout import AxisGroup as AxisGroup
    from onebasin.layout import AxisLayout as AxisLayout
    from onebasin.matching import Activations as Activations
    from onebasin.matching import Universe as Universe
    from onebasin.matching import activation_similarity as activation_similarity
    from onebasin.matching import learn_matching as learn_matching
    from onebasin.matching import learn_universe as learn_universe
    from onebasin.matching import match as match
    from onebasin.matching import match_many as match_many
    from onebasin.merging import merge as merge
    from onebasin.permutation import Permutation as Permutation
    from onebasin.progress import Progress as Progress
    from onebasin.symmetry import AxisRef as AxisRef
    from onebasin.symmetry import Matching as Matching
    from onebasin.symmetry import Status as Status
    from onebasin.symmetry import Symmetry as Symmetry
    from onebasin.symmetry import Trial as Trial

__all__ = [
    "Activations",
    "AxisGroup",
    "AxisLayout",
    "AxisRef",
    "Correction",
    "Evaluation",
    "Matching",
    "OneBasinError",
    "PathProfile",
    "Permutation",
    "Progress",
    "Status",
    "Symmetry",
    "Trial",
    "Universe",
    "Verification",
    "activation_similarity",
    "class_accuracies",
    "correct",
    "discover",
    "expand",
    "learn_matching",
    "learn_universe",
    "match",
    "match_many",
    "merge",
    "open_checkpoint",
    "profile_path",
    "reestimate_batchnorm",
    "refit",
    "repair",
    "save_checkpoint",
    "verify",
]

# Each name is loaded when it is first used: the command line shows its help without waiting for torch.
__getattr__ = _lazily(
    __name__,
    {
        "Activations": "onebasin.matching",
        "AxisGroup": "onebasin.layout",
        "AxisLayout": "onebasin.layout",
        "AxisRef": "onebasin.symmetry",
        "Correction": "onebasin.correction",
        "Evaluation": "onebasin.evaluation",
        "Matching": "onebasin.symmetry",
        "OneBasinError": "onebasin.errors",
        "PathProfile": "onebasin.connectivity",
        "Permutation": "onebasin.permutation",
        "Progress": "onebasin.progress",
        "Status": "onebasin.symmetry",
        "Symmetry": "onebasin.symmetry",
        "Trial": "onebasin.symmetry",
        "Universe": "onebasin.matching",
        "Verification": "onebasin.discovery",
        "activation_similarity": "onebasin.matching",
        "class_accuracies": "onebasin.correction",
        "correct": "onebasin.correction",
        "discover": "onebasin.discovery",
        "expand": "onebasin.correction",
        "learn_matching": "onebasin.matching",
        "learn_universe": "onebasin.matching",
        "match": "onebasin.matching",
        "match_many": "onebasin.matching",
        "merge": "onebasin.merging",
        "open_checkpoint": "onebasin.checkpoint",
        "profile_path": "onebasin.connectivity",
        "reestimate_batchnorm": "onebasin.correction",
        "refit": "onebasin.correction",
        "repair": "onebasin.correction",
        "save_checkpoint": "onebasin.checkpoint",
        "verify": "onebasin.discovery",
    },
)
