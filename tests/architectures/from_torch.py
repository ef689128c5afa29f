"""Architectures of torch itself: recurrent layers, transformers, reparametrised weights, and models hard to follow."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.nn.utils import parametrizations

from architectures.entry import Entry, normal


class Recurrent(nn.Module):
    """A recurrent layer of torch over a sequence of 5, read out at its last step and averaged."""

    def __init__(self, kind: type[nn.RNNBase], **options: int) -> None:
        super().__init__()
        self.body = kind(6, 8, batch_first=True, **options)
        width = (options.get("proj_size") or 8) * (2 if options.get("bidirectional") else 1)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        out, _ = self.body(x)
        return self.head(out[:, -1] + out.mean(1))


class Cells(nn.Module):
    """An LSTM cell and a GRU cell in a loop written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.LSTMCell(6, 8), nn.GRUCell(8, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        h, c, g = (x.new_zeros(len(x), n) for n in (8, 8, 7))
        for step in x.unbind(1):
            h, c = self.first(step, (h, c))
            g = self.second(h, g)
        return self.head(g)


class Translator(nn.Module):
    """`nn.Transformer` between embeddings and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.body = nn.Transformer(16, 2, 2, 2, 20, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits."""
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1]).to(target)
        return self.head(self.body(self.embed(source), self.embed(target), tgt_mask=mask))


class CrossAttention(nn.Module):
    """`nn.MultiheadAttention` with keys and values of widths of their own, and a learned extra key."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(6, 12), nn.Linear(6, 10), nn.Linear(6, 8)
        self.attention = nn.MultiheadAttention(12, 3, kdim=10, vdim=8, add_bias_kv=True, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        out, _ = self.attention(self.query(x), self.key(x), self.value(x), need_weights=False)
        return self.head(out)


class Squared(torch.autograd.Function):
    """The square, with a gradient of its own."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        """Entry by entry."""
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        """Straight through."""
        return gradient * ctx.saved_tensors[0].sign()


class Leaving(torch.autograd.Function):
    """A running sum that is computed outside of torch."""

    @staticmethod
    def forward(_: FunctionCtx, x: Tensor) -> Tensor:
        """Along the last axis."""
        return torch.from_numpy(x.detach().numpy().cumsum(-1))

    @staticmethod
    def backward(_: FunctionCtx, gradient: Tensor) -> Tensor:
        """The running sum from the other end."""
        return gradient.flip(-1).cumsum(-1).flip(-1)


class Hidden(nn.Module):
    """Two hidden layers with a function between them that is given the model and the first hidden units."""

    def __init__(self, between: Callable[["Hidden", Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 3)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.c(torch.tanh(self.b(self.between(self, torch.tanh(self.a(x))))))


def _loop(_: Hidden, h: Tensor) -> Tensor:
    while h.norm() > 1:
        h = h * 0.7
    return h


class Routed(nn.Module):
    """A mixture of experts in which every expert works on the samples that chose it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.router, self.head = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 8)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        h = self.embed(x)
        weights, chosen = self.router(h).softmax(-1).topk(2, -1)
        out = torch.zeros_like(h)
        for number, expert in enumerate(self.experts):
            sample, place = torch.where(chosen == number)
            if len(sample):
                out.index_add_(0, sample, expert(h[sample]) * weights[sample, place, None])
        return self.head(h + out)


def _layers(wrap: Callable[[nn.Module], nn.Module], *widths: int) -> nn.Sequential:
    pairs = list(pairwise(widths))
    layers = [layer for pair in pairs[:-1] for layer in (wrap(nn.Linear(*pair)), nn.ReLU())]
    return nn.Sequential(*layers, wrap(nn.Linear(*pairs[-1])))


def _convolutions(wrap: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    return nn.Sequential(wrap(nn.Conv1d(6, 8, 3)), nn.ReLU(), wrap(nn.Conv1d(8, 9, 3, groups=1)), nn.ReLU(),
                         nn.Flatten(), nn.Linear(9, 3))  # fmt: skip


_SEQUENCE = normal(2, 5, 6)
_FLAT = normal(32, 6)

TABLE = {
    **{
        f"{kind}{tail}": Entry(
            lambda torch, kind=kind, options=options: Recurrent(getattr(torch.nn, kind.upper()), **options), _SEQUENCE
        )
        for kind in ("lstm", "gru", "rnn")
        for tail, options in (("", {}), ("_deep", {"num_layers": 3}),
                              ("_both_ways", {"num_layers": 2, "bidirectional": True}))
    },
    "lstm_projected": Entry(lambda _: Recurrent(nn.LSTM, num_layers=2, proj_size=5), _SEQUENCE),
    "cells": Entry(lambda _: Cells(), _SEQUENCE),
    "transformer": Entry(
        lambda _: Translator(),
        lambda: (torch.linspace(-1, 1, 60).view(2, 5, 6), torch.linspace(1, 2, 48).view(2, 4, 6)),
    ),
    "cross_attention": Entry(lambda _: CrossAttention(), _SEQUENCE),
    "weight_norm": Entry(lambda _: _layers(parametrizations.weight_norm, 6, 8, 7, 3), _FLAT),
    "weight_norm_hook": Entry(lambda torch: _convolutions(torch.nn.utils.weight_norm), normal(2, 6, 5)),
    "weight_norm_inputs": Entry(
        lambda _: _layers(lambda layer: parametrizations.weight_norm(layer, dim=1), 6, 8, 7, 3), _FLAT
    ),
    "spectral_norm": Entry(lambda _: _layers(parametrizations.spectral_norm, 6, 8, 7, 3), _FLAT),
    "spectral_norm_hook": Entry(lambda torch: _convolutions(torch.nn.utils.spectral_norm), normal(2, 6, 5)),
    "custom_function": Entry(lambda _: Hidden(lambda _, h: Squared.apply(h)), _FLAT),
    "custom_function_outside": Entry(lambda _: Hidden(lambda _, h: Leaving.apply(h)), _FLAT),
    "branch_on_values": Entry(lambda _: Hidden(lambda _, h: h if functional.relu(h).sum() > 9 else -h), _FLAT),
    "loop_until": Entry(lambda _: Hidden(_loop), _FLAT),
    "experts_by_index": Entry(lambda _: Routed(), _FLAT),
}  # fmt: skip
