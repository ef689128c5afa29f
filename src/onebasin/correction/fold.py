"""See a site and the BatchNorm behind it as one affine map, and put a new map back into the same parameters."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from onebasin.correction.rows import weights
from onebasin.correction.site import Site
from onebasin.merging.stack import round_once

Params = Mapping[str, Tensor]


def folded(site: Site, params: Params) -> tuple[Tensor, Tensor]:
    """The affine map from a site's inputs to its own output: `[groups, in, out]` and `[groups, out]`, float64."""
    W = weights(site, params)
    shift = _bias(site, params, W)
    if site.norm is None:
        return W, shift
    gain = _gain(site, params).reshape(shift.shape)
    mean = params[site.norm.mean].double().reshape(shift.shape)
    beta = _optional(params, site.norm.bias, 0.0, shift)
    return W * gain[:, None], gain * (shift - mean) + beta


def unfolded(
    site: Site, params: Params, W: Tensor, b: Tensor, outputs: Callable[[], tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """The tensors that make a site compute `x W + b`, all others staying as they are.

    Behind a BatchNorm the choice is free. Taken are rows of the length they had, and running statistics that are those
    of the data, so that the network behaves as one that was trained: with r the factor of the length, m and v the mean
    and variance of what now reaches the norm and c the bias before it, the gain is `sqrt(v + eps) / r` and the shift
    `b + (m - c) / r`. A norm without gain or shift gets the statistics that do the same.

    Args:
        site: the linear layer.
        params: the tensors so far.
        W: `[groups, in, out]`, float64.
        b: `[groups, out]`, float64; not used where the site has neither bias nor norm.
        outputs: gives mean and variance of `x W`, `[groups, out]`, float64; asked only where the norm must tell them.
    """
    if site.norm is None:
        changed = {site.name: _with(params[site.name], site.entries, W)}
        if site.bias:
            changed[site.bias.name] = _with(params[site.bias.name], site.bias.entries, b)
        return changed
    norm, before = site.norm, weights(site, params)
    c = _bias(site, params, W)
    mean, variance = params[norm.mean], params[norm.variance]
    if norm.weight is None or norm.bias is None:
        # The gain and shift that there are stay: the norm must divide by `spread` and subtract what is left.
        gain, shift = _optional(params, norm.weight, 1.0, b), _optional(params, norm.bias, 0.0, b)
        W, b, spread = W / gain[:, None], (b - shift) / gain, torch.full_like(b, 1.0)
        statistics = (c - b, spread.square() - norm.eps)
        changed = {}
    else:
        length = W.norm(dim=1)
        r = torch.where(length > 0, before.norm(dim=1) / length, torch.ones_like(length))
        r = torch.where(r > 0, r, torch.ones_like(r))
        W = W * r[:, None]
        m, v = outputs()
        m, v = r * m + c, r.square() * v
        changed = {
            norm.weight: _like((v + norm.eps).sqrt() / r, params[norm.weight]),
            norm.bias: _like(b + (m - c) / r, params[norm.bias]),
        }
        statistics = (m, v)
    changed[site.name] = _with(params[site.name], site.entries, W)
    changed[norm.mean], changed[norm.variance] = _like(statistics[0], mean), _like(statistics[1], variance)
    return changed


def scaled(site: Site, params: Params, gain: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """The tensors after which a site gives `gain * y + shift` where it gave y.

    A site with neither bias nor norm cannot be shifted: its weights are scaled, and the shift is left out.

    Args:
        site: the linear layer.
        params: the tensors so far.
        gain: `[groups, out]`, float64.
        shift: `[groups, out]`, float64.
    """
    norm = site.norm
    if norm is not None and norm.weight is not None and norm.bias is not None:
        gamma, beta = params[norm.weight], params[norm.bias]
        return {
            norm.weight: _like(gamma.double() * gain.reshape(-1), gamma),
            norm.bias: _like(beta.double() * gain.reshape(-1) + shift.reshape(-1), beta),
        }
    changed = {site.name: _with(params[site.name], site.entries, weights(site, params) * gain[:, None])}
    if site.bias is not None:
        bias = _bias(site, params, gain) * gain
        changed[site.bias.name] = _with(params[site.bias.name], site.bias.entries, bias if norm else bias + shift)
    if norm is not None:
        # W x + c is g times what it was; so must be the mean, but for the shift, seen from before the norm.
        beta, mean = _optional(params, norm.bias, 0.0, gain), params[norm.mean].double().reshape(gain.shape)
        moved = gain * mean - ((gain - 1) * beta + shift) / _gain(site, params).reshape(gain.shape)
        changed[norm.mean] = _like(moved, params[norm.mean])
    return changed


def constant(site: Site, params: Params) -> Tensor:
    """What a site adds whatever its inputs, its bias or the shift of its norm: `[groups, out]`, float64."""
    if site.norm is None:
        return _bias(site, params, weights(site, params))
    like = weights(site, params)[:, 0]
    return _optional(params, site.norm.bias, 0.0, like)


def _gain(site: Site, params: Params) -> Tensor:
    """What the norm multiplies by, `[units]`, float64."""
    norm = site.norm
    if norm is None:
        return torch.ones(())
    gamma = params[norm.weight].double() if norm.weight else 1.0
    return gamma * (params[norm.variance].double() + norm.eps).rsqrt()


def _bias(site: Site, params: Params, like: Tensor) -> Tensor:
    """What is added before the norm, `[groups, out]`, float64."""
    if site.bias is None:
        return like.new_zeros(site.entries.shape[0], site.entries.shape[2], dtype=torch.float64)
    tensor = params[site.bias.name]
    return tensor.detach().double().reshape(-1)[site.bias.entries.to(tensor.device)]


def _optional(params: Params, name: str | None, value: float, like: Tensor) -> Tensor:
    return torch.full_like(like, value) if name is None else params[name].double().reshape(like.shape)


def _with(tensor: Tensor, entries: Tensor, values: Tensor) -> Tensor:
    """A copy of a tensor with some of its entries replaced, rounded once to its dtype."""
    flat = tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
    flat[entries.reshape(-1).to(flat.device)] = round_once(values.reshape(-1), tensor.dtype)
    return flat.reshape(tensor.shape)


def _like(values: Tensor, tensor: Tensor) -> Tensor:
    return round_once(values.double(), tensor.dtype).reshape(tensor.shape)
