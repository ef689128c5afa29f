"""Operations that sum over products: matrix products, convolutions, attention, embeddings."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from onebasin.discovery.axes import Product, size_of
from onebasin.discovery.rules.base import Call, Dims, rule


def contract(c: Call, inputs: Sequence[tuple[Dims, str]], output: str) -> Dims:
    """An Einstein sum: equal letters move together.

    Letters on every operand and on the output are a batch. Every other letter passes through while some letter is
    summed over, so that it can depend on nothing but the batch, as far as its own operand knows it.
    """
    known: dict[str, Product] = {}
    for dims, letters in inputs:
        for letter, product in zip(letters, dims, strict=True):
            known[letter] = c.axes.unify(known[letter], product) if letter in known else product
    batch = set(output).intersection(*(letters for _, letters in inputs))
    for dims, letters in inputs:
        own = [product for letter, product in zip(letters, dims, strict=True) if letter in batch]
        for letter, product in zip(letters, dims, strict=True):
            if letter not in batch:
                c.mixes(*own, product)
    return [known[letter] for letter in output]


@rule("mm", "bmm", "mv", "dot", "addmm", "addmv", "baddbmm", "addbmm")
def matrix_product(c: Call) -> Sequence[Dims]:
    """Matrix and vector products, with or without a term added."""
    letters, terms = {
        "mm": ("ik,kj->ij", ("self", "mat2")),
        "bmm": ("bik,bkj->bij", ("self", "mat2")),
        "mv": ("ik,k->i", ("self", "vec")),
        "dot": ("k,k->", ("self", "tensor")),
        "addmm": ("ik,kj->ij", ("mat1", "mat2")),
        "addmv": ("ik,k->i", ("mat", "vec")),
        "baddbmm": ("bik,bkj->bij", ("batch1", "batch2")),
        "addbmm": ("bik,bkj->ij", ("batch1", "batch2")),
    }[c.op.name.removeprefix("aten::").removesuffix("_")]
    left, right = letters.split("->")
    out = contract(c, [(c.dims(t), row) for t, row in zip(terms, left.split(","), strict=True)], right)
    return [out if terms[0] == "self" else c.broadcast([out, c.dims("self")])]


@rule("_trilinear")
def trilinear(c: Call) -> Sequence[Dims]:
    """Three tensors multiplied entry by entry after new dimensions are put in, then summed: nn.Bilinear."""
    rows = []
    for name, new in (("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")):
        row = c.dims(name)
        for position in c[new]:
            row.insert(position, ())
        rows.append(row)
    joined = c.broadcast(rows)
    kept = [d for position, d in enumerate(joined) if position not in c["sumdim"]]
    for product in joined:
        c.mixes(joined[0], product)
    return [kept]


@rule("_grouped_mm", positions="used")
def grouped_product(c: Call) -> Sequence[Dims]:
    """One matrix for each run of rows, as for tokens sorted by expert; where the runs end is told by number."""
    rows, inner = c.dims("self")
    stack, inner_w, outer = c.dims("mat2")
    c.axes.pin(rows, "rows are given to matrices by number")
    inner = c.axes.unify(inner, inner_w)
    c.look_up(c["offs"], stack, [inner])
    c.look_up(c["offs"], stack, [outer])
    # The ends of the runs tell the matrix of every row.
    c.lookups[-2:] = [replace(lookup, places=[rows]) for lookup in c.lookups[-2:]]
    return [[rows, outer]]


@rule("convolution")
def convolution(c: Call) -> Sequence[Dims]:
    """Channels contract group by group; positions along the kernel stay, unless the kernel is a single point."""
    x, weight, groups = c.dims("input"), c.dims("weight"), c["groups"]
    reason = "channels that do not fall into the convolution's groups"
    batch = x[0]
    group, inputs = c.split(x[1], groups, reason)
    if c["transposed"]:
        group_w, inputs_w = c.split(weight[0], groups, reason)
        outputs = weight[1]
    else:
        group_w, outputs = c.split(weight[0], groups, reason)
        inputs_w = weight[1]
    group = c.axes.unify(group, group_w)
    inputs = c.axes.unify(inputs, inputs_w)
    c.mixes(batch, group, inputs)
    c.mixes(group, inputs)
    c.mixes(group, outputs)
    channels: Product = (*group, *outputs)
    if c["bias"] is not None:
        channels = c.axes.unify(channels, c.dims("bias")[0])
    space = []
    for k, (product, kernel) in enumerate(zip(x[2:], weight[2:], strict=True)):
        step, edge = (values[min(k, len(values) - 1)] for values in (c["stride"], c["padding"]))
        if size_of(kernel) == 1 and step == 1 and edge == 0:
            space.append(product)
            continue
        for positions in (product, kernel):
            c.axes.pin(positions, "positions under a kernel")
        space.append(c.axes.fixed(c.shape()[2 + k], "positions under a kernel"))
    return [[batch, channels, *space]]


@rule(
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
def attention(c: Call) -> Sequence[Dims]:
    """Softmax(Q K^T) V, batch by batch and head by head; several query heads may share one key head."""
    query, key, value = c.dims("query"), c.dims("key"), c.dims("value")
    batch = c.broadcast([query[:1], key[:1], value[:1]])[0]
    heads = c.axes.unify(key[1], value[1])
    shared, each = c.split(query[1], size_of(heads), "query heads that do not fall into key heads")
    heads = c.axes.unify(shared, heads)
    c.axes.unify(query[3], key[3])
    length = c.axes.unify(key[2], value[2])
    if c["is_causal"]:
        c.axes.pin(query[2], "each position sees those before it")
        c.axes.pin(length, "each position sees those before it")
    scores = [batch, (*heads, *each), query[2], length]
    mask = "attn_mask" if c["attn_mask"] is not None else "attn_bias"
    if c[mask] is not None:
        scores = c.broadcast([scores, c.dims(mask)])
    for tensor in (query, key, value):
        for product in tensor[2:]:
            c.mixes(*tensor[:2], product)
    out: Dims = [scores[0], scores[1], scores[2], value[3]]
    rest = [[*scores[:3]] if c.shape(i) == c.shape()[:3] else c.pinned(i, "bookkeeping of attention")
            for i in range(1, len(c.op.results))]  # fmt: skip
    return list(chain([out], rest))
