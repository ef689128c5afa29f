"""Operations that work along an axis: reductions, softmax, normalisation, pooling, and those that order or shift."""

import re
from collections.abc import Sequence

from onebasin.discovery.axes import Product, resolve
from onebasin.discovery.rules.base import Call, Dims, rule


def _chosen(c: Call, rank: int) -> list[int]:
    named = c["dim"]
    if named is None or named == []:
        return list(range(rank))
    return [position % max(1, rank) for position in (named if isinstance(named, list) else [named])]


@rule(
    "sum", "mean", "amax", "amin", "any", "all", "prod", "var", "std", "var_mean", "std_mean", "logsumexp", "nansum",
    "linalg_vector_norm", "max", "min", "aminmax", "count_nonzero", "argmax", "argmin",
)  # fmt: skip
def reduction(c: Call) -> Sequence[Dims]:
    """A value that does not depend on the order along the reduced axes; a position does, and points into them."""
    dims = c.dims("self")
    if c["other"] is not None:
        return [c.broadcast([dims, c.dims("other")])]
    chosen = set(_chosen(c, len(dims)))
    kept = [d for position, d in enumerate(dims) if position not in chosen]
    c.mixes(*kept)
    out = [() if position in chosen else d for position, d in enumerate(dims)] if c["keepdim"] else kept
    (product, *others) = [dims[position] for position in sorted(chosen)] or [()]
    _point(c, product if not others else (*product, *(atom for other in others for atom in other)))
    return [out for _ in c.op.results]


def _point(c: Call, product: Product) -> None:
    """The integer results of a ranking are positions of the ranked axis.

    Between equal entries the position decides, so that an axis on which entries may well be equal has to stay.
    """
    ranked = c.op.name.removeprefix("aten::") in _RANKINGS
    for value in c.op.results if ranked else ():
        if value is None or value.dtype.is_floating_point:
            continue
        if c["self"] in c.ties.untied:
            c.pointed[value] = product
        else:
            c.axes.pin(product, "positions of entries that may be equal")


_RANKINGS = {"max", "min", "argmax", "argmin", "sort", "topk"}


@rule("sort", "topk")
def ranking(c: Call) -> Sequence[Dims]:
    """Entries by size along one axis: the values do not depend on its order, the positions point into it."""
    dims, position = c.dims("self"), c.axis() if c["dim"] is not None else len(c.dims("self")) - 1
    c.mixes(*(d for p, d in enumerate(dims) if p != position))
    _point(c, dims[position])
    ranks = c.axes.fixed(c.shape()[position], "ordered by size")
    return [[*dims[:position], ranks, *dims[position + 1 :]] for _ in c.op.results]


@rule("_softmax", "_log_softmax", "_safe_softmax")
def softmax(c: Call) -> Sequence[Dims]:
    """Normalised along one axis, whatever its order."""
    dims = c.dims("self")
    c.mixes(*(d for position, d in enumerate(dims) if position != c.axis()))
    return [dims]


@rule("cumsum", "cumprod", "logcumsumexp", "flip", "roll", "cummax", "cummin")
def ordered(c: Call) -> Sequence[Dims]:
    """The order along the axes matters: they stay, the others pass."""
    dims = c.dims("self")
    named = c["dims"] if c["dim"] is None else c["dim"]
    wanted = list(range(len(dims))) if named in (None, []) else named if isinstance(named, list) else [named]
    chosen = [position % max(1, len(dims)) for position in wanted]
    kept = c.drop(dims, chosen, "its order matters")
    return [
        kept if len(c.shape(i)) < len(dims) else c.transformed(dims, chosen, "its order matters", i)
        for i in range(len(c.op.results))
    ]


@rule("tril", "triu")
def triangle(c: Call) -> Sequence[Dims]:
    """Entries are kept by their position in the last two axes."""
    dims = c.dims("self")
    return [c.transformed(dims, [len(dims) - 2, len(dims) - 1], "entries are kept by position")]


@rule(
    "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update", "_batch_norm_no_update",
)  # fmt: skip
def batch_norm(c: Call) -> Sequence[Dims]:
    """Channel by channel: gain, bias and both running statistics belong to the channel."""
    x = c.dims("input")
    channels: Product = x[1]
    for name in ("weight", "bias", "running_mean", "running_var"):
        if c[name] is not None:
            channels = c.axes.unify(channels, c.dims(name)[0])
    c.mixes(channels)
    size = c.shape()[1]
    rest = [
        [channels] if c.shape(i) == (size,) else c.pinned(i, "bookkeeping of a norm")
        for i in range(1, len(c.op.results))
    ]
    return [[x[0], channels, *x[2:]], *rest]


@rule("native_layer_norm", "_fused_rms_norm")
def layer_norm(c: Call) -> Sequence[Dims]:
    """Symmetric in the normalised axes, which gain and bias share."""
    x = c.dims("input")
    outer = len(x) - len(c["normalized_shape"])
    inner = x[outer:]
    for name in ("weight", "bias"):
        if c[name] is not None:
            inner = c.broadcast([inner, c.dims(name)])
    c.mixes(*x[:outer])
    rest: list[Dims] = [[*x[:outer], *([()] * len(inner))] for _ in c.op.results[1:]]
    return [[*x[:outer], *inner], *rest]


@rule("native_group_norm")
def group_norm(c: Call) -> Sequence[Dims]:
    """Symmetric inside every group of channels, and the groups among themselves."""
    x = c.dims("input")
    channels: Product = x[1]
    for name in ("weight", "bias"):
        if c[name] is not None:
            channels = c.axes.unify(channels, c.dims(name)[0])
    group, inside = c.split(channels, c["group"], "channels that do not fall into the norm's groups")
    c.mixes(x[0], group)
    return [[x[0], resolve((*group, *inside)), *x[2:]], *([x[0], group] for _ in c.op.results[1:])]


@rule(
    "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d",
    *(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)),
    *(f"upsample_nearest{n}d" for n in (1, 2, 3)), *(f"_upsample_nearest_exact{n}d" for n in (1, 2, 3)),
    "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip
def pooling(c: Call) -> Sequence[Dims]:
    """Neighbouring positions are combined, channel by channel."""
    (rank,) = re.findall(r"([123])d", c.op.name)
    dims = c.dims("self" if c["self"] is not None else "input")
    space = range(len(dims) - int(rank), len(dims))
    return [c.transformed(dims, space, "neighbouring positions are combined", i) for i in range(len(c.op.results))]
