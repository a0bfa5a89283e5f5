"""Random friend graphs in which everybody has the same number of friends."""

from __future__ import annotations

import random

_SWAPS_PER_EDGE = 10
"""Enough for nothing to be left of the ring that the swaps begin with, as a test shows."""

Edge = tuple[int, int]


def regular_graph(count: int, degree: int, rng: random.Random) -> list[Edge]:
    """Return the edges of a random graph of ``count`` vertices with ``degree`` edges each.

    A degree of ``count`` or more becomes ``count - 1``. Where both are odd no such graph exists, and one vertex has
    one edge less. The same ``rng`` state gives the same graph.
    """
    edges = _ring_lattice(count, max(0, min(degree, count - 1)))
    _swap(edges, rng)
    return edges


def friends_of(count: int, edges: list[Edge]) -> list[set[int]]:
    """Return the neighbours of each vertex."""
    friends: list[set[int]] = [set() for _ in range(count)]
    for a, b in edges:
        friends[a].add(b)
        friends[b].add(a)
    return friends


def _ring_lattice(count: int, degree: int) -> list[Edge]:
    """Return the edges of a ring in which each vertex knows its nearest ones, and the one opposite for odd degrees."""
    edges = [(a, (a + offset) % count) for offset in range(1, degree // 2 + 1) for a in range(count)]
    if degree % 2:
        edges += [(a, a + count // 2) for a in range(count // 2)]
    return edges


def _swap(edges: list[Edge], rng: random.Random) -> None:
    """Exchange the ends of random pairs of edges, which changes no vertex's degree."""
    if len(edges) < 2:
        return
    present = {frozenset(edge) for edge in edges}
    for _ in range(_SWAPS_PER_EDGE * len(edges)):
        i, j = rng.randrange(len(edges)), rng.randrange(len(edges))
        (a, b), (c, d) = edges[i], edges[j]
        if rng.random() < 0.5:
            c, d = d, c
        first, second = frozenset((a, d)), frozenset((c, b))
        if len({a, b, c, d}) < 4 or first in present or second in present:
            continue
        present -= {frozenset((a, b)), frozenset((c, d))}
        present |= {first, second}
        edges[i], edges[j] = (a, d), (c, b)
