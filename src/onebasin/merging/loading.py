"""Put tensors into a model, and go through data sample by sample."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from onebasin.errors import OptionError
from onebasin.evaluation import check_shapes
from onebasin.merging.networks import Trial


def load_into(trial: Trial, params: Mapping[str, Tensor], label: str) -> nn.Module:
    """A trial's model with given tensors, in eval mode.

    Args:
        trial: builds the model.
        params: tensors by name; others than the model's are left out.
        label: what to call them in errors.

    Raises:
        MismatchError: a tensor of the model is missing or has another shape.
    """
    with torch.random.fork_rng(devices=[]):  # whatever a model draws beside its tensors is the same every time
        torch.default_generator.manual_seed(0)
        model = trial.build_model()
    state = model.state_dict()
    check_shapes(state, params, label)
    with torch.no_grad():
        for name, tensor in state.items():
            if name in params:
                tensor.copy_(params[name])
    return model.eval()


def at_most(batches: Iterable[object], samples: int) -> Iterator[object]:
    """Batches until at least so many samples have been seen, counted by their length where they have one, else 1 each.

    Raises:
        OptionError: there is no batch, or `samples` is below 1.
    """
    if samples < 1:
        raise OptionError("samples", expected="1 or more", found=str(samples), remedy="raise it")
    seen = 0
    for batch in batches:
        yield batch
        seen += _length(batch) or 1
        if seen >= samples:
            return
    if seen == 0:
        raise OptionError("batches", expected="at least one batch", found="none", remedy="pass data to estimate from")


def singles(batch: object) -> Iterator[object]:
    """The samples of a batch one by one, each a batch of one.

    A batch of tensors of one length (in a tuple, list or dict, or by itself) is taken apart; any other is one sample.
    """
    length = _length(batch)
    if length is None:
        yield batch
    else:
        for position in range(length):
            yield _part(batch, slice(position, position + 1))


def _tensors(batch: object) -> list[object]:
    if isinstance(batch, Mapping):
        return list(batch.values())
    return list(batch) if isinstance(batch, tuple | list) else [batch]


def _length(batch: object) -> int | None:
    lengths = {len(t) if isinstance(t, Tensor) and t.ndim else None for t in _tensors(batch)}
    return lengths.pop() if len(lengths) == 1 else None


def _part(batch: object, which: slice) -> object:
    if isinstance(batch, Mapping):
        return {key: _part(value, which) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(_part(value, which) for value in batch)
    return batch[which] if isinstance(batch, Tensor) else batch
