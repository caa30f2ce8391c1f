"""Depth is bounded by memory: nothing recurses, however long a chain of nodes is."""

import copy
import functools
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from tests.work import calls_of


class Link(gn.Node):
    weight: gn.ParamState
    next: "Link | None" = None


class Other(gn.Node):
    weight: gn.ParamState
    below: "list[Other]" = gn.subnode(default_factory=list)


VALUE = 1.0


def chain(length: int, value: Any = None) -> Link:
    value = jnp.zeros(1) if value is None else value
    link = None
    for _ in range(length):
        link = Link(gn.ParamState(value), link)
    assert link is not None
    return link


def last(link: Link, first: Link | None = None) -> Link:
    """The link that none follows, or that `first` does."""
    while link.next is not first and link.next is not None:
        link = link.next
    return link


def length_of(link: Link | None) -> int:
    count = 0
    while link is not None:
        count, link = count + 1, link.next
    return count


def split_and_merge(one: Link, length: int) -> None:
    graphdef, params, rest = gn.treefy_split(one, gn.ParamState, ...)
    assert len(jax.tree.leaves(params)) == length
    assert length_of(gn.treefy_merge(graphdef, params)) == length
    assert length_of(gn.treefy_merge(graphdef, rest, params)) == length
    assert length_of(gn.unflatten(*gn.flatten(one))) == length


def clone(one: Link, length: int) -> None:
    twin = gn.clone(one)
    assert length_of(twin) == length
    assert last(twin).weight.value is last(one).weight.value


def update(one: Link, length: int) -> None:
    new = jnp.ones(1)
    tree = gn.treefy_states(one)
    gn.update_states(one, jax.tree.unflatten(jax.tree.structure(tree), [new] * length))
    assert last(one).weight.value is new


def deep_copy(one: Link, length: int) -> None:
    assert length_of(copy.deepcopy(one)) == length
    both = copy.deepcopy([one, last(one)])
    assert last(both[0]) is both[1]


def print_and_hash(one: Link, length: int) -> None:
    graphdef, tree = gn.treefy_split(one)
    for shown in (one, graphdef, tree, gn.states(one), tree.layout):
        assert len(repr(shown)) < 1_000_000
    assert hash(graphdef) == hash(gn.graphdef(gn.clone(one)))
    assert graphdef == gn.graphdef(chain(length))
    assert graphdef != gn.graphdef(chain(length - 1))


def pickle_parts(one: Link, length: int) -> None:
    graphdef, tree = parts = gn.treefy_split(one)
    again = pickle.loads(pickle.dumps(parts))
    assert again[0] is graphdef
    assert again[1].layout is tree.layout
    assert length_of(gn.treefy_merge(*again)) == length


def pickle_live(one: Link, length: int) -> None:
    again, end = pickle.loads(pickle.dumps((one, last(one))))
    assert length_of(again) == length
    assert last(again) is end
    last(one).next = one
    ring, first = pickle.loads(pickle.dumps((one.next or one, one)))
    assert len(gn.states(ring)) == length
    assert first.next is ring
    last(one, one).next = None


def change_at_the_end(one: Link, length: int) -> None:
    before = gn.graphdef(one)
    end = last(one)
    end.next = chain(1)
    (found,) = gn.diff(before, gn.graphdef(one))
    assert found.path == ("next",) * length
    assert (found.left, found.right) == ("nothing", "Link")
    popped = gn.pop_states(end.next, ...)
    assert len(gn.states(one)) == length
    gn.update_states(end.next, popped)
    end.next = None
    assert gn.graphdef(one) is before


def select(one: Link, length: int) -> None:
    tree = gn.treefy_states(one)
    assert len(tree.filter(gn.ParamState)._values) == length
    assert len((tree - tree.filter("none"))._values) == length
    assert (tree | tree).layout is tree.layout
    if length <= 5_000:  # a function gets paths, which are as long as the States lie deep
        assert len(gn.states(one, lambda path, state: state is one.weight)) == 1


