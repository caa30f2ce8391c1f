"""Names at run time: operations are named by the path of the node whose method makes them, under every transform."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn

X = jnp.ones((3, 4))


class Scale(gn.Node):
    by: gn.ParamState

    def __call__(self, x: jax.Array) -> jax.Array:
        """Multiply."""
        return self.by.value * x


class Block(gn.Node):
    scale: Scale

    def __call__(self, x: jax.Array) -> jax.Array:
        """Multiply, and squash."""
        return jnp.tanh(self.scale(x))

    @gn.jit
    def compiled(self, x: jax.Array) -> jax.Array:
        """The same, compiled."""
        return jnp.tanh(self.scale(x))


class Net(gn.Node):
    blocks: list[Block]

    def __call__(self, x: jax.Array) -> jax.Array:
        """One block after the other."""
        for block in self.blocks:
            x = block(x)
        return x


class Stack(gn.Node):
    blocks: Block

    def __call__(self, x: jax.Array) -> jax.Array:
        """One member after the other."""
        return gn.scan(lambda h, block: (block(h), None), x, self.blocks)[0]


def block() -> Block:
    return Block(Scale(gn.ParamState(jnp.float32(2))))


def net() -> Net:
    return Net([block(), block()])


def stacked() -> Stack:
    return Stack(gn.stack([block() for _ in range(3)]))


def equations_in(jaxpr: Any, around: str = "") -> Iterator[tuple[str, str]]:
    """The name and the primitive of each equation of a jaxpr, and of those in it."""
    for equation in jaxpr.eqns:
        primitive = equation.primitive.name
        stack = str(equation.source_info.name_stack)
        name = "/".join(filter(None, [around, stack, primitive]))
        yield name, primitive
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda part: hasattr(part, "eqns")):
            if hasattr(inner, "eqns"):
                yield from equations_in(inner, name)
            elif hasattr(inner, "jaxpr"):
                yield from equations_in(inner.jaxpr, name)


def names(function: Callable[..., Any], *args: Any, of: tuple[str, ...] = ("mul", "tanh")) -> list[str]:
    """The names of these operations in the jaxpr of a function, each once, in order."""
    jaxpr = gn.make_jaxpr(function)(*args).jaxpr
    found = dict.fromkeys(name for name, primitive in equations_in(jaxpr) if primitive in of)
    # Since JAX 0.12 loops and branches are within a jit of its own.
    return [re.sub("jit/(?=scan|cond)", "", name) for name in found]


OF_NET = ["net.blocks.0.scale/mul", "net.blocks.0/tanh", "net.blocks.1.scale/mul", "net.blocks.1/tanh"]


def test_an_operation_has_the_path_of_its_node_once():
    """It is named by the argument and the path below, not by each path on the way."""
    assert names(lambda net, x: net(x), net(), X) == OF_NET


def test_a_node_that_is_called_itself_has_the_name_of_its_class():
    """There is no argument name for what is `self`."""
    expected = [name.replace("net", "Net") for name in OF_NET]
    assert names(net(), X) == expected
    assert names(net().__call__, X) == expected


def test_nodes_in_containers_have_their_keys():
    """A pytree of nodes is an argument, whose keys are part of the path; by name it is the same."""
    assert names(lambda nets, x: nets["a"].blocks[1](x), {"a": net()}, X) == [
        "nets.a.blocks.1.scale/mul",
        "nets.a.blocks.1/tanh",
    ]
    jaxpr = gn.make_jaxpr(lambda x, *, model: model(x))(X, model=block()).jaxpr
    assert {name for name, _ in equations_in(jaxpr)} == {"model.scale/mul", "model/tanh"}


class Odd:
    """A pytree with keys of its own."""

    def __init__(self, node: Block) -> None:
        self.node = node


jax.tree_util.register_pytree_with_keys(
    Odd, lambda odd: ([(("odd", 1), odd.node)], None), lambda _, children: Odd(*children)
)


def test_a_pytree_may_have_keys_of_any_kind():
    """What is no name or position stands there as text."""
    assert names(lambda odd, x: odd.node(x), Odd(block()), X, of=("tanh",)) == ["odd.\"('odd', 1)\"/tanh"]


def test_what_the_function_has_taken_apart_has_no_name():
    """Before the first call: what stands at its place is looked for then."""

    def run(net: Net, x: jax.Array) -> jax.Array:
        taken = net.blocks.pop()
        y = taken(net.blocks[0](x))
        net.blocks.append(taken)
        return y

    assert names(run, net(), X, of=("tanh",)) == ["net.blocks.0/tanh", "tanh"]


def test_a_derivative_inside_goes_on_with_the_names_around_it():
    """The copy of a copy is the outermost argument, in the forward and in the backward pass."""

    def step(net: Net, x: jax.Array) -> Any:
        return gn.grad(lambda model: model.blocks[1](x).sum())(net)

    assert names(step, net(), X, of=("tanh",)) == ["jvp(net.blocks.1)/tanh"]
    backward = [name for name in names(step, net(), X) if "transpose" in name]
    assert backward == ["transpose(jvp(net.blocks.1))/mul", "transpose(jvp(net.blocks.1.scale))/mul"]


def test_vmap_and_nodes_that_are_captured_inside_go_on_too():
    """A function inside may close over the copies of the one around it."""
    assert names(lambda net, x: gn.vmap(lambda row: net(row))(x), net(), X, of=("tanh",)) == [
        "vmap(net.blocks.0)/tanh",
        "vmap(net.blocks.1)/tanh",
    ]
    assert names(lambda net, x: gn.vmap(net)(x), net(), X, of=("tanh",)) == [
        "vmap(net.blocks.0)/tanh",
        "vmap(net.blocks.1)/tanh",
    ]


def test_a_member_of_a_stack_has_a_star():
    """What a round of a scan does is done by each member."""
    assert names(lambda net, x: net(x), stacked(), X) == [
        "net/scan/net.blocks.*.scale/mul",
        "net/scan/net.blocks.*/tanh",
    ]


def test_what_a_loop_carries_has_no_star():
    """A node in the carry is the same in each round."""

    def run(net: Net, x: jax.Array) -> jax.Array:
        return gn.fori_loop(0, 3, lambda i, carry: (carry[0], carry[0](carry[1])), (net.blocks[1], x))[1]

    assert names(run, net(), X, of=("tanh",)) == ["scan/net.blocks.1/tanh"]


def test_branches_go_on_with_the_names_around():
    """Each branch gets the same nodes."""

    def choose(net: Net, x: jax.Array) -> jax.Array:
        return gn.cond(x[0, 0] > 0, lambda one: one.blocks[0](x), lambda one: one.blocks[1](x), net)

    # JAX has the second branch first.
    assert sorted(names(choose, net(), X, of=("tanh",))) == ["cond/net.blocks.0/tanh", "cond/net.blocks.1/tanh"]


def test_a_loop_with_one_function_has_the_names_of_each_place():
    """What is compiled of a function for one place does not lend its names to another."""

    def body(carry: tuple[Block, jax.Array], _: None) -> tuple[tuple[Block, jax.Array], None]:
        return (carry[0], carry[0](carry[1])), None

    def run(net: Net, x: jax.Array) -> jax.Array:
        for one in net.blocks:
            (_, x), _ = gn.scan(body, (one, x), length=2)
        return x

    assert names(run, net(), X, of=("tanh",)) == ["scan/net.blocks.0/tanh", "scan/net.blocks.1/tanh"]


def traced_blocks(transform: Callable[..., Any]) -> tuple[list[str], int]:
    """The names where each block of a net is called by one transformed function, and how often that is traced."""
    count = 0

    def apply(member: Block, x: jax.Array) -> jax.Array:
        nonlocal count
        count += 1
        return member(x)

    def run(net: Net, x: jax.Array) -> jax.Array:
        apply_again = transform(apply)
        for one in net.blocks:
            x = apply_again(one, x)
        return x

    return names(run, net(), X, of=("tanh",)), count


@pytest.mark.parametrize("transform", [gn.jit, gn.remat])
def test_what_is_kept_begins_with_its_own_arguments(transform: Callable[..., Any]):
    """It is traced once for both places; which of them it is stands in front."""
    found, count = traced_blocks(transform)
    kind = "jit" if transform is gn.jit else "(remat2|checkpoint)"
    assert count == 1
    assert [re.sub(kind, "*", name) for name in found] == [
        "net.blocks.0/*/member/tanh",
        "net.blocks.1/*/member/tanh",
    ]


def test_a_compiled_method_says_which_node_it_is_of():
    """In front of its own names, which begin with the class."""
    assert names(lambda net, x: net.blocks[1].compiled(x), net(), X) == [
        "net.blocks.1/jit/Block.scale/mul",
        "net.blocks.1/jit/Block/tanh",
    ]
    assert names(lambda net, x: gn.remat(net.blocks[1])(x), net(), X, of=("tanh",))[0].startswith("net.blocks.1/")


def test_nodes_around_a_compiled_function_have_the_names_of_their_variables():
    """`gn.jit` knows them; so does a transform inside of it."""
    model = net()
    assert names(lambda x: model(x), X, of=("tanh",)) == ["model.blocks.0/tanh", "model.blocks.1/tanh"]
    assert names(lambda x: gn.vmap(lambda row: model(row))(x), X, of=("tanh",)) == [
        "vmap(model.blocks.0)/tanh",
        "vmap(model.blocks.1)/tanh",
    ]


def test_a_node_that_is_made_inside_has_no_name():
    """Its operations belong to whoever calls it, whether or not its class has wrappers."""

    def run(net: Net, x: jax.Array) -> jax.Array:
        return Block(Scale(gn.ParamState(jnp.float32(2))))(net.blocks[0](x))

    assert names(run, net(), X, of=("tanh",)) == ["net.blocks.0/tanh", "tanh"]


def test_a_shared_node_has_its_first_path():
    """In canonical order, by whichever way it is called."""
    shared = block()
    assert names(lambda net, x: net.blocks[1](x), Net([shared, shared]), X, of=("tanh",)) == ["net.blocks.0/tanh"]


def test_a_scope_of_the_users_own_stands_where_it_was_opened():
    """`jax.named_scope` is the way to name a part of a method."""

    def run(net: Net, x: jax.Array) -> jax.Array:
        with jax.named_scope("mine"):
            return net.blocks[0](x)

    assert names(run, net(), X, of=("tanh",)) == ["mine/net.blocks.0/tanh"]


def test_compiled_text_has_the_names():
    """The metadata of XLA, by which profilers group what was run."""

    def step(net: Net, x: jax.Array) -> Any:
        return gn.grad(lambda model: model(x).sum())(net)

    text = gn.jit(step).lower(net(), X).compile().as_text()
    found = set(re.findall(r'op_name="(jit[^"]*)"', text or ""))
    assert "jit(step)/jvp(net.blocks.0)/tanh" in found
    assert any(name.startswith("jit(step)/transpose(jvp(net.blocks.1.scale))/") for name in found)


def test_names_are_all_that_changes(monkeypatch: pytest.MonkeyPatch):
    """A jaxpr is the same without them."""
    step = gn.grad(lambda model, x: model(x).sum())
    named = str(gn.make_jaxpr(step)(stacked(), X))
    monkeypatch.setattr("graphnode._calls.label_of", lambda node: None)
    monkeypatch.setattr("graphnode._method_wrappers.label_of", lambda node: None)
    assert names(lambda net, x: net(x), net(), X, of=("tanh",)) == ["tanh"]
    assert str(gn.make_jaxpr(step)(stacked(), X)) == named
