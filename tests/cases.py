"""Tables that feed every suite: small networks, one for each way of combining axes, and what must be found on them.

A row gives a network, its inputs, and the orders of its symmetric groups: `[8, (2, 4)]` is one group of 8 and two
copies of a group of 4 (nested in something of size 2), so that log_order = ln 8! + 2 ln 4!. They are worked out by
hand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lgamma, prod

import torch
from torch import Tensor, nn
from torch.nn import functional

import zoo

Groups = Sequence[int | tuple[int, ...]]


def log_order(groups: Groups) -> float:
    """The sum of ln n!; the last number of a tuple is n, those before it count the copies."""
    rows = [(g,) if isinstance(g, int) else g for g in groups]
    return sum(prod(row[:-1]) * lgamma(row[-1] + 1) for row in rows)


class Net(nn.Module):
    """A network from a function of itself and its inputs, and the modules, parameters and constants it uses."""

    def __init__(self, function: Callable[..., Tensor], /, **members: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, member in members.items():
            if isinstance(member, nn.Module | nn.Parameter):
                setattr(self, name, member)
            else:
                self.register_buffer(name, member, persistent=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Call the function."""
        return self.function(self, *inputs)


@dataclass(frozen=True)
class Case:
    """One network, its inputs, and the orders of the groups that must be found."""

    model: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    groups: Groups


def _x(*shape: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)


def _tokens(high: int, *shape: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randint(high, shape, generator=torch.Generator().manual_seed(0)),)


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1)))


def _hidden(function: Callable[..., Tensor], width: int = 8, **members: nn.Module | Tensor) -> Callable[[], nn.Module]:
    """`function(self, hidden)` between a layer of 8 hidden units and a layer that reads `width` of them."""
    return lambda: Net(
        lambda self, x: self.b(function(self, self.a(x))), a=nn.Linear(6, 8), b=nn.Linear(width, 3), **members
    )


