"""Addition modulo n with the one-layer transformer of Chughtai et al. (2023), under TransformerLens parameter names.

A sample is the tokens (a, b, n); the answer (a + b) mod n is read at the last position. The network has no LayerNorm.
The test split is the whole table, as in the published accuracies; which part of it the published networks were trained
on is not known, so train (80 %) and val (20 %) are a fixed split of our own, and no split measures generalisation.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from onebasin.tasks import classification_sums

MODULUS = 113
CONTEXT = 3
WIDTH, HEADS, HEAD_WIDTH, HIDDEN = 128, 4, 32, 512
BATCH_SIZE = 1000
TRAINING_PART = 0.8
SEED = 0


class Embed(nn.Module):
    """A vector per token; the token n stands for the equals sign."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.W_E = _weight(tokens, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map int64 `[n, position]` to `[n, position, width]`."""
        return functional.embedding(tokens, self.W_E)


class PosEmbed(nn.Module):
    """A vector per position."""

    def __init__(self) -> None:
        super().__init__()
        self.W_pos = _weight(CONTEXT, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Add the vectors of the positions to `[n, position, width]`."""
        return x + self.W_pos[: x.shape[1]]


class Attention(nn.Module):
    """Causal attention whose weights are kept per head."""

    def __init__(self) -> None:
        super().__init__()
        self.W_Q = _weight(HEADS, WIDTH, HEAD_WIDTH)
        self.W_K = _weight(HEADS, WIDTH, HEAD_WIDTH)
        self.W_V = _weight(HEADS, WIDTH, HEAD_WIDTH)
        self.W_O = _weight(HEADS, HEAD_WIDTH, WIDTH)
        self.b_Q = nn.Parameter(torch.zeros(HEADS, HEAD_WIDTH))
        self.b_K = nn.Parameter(torch.zeros(HEADS, HEAD_WIDTH))
        self.b_V = nn.Parameter(torch.zeros(HEADS, HEAD_WIDTH))
        self.b_O = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, position, width]` to the same shape."""
        q = torch.einsum("npm,hmd->nphd", x, self.W_Q) + self.b_Q
        k = torch.einsum("npm,hmd->nphd", x, self.W_K) + self.b_K
        v = torch.einsum("npm,hmd->nphd", x, self.W_V) + self.b_V
        scores = torch.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(HEAD_WIDTH)
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(diagonal=1)
        pattern = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
        z = torch.einsum("nhqk,nkhd->nqhd", pattern, v)
        return torch.einsum("nqhd,hdm->nqm", z, self.W_O) + self.b_O


class MLP(nn.Module):
    """One hidden layer of ReLU units."""

    def __init__(self) -> None:
        super().__init__()
        self.W_in = _weight(WIDTH, HIDDEN)
        self.b_in = nn.Parameter(torch.zeros(HIDDEN))
        self.W_out = _weight(HIDDEN, WIDTH)
        self.b_out = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, position, width]` to the same shape."""
        hidden = torch.relu(torch.einsum("npm,mf->npf", x, self.W_in) + self.b_in)
        return torch.einsum("npf,fm->npm", hidden, self.W_out) + self.b_out


class Block(nn.Module):
    """Attention, then the hidden layer, each added to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = Attention()
        self.mlp = MLP()

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, position, width]` to the same shape."""
        x = x + self.attn(x)
        out: Tensor = x + self.mlp(x)
        return out


class Unembed(nn.Module):
    """Logits of the group's elements."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.W_U = _weight(WIDTH, classes)
        self.b_U = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., width]` to `[..., classes]`."""
        return x @ self.W_U + self.b_U


class GroupTransformer(nn.Module):
    """The whole network for a group of `modulus` elements."""

    def __init__(self, modulus: int = MODULUS) -> None:
        super().__init__()
        self.embed = Embed(modulus + 1)
        self.pos_embed = PosEmbed()
        self.blocks = nn.ModuleList([Block()])
        self.unembed = Unembed(modulus)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map int64 `[n, 3]` to the logits at the last position, `[n, modulus]`."""
        x = self.pos_embed(self.embed(tokens))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.unembed(x[:, -1])
        return logits


def addition_table(modulus: int = MODULUS) -> tuple[Tensor, Tensor]:
    """Every sum: tokens int64 `[modulus ** 2, 3]` and answers int64 `[modulus ** 2]`."""
    pairs = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus))
    equals = torch.full((len(pairs), 1), modulus)
    return torch.cat([pairs, equals], dim=1), pairs.sum(dim=1) % modulus


def build_model() -> nn.Module:
    """The network for MODULUS."""
    return GroupTransformer()


def example_inputs() -> tuple[Tensor]:
    """Two sums."""
    tokens, _ = addition_table()
    return (tokens[[1, -1]],)


def batches(split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens int64 `[n, 3]` and answers int64 `[n]`."""
    tokens, answers = addition_table()
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(SEED))
    cut = round(TRAINING_PART * len(order))
    chosen = {"train": order[:cut], "val": order[cut:], "test": order}[split]
    for part in chosen.split(BATCH_SIZE):
        yield tokens[part], answers[part]


evaluate = classification_sums


def _weight(*shape: int) -> nn.Parameter:
    """Normal weights whose products keep the scale of the stream."""
    return nn.Parameter(torch.randn(*shape) / math.sqrt(WIDTH))
