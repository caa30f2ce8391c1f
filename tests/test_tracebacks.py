"""Tracebacks of errors that come out of graphnode: the frames of users, and none of graphnode's, unless asked for."""

import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn

PACKAGE = os.path.dirname(gn.__file__)


class Leaf(gn.Node):
    """What is handed to transforms."""

    w: gn.ParamState


def leaf() -> Leaf:
    return Leaf(gn.ParamState(jnp.ones(2)))


class OwnError(Exception):
    """What users' code raises."""


def fail(*args: Any) -> Any:
    raise OwnError


def with_rules(function: Any) -> Any:
    function.defvjp(fail, fail)
    return function


def with_rule(function: Any) -> Any:
    function.defjvp(fail)
    return function


CALLS: dict[str, Callable[[], Any]] = {
    "jit": lambda: gn.jit(fail)(leaf()),
    "jit, donating": lambda: gn.jit(fail, donate=True)(leaf()),
    "jit in jit": lambda: gn.jit(lambda node: gn.jit(fail)(node))(leaf()),
    "grad": lambda: gn.grad(fail)(leaf()),
    "value_and_grad": lambda: gn.value_and_grad(fail)(leaf()),
    "jacrev": lambda: gn.jacrev(fail)(leaf()),
    "hessian": lambda: gn.hessian(fail)(leaf()),
    "vjp": lambda: gn.vjp(fail, leaf()),
    "jvp": lambda: gn.jvp(fail, (leaf(),), (gn.treefy_states(leaf()),)),
    "linearize": lambda: gn.linearize(fail, leaf()),
    "vmap": lambda: gn.vmap(fail)(leaf()),
    "scan": lambda: gn.scan(fail, leaf(), jnp.ones(2)),
    "associative_scan": lambda: gn.associative_scan(fail, jnp.ones(2)),
    "fori_loop": lambda: gn.fori_loop(0, 2, fail, leaf()),
    "while_loop": lambda: gn.while_loop(lambda node: True, fail, leaf()),
    "cond": lambda: gn.cond(True, fail, fail, leaf()),
    "switch": lambda: gn.switch(0, [fail, fail], leaf()),
    "remat": lambda: gn.remat(fail)(leaf()),
    "checkify": lambda: gn.checkify(fail)(leaf()),
    "capture": lambda: gn.capture(fail, ...)(leaf()),
    "capture_grads": lambda: gn.capture_grads(fail, ...)(leaf()),
    "intervene": lambda: gn.intervene(fail, {})(leaf()),
    "eval_shape": lambda: gn.eval_shape(fail, leaf()),
    "make_jaxpr": lambda: gn.make_jaxpr(fail)(leaf()),
    "custom_jvp": lambda: with_rule(gn.custom_jvp(fail))(leaf()),
    "custom_vjp": lambda: with_rules(gn.custom_vjp(fail))(leaf()),
    "method": lambda: gn.jit(Bound(gn.ParamState(jnp.ones(2))).run)(),
    "a loop in jit": lambda: gn.jit(lambda node: gn.scan(fail, node, jnp.ones(2)))(leaf()),
}


class Bound(gn.Node):
    """With a method that fails."""

    w: gn.ParamState

    def run(self) -> None:
        fail()


class Made(gn.Node):
    """Whose constructor fails in the code of its class."""

    made: gn.ParamState = gn.state(fail, shape=lambda self: (2,))


class Posted(gn.Node):
    """The same."""

    def __post_init__(self) -> None:
        fail()


CONSTRUCTORS: dict[str, Callable[[], Any]] = {"initializer": Made, "__post_init__": Posted}


def files_of(make: Callable[[], Any]) -> list[str]:
    """The files that stand in the traceback of what a call raises."""
    with pytest.raises(OwnError) as caught:
        make()
    return [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize("make", [*CALLS.values(), *CONSTRUCTORS.values()], ids=[*CALLS, *CONSTRUCTORS])
def test_frames_of_graphnode_are_left_out(make: Callable[[], Any]):
    """What is left leads from the caller to the line that raised."""
    files = files_of(make)
    assert files[0] == files[-1] == __file__
    assert not [file for file in files if file.startswith(PACKAGE)]


@pytest.fixture
def unfiltered() -> Iterator[None]:
    before: object = getattr(jax.config, "jax_traceback_filtering")  # noqa: B009  # stubs do not know it
    jax.config.update("jax_traceback_filtering", "off")
    yield
    jax.config.update("jax_traceback_filtering", before)


@pytest.mark.usefixtures("unfiltered")
@pytest.mark.parametrize("make", [*CALLS.values(), *CONSTRUCTORS.values()], ids=[*CALLS, *CONSTRUCTORS])
def test_frames_of_graphnode_are_shown_on_demand(make: Callable[[], Any]):
    """By the switch that shows JAX's."""
    assert [file for file in files_of(make) if file.startswith(PACKAGE)]


@pytest.mark.no_runtime_types
def test_errors_of_graphnode_end_at_the_call():
    """They have no line of users below it."""
    with pytest.raises(gn.StructureError) as caught:
        gn.jit(lambda node: delattr(node, "w"))(leaf())
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert set(files) == {__file__}
