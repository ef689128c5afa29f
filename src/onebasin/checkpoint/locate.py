"""Find the file that a path means, and the shards that an index names."""

import json
from collections.abc import Collection
from pathlib import Path

from onebasin.checkpoint.format import INDEX, PICKLES, SAFETENSORS, shorten
from onebasin.checkpoint.parts import read_start, refused
from onebasin.errors import CheckpointError

# What a Hugging Face folder calls its weights, in the order in which that library looks for them.
USUAL = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")


def locate(path: Path) -> Path:
    """The file or index that `path` means; the path itself where nothing is there.

    Args:
        path: a file, an index, a folder that holds one of them, or a file that exists only in shards.

    Raises:
        CheckpointError: a folder without a checkpoint or with several, or one that cannot be read.
    """
    index = path.with_name(path.name + INDEX) if path.name else path
    try:
        if not path.is_dir():
            return index if not path.exists() and index.exists() else path
        names = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise refused(path, error) from error
    return path / _choose(path, names)


def _choose(folder: Path, names: Collection[str]) -> str:
    """The one checkpoint among the files of a folder: the usual names first, then indices, safetensors, pickles."""
    choices = (
        [name for name in USUAL if name in names][:1],
        [name for name in names if name.endswith(INDEX)],
        [name for name in names if name.endswith(SAFETENSORS)],
        [name for name in names if name.endswith(PICKLES)],
    )
    found = next(filter(None, choices), [])
    if len(found) != 1:
        raise CheckpointError(
            str(folder),
            expected="a folder with one checkpoint",
            found=f"{len(found)} ({shorten(', '.join(found))})" if found else "none in it",
            remedy="name the file itself",
        )
    return found[0]


def read_index(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What the index of a sharded checkpoint says.

    Args:
        path: a file `*.index.json` as Hugging Face writes it, with the object `weight_map`.

    Returns:
        File name by tensor name, in the order of the index; and those entries of `metadata` that are text.

    Raises:
        CheckpointError: the file cannot be read, is not such an index, or names a shard that is not beside it.
    """
    read_start(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise refused(path, error) from error
    except (ValueError, RecursionError) as error:
        raise _bad_index(path, f"text that is not JSON ({shorten(str(error))})") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict):
        raise _bad_index(path, "no `weight_map` in it")
    for name, file in weight_map.items():
        # A file name with a folder in it could reach any file of the machine.
        if not isinstance(file, str) or Path(file).name != file:
            raise _bad_index(path, f"the file name {file!r} for tensor `{name}`")
        if not (path.parent / file).exists():
            raise CheckpointError(
                str(path.parent / file),
                expected=f"the shard that {path.name} names for tensor `{name}`",
                found="nothing there",
                remedy="copy the missing shard or download the checkpoint again",
            )
    metadata = content.get("metadata")
    texts = metadata.items() if isinstance(metadata, dict) else ()
    return weight_map, {key: value for key, value in texts if isinstance(value, str)}


def _bad_index(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        str(path),
        expected="an index with a `weight_map` from tensor names to file names",
        found=found,
        remedy="copy or download it again",
    )
