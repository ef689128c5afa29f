"""Write tensors to a checkpoint, whole or not at all."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from onebasin.checkpoint.encode import write_pickle, write_safetensors
from onebasin.checkpoint.format import INDEX, SAFETENSORS, TIED, Alias, Packaging, encode_aliases, kind_of
from onebasin.checkpoint.reader import Checkpoint
from onebasin.checkpoint.stream import TensorStream
from onebasin.errors import CheckpointError, OneBasinError, OptionError
from onebasin.files import Staging, write_error


def save_checkpoint(
    params: Mapping[str, Tensor],
    path: str | Path,
    *,
    metadata: Mapping[str, str] | None = None,
    like: Checkpoint | None = None,
    shard_bytes: int | None = None,
    suffix: str | None = None,
) -> tuple[Path, ...]:
    """Write tensors in the format that the suffix of `path` says; an existing checkpoint is replaced whole or not.

    The order of names, dtypes and shapes are kept, and the same content gives the same bytes. A tensor that several
    names share is written once and stays shared; so is one whose names are tied in `like` (or in `params`, if that is
    a `Checkpoint`), as long as its values under them are equal to the bit.

    Args:
        params: tensors by name, on any device, each asked for once.
        path: the file to write, ending in `.safetensors`, `.pt`, `.pth`, `.th`, `.bin` or `.ckpt`, or such a name
            followed by `.index.json`, which means the same. Its folder must exist. In shards, `model.safetensors`
            stands for `model-00001-of-00003.safetensors` and so on beside `model.safetensors.index.json`; a file
            `path` itself would hide them and is removed, other files of an earlier write stay.
        metadata: text for the header of safetensors and for an index, by default that of `like`, or of `params`. A
            single pickle has no place for it.
        like: write as this was: its prefix before the names, its shards, and in a pickle its wrapper key and the
            versions of its modules.
        shard_bytes: at most so many bytes of tensors in a file, or one tensor, in place of the shards of `like`; one
            plain file where that is enough. Memory then holds one shard, beyond what `params` itself keeps.
        suffix: write the file as if its name ended like this, such as `".pt"`.

    Returns:
        The files written, the index last where there is one.

    Raises:
        CheckpointError: the suffix is unknown, the folder missing, writing fails, there is nothing to write, or a
            tensor is of a kind that the format does not hold.
        OptionError: `shard_bytes` is less than 1, or `metadata` holds something that is not text.
    """
    path = Path(str(path).removesuffix(INDEX))
    kind = kind_of(path, suffix)
    if shard_bytes is not None and shard_bytes < 1:
        raise OptionError(
            "shard_bytes", expected="at least 1", found=str(shard_bytes), remedy="give the bytes that a file may hold"
        )
    if len(params) == 0:
        raise CheckpointError(str(path), expected="tensors to write", found="none", remedy="check what is to be saved")
    model = like if like is not None else (params if isinstance(params, Checkpoint) else None)
    packaging = like.packaging if like is not None else Packaging(versions=getattr(params, "_metadata", None))
    if metadata is None:
        metadata = model.metadata if model is not None else {}
    target = Target(path, kind, texts_of(metadata), packaging)
    stream = TensorStream(params, model.tied if model is not None else ())
    with Staging(path.parent) as staging:
        if shard_bytes is not None:
            return target.write(stream, stream.batches_by_size(shard_bytes), staging, plain=True)
        if packaging.shards:
            return target.write(stream, stream.batches_by_file(packaging.shards), staging, plain=False)
        return target.write(stream, iter([dict(stream.take(stream.names))]), staging, plain=True)


def texts_of(metadata: Mapping[str, object]) -> dict[str, str]:
    """Metadata without our own record of ties, which is made anew."""
    texts = {key: value for key, value in metadata.items() if isinstance(value, str)}
    for key in metadata.keys() - texts.keys():
        raise OptionError(
            f"metadata[{key!r}]",
            expected="text",
            found=f"a value of type {type(metadata[key]).__name__}",
            remedy="convert it with `str` or `json.dumps`",
        )
    texts.pop(TIED, None)
    return texts


@dataclass(frozen=True, slots=True)
class Target:
    """Where a checkpoint goes, and how it is written."""

    path: Path
    kind: str
    metadata: Mapping[str, str]
    packaging: Packaging

    def write(
        self, stream: TensorStream, batches: Iterator[dict[str, Tensor]], staging: Staging, *, plain: bool
    ) -> tuple[Path, ...]:
        """Write a file for each batch, and an index; with `plain`, a batch that holds all becomes a file by itself."""
        shards: list[Path] = []
        shard_of: dict[str, int] = {}
        total = 0
        for batch in batches:
            temporary = staging.create(self.path.suffix)
            if plain and len(batch) + len(stream.aliases) == len(stream.names):
                self.encode(batch, stream.aliases, temporary)
                staging.publish({temporary: self.path})
                return (self.path,)
            self.encode(batch, (), temporary)
            shard_of |= dict.fromkeys(batch, len(shards))
            shards.append(temporary)
            total += sum(tensor.nbytes for tensor in batch.values())
            batch.clear()  # the loop would keep it while the next one is gathered
        finals = [self.path.with_name(self.shard_name(number, len(shards))) for number in range(len(shards))]
        homes = {name: finals[shard_of[name]].name for name in stream.names if name in shard_of}
        index = staging.create()
        self.write_index(index, homes, stream.aliases, total)
        finals.append(self.path.with_name(self.path.name + INDEX))
        staging.publish(dict(zip([*shards, index], finals, strict=True)), retire=[self.path])
        return tuple(finals)

    def shard_name(self, number: int, count: int) -> str:
        """The name of shard `number`, counted from 0, in the way of Hugging Face."""
        return f"{self.path.stem}-{number + 1:05}-of-{count:05}{self.path.suffix}"

    def encode(self, tensors: Mapping[str, Tensor], aliases: Iterable[Alias], temporary: Path) -> None:
        """Write one file of tensors, whose names get the prefix."""
        prefixed = {self.packaging.prefix + name: tensor for name, tensor in tensors.items()}
        aliases = self.prefixed(aliases)
        try:
            with temporary.open("wb") as file:
                if self.kind == SAFETENSORS:
                    write_safetensors(prefixed, aliases, self.metadata, file)
                else:
                    write_pickle(prefixed, aliases, self.packaging, file)
        except OneBasinError:
            raise
        except (OSError, RuntimeError) as error:
            # Torch raises an error of its own while it handles that of the system, which says more.
            reason = error.__context__ if isinstance(error.__context__, OSError) else error
            raise write_error(self.path, reason) from error

    def write_index(self, temporary: Path, homes: Mapping[str, str], aliases: Iterable[Alias], total: int) -> None:
        """Write the index: file name by tensor name, the bytes of all tensors, metadata and ties."""
        content = {
            "metadata": {**self.metadata, "total_size": total, **encode_aliases(self.prefixed(aliases))},
            "weight_map": {self.packaging.prefix + name: file for name, file in homes.items()},
        }
        try:
            temporary.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise write_error(self.path, error) from error

    def prefixed(self, aliases: Iterable[Alias]) -> list[Alias]:
        """Aliases under the names they have in the file."""
        prefix = self.packaging.prefix
        return [Alias(prefix + name, prefix + source, position) for name, source, position in aliases]
