"""Find the permutation symmetries of any PyTorch model, and prove them on the model."""

from collections.abc import Mapping, Sequence

from torch import nn

from onebasin.discovery.groups import read_symmetry
from onebasin.discovery.rules import find_rule
from onebasin.discovery.solve import solve
from onebasin.discovery.tape import Tape, record, values_in
from onebasin.discovery.verify import Verification as Verification
from onebasin.discovery.verify import verify as verify
from onebasin.errors import DiscoveryError
from onebasin.modes import in_mode
from onebasin.symmetry import Symmetry

__all__ = ["Verification", "discover", "verify"]


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
    named = dict(kwargs or {})
    with in_mode(model, train=False):
        tapes = [record(model, args, named, _knows)]
    unreached = "not used by the forward pass on the example inputs"
    if _reaches_all(tapes[0]):
        return read_symmetry(model, solve(tapes), tapes[0], unreached)
    # Auxiliary heads and the like run in training only; what they share with the rest must move together, too.
    try:
        with in_mode(model, train=True):
            tapes.append(record(model, args, named, _knows))
    except DiscoveryError as error:
        unreached += f" in eval mode; in train mode {error.found}"
    return read_symmetry(model, solve(tapes), tapes[0], unreached)


def _knows(name: str, func: object) -> bool:
    return find_rule(name, func) is not None


def _reaches_all(tape: Tape) -> bool:
    reached = {value for op in tape.live() for value in values_in(op.arguments)}
    return all(value in reached for value in tape.parameters.values() if value.kind == "parameter")
