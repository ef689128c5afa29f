"""Write a safetensors checkpoint whose tensors are made a chunk at a time, in any order, and go on where it stopped.

Where every tensor lies is known from shapes and dtypes before there is any of them. A file is made at its full length
in a hidden folder beside the output, its tensors are written to their places by several threads, and the finished file
takes its name there in one step. When all files are there they take their final names together, the index last.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

from torch import Tensor

from onebasin.checkpoint.encode import Place, plan_safetensors
from onebasin.checkpoint.format import INDEX, SAFETENSORS, Alias, Packaging, kind_of
from onebasin.checkpoint.reader import Checkpoint
from onebasin.checkpoint.source import Spec
from onebasin.checkpoint.stream import as_bytes
from onebasin.checkpoint.writer import Target, texts_of
from onebasin.errors import CheckpointError, OptionError
from onebasin.files import Staging, Workspace, write_error
from onebasin.progress import Progress, Report, silent

Chunks = Callable[[str], Iterable[Tensor]]
"""The values of a tensor, given its name: flat pieces, in order, that together have the bytes of the whole."""


def stream_checkpoint(
    specs: Mapping[str, Spec],
    chunks: Chunks,
    path: Path,
    *,
    digest: str,
    twins: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
    like: Checkpoint | None = None,
    shard_bytes: int | None = None,
    threads: int = 1,
    progress: Report = silent,
) -> tuple[Path, ...]:
    """Write a safetensors checkpoint, whole or not at all, holding no tensor in memory.

    Interrupted or killed, it keeps the files that were finished, and the next call with the same digest writes the
    others. The bytes written depend neither on that nor on the number of threads.

    Args:
        specs: shape and dtype by name, in the order of the result.
        chunks: gives the values of a tensor; called once for each, from several threads.
        path: the file to write, or the one that shards and index are named after, as for `save_checkpoint`.
        digest: of all that the values depend on.
        twins: for names that are one tensor with an earlier one, that name.
        metadata: text for the headers and the index; by default that of `like`.
        like: its prefix and its shards are used.
        shard_bytes: at most so many bytes of tensors in a file, or one tensor, in place of the shards of `like`.
        threads: how many tensors are worked on at a time.
        progress: called with bytes written so far, those of earlier calls included.

    Returns:
        The files written, the index last where there is one.

    Raises:
        CheckpointError: another process writes the same output, writing fails, or the format has no such dtype.
        OptionError: `shard_bytes` is less than 1, or `metadata` holds something that is not text.
    """
    target = _target(path, metadata, like, shard_bytes)
    path = target.path
    twins = twins or {}
    aliases = [Alias(name, twins[name], position) for position, name in enumerate(specs) if name in twins]
    stored = {name: spec for name, spec in specs.items() if name not in twins}
    batches = _batches(stored, target.packaging.shards, shard_bytes)
    counter = _Counter(sum(spec.nbytes for spec in stored.values()), progress)
    with Workspace(path, digest) as workspace, Staging(path.parent) as staging:

        def write(name: str, batch: Mapping[str, Spec], names: Iterable[Alias]) -> Path:
            return _File(target, batch, names, workspace, name).write(chunks, threads, counter)

        if len(batches) == 1:
            staging.publish({write(path.name, stored, aliases): path})
            return (path,)
        names = [target.shard_name(number, len(batches)) for number in range(len(batches))]
        finals = {write(name, batch, ()): path.with_name(name) for name, batch in zip(names, batches, strict=True)}
        homes = {tensor: name for name, batch in zip(names, batches, strict=True) for tensor in batch}
        index = path.with_name(path.name + INDEX)
        target.write_index(workspace.start(index.name), {n: homes[n] for n in stored}, aliases, counter.total)
        finals[workspace.finish(index.name)] = index
        staging.publish(finals, retire=[path])
        return tuple(finals.values())


def _target(path: Path, metadata: Mapping[str, str] | None, like: Checkpoint | None, shard_bytes: int | None) -> Target:
    path = Path(str(path).removesuffix(INDEX))
    if kind_of(path) != SAFETENSORS:
        raise CheckpointError(
            str(path), expected=f"a name that ends in {SAFETENSORS}", found=f"`{path.suffix}`", remedy="rename it"
        )
    if shard_bytes is not None and shard_bytes < 1:
        raise OptionError(
            "shard_bytes", expected="at least 1", found=str(shard_bytes), remedy="give the bytes that a file may hold"
        )
    texts = texts_of(metadata if metadata is not None else like.metadata if like is not None else {})
    return Target(path, SAFETENSORS, texts, like.packaging if like is not None else Packaging())


def _batches(specs: Mapping[str, Spec], shards: Mapping[str, str], limit: int | None) -> list[dict[str, Spec]]:
    """The tensors of every file, in order; see `TensorStream` for the same with tensors at hand."""
    if limit is None:
        files = sorted({file for name, file in shards.items() if name in specs}) or [""]
        rows = [{n: spec for n, spec in specs.items() if shards.get(n, files[-1]) == file} for file in files]
        return [row for row in rows if row]
    batches: list[dict[str, Spec]] = [{}]
    size = 0
    for name, spec in specs.items():
        if batches[-1] and size + spec.nbytes > limit:
            batches.append({})
            size = 0
        batches[-1][name] = spec
        size += spec.nbytes
    return batches


@dataclass
class _Counter:
    """Adds up bytes from several threads and reports them now and then."""

    total: int
    report: Report
    done: int = 0
    shown: int = -1
    lock: Lock = field(default_factory=Lock)

    def add(self, count: int) -> None:
        """Count bytes; a report is made every thousandth of the whole."""
        with self.lock:
            self.done += count
            step = self.done * 1000 // max(1, self.total)
            if step != self.shown:
                self.shown = step
                self.report(Progress("merging", self.done, self.total, unit="bytes"))


@dataclass(frozen=True)
class _File:
    """One file to be written.

    Attributes:
        target: the checkpoint.
        specs: of its tensors.
        aliases: further names for them.
        workspace: where it is written.
        name: of the finished file.
    """

    target: Target
    specs: Mapping[str, Spec]
    aliases: Iterable[Alias]
    workspace: Workspace
    name: str

    def write(self, chunks: Chunks, threads: int, counter: _Counter) -> Path:
        """Write the file, unless it is there from an earlier call, and return where it is."""
        finished = self.workspace.finished(self.name)
        if finished is not None:
            counter.add(sum(spec.nbytes for spec in self.specs.values()))
            return finished
        prefix = self.target.packaging.prefix
        start, places = plan_safetensors(
            {prefix + name: spec for name, spec in self.specs.items()},
            self.target.prefixed(self.aliases),
            self.target.metadata,
        )
        part, stop = self.workspace.start(self.name), Event()
        try:
            with part.open("wb") as file:
                file.write(start)
                file.truncate(max([len(start), *(place.end for place in places.values())]))
        except OSError as error:
            raise write_error(self.target.path, error) from error

        def fill(name: str) -> None:
            self._fill(part, places[prefix + name], _until(stop, chunks(name)), counter)

        with ThreadPoolExecutor(threads) as pool:
            # The largest first: the last to finish then keeps others waiting for the shortest time.
            order = sorted(self.specs, key=lambda name: -self.specs[name].nbytes)
            jobs = [pool.submit(fill, name) for name in order]
            try:
                finished_jobs, _ = wait(jobs, return_when=FIRST_EXCEPTION)
                failed = [job for job in jobs if job in finished_jobs and job.exception() is not None]
                if failed:
                    failed[0].result()
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
        return self.workspace.finish(self.name)

    def _fill(self, part: Path, place: Place, chunks: Iterator[Tensor], counter: _Counter) -> None:
        """Write one tensor to its place."""
        try:
            with part.open("r+b", buffering=0) as file:
                file.seek(place.begin)
                for chunk in chunks:
                    data = as_bytes(chunk).numpy().data
                    written = 0
                    while written < len(data):  # the system may take less than it is given
                        written += file.write(data[written:])
                    counter.add(len(data))
                end = file.tell()
        except CheckpointError:
            raise
        except OSError as error:
            raise write_error(self.target.path, error) from error
        if end != place.end:  # or it was stopped, and nobody asks
            raise CheckpointError(
                str(self.target.path),
                expected=f"{place.end - place.begin} bytes of a tensor",
                found=f"{end - place.begin}",
                remedy="report this: the tensor is not what was announced",
            )


def _until(stop: Event, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Chunks, until it is said to stop, as another tensor failed or the work was interrupted."""
    for chunk in chunks:
        if stop.is_set():
            return
        yield chunk
