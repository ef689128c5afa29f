"""Random small networks: straight-line programs over tensors, drawn step by step from all families of operations."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Step = Callable[["Program", Tensor, Callable[[int], int]], Tensor | None]

STEPS: dict[str, Step] = {}


def step(function: Step) -> Step:
    """Enter a step into the table; it returns None where it does not fit the tensor it is given."""
    STEPS[function.__name__] = function
    return function


class Program(nn.Module):
    """A network that is built while it runs for the first time, from a list of choices, and runs alike ever after.

    Every choice is a number; `pick(n)` takes the next one modulo n. Weights are made when a step first asks for them.
    """

    def __init__(self, choices: Sequence[int], example: Tensor) -> None:
        super().__init__()
        self.choices = list(choices)
        self.weights = nn.ParameterDict()
        self._generator = torch.Generator().manual_seed(0)
        self._made = 0
        self._building = True
        with torch.no_grad():
            self(example)
        self._building = False

    def weight(self, *shape: int) -> Tensor:
        """The next parameter of the program, of the given shape."""
        self._made += 1
        name = f"w{self._made}"
        if self._building:
            self.weights[name] = nn.Parameter(
                torch.randn(shape, generator=self._generator) / max(1, shape[-1]) ** 0.5, requires_grad=False
            )
        return self.weights[name]

    def forward(self, x: Tensor) -> Tensor:
        """Run the program: each step takes one of the tensors so far and adds one."""
        self._made, position = 0, 0

        def pick(n: int) -> int:
            nonlocal position
            value = self.choices[position % len(self.choices)] if self.choices else 0
            position += 1
            return value % n

        tensors = [x]
        for _ in range(len(self.choices) // 3):
            name = list(STEPS)[pick(len(STEPS))]
            source = tensors[-1 - min(pick(4), len(tensors) - 1)]
            made = STEPS[name](self, source, pick)
            if made is not None and 1 < made.ndim < 6 and 0 < made.numel() <= 4096:
                tensors.append(made)
        last = tensors[-1].flatten(1) if tensors[-1].ndim > 1 else tensors[-1][:, None]
        return functional.linear(last, self.weight(3, last.shape[1])) + sum(t.mean() for t in tensors[1:])


@step
def linear(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """A linear map of the last axis."""
    width = (4, 6, 8, 12)[pick(4)]
    return functional.linear(x, p.weight(width, x.shape[-1]), p.weight(width) if pick(2) else None)


@step
def matmul_left(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """A linear map of the second to last axis."""
    return p.weight((4, 6)[pick(2)], x.shape[-2]) @ x if x.ndim > 2 else None


@step
def square(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """One square matrix used several times."""
    w = p.weight(x.shape[-1], x.shape[-1])
    for _ in range(1 + pick(2)):
        x = torch.tanh(x @ w)
    return x


@step
def activation(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """An activation."""
    return (torch.relu, torch.sin, functional.gelu, torch.sigmoid)[pick(4)](x)


@step
def scale(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """A gain along one axis."""
    axis = 1 + pick(x.ndim - 1)
    return x * p.weight(*(x.shape[axis] if d == axis else 1 for d in range(1, x.ndim)))


@step
def shift(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """A bias for every entry of a sample."""
    return x + p.weight(*x.shape[1:])


@step
def residual(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """A residual branch."""
    return x + torch.relu(functional.linear(x, p.weight(x.shape[-1], x.shape[-1])))


@step
def bottleneck(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """A residual branch with hidden units."""
    hidden = torch.relu(functional.linear(x, p.weight(5, x.shape[-1])))
    return x + functional.linear(hidden, p.weight(x.shape[-1], 5))


@step
def softmax(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """A softmax along some axis."""
    return x.softmax(1 + pick(x.ndim - 1))


@step
def norm(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """A layer, RMS, group or batch norm."""
    kind = pick(4)
    if kind == 0:
        return functional.layer_norm(x, x.shape[-1:], p.weight(x.shape[-1]), p.weight(x.shape[-1]))
    if kind == 1:
        return functional.rms_norm(x, x.shape[-1:], p.weight(x.shape[-1]))
    if kind == 2 and x.shape[1] % 2 == 0:
        return functional.group_norm(x, 2, p.weight(x.shape[1]), p.weight(x.shape[1]))
    return functional.batch_norm(x, p.weight(x.shape[1]), p.weight(x.shape[1]) ** 2 + 1)


@step
def split_heads(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """The last axis opened into two."""
    outer = (2, 3, 4)[pick(3)]
    return x.unflatten(-1, (outer, -1)) if x.shape[-1] % outer == 0 and x.shape[-1] > outer else None


@step
def merge_axes(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """Two neighbouring axes flattened into one."""
    return x.flatten(-2) if x.ndim > 2 else None


@step
def transpose(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """Two axes exchanged, none of them the batch."""
    return x.transpose(1 + pick(x.ndim - 1), 1 + pick(x.ndim - 1)) if x.ndim > 2 else None


@step
def reduce_axis(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """A sum, mean, maximum or norm along an axis."""
    if x.ndim < 3:
        return None
    axis, keep = 1 + pick(x.ndim - 1), bool(pick(2))
    return (torch.sum, torch.mean, torch.amax, torch.linalg.vector_norm)[pick(4)](x, dim=axis, keepdim=keep)


@step
def chunk(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """An axis cut into equal pieces that are added, multiplied or joined in another order."""
    axis = 1 + pick(x.ndim - 1)
    pieces = (2, 3)[pick(2)]
    if x.shape[axis] % pieces or x.shape[axis] == pieces:
        return None
    first, *rest = x.chunk(pieces, axis)
    kind = pick(3)
    if kind == 0:
        return first + torch.tanh(rest[-1])
    return first * torch.sigmoid(rest[0]) if kind == 1 else torch.cat([*rest, first], axis)


@step
def narrow(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """A part of an axis."""
    axis = 1 + pick(x.ndim - 1)
    start = pick(3)
    return x.narrow(axis, start, x.shape[axis] - start - 1) if x.shape[axis] > start + 2 else None


@step
def select(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """One index of an axis."""
    return x.select(1 + pick(x.ndim - 1), pick(2)) if x.ndim > 2 and min(x.shape[1:]) > 1 else None


@step
def join(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """A tensor beside a function of itself, along an old or a new axis."""
    axis = 1 + pick(x.ndim - 1)
    return torch.stack([x, torch.sin(x)], axis) if pick(3) == 0 else torch.cat([x, torch.relu(x)], axis)


@step
def pad(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """Zeros around the last axis, then a residual of the padded width."""
    x = functional.pad(x, (pick(3), pick(3)))
    return x + functional.linear(x, p.weight(x.shape[-1], x.shape[-1])) if pick(2) else x


@step
def attend(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """Attention with two heads over the second axis, written out or fused."""
    if x.ndim != 3 or x.shape[-1] % 2:
        return None
    width = x.shape[-1]
    qkv = functional.linear(x, p.weight(3 * width, width)).view(*x.shape[:2], 3, 2, width // 2)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    fused = bool(pick(2))
    mixed = functional.scaled_dot_product_attention(q, k, v) if fused else (q @ k.transpose(-1, -2)).softmax(-1) @ v
    return x + functional.linear(mixed.transpose(1, 2).flatten(2), p.weight(width, width))


@step
def convolve(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """A convolution along the last axis, in groups or depthwise."""
    if x.ndim != 3:
        return None
    groups = (1, 2, x.shape[1])[pick(3)]
    if x.shape[1] % groups:
        return None
    kernel = (1, 3)[pick(2)]
    out = groups * (1 + pick(3))
    return functional.conv1d(x, p.weight(out, x.shape[1] // groups, kernel), padding=kernel // 2, groups=groups)


@step
def pool(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """Neighbours averaged, with a residual where it fits."""
    if x.ndim != 3 or x.shape[-1] < 3:
        return None
    return x + functional.avg_pool1d(x, 3, 1, 1) if pick(2) else functional.max_pool1d(x, 2)


@step
def pairs(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """Every index against every other."""
    return x[:, :, None] - x[:, None, :] if x.ndim < 4 and x.shape[1] <= 8 else None


@step
def gram(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """Inner products along the last axis."""
    return x @ x.transpose(-1, -2) if x.ndim > 2 else None


@step
def constant(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """A constant that differs along one axis, or along none."""
    axis = 1 + pick(x.ndim - 1)
    values = torch.arange(x.shape[axis], dtype=x.dtype) if pick(2) else torch.full((x.shape[axis],), 0.5, dtype=x.dtype)
    return x + values.view(*(-1 if d == axis else 1 for d in range(x.ndim)))


@step
def ordered(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """The order along an axis matters."""
    axis = 1 + pick(x.ndim - 1)
    kind = pick(3)
    if kind == 0:
        return x.cumsum(axis)
    return x + x.flip(axis) if kind == 1 else x.sort(dim=axis).values


@step
def overwrite(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """A fresh tensor filled piece by piece, in place."""
    made = torch.zeros(x.shape, dtype=x.dtype)
    half = max(1, x.shape[-1] // 2)
    made[..., :half] = torch.tanh(x[..., :half])
    made[..., half:] += x[..., half:]
    return made


@step
def tile(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """Copies along an axis: side by side, or as a new axis shared by all."""
    if x.shape[-1] > 6:
        return None
    return x.repeat(*(1,) * (x.ndim - 1), 2) if pick(2) else x.unsqueeze(-2).expand(*x.shape[:-1], 2, x.shape[-1])


@step
def route(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """Experts chosen by the largest scores: as weights, by a one-hot code, by scattering, or by looking matrices up."""
    if x.ndim != 2:
        return None
    width, experts, hidden, kind = x.shape[-1], 4, 3, pick(4)
    scores = functional.linear(x, p.weight(experts, width)).softmax(-1)
    into, out = p.weight(experts, width, hidden), p.weight(experts, hidden, width)
    best, chosen = scores.topk(2, -1)
    if kind == 3:
        mixed = torch.relu(x[:, None, None] @ into[chosen]) @ out[chosen]
        return x + (mixed[:, :, 0] * best[..., None]).sum(1)
    if kind == 0:
        gates = scores
    elif kind == 1:
        gates = (functional.one_hot(chosen, experts) * best[..., None]).sum(1)
    else:
        gates = torch.zeros_like(scores).scatter(-1, chosen, best)
    each = torch.einsum("teh,ehd->ted", torch.relu(torch.einsum("td,edh->teh", x, into)), out)
    return x + (each * gates[..., None]).sum(1)


@step
def look_up(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """Rows of a table chosen by the largest entry, by a constant, or by counting; once or twice."""
    size = x.shape[-1]
    table = p.weight(size, 5)
    kind = pick(4)
    if kind == 0:
        return torch.tanh(table[(x @ p.weight(size, size)).argmax(-1)])
    if kind == 1:
        return x @ table[torch.arange(size)]
    if kind == 2:
        return x @ table[torch.arange(size).flip(0)]
    numbers = (x @ p.weight(size, size)).argmax(-1)
    return table[numbers] + table[(x @ p.weight(size, size)).argmax(-1)]


@step
def gathered(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """Entries picked along an axis by rank, by constant numbers, or by numbers computed from others."""
    axis, kind = 1 + pick(x.ndim - 1), pick(4)
    if kind == 0:
        return x.gather(axis, x.argsort(axis))
    if kind == 1:
        return x.index_select(axis, torch.tensor([0, x.shape[axis] - 1, 0]))
    numbers = x.argmax(axis, keepdim=True)
    return x + x.gather(axis, numbers) if kind == 2 else x * numbers


@step
def masked(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor:
    """Entries overwritten where a mask of values, of positions or of numbers says so."""
    kind = pick(4)
    if kind == 0:
        return x.masked_fill(x > 0.5, 0.1)
    if kind == 1:
        mask = torch.arange(x.shape[-1]) > 1
        return torch.where(mask, x, -x)
    if kind == 2:
        return x.index_put((torch.tensor([0]),), torch.zeros((), dtype=x.dtype))
    hot = functional.one_hot((x @ p.weight(x.shape[-1], x.shape[-1])).argmax(-1), x.shape[-1])
    return x * hot


@step
def recur(p: Program, x: Tensor, pick: Callable[[int], int]) -> Tensor | None:
    """A recurrent layer written out, with gates cut from one projection."""
    if x.ndim != 3 or x.shape[-1] > 12:
        return None
    width, h = 4, x.new_zeros(len(x), 4)
    into, back = p.weight(2 * width, x.shape[-1]), p.weight(2 * width, width)
    states = []
    for t in range(x.shape[1]):
        gate, value = (functional.linear(x[:, t], into) + functional.linear(h, back)).chunk(2, -1)
        h = torch.sigmoid(gate) * h + torch.tanh(value)
        states.append(h)
    return torch.stack(states, 1)
