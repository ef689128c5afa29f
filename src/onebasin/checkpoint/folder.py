"""What lies beside the weights in a folder of Hugging Face: settings and the tokenizer, kept with a merged model."""

import json
from pathlib import Path

import torch

from onebasin.checkpoint.format import INDEX
from onebasin.errors import CheckpointError
from onebasin.files import write_bytes

SUFFIXES = frozenset({".json", ".txt", ".model", ".jinja", ".tiktoken", ".py"})
"""Files with these ends are settings, vocabularies, templates and the code of a model; weights have others."""
DTYPE_KEYS = ("dtype", "torch_dtype")
"""Where `config.json` says in which dtype the model is to be loaded."""


def copy_companions(source: Path, target: Path, dtype: torch.dtype | None = None) -> tuple[Path, ...]:
    """Copy settings and tokenizer from one model's folder to another's; files there are replaced whole or not at all.

    Args:
        source: a folder with a model.
        target: a folder.
        dtype: of the weights in `target`, where it is not that of `source`; `config.json` then says so.

    Returns:
        The files written, in the order of their names.

    Raises:
        CheckpointError: a file cannot be read or written.
    """
    written = []
    for path in sorted(source.iterdir()):
        hidden = path.name.startswith(".")
        if hidden or not path.is_file() or path.suffix not in SUFFIXES or path.name.endswith(INDEX):
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(
                str(path),
                expected="a file that can be read",
                found=error.strerror or str(error),
                remedy="check the permissions of the file and its folder",
            ) from error
        if path.name == "config.json" and dtype is not None:
            data = _with_dtype(data, str(dtype).removeprefix("torch."))
        write_bytes(target / path.name, data)
        written.append(target / path.name)
    return tuple(written)


def _with_dtype(data: bytes, dtype: str) -> bytes:
    """The settings with another dtype, where they name one; what is no JSON object is left as it is."""
    try:
        settings = json.loads(data)
    except ValueError:
        return data
    if not isinstance(settings, dict) or not any(key in settings for key in DTYPE_KEYS):
        return data
    settings |= {key: dtype for key in DTYPE_KEYS if key in settings}
    return (json.dumps(settings, ensure_ascii=False, indent=2) + "\n").encode()
