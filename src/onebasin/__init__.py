"""One basin for every network: align, merge and connect trained networks modulo their symmetries.

symmetry = discover(model, args=(x,))          which axes of which tensors move together
check = verify(model, symmetry, args=(x,))     proved on the model
matching = match(a, b, symmetry)               b's units in a's order
merged = merge([a, matching.apply(b)])         one network
profile = profile_path(model, a, matching.apply(b), evaluate=..., batches=...)
"""

from onebasin.checkpoint import open_checkpoint as open_checkpoint
from onebasin.checkpoint import save_checkpoint as save_checkpoint
from onebasin.connectivity import PathProfile as PathProfile
from onebasin.connectivity import profile_path as profile_path
from onebasin.discovery import Verification as Verification
from onebasin.discovery import discover as discover
from onebasin.discovery import verify as verify
from onebasin.errors import OneBasinError as OneBasinError
from onebasin.layout import AxisGroup as AxisGroup
from onebasin.layout import AxisLayout as AxisLayout
from onebasin.matching import match as match
from onebasin.merging import merge as merge
from onebasin.correction import reestimate_batchnorm as reestimate_batchnorm
from onebasin.permutation import Permutation as Permutation
from onebasin.progress import Progress as Progress
from onebasin.symmetry import AxisRef as AxisRef
from onebasin.symmetry import Matching as Matching
from onebasin.symmetry import Status as Status
from onebasin.symmetry import Symmetry as Symmetry

__all__ = [
    "AxisGroup",
    "AxisLayout",
    "AxisRef",
    "Matching",
    "OneBasinError",
    "PathProfile",
    "Permutation",
    "Progress",
    "Status",
    "Symmetry",
    "Verification",
    "discover",
    "match",
    "merge",
    "open_checkpoint",
    "profile_path",
    "reestimate_batchnorm",
    "save_checkpoint",
    "verify",
]
