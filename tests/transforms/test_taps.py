"""Taps in jaxprs: what flows through them is an output of the program, which else stays what it is."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphnode._compat import Tap, tapped
from graphnode.transforms._taps import AGAIN, Refused, Tapped

OWNER = object()
X, W = jnp.linspace(0.1, 1.0, 3), jnp.linspace(-1.0, 1.0, 36).reshape(4, 3, 3)


def mark(array: Any, **options: Any) -> Any:
    """An array with a tap on it."""
    return tapped([array], Tap(OWNER), **options)[0]


def cell(h: Any, w: Any) -> Any:
    """One round: its result is tapped."""
    h = mark(jnp.tanh(h @ w))
    return h, h.sum()


def net(x: Any, w: Any) -> Any:
    """Four rounds, and what comes of them, tapped."""
    h, _ = jax.lax.scan(cell, x, w)
    return mark(jnp.sum(h * h))


def replaced(x: Any, w: Any) -> Any:
    """Four rounds, whose results are others."""
    return jnp.sum(jax.lax.scan(lambda h, w: (mark(h @ w, replaces=True), None), x, w)[0])


def program(function: Callable[..., Any], *args: Any) -> Tapped:
    return Tapped(jax.make_jaxpr(function)(*args), OWNER)


def shapes(tapped_program: Tapped) -> list[tuple[int, ...]]:
    return [found.avals[0].shape for found in tapped_program.taken]


@jax.custom_jvp
def ruled(x: Any) -> Any:
    """Its derivative is not that of the sine."""
    return mark(jnp.sin(x))


ruled.defjvp(lambda primals, tangents: (ruled(*primals), 100 * tangents[0]))


@jax.custom_vjp
def ruled_back(x: Any) -> Any:
    """The same, in reverse."""
    return mark(jnp.sin(x))


ruled_back.defvjp(lambda x: (ruled_back(x), None), lambda _, cotangent: (100 * cotangent,))

ROUNDS, ALONE = (4, 3), ()
CASES: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "scan": (net, [ROUNDS, ALONE]),
    "jit": (jax.jit(net), [ROUNDS, ALONE]),
    "checkpoint": (jax.checkpoint(net), [ROUNDS, ALONE]),
    "grad": (jax.grad(net), [ROUNDS, ALONE]),
    "grad of a jit": (jax.grad(jax.jit(net)), [ROUNDS, ALONE]),
    "grad of a checkpoint": (jax.grad(jax.checkpoint(net)), [ROUNDS, ALONE]),
    "grad of a scan of checkpoints": (
        jax.grad(lambda x, w: jnp.sum(jax.lax.scan(jax.checkpoint(cell), x, w)[0])),
        [ROUNDS],
    ),
    "jvp": (lambda x, w: jax.jvp(lambda x: net(x, w), (x,), (x,)), [ROUNDS, ALONE]),
    "linearize": (lambda x, w: jax.linearize(lambda x: net(x, w), x)[1](x), [ROUNDS, ALONE]),
    "hessian": (jax.hessian(jax.checkpoint(net)), [(4, 3, 3), (3,)]),
    "vmap": (lambda x, w: jax.vmap(net, (0, None))(jnp.stack([x, x]), w), [(4, 2, 3), (2,)]),
    "vmap, the same in all lanes": (
        lambda x, w: jax.vmap(net, None, None, axis_size=5)(x, w),
        [(4, 5, 3), (5,)],
    ),
    "fori_loop": (lambda x, w: jax.lax.fori_loop(0, 2, lambda _, h: mark(jnp.sin(h)), x), [(2, 3)]),
    "custom_jvp": (lambda x, w: ruled(2 * x), [(3,)]),
    "grad of a custom_jvp": (jax.grad(lambda x, w: jnp.sum(ruled(2 * x))), [(3,)]),
    "custom_vjp": (lambda x, w: ruled_back(2 * x), [(3,)]),
    "a key": (lambda x, w: jax.random.bits(mark(jax.random.key(0))), [()]),
    "keys": (
        lambda x, w: jax.vmap(lambda _: jax.random.bits(mark(jax.random.key(0))))(x),
        [(3,)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_program_with_taps_gives_the_same_bits_and_what_flows_there(name: str):
    """Whatever is around a tap, each call of it is found once, with an axis for each loop and each vmap."""
    function, expected = CASES[name]
    tapped_program = program(function, X, W)
    outputs, taken = tapped_program([X, W])
    assert shapes(tapped_program) == expected
    assert [leaves[0].shape for leaves in taken] == expected
    for output, plain in zip(outputs, jax.tree.leaves(function(X, W)), strict=True):
        assert np.array_equal(output, plain)


def test_what_flows_through_a_tap_is_what_was_computed():
    """In a loop it is stacked in the order of the rounds, also backwards."""
    expected, h = [], X
    for w in W:
        h = jnp.tanh(h @ w)
        expected.append(h)
    _, (rounds, last) = program(net, X, W)([X, W])
    np.testing.assert_allclose(rounds[0], jnp.stack(expected), rtol=1e-6)
    np.testing.assert_allclose(last[0], jnp.sum(h * h), rtol=1e-6)
    _, ((back,),) = program(lambda x, w: jax.lax.scan(cell, x, w, reverse=True)[0], X, W[::-1])([X, W[::-1]])
    np.testing.assert_allclose(back[::-1], rounds[0], rtol=1e-6)


def test_a_rule_of_its_own_stays_that_of_the_function():
    """A derivative of the program is by the rule; one of what is inside is not."""
    tapped_program = program(lambda x: jnp.sum(ruled(x)), X)
    assert jax.grad(lambda x: tapped_program([x])[0][0])(X).tolist() == [100, 100, 100]
    inside = jax.grad(lambda x: jnp.sum(tapped_program([x])[1][0][0]))(X)
    np.testing.assert_allclose(inside, jnp.cos(X), rtol=1e-6)


REPLACED: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "scan": (replaced, (4, 3)),
    "jit": (jax.jit(replaced), (4, 3)),
    "checkpoint": (jax.checkpoint(replaced), (4, 3)),
    "vmap": (lambda x, w: jax.vmap(replaced, (0, None))(jnp.stack([x, x]), w), (4, 2, 3)),
}


@pytest.mark.parametrize("name", REPLACED)
def test_what_is_put_at_a_tap_goes_on(name: str):
    """It has an axis for each loop and each vmap, and takes the place of what was computed."""
    function, shape = REPLACED[name]
    tapped_program = program(function, X, W)
    assert [found.avals[0].shape for found in tapped_program.put] == [shape]
    values = jnp.arange(float(np.prod(shape))).reshape(shape)
    (total,), _ = tapped_program([X, W], [[values]])
    assert np.array_equal(total, values[-1].sum(-1))


def test_nothing_of_what_is_replaced_is_differentiated():
    """A derivative that was taken inside knows that something else stands there; one with respect to it goes on."""
    gradient = program(jax.grad(replaced, argnums=1), X, W)
    (zeros,), _ = gradient([X, W], [[jnp.ones((4, 3))]])
    assert not zeros.any()
    outer = program(replaced, X, W)
    assert jax.grad(lambda put: outer([X, W], [[put]])[0][0])(jnp.ones((4, 3))).tolist() == [[0] * 3] * 3 + [[1] * 3]


def test_what_is_added_has_the_derivative_of_a_sum():
    """With respect to it, and to what stood there; what a backward pass computes again has it too."""
    inner = jax.grad(jax.checkpoint(lambda x: jnp.sum(jnp.sin(mark(jnp.sin(x), adds=True)))))
    tapped_program = program(inner, X)
    (found,) = tapped_program.put
    assert [aval.shape for aval in found.avals] == [(3,)]
    (slopes,), _ = tapped_program([X], [[2 * X]])
    np.testing.assert_allclose(slopes, jnp.cos(jnp.sin(X) + 2 * X) * jnp.cos(X), rtol=1e-6)
    of_put = jax.grad(lambda put: jnp.sum(tapped_program([X], [[put]])[0][0]))(2 * X)
    np.testing.assert_allclose(of_put, -jnp.sin(jnp.sin(X) + 2 * X) * jnp.cos(X), rtol=1e-6)


@jax.custom_jvp
def ruled_and_replaced(x: Any) -> Any:
    """What is put in its place inside, its rule does not know."""
    return mark(x, replaces=True)


ruled_and_replaced.defjvp(lambda primals, tangents: (primals[0], tangents[0]))

# JAX traces it once, for all its calls.
moved = jax.jit(lambda x: jnp.sin(mark(jnp.sin(x), adds=True)))

REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "while": (lambda x: jax.lax.while_loop(lambda x: x[0] < 3, lambda x: mark(x + 1), x), "while"),
    "cond": (lambda x: jax.lax.cond(x[0] > 0, mark, jnp.sin, x), "cond"),
    "custom_jvp": (
        lambda x: jax.nn.relu(x) + ruled_and_replaced(x),
        "custom_jvp_call",
    ),
    "computed again for one of two calls": (jax.grad(jax.checkpoint(lambda x: jnp.sum(moved(moved(x))))), AGAIN),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tap_that_gives_nothing_is_refused(name: str):
    """Where the number of values is not known, or whether there is one: the error has the tap."""
    function, primitive = REFUSED[name]
    with pytest.raises(Refused) as caught:
        program(function, X)
    assert caught.value.primitive == primitive
    assert caught.value.tap.owner is OWNER


def test_taps_of_others_stay():
    """They are still there for whoever looks for them."""
    other = object()
    jaxpr = jax.make_jaxpr(lambda x: tapped([mark(jnp.sin(x))], Tap(other))[0])(X)
    inner = Tapped(jaxpr, OWNER)
    assert len(inner.taken) == 1
    outer = Tapped(jax.make_jaxpr(lambda x: inner([x])[0])(X), other)
    (found,) = outer.taken
    assert found.tap.owner is other


def test_names_and_layouts_of_a_compiled_part_stay():
    """What a jit inside is called, and where its operations come from, is in the program."""

    def named(x: Any) -> Any:
        with jax.named_scope("here"):
            return mark(jnp.sin(x))

    tapped_program = program(jax.jit(named), X)
    text = jax.jit(lambda x: tapped_program([x])).lower(X).as_text(debug_info=True)
    assert "here/sin" in text
    assert "jit(named)" in text
