"""What each way to copy a node shares with it, and what donation does to the copy: the table in the documentation."""

import copy
import dataclasses
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cloudpickle  # type: ignore[import-untyped]
import jax.numpy as jnp
import pytest

import graphnode as gn

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "transforms.md"
HEADING: Final = "### What a copy shares"


class Leaf(gn.Node):
    """Holds a State and a static value that has an identity."""

    w: gn.ParamState
    sizes: tuple[str, ...] = ()


class Net(gn.Node):
    """Holds a node, and lists of them."""

    leaf: Leaf
    leaves: list[Leaf]
    states: dict[str, gn.ParamState]
    label: str = "a"


def net() -> Net:
    leaf = Leaf(gn.ParamState(jnp.arange(4.0)), tuple(["a" * 300, "b"]))  # a constant would be shared
    return Net(leaf, [leaf], {"w": leaf.w})


# Structures are interned with their static values: a copy that is made of a structure has those of the first one.
FIRST: Final = gn.graphdef(net())


def stack(node: Net) -> Any:
    return gn.stack([node, node])


# By the first cell of a row.
COPIES: Final[dict[str, list[Callable[[Any], Any]]]] = {
    "`copy.copy(net)`": [copy.copy],
    "`dataclasses.replace(net, ...)`, `copy.replace(net, ...)`": [
        dataclasses.replace,
        lambda node: dataclasses.replace(node, label="b"),
        *([lambda node: getattr(copy, "replace")(node, label="b")] if sys.version_info >= (3, 13) else []),  # noqa: B009
    ],
    "`gn.view(net, ...)`": [gn.view, lambda node: gn.view(node, label="b")],
    "`gn.flatten(net)`, `gn.unflatten`": [lambda node: gn.unflatten(*gn.flatten(node))],
    "`gn.clone(net)`": [gn.clone],
    "`gn.treefy_split(net)`, `gn.treefy_merge`": [lambda node: gn.treefy_merge(*gn.treefy_split(node))],
    "`copy.deepcopy(net)`": [copy.deepcopy],
    "`gn.stack([net, ...])`": [stack],
    "`gn.unstack(gn.stack([net, ...]))`": [lambda node: gn.unstack(stack(node))[0]],
    "`pickle`": [lambda node: pickle.loads(pickle.dumps(node))],
    "`cloudpickle`": [lambda node: pickle.loads(cloudpickle.dumps(node))],
}


def table() -> dict[str, list[str]]:
    """The cells of each row of the page's table, by its first cell."""
    section = PAGE.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {first: cells for first, *cells in rows}


@gn.jit(donate=True)
def step(node: Net) -> None:
    node.leaf.w.value = node.leaf.w.value + 1


def nodes_of(node: Net, other: Net) -> str:
    assert other is not node
    return "the first is new" if other.leaf is node.leaf else "new"


def arrays_of(node: Net, other: Net) -> str:
    before, after = node.leaf.w.value, other.leaf.w.value
    if before is after:
        return "shared"
    assert before.unsafe_buffer_pointer() != after.unsafe_buffer_pointer()
    return "copied"


def after_donation(node: Net, other: Net) -> str:
    assert first_of(node) == 0
    step(node)
    assert first_of(node) == 1
    try:
        return "has the new values" if first_of(other) else "has the old values"
    except RuntimeError:
        return "cannot be read"


def first_of(node: Net) -> float:
    return float(node.leaf.w.value.reshape(-1)[0])


def observed(node: Net, other: Net) -> list[str]:
    """What a row of the table says of a copy."""
    sizes = node.leaf.sizes, other.leaf.sizes
    assert sizes[0] == sizes[1]
    return [
        nodes_of(node, other),
        "shared" if other.leaf.w is node.leaf.w else "new",
        arrays_of(node, other),
        "shared" if sizes[0] is sizes[1] else "equal",
        after_donation(node, other),
    ]


def test_the_table_has_every_way_to_copy():
    """No row is without a test, and no test without a row."""
    assert list(table()) == list(COPIES)


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_shares_what_the_table_says(way: str):
    """Nodes, States, arrays and static values are the same objects or others, and donation does what it says."""
    for make in COPIES[way]:
        node = net()
        assert observed(node, make(node)) == table()[way]


@pytest.mark.parametrize("way", COPIES)
def test_donation_of_the_copy_does_the_same_to_the_original(way: str):
    """What shares memory shares it both ways."""
    for make in COPIES[way]:
        node = net()
        assert after_donation(make(node), node) == table()[way][-1]


@pytest.mark.parametrize("way", COPIES)
def test_containers_are_new_in_every_copy(way: str):
    """What is put into a list or dict of the copy is not in the original's; what was one object is one object."""
    for make in COPIES[way]:
        node = net()
        other = make(node)
        other.leaves.append(Leaf(gn.ParamState(jnp.zeros(1))))
        other.states.clear()
        assert (len(node.leaves), list(node.states)) == (1, ["w"])
        assert other.leaves[0] is other.leaf
