"""Small architectures as symmetries, for planting reorderings and finding them again."""

from onebasin import AxisGroup
from strategies import written

NORM = {"weight": "{}", "bias": "{}", "running_mean": "{}", "running_var": "{}", "num_batches_tracked": ""}


def norm(name: str, group: str) -> dict[str, str]:
    """The tensors of a BatchNorm layer."""
    return {f"{name}.{part}": axes.format(group) for part, axes in NORM.items()}


def statistics(*names: str) -> frozenset[str]:
    """The buffers of BatchNorm layers."""
    return frozenset(f"{name}.{part}" for name in names for part in list(NORM)[2:])


MLP = written(
    [AxisGroup("h1", 24), AxisGroup("h2", 20)],
    {"w1": "h1,16", "b1": "h1", "w2": "h2,h1", "b2": "h2", "w3": "10,h2", "b3": "10"},
)
CONV = written(
    [AxisGroup("c1", 10), AxisGroup("c2", 12), AxisGroup("m", 8)],
    {
        "conv1": "c1,3,3,3",
        **norm("bn1", "c1"),
        "conv2": "c2,c1,3,3",
        **norm("bn2", "c2"),
        "block1": "m,c2,3,3",
        "block2": "c2,m,1,1",
        "skip": "c1 + c2,2",
        "fc": "10,c2*4",
    },
    buffers=statistics("bn1", "bn2"),
)
TRANSFORMER = written(
    [AxisGroup("r", 16), AxisGroup("h", 3), AxisGroup("qk", 4, ("h",)), AxisGroup("v", 5, ("h",)), AxisGroup("f", 20)],
    {
        "embed": "60,r",
        "norm": "r",
        "qk.weight": "h*(qk + qk),r",
        "qk.bias": "h*(qk + qk)",
        "v.weight": "r,h*v",
        "out": "h,v,r",
        "up": "f,r",
        "down": "r,f",
        "head": "60,r",
    },
    tied=(("embed", "head"),),
)
GROUPED = written(
    [
        AxisGroup("r", 12),
        AxisGroup("kv", 2),
        AxisGroup("q", 2, ("kv",)),
        AxisGroup("qk", 4, ("kv",)),
        AxisGroup("gate", 3, ("kv", "q")),
    ],
    {
        "embed": "40,r",
        "q": "kv*q,r,8",
        "k": "kv*qk,r",
        "g": "kv*q*gate,r",
        "bias": "q,gate,kv,4",
        "out": "r,gate*kv*q",
    },
)
FIXED = written(
    [AxisGroup("h", 3, (), fixed=True), AxisGroup("u", 6, ("h",)), AxisGroup("r", 8)],
    {"slopes": "h", "in": "h*u,r", "out": "r,h*u", "embed": "30,r"},
)
NETWORKS = {"mlp": MLP, "conv": CONV, "transformer": TRANSFORMER, "grouped": GROUPED, "fixed": FIXED}
