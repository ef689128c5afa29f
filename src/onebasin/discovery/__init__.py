"""Find the permutation symmetries of any PyTorch model, and prove them on the model."""

from collections.abc import Mapping, Sequence

from torch import nn

from onebasin.discovery.groups import read_symmetry
from onebasin.discovery.probes import Probe as Probe
from onebasin.discovery.probes import find_probes as find_probes
from onebasin.discovery.probes import watch as watch
from onebasin.discovery.solve import record_modes, solve
from onebasin.discovery.verify import Verification as Verification
from onebasin.discovery.verify import verify as verify
from onebasin.symmetry import Symmetry

__all__ = ["Probe", "Verification", "discover", "find_probes", "verify", "watch"]


def discover(model: nn.Module, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None) -> Symmetry:
    """Find which axes of which tensors of a model can be permuted together without changing its function.

    The model is run once on fake tensors (shapes only: no weights are copied, any size costs no memory), or on the real
    example inputs where its control flow depends on values. An operation without a rule pins the axes it touches, so
    that a symmetry may be missed but is never invented; `verify` proves the result.

    Args:
        model: any module; neither its weights nor its mode are changed.
        args: positional inputs of one forward pass, of any batch size.
        kwargs: keyword inputs of one forward pass.

    Returns:
        the symmetry, with a reason for every axis that is pinned.

    Raises:
        DiscoveryError: if the model does not run on the inputs.
    """
    tapes, unreached = record_modes(model, args, dict(kwargs or {}))
    return read_symmetry(model, solve(tapes), tapes[0], unreached)
