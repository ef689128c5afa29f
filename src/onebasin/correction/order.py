"""Put sites into an order in which they can be corrected one after another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onebasin.correction.site import Plan, Site
from onebasin.correction.trace import Node, Trace


def ordered(
    trace: Trace, sites: Sequence[Site], norms: Sequence[tuple[Node, str, str]], skipped: Mapping[str, str]
) -> Plan:
    """The plan: sites in order, and what each depends on.

    Where two sites feed one addition, only the later one can make up for the other's error. The one with more inputs
    has more to make up with, so the smaller one (the 1x1 convolution of a shortcut) is moved before it. Where what is
    added to a site's output depends on a site that comes later, the sum is no target yet: the site's own output is.
    """
    numbers = {site.node.number: position for position, site in enumerate(sites)}
    depends, depth = _dependencies(trace, numbers)
    bits = [depends.get(site.inputs, 0) for site in sites]
    order = list(range(len(sites)))
    for late in range(len(sites)):
        for early in order[: order.index(late)]:
            joined = sites[late].stream is not None and sites[late].stream is sites[early].stream
            smaller = sites[late].entries.shape[1] < sites[early].entries.shape[1]
            before = sum(1 << position for position in order[: order.index(early)])
            if joined and smaller and not bits[late] & ~before:
                order.remove(late)
                order.insert(order.index(early), late)
                break
    rank = {position: place for place, position in enumerate(order)}
    kept, needs = [], []
    for place, position in enumerate(order):
        site = replace(sites[position], depth=depth[position])
        others = [depends.get(value, 0) for value in site.others]
        if any(rank[p] >= place for other in others for p in _positions(other)):
            site, others = replace(site, stream=None, stream_moves=(), others=(), relu=False), []
        read = bits[position]
        for other in others:
            read |= other
        kept.append(site)
        needs.append(sum(1 << rank[p] for p in _positions(read)))
    return Plan(tuple(kept), tuple(needs), tuple(norms), skipped)


def _positions(bits: int) -> list[int]:
    return [position for position in range(bits.bit_length()) if bits >> position & 1]


def _dependencies(trace: Trace, numbers: Mapping[int, int]) -> tuple[dict[int, int], dict[int, int]]:
    """For every value the sites it depends on, as bits; for every site how many lie on the longest way to it.

    What is written in place reaches every view of the same memory.
    """
    bits: dict[int, int] = {}
    levels: dict[int, int] = {}
    written: dict[int, int] = {}
    depth: dict[int, int] = {}
    for node in trace.nodes:
        found, level = 0, 0
        for value in node.reads:
            found |= bits.get(value, 0) | written.get(trace.memory[value], 0)
            level = max(level, levels.get(value, 0))
        if node.number in numbers:
            found |= 1 << numbers[node.number]
            level += 1
            depth[numbers[node.number]] = level
        writes = node.func._schema.is_mutable  # noqa: SLF001 - the schema has no public accessor
        changed = [value for value in node.results if value is not None]
        for value in changed + list(node.reads[:1] if writes else ()):
            bits[value] = bits.get(value, 0) | found
            levels[value] = max(level, levels.get(value, 0))
            if writes:
                written[trace.memory[value]] = written.get(trace.memory[value], 0) | found
    return bits, depth