def _beside(function: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    """A layer that reads all hidden units alike, plus a function of the hidden units that may tell them apart."""
    return lambda: Net(lambda self, x: self.b(self.a(x)) + function(self.a(x)), a=nn.Linear(6, 8), b=nn.Linear(8, 3))


def _filled(_: nn.Module, h: Tensor) -> Tensor:
    made = torch.zeros(h.shape)
    made[:, :4] = torch.tanh(h[:, :4])
    made[:, 4:] += h[:, :4] * 2
    return made


def _cleared(_: nn.Module, h: Tensor) -> Tensor:
    h[:, 2] = 0
    return h


def _through_view(self: nn.Module, h: Tensor) -> Tensor:
    h.view(-1, 2, 4)[:, 0].mul_(self.c)
    return h


def _through_alias(self: nn.Module, h: Tensor) -> Tensor:
    h.t().add_(self.c[:, None])
    return h


def _position_mix(self: nn.Module, x: Tensor) -> Tensor:
    hidden = x[..., None] * self.u
    return ((hidden + self.m @ hidden) * self.w).sum(-1)


def _pairs(self: nn.Module, x: Tensor) -> Tensor:
    hidden = x[..., None] * self.u
    return (torch.relu(hidden[:, :, None] + hidden[:, None]) * self.w).sum((-1, -2))


FLAT = _x(4, 6)
IMAGE = _x(2, 3, 8, 8)

NETWORKS: dict[str, Case] = {
    # layers
    "mlp": Case(lambda: zoo.mlp(6, 8, 5, 3), FLAT, [8, 5]),
    "no bias": Case(lambda: Net(lambda s, x: s.b(s.a(x)), a=nn.Linear(6, 8, bias=False), b=nn.Linear(8, 3)), FLAT, [8]),
    "tied square layer": Case(_hidden(lambda s, h: s.w(torch.relu(s.w(h))), w=nn.Linear(8, 8)), FLAT, [8]),
    "scalar gain": Case(_hidden(lambda s, h: h * s.g, g=_weight(1)), FLAT, [8]),
    "vector gain": Case(_hidden(lambda s, h: h * s.g, g=_weight(8)), FLAT, [8]),
    "prelu": Case(_hidden(lambda s, h: s.p(h), p=nn.PReLU(8)), FLAT, [8]),
    "weight norm": Case(
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3)),
        FLAT,
        [8],
    ),
    "embedding tied to the head": Case(
        lambda: Net(lambda s, t: (s.e(t).mean(1) + 1) @ s.e.weight.t(), e=nn.Embedding(11, 8)), _tokens(11, 4, 5), [8]
    ),
    "einsum over heads": Case(
        lambda: Net(
            lambda s, x: s.b(torch.einsum("bi,hoi->bho", x, s.w).relu().flatten(1)),
            w=_weight(2, 5, 6),
            b=nn.Linear(10, 3),
        ),
        FLAT,
        [2, (2, 5)],
    ),
    "rnn": Case(
        lambda: Net(lambda s, x: s.b(s.a(x)[0]), a=nn.RNN(6, 8, batch_first=True), b=nn.Linear(8, 3)), _x(4, 5, 6), [8]
    ),
    "lstm, both directions, two layers": Case(
        lambda: Net(
            lambda s, x: s.b(s.a(x)[0]), a=nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True), b=nn.Linear(16, 3)
        ),
        _x(4, 5, 6),
        [8, 8, 8, 8],
    ),
    "gru": Case(
        lambda: Net(lambda s, x: s.b(s.a(x)[0]), a=nn.GRU(6, 8, batch_first=True), b=nn.Linear(8, 3)), _x(4, 5, 6), [8]
    ),
    "bilinear layer": Case(
        lambda: Net(
            lambda s, x: s.b(torch.relu(s.c(s.a(x), s.a(x)))),
            a=nn.Linear(6, 5),
            c=nn.Bilinear(5, 5, 8),
            b=nn.Linear(8, 3),
        ),
        FLAT,
        [5, 8],
    ),
    "table of biases by position": Case(
        lambda: Net(
            lambda s, x: s.b(s.a(x) + s.t[torch.tensor([0, 2, 1, 2, 0])]),
            a=nn.Linear(6, 8),
            t=_weight(3, 8),
            b=nn.Linear(8, 3),
        ),
        _x(4, 5, 6),
        [8],
    ),
    # convolutions
    "convolution, norm, pool, flatten": Case(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5)
        ),
        IMAGE,
        [8],
    ),
    "grouped convolution": Case(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3, groups=4), nn.ReLU(), nn.Conv2d(12, 2, 1)
        ),
        IMAGE,
        [4, (4, 2), (4, 3)],
    ),
    "depthwise convolution": Case(
        lambda: nn.Sequential(nn.Conv3d(2, 6, 3), nn.Conv3d(6, 12, 3, groups=6, padding=1), nn.Conv3d(12, 3, 1)),
        _x(2, 2, 5, 5, 5),
        [6, (6, 2)],
    ),
    "transposed convolutions": Case(
        lambda: nn.Sequential(
            nn.ConvTranspose2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 12, 3, groups=4), nn.Conv2d(12, 2, 1)
        ),
        IMAGE,
        [4, (4, 2), (4, 3)],
    ),
    "1x1 convolution over tokens": Case(
        lambda: Net(lambda s, x: s.b(s.a(x).transpose(1, 2)).mean(1), a=nn.Conv1d(6, 8, 1), b=nn.Linear(8, 3)),
        _x(4, 6, 5),
        [8],
    ),
    "interpolation": Case(
        lambda: nn.Sequential(nn.Conv1d(3, 8, 3), nn.Upsample(scale_factor=2), nn.Conv1d(8, 2, 3)), _x(2, 3, 8), [8]
    ),
    "channel shuffle": Case(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ChannelShuffle(2), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 2, 1)
        ),
        IMAGE,
        [2, (2, 2), (4, 2), (2, 4)],
    ),
    # norms
    "layer and RMS norm": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.RMSNorm(8), nn.Linear(8, 7), nn.LayerNorm(7), nn.Linear(7, 3)),
        FLAT,
        [8, 7],
    ),
    "group norm": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 2, 1)), IMAGE, [4, (4, 2)]
    ),
    "instance norm": Case(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
            nn.ReLU(),
            nn.Conv2d(8, 2, 1),
        ),
        IMAGE,
        [8],
    ),
    # structure
    "concatenation": Case(
        lambda: Net(
            lambda s, x: s.b(torch.cat([s.a(x), s.c(x), torch.relu(s.a(x))], 1)),
            a=nn.Linear(6, 8),
            c=nn.Linear(6, 5),
            b=nn.Linear(21, 3),
        ),
        FLAT,
        [8, 5],
    ),
    "gated linear unit": Case(_hidden(lambda _, h: functional.glu(h), width=4), FLAT, [4]),
    "two halves": Case(_hidden(lambda _, h: h[:, :4] + torch.relu(h[:, 4:]), width=4), FLAT, [4]),
    "two ways to open an axis": Case(
        _hidden(lambda _, h: (h.view(-1, 2, 4) + h.view(-1, 4, 2).transpose(1, 2)).flatten(1)), FLAT, [2]
    ),
    "softmax inside heads": Case(_hidden(lambda _, h: h.view(-1, 2, 4).softmax(-1).flatten(1)), FLAT, [2, (2, 4)]),
    "heads never used apart": Case(_hidden(lambda _, h: torch.relu(h.view(-1, 2, 4)).flatten(1)), FLAT, [8]),
    "outer product with itself": Case(
        _hidden(lambda _, h: (h[:, :, None] * h[:, None]).flatten(1), width=64), FLAT, [8]
    ),
    "one index picked": Case(_beside(lambda h: h[:, 3:4]), FLAT, [3, 4]),
    "filled in place": Case(_hidden(_filled), FLAT, [4, 4]),
    "cleared in place": Case(_hidden(_cleared), FLAT, [2, 5]),
    "dead code": Case(
        lambda: Net(lambda s, x: (s.a(x).cumsum(1), s.b(s.a(x)))[1], a=nn.Linear(6, 8), b=nn.Linear(8, 3)), FLAT, [8]
    ),
    # what stays: constants, order, positions, departures
    "uniform constant": Case(_hidden(lambda s, h: h * s.c, c=torch.full((8,), 2.0)), FLAT, [8]),
    "constant that differs": Case(_hidden(lambda s, h: h * s.c, c=torch.arange(8.0)), FLAT, []),
    "constant made in forward": Case(_hidden(lambda _, h: h * torch.arange(8)), FLAT, []),
    "constant through a view": Case(_hidden(_through_view, c=torch.arange(4.0)), FLAT, [4]),
    "constant through an alias": Case(_hidden(_through_alias, c=torch.arange(8.0)), FLAT, []),
    "largest entry": Case(_hidden(lambda _, h: h * h.amax(1, keepdim=True)), FLAT, [8]),
    "position of the largest": Case(_hidden(lambda _, h: h * h.max(1, keepdim=True)[1]), FLAT, []),
    "argmax": Case(_hidden(lambda _, h: h * h.argmax(1, keepdim=True)), FLAT, []),
    "sorted": Case(_hidden(lambda _, h: h.sort(dim=1)[0]), FLAT, [8]),
    "top k": Case(_hidden(lambda _, h: h.topk(8, dim=1)[0]), FLAT, [8]),
    "flipped": Case(_hidden(lambda _, h: h + h.flip(1)), FLAT, []),
    "rolled": Case(_hidden(lambda _, h: h + h.roll(1, 1)), FLAT, []),
    "running sum": Case(_hidden(lambda _, h: h.cumsum(1)), FLAT, []),
    "shifted": Case(_hidden(lambda _, h: h[:, 1:] + h[:, :-1], width=7), FLAT, []),
    "gathered by number": Case(_hidden(lambda _, h: h[:, torch.tensor([1, 0, 2, 3, 4, 5, 6, 7])]), FLAT, []),
    "gathered along": Case(_hidden(lambda _, h: h.gather(1, torch.arange(7, -1, -1).expand(h.shape))), FLAT, []),
    "gathered across": Case(_hidden(lambda _, h: h.gather(0, torch.zeros(4, 8, dtype=torch.long))), FLAT, [8]),
    "scattered along": Case(
        _hidden(lambda _, h: h.scatter(1, torch.zeros(4, 1, dtype=torch.long), h[:, :1])), FLAT, []
    ),
    "put by number": Case(_hidden(lambda _, h: h.index_put((torch.tensor([1]),), torch.zeros(8))), FLAT, [8]),
    "put by mask": Case(_hidden(lambda _, h: torch.where(h > 0, h, h * 0.1).masked_fill(h > 1, 1.0)), FLAT, [8]),
    "rows let through by a mask": Case(_hidden(lambda _, h: h[torch.tensor([True, False, True, True])]), FLAT, [8]),
    "windows": Case(_hidden(lambda _, h: h.unfold(1, 3, 1).sum(1), width=3), FLAT, []),
    "random noise": Case(_hidden(lambda _, h: h + torch.randn(8)), FLAT, []),
    "spectrum": Case(_hidden(lambda _, h: torch.fft.rfft(h).abs(), width=5), FLAT, []),
    "number read out": Case(_beside(lambda h: h[0, 2].item()), FLAT, [2, 5]),
    "branch on a sum": Case(_hidden(lambda _, h: h if h.sum() > 0 else -h), FLAT, [8]),
    "branch on one entry": Case(_hidden(lambda _, h: h if h[0, 0] > 0 else -h), FLAT, [7]),
    "list made": Case(_beside(lambda h: h.tolist()[0][3]), FLAT, []),
    "numpy made": Case(_beside(lambda h: torch.from_numpy(h.detach().numpy()[:, 3:4] * 1.0)), FLAT, []),
    # positions as context
    "units of their own at every position": Case(
        lambda: Net(lambda s, x: (torch.relu(x[..., None] * s.u) * s.w).sum(-1), u=_weight(6, 8), w=_weight(6, 8)),
        FLAT,
        [(6, 8)],
    ),
    "positions mixed": Case(
        lambda: Net(_position_mix, u=_weight(6, 8), w=_weight(6, 8), m=torch.randn(6, 6)), FLAT, [8]
    ),
    "positions paired": Case(lambda: Net(_pairs, u=_weight(6, 8), w=_weight(6, 8)), FLAT, [8]),
    # architectures
    "transformer encoder": Case(
        lambda: nn.Sequential(
            nn.Linear(5, 16),
            nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 20, batch_first=True), 2),
            nn.Linear(16, 3),
        ),
        _x(2, 4, 5),
        [16, 2, (2, 8), (2, 8), 20, 2, (2, 8), (2, 8), 20],
    ),
    "decoder, fused attention": Case(
        lambda: zoo.Decoder(fused=True), _tokens(17, 2, 6), [24, *[2, (2, 2), (2, 6), (2, 6), 20] * 2]
    ),
    "decoder, attention written out": Case(
        lambda: zoo.Decoder(fused=False), _tokens(17, 2, 6), [24, *[2, (2, 2), (2, 6), (2, 6), 20] * 2]
    ),
    "residual network, convolution shortcuts": Case(
        lambda: zoo.ResNet20(4), _x(2, 3, 16, 16), [4] * 4 + [8] * 4 + [16] * 4
    ),
}
"""Networks by name; fuzzing, proving and matching run over all of them."""