def cycle(one: Link, length: int) -> None:
    last(one).next = one
    assert gn.clone(one) is not one
    assert len(gn.states(copy.deepcopy(one))) == length
    found = gn.aliases(one)
    assert found == {(): (("next",) * length,)}
    last(one, one).next = None


def die(one: Link, length: int) -> None:
    twin = gn.clone(one)
    gone = [weakref.ref(twin), weakref.ref(last(twin))]
    del twin
    assert [ref() for ref in gone] == [None, None]


WORK: dict[str, Callable[[Link, int], None]] = {
    one.__name__: one
    for one in (
        *(
            split_and_merge,
            clone,
            update,
            deep_copy,
            print_and_hash,
            pickle_parts,
            pickle_live,
            change_at_the_end,
            select,
        ),
        *(cycle, die),
    )
}
LENGTHS = [5_000, pytest.param(100_000, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def long_chains() -> dict[int, Link]:
    """Chains by their length, made once."""
    return {}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("work", WORK)
def test_long_chain_works(work: str, length: int, long_chains: dict[int, Link]):
    """A chain of 100,000 nodes splits, merges, clones, updates, copies, prints, compares, hashes, diffs and pickles."""
    if length not in long_chains:
        long_chains[length] = chain(length)
    WORK[work](long_chains[length], length)
    gc.collect()


@pytest.mark.parametrize("length", LENGTHS)
def test_long_chain_over_lists_works(length: int):
    """The same over lists of nodes, which need more than one step a node."""
    one: Other | None = None
    value = jnp.zeros(1)
    for _ in range(length):
        one = Other(gn.ParamState(value), [] if one is None else [one])
    assert one is not None
    graphdef, tree = gn.treefy_split(one)
    assert gn.graphdef(gn.treefy_merge(graphdef, tree)) is graphdef
    assert gn.graphdef(copy.deepcopy(one)) is graphdef
    assert len(repr(one)) < 1_000_000
    assert gn.diff(graphdef, gn.graphdef(one.below[0]))


def test_update_of_a_long_chain_with_other_values_works():
    """An update that takes the thorough comparison (NumPy arrays, Python numbers) needs no path of each State."""
    one = chain(5_000, 1.0)
    tree = gn.treefy_states(one)
    gn.update_states(one, jax.tree.map(lambda leaf: leaf + 1.0, tree))
    assert last(one).weight.value == 2.0


# Work grows with the number of nodes, not with its square.


OPERATIONS: dict[str, Callable[[Link], object]] = {
    "treefy_split": lambda link: gn.treefy_split(link, gn.ParamState, ...),
    "treefy_merge": lambda link: gn.treefy_merge(*gn.treefy_split(link)),
    "clone": gn.clone,
    "states": gn.states,
    "states by glob": lambda link: gn.states(link, gn.PathIn("**.weight")),
    "states below": lambda link: gn.states(link, gn.Under("next.next")),
    "difference": lambda link: gn.treefy_states(link) - gn.treefy_states(link, gn.PathIn("next.weight")),
    "update by tree": lambda link: gn.update_states(link, gn.treefy_states(link)),
    "update by States": lambda link: gn.update_states(link, gn.states(link)),
    "pop": lambda link: gn.pop_states(link, gn.ParamState),
    "nodes": gn.nodes,
    "iter_node": lambda link: list(gn.iter_node(link)),
    "stack": lambda link: gn.stack([link, link]),
    "unstack": lambda link: gn.unstack(gn.stack([link, link])),
    "deepcopy": copy.deepcopy,
    "aliases": gn.aliases,
    "to_json": lambda link: gn.graphdef(link).to_json(),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_work_grows_with_the_length_of_a_chain(operation: Callable[[Link], object]):
    """A chain of twice the length makes twice the calls; with its square it would be four times."""
    operation(chain(5))  # what is done once for a class or process
    short, long = chain(100), chain(200)
    calls = [calls_of(functools.partial(operation, link)) for link in (short, long)]
    assert calls[1] < 2.4 * calls[0], calls
