"""One linear layer as a model performs it, and the plan of all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from onebasin.correction.trace import Node


@dataclass(frozen=True)
class Bias:
    """A parameter added to every row of a site's output.

    Attributes:
        name: in the state dict.
        entries: `[groups, out]` int64, the entry of the flattened parameter for every unit.
    """

    name: str
    entries: Tensor


@dataclass(frozen=True)
class Norm:
    """A BatchNorm that normalises a site's output unit by unit with running statistics.

    Attributes:
        mean: name of the running mean, `[units]`.
        variance: name of the running variance.
        weight: name of the gain; None where there is none.
        bias: name of the shift; None where there is none.
        eps: added to the variance.
    """

    mean: str
    variance: str
    weight: str | None
    bias: str | None
    eps: float


@dataclass(frozen=True)
class Convolution:
    """The geometry of a convolution, one number for each spatial dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """One linear layer as it is performed.

    Attributes:
        name: of the parameter, in the state dict.
        node: the operation.
        operand: which argument holds the inputs.
        flipped: whether the parameter is the left factor, so that rows and columns change places.
        entries: `[groups, in, out]` int64: where in the flattened parameter each weight lies.
        convolution: the geometry; None for a product.
        inputs: the value of the inputs.
        bias: what is added to the output; None where nothing is.
        norm: the BatchNorm that follows; None where none does.
        own: the operation after which the layer's own output is complete (the node itself, its bias or its norm).
        moves: the operations between `node` and `own` that move entries about.
        stream: the addition that joins the output to a residual stream; None where there is none.
        stream_moves: all operations between `node` and `stream` that move entries about.
        others: the values that are added to the output on the way to `stream`.
        relu: whether a ReLU, and nothing else, reads the result.
        logits: whether a log-softmax reads the result.
        depth: how many sites lie on the longest way to this one, itself included.
    """

    name: str
    node: Node
    operand: int
    flipped: bool
    entries: Tensor
    convolution: Convolution | None
    inputs: int
    bias: Bias | None
    norm: Norm | None
    own: Node
    moves: tuple[Node, ...]
    stream: Node | None = None
    stream_moves: tuple[Node, ...] = ()
    others: tuple[int, ...] = ()
    relu: bool = False
    logits: bool = False
    depth: int = 0

    @property
    def end(self) -> Node:
        """The operation after which the target is complete: that of the stream, or the layer's own."""
        return self.stream or self.own

    @property
    def end_moves(self) -> tuple[Node, ...]:
        """The operations between `node` and `end` that move entries about."""
        return self.moves if self.stream is None else self.stream_moves

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Groups, inputs and outputs of each."""
        groups, inputs, outputs = self.entries.shape
        return groups, inputs, outputs

    @property
    def units(self) -> int:
        """Outputs of all groups."""
        return self.entries.shape[0] * self.entries.shape[2]


@dataclass(frozen=True)
class Plan:
    """The sites of a model.

    Attributes:
        sites: in an order in which they can be corrected one after another.
        needs: for every site, the positions (bits) of the sites that what it reads depends on.
        norms: BatchNorms that belong to no site: the operation and the names of running mean and variance.
        skipped: for every parameter that a matrix product or convolution uses but that is no site, the reason.
    """

    sites: tuple[Site, ...]
    needs: tuple[int, ...]
    norms: tuple[tuple[Node, str, str], ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
