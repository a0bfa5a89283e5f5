from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cli.simulate.graph import friends_of, regular_graph


@given(st.integers(2, 60), st.integers(0, 70), st.integers())
def test_everybody_has_the_same_number_of_friends_but_one_where_that_cannot_be(
    count: int, degree: int, seed: int
) -> None:
    edges = regular_graph(count, degree, random.Random(seed))
    possible = min(degree, count - 1)
    degrees = sorted(len(friends) for friends in friends_of(count, edges))
    if count % 2 and possible % 2:
        assert degrees == [possible - 1] + [possible] * (count - 1)
    else:
        assert degrees == [possible] * count
    assert all(a != b for a, b in edges)
    assert len({frozenset(edge) for edge in edges}) == len(edges)


def test_the_same_seed_gives_the_same_graph_and_another_seed_another() -> None:
    first, again, other = (regular_graph(200, 40, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again
    assert {frozenset(edge) for edge in first} != {frozenset(edge) for edge in other}


def test_nothing_is_left_of_the_ring_that_it_is_made_from() -> None:
    edges = regular_graph(200, 10, random.Random(3))
    neighbours = sum(min((a - b) % 200, (b - a) % 200) <= 5 for a, b in edges)
    assert neighbours < len(edges) * 0.15
