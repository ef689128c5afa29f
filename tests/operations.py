"""One row for every rule: a function of hidden units that makes PyTorch perform the operation.

A row of the table is the operation's name in ATen and a function. The hidden units stand in `h`: of shape `[4, 8]` for
`FLAT`, and as channels in `[2, 8, 6]`, `[2, 8, 6, 6]` and `[2, 8, 4, 4, 4]` for the others.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from cases import Net

Function = Callable[[Tensor], Tensor]

_EYE = torch.eye(4)
_ROWS = torch.tensor([0, 2, 1])

FLAT: dict[str, Function] = {
    "add": lambda h: h + h.tanh(),
    "copy": lambda h: torch.empty_like(h).copy_(h),
    "masked_fill": lambda h: h.masked_fill(h > 0, 0.5),
    "native_dropout": lambda h: torch.native_dropout(h, 0.0, True)[0],
    "where": lambda h: torch.where(h > 0, h, -h),
    "_prelu_kernel": lambda h: F.prelu(h, torch.tensor(0.2, dtype=h.dtype)),
    "clone": lambda h: h.clone(),
    "alias": torch.ops.aten.alias,
    "detach": lambda h: h.detach(),
    "_to_copy": lambda h: (h > 0).to(h.dtype) + h,
    "lift_fresh": lambda h: h * torch.tensor([2.0], dtype=h.dtype),
    "lift_fresh_copy": torch.ops.aten.lift_fresh_copy,
    "bernoulli": lambda h: h * torch.empty_like(h).bernoulli_(1.0),
    "zeros": lambda h: h + torch.zeros(8, dtype=h.dtype),
    "ones": lambda h: h + torch.ones(8, dtype=h.dtype),
    "full": lambda h: h + torch.full((8,), 2.0, dtype=h.dtype),
    "empty": lambda h: torch.empty(4, 8, dtype=h.dtype).copy_(h),
    "zeros_like": lambda h: h + torch.zeros_like(h),
    "ones_like": lambda h: h + torch.ones_like(h),
    "full_like": lambda h: h + torch.full_like(h, 3.0),
    "empty_like": lambda h: torch.empty_like(h).copy_(h),
    "new_zeros": lambda h: h + h.new_zeros(8),
    "new_ones": lambda h: h + h.new_ones(8),
    "new_full": lambda h: h + h.new_full((8,), 2.0),
    "new_empty": lambda h: h.new_empty(4, 8).copy_(h),
    "scalar_tensor": lambda h: torch.where(h > 0, h, torch.scalar_tensor(0.5, dtype=h.dtype)),
    "fill": lambda h: h.clone().fill_(2.0) + h,
    "zero": lambda h: h.clone().zero_() + h,
    "arange": lambda h: h + torch.arange(8),
    "linspace": lambda h: h + torch.linspace(0, 1, 8, dtype=h.dtype),
    "logspace": lambda h: h + torch.logspace(0, 1, 8, dtype=h.dtype),
    "eye": lambda h: torch.eye(4, dtype=h.dtype) @ h,
    "tril_indices": lambda h: h * torch.tril_indices(4, 4).sum(),
    "triu_indices": lambda h: h * torch.triu_indices(4, 4).sum(),
    "_local_scalar_dense": lambda h: h * h[0, 0].item(),
    "equal": lambda h: h if torch.equal(h, h.flip(1)) else -h,
    "eq": lambda h: h * (h.argmax(-1, keepdim=True) == torch.arange(8)),
    "ne": lambda h: h * (h != 0),
    "view": lambda h: h.view(4, 2, 4),
    "_unsafe_view": lambda h: torch.ops.aten._unsafe_view(h, [4, 4, 2]),
    "_reshape_alias": lambda h: torch.ops.aten._reshape_alias(h, [4, 2, 4], [8, 4, 1]),
    "as_strided": lambda h: h.as_strided((4, 8), (8, 1)),
    "permute": lambda h: h.permute(1, 0).permute(1, 0),
    "transpose": lambda h: h.transpose(0, 1).transpose(0, 1),
    "t": lambda h: h.t().t(),
    "unsqueeze": lambda h: h.unsqueeze(1),
    "squeeze": lambda h: h.unsqueeze(1).squeeze(1),
    "expand": lambda h: h.unsqueeze(1).expand(4, 3, 8),
    "repeat": lambda h: h.repeat(1, 2),
    "slice": lambda h: h[:, 2:6],
    "select": lambda h: h[:, 3],
    "unbind": lambda h: h.view(4, 2, 4).unbind(1)[1],
    "split": lambda h: h.split(4, 1)[1],
    "split_with_sizes": lambda h: h.split([3, 5], 1)[1],
    "cat": lambda h: torch.cat([h, h.sin()], 1),
    "stack": lambda h: torch.stack([h, h.sin()], 1),
    "constant_pad_nd": lambda h: F.pad(h, (1, 2)),
    "mm": lambda h: h @ h.t() @ h,
    "bmm": lambda h: (h[:, :, None] @ h[:, None]).sum(-1),
    "mv": lambda h: (h @ h[0])[:, None] * h,
    "dot": lambda h: h * torch.dot(h[0], h[1]),
    "addmm": lambda h: torch.addmm(h, _EYE.to(h.dtype), h),
    "addmv": lambda h: h * torch.addmv(h[:, 0], h, h[0])[:, None],
    "baddbmm": lambda h: torch.baddbmm(h[:, None], _EYE.to(h.dtype)[:, None, :1], h[:, None]),
    "addbmm": lambda h: torch.addbmm(h, h[:, :, None].expand(4, 8, 1)[:, :4], h[:, None]),
    "_trilinear": lambda h: F.bilinear(h, h, torch.ones(3, 8, 8, dtype=h.dtype)),
    "embedding": lambda h: F.embedding(torch.tensor([0, 2, 1, 3]), h),
    "index_select": lambda h: h.index_select(0, _ROWS),
    "index": lambda h: h[_ROWS],
    "index_put": lambda h: h.index_put((_ROWS,), h[:3].sin()),
    "index_add": lambda h: h.index_add(0, _ROWS, h[:3].sin()),
    "index_copy": lambda h: h.index_copy(0, _ROWS, h[:3].sin()),
    "gather": lambda h: h.gather(0, torch.tensor([[0] * 8, [2] * 8])),
    "scatter": lambda h: h.scatter(0, torch.tensor([[1] * 8]), h[:1]),
    "scatter_add": lambda h: h.scatter_add(0, torch.tensor([[1] * 8]), h[:1]),
    "scatter_reduce": lambda h: h.scatter_reduce(0, torch.tensor([[1] * 8]), h[:1], "amax"),
    "unfold": lambda h: h.unfold(0, 2, 1),
    "sum": lambda h: h.sum(1, keepdim=True) + h,
    "mean": lambda h: h.mean(1, keepdim=True) + h,
    "amax": lambda h: h.amax(1, keepdim=True) + h,
    "amin": lambda h: h.amin(1, keepdim=True) + h,
    "aminmax": lambda h: h + torch.aminmax(h, dim=1, keepdim=True)[0],
    "any": lambda h: h * (h > 0).any(1, keepdim=True),
    "all": lambda h: h * (h > -9).all(1, keepdim=True),
    "prod": lambda h: h.prod(1, keepdim=True) + h,
    "var": lambda h: h.var(1, keepdim=True) + h,
    "std": lambda h: h.std(1, keepdim=True) + h,
    "var_mean": lambda h: torch.var_mean(h, 1, keepdim=True)[0] + h,
    "std_mean": lambda h: torch.std_mean(h, 1, keepdim=True)[0] + h,
    "logsumexp": lambda h: h.logsumexp(1, keepdim=True) + h,
    "nansum": lambda h: h.nansum(1, keepdim=True) + h,
    "count_nonzero": lambda h: h * torch.count_nonzero(h > 0, dim=1)[:, None],
    "linalg_vector_norm": lambda h: torch.linalg.vector_norm(h, dim=1, keepdim=True) + h,
    "max": lambda h: h + h.max(1, keepdim=True)[0],
    "min": lambda h: h + h.min(1, keepdim=True)[0],
    "argmax": lambda h: h.gather(1, h.argmax(1, keepdim=True)),
    "argmin": lambda h: h.gather(1, h.argmin(1, keepdim=True)),
    "sort": lambda h: h.sort(dim=1)[0],
    "topk": lambda h: h.topk(3, 1)[0],
    "_softmax": lambda h: h.softmax(1),
    "_log_softmax": lambda h: h.log_softmax(1),
    "_safe_softmax": lambda h: torch.ops.aten._safe_softmax(h, 1),
    "cumsum": lambda h: h.cumsum(0),
    "cumprod": lambda h: h.cumprod(0),
    "logcumsumexp": lambda h: h.logcumsumexp(0),
    "cummax": lambda h: h.cummax(0)[0],
    "cummin": lambda h: h.cummin(0)[0],
    "flip": lambda h: h.flip(0),
    "roll": lambda h: h.roll(1, 0),
    "tril": lambda h: h.view(4, 8, 1).expand(4, 8, 8).tril(),
    "triu": lambda h: h.triu(),
    "native_layer_norm": lambda h: F.layer_norm(h, (8,)),
    "native_group_norm": lambda h: F.group_norm(h, 2),
}

SEQUENCE: dict[str, Function] = {
    "convolution": lambda h: F.conv1d(h, torch.ones(8, 1, 3, dtype=h.dtype), groups=8),
    "native_batch_norm": lambda h: F.batch_norm(h, None, None, training=True),
    "_scaled_dot_product_flash_attention_for_cpu": lambda h: F.scaled_dot_product_attention(*[h[:, :, :, None]] * 3),
    "reflection_pad1d": lambda h: F.pad(h, (1, 1), "reflect"),
    "replication_pad1d": lambda h: F.pad(h, (1, 1), "replicate"),
    "upsample_nearest1d": lambda h: F.interpolate(h, scale_factor=2.0),
    "_upsample_nearest_exact1d": lambda h: F.interpolate(h, scale_factor=2.0, mode="nearest-exact"),
    "upsample_linear1d": lambda h: F.interpolate(h, scale_factor=2.0, mode="linear"),
}

IMAGE: dict[str, Function] = {
    "avg_pool2d": lambda h: F.avg_pool2d(h, 2),
    "max_pool2d_with_indices": lambda h: F.max_pool2d(h, 2),
    "_adaptive_avg_pool2d": lambda h: F.adaptive_avg_pool2d(h, 3),
    "adaptive_max_pool2d": lambda h: F.adaptive_max_pool2d(h, 3),
    "reflection_pad2d": lambda h: F.pad(h, (1, 1, 1, 1), "reflect"),
    "replication_pad2d": lambda h: F.pad(h, (1, 1, 1, 1), "replicate"),
    "upsample_nearest2d": lambda h: F.interpolate(h, scale_factor=2.0),
    "_upsample_nearest_exact2d": lambda h: F.interpolate(h, scale_factor=2.0, mode="nearest-exact"),
    "upsample_bilinear2d": lambda h: F.interpolate(h, scale_factor=2.0, mode="bilinear"),
    "upsample_bicubic2d": lambda h: F.interpolate(h, scale_factor=2.0, mode="bicubic"),
    "_upsample_bilinear2d_aa": lambda h: F.interpolate(h, scale_factor=0.5, mode="bilinear", antialias=True),
    "_upsample_bicubic2d_aa": lambda h: F.interpolate(h, scale_factor=0.5, mode="bicubic", antialias=True),
    "im2col": lambda h: F.unfold(h, 2),
    "col2im": lambda h: F.fold(F.unfold(h, 2), (6, 6), 2),
}

VOLUME: dict[str, Function] = {
    "avg_pool3d": lambda h: F.avg_pool3d(h, 2),
    "max_pool3d_with_indices": lambda h: F.max_pool3d(h, 2),
    "_adaptive_avg_pool3d": lambda h: F.adaptive_avg_pool3d(h, 2),
    "adaptive_max_pool3d": lambda h: F.adaptive_max_pool3d(h, 2),
    "reflection_pad3d": lambda h: F.pad(h, (1,) * 6, "reflect"),
    "replication_pad3d": lambda h: F.pad(h, (1,) * 6, "replicate"),
    "upsample_nearest3d": lambda h: F.interpolate(h, scale_factor=2.0),
    "_upsample_nearest_exact3d": lambda h: F.interpolate(h, scale_factor=2.0, mode="nearest-exact"),
    "upsample_trilinear3d": lambda h: F.interpolate(h, scale_factor=2.0, mode="trilinear"),
}

ELSEWHERE = {
    "_fused_rms_norm": "on CUDA and Apple's Metal only",
    "cudnn_batch_norm": "on CUDA only",
    "_native_batch_norm_legit": "in exported programs only; the name differs, the arguments do not",
    "_native_batch_norm_legit_no_training": "in exported programs only",
    "_batch_norm_with_update": "in exported programs only",
    "_batch_norm_no_update": "in exported programs only",
    "_scaled_dot_product_flash_attention": "on CUDA only",
    "_scaled_dot_product_efficient_attention": "on CUDA only",
    "_scaled_dot_product_cudnn_attention": "on CUDA only",
    "_scaled_dot_product_fused_attention_overrideable": "on other accelerators only",
    "_grouped_mm": "needs widths of multiples of 16 bytes and offsets; the mixtures of transformers exercise it",
}
"""Rules that a CPU does not reach through PyTorch's functions, and why."""

SHAPES = {"FLAT": (4, 6), "SEQUENCE": (2, 3, 6), "IMAGE": (2, 3, 6, 6), "VOLUME": (2, 3, 4, 4, 4)}
TABLES = {"FLAT": FLAT, "SEQUENCE": SEQUENCE, "IMAGE": IMAGE, "VOLUME": VOLUME}
OPERATIONS = [(kind, name) for kind, table in TABLES.items() for name in table]


def network(kind: str, name: str) -> tuple[nn.Module, Tensor]:
    """Hidden units, the operation, and a layer that reads what comes out; and an input."""
    function = TABLES[kind][name]
    x = torch.randn(SHAPES[kind], generator=torch.Generator().manual_seed(0))
    conv = {"SEQUENCE": nn.Conv1d, "IMAGE": nn.Conv2d, "VOLUME": nn.Conv3d}
    into = nn.Linear(6, 8) if kind == "FLAT" else conv[kind](3, 8, 1)
    with torch.no_grad():
        made = function(into(x))
    rest = made.numel() // len(made)
    return Net(lambda s, x: s.b(function(s.a(x)).flatten(1) if rest > 1 else function(s.a(x))[:, None]), a=into,
               b=nn.Linear(rest, 3)), x  # fmt: skip
