"""The table of all architectures that discovery is proved on, named `package/architecture`."""

import warnings

from torch import Tensor, nn

from architectures import from_timm, from_torch, from_torchvision, from_transformers, twins
from architectures.entry import Entry, load

TABLES = {
    "torch": from_torch.TABLE,
    "twin": twins.TABLE,
    "torchvision": from_torchvision.TABLE,
    "timm": from_timm.TABLE,
    "transformers": from_transformers.TABLE,
}

CATALOGUE: dict[str, Entry] = {
    f"{package}/{name}": entry for package, table in TABLES.items() for name, entry in table.items()
}


def build(name: str) -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Tensor]]:
    """A model of the table with random weights, in eval mode, and its positional and named inputs.

    Raises:
        ImportError: if its package is not installed or cannot be imported, with the reason.
    """
    entry, package = CATALOGUE[name], name.partition("/")[0]
    module = load("torch" if package == "twin" else package)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Those of other people's constructors.
        model = entry.build(module).eval()
    inputs = entry.inputs()
    return (model, inputs, {}) if isinstance(inputs, tuple) else (model, (), dict(inputs))
