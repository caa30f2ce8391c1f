"""cond and switch: the chosen branch writes, and every branch gives all States that any of them writes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from graphnode.transforms import _kept
from tests.jaxprs import equations

X = jnp.array([1.0, 2.0])


class Cell(gn.Node):
    weight: gn.ParamState
    left: gn.ShortTermState
    right: gn.ShortTermState

    def __call__(self, x: jax.Array) -> jax.Array:
        self.left.value += 1
        return self.weight.value * x

    def other(self, x: jax.Array) -> jax.Array:
        self.right.value += 10
        return self.weight.value - x


class Holder(gn.Node):
    held: gn.State


def cell(scale: float = 1.0) -> Cell:
    return Cell(
        gn.ParamState(scale * jnp.array([0.5, -1.0])),
        gn.ShortTermState(jnp.int32(0)),
        gn.ShortTermState(jnp.int32(0)),
    )


def message(error: type[Exception], function: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def counts(one: Cell) -> tuple[int, int]:
    return int(one.left.value), int(one.right.value)


def first(one: Cell, x: jax.Array) -> jax.Array:
    return one(x)


def second(one: Cell, x: jax.Array) -> jax.Array:
    return one.other(x)


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("pred", [True, False, jnp.bool_(True), jnp.int32(0)])
def test_the_chosen_branch_writes(pred: Any, is_jitted: bool):
    """`cond` gives what the chosen function gives eagerly; the other writes nothing; the predicate may be traced."""
    one, eager = cell(), cell()
    run = gn.jit(lambda pred, one: gn.cond(pred, first, second, one, X)) if is_jitted else None
    y = run(pred, one) if run else gn.cond(pred, first, second, one, X)
    assert jnp.array_equal(y, (first if pred else second)(eager, X))
    assert counts(one) == counts(eager)


def test_only_the_union_of_written_states_is_given():
    """The conditional takes and gives both written States; the weight is taken alone, and what none reads is not."""
    jaxpr = gn.make_jaxpr(lambda p, one: gn.cond(p, first, second, one, X))(True, cell())
    (equation,) = equations(jaxpr.jaxpr, "cond")
    assert [str(out.aval) for out in equation.outvars] == ["int32[]", "int32[]", "float32[2]"]
    untouched = gn.make_jaxpr(lambda p, one: gn.cond(p, lambda one: 1.0, lambda one: 2.0, one))(True, cell())
    assert len(untouched.jaxpr.outvars) == 1


@pytest.mark.parametrize(("index", "chosen"), [(0, 0), (1, 1), (2, 2), (7, 2), (-3, 0)])
@pytest.mark.parametrize("is_jitted", [False, True])
def test_switch_clamps_its_index(index: int, chosen: int, is_jitted: bool):
    """`switch` calls one of several functions; an index outside is clamped, as in JAX."""
    one, eager = cell(), cell()
    branches = (first, second, lambda one, x: 3 * x)
    run = gn.jit(lambda index, one: gn.switch(index, branches, one, X)) if is_jitted else None
    y = run(index, one) if run else gn.switch(index, branches, one, X)
    assert jnp.array_equal(y, branches[chosen](eager, X))
    assert counts(one) == counts(eager)


def test_one_branch_is_enough():
    """`switch` of one function calls it."""
    one = cell()
    gn.switch(5, [first], one, X)
    assert counts(one) == (1, 0)


def test_callable_nodes_and_methods_are_branches():
    """The nodes of the branches are arguments: what the chosen one writes comes back, shared States among them."""
    a, b = cell(), cell(2.0)
    b.weight = a.weight
    assert jnp.array_equal(gn.cond(False, a, b.other, X), a.weight.value - X)
    assert (counts(a), counts(b)) == ((0, 0), (0, 10))
    layers = [gn.nn.Linear(2, 3), gn.nn.Linear(2, 3)]
    for at, layer in enumerate(layers):
        assert jnp.allclose(gn.switch(at, layers, X), layer(X))
    one = cell()
    assert jnp.array_equal(gn.cond(True, one, lambda x: x, X), one.weight.value * X)
    assert jnp.array_equal(gn.cond(True, gn.remat(one), one.other, X), one.weight.value * X)
    assert counts(one) == (2, 0)


def test_a_branch_that_is_a_node_is_no_constant():
    """Another equal node as a branch does not trace again, and its own values are used."""
    count = 0

    class Counted(Cell):
        def __call__(self, x: jax.Array) -> jax.Array:
            nonlocal count
            count += 1
            return super().__call__(x)

    def pass_on(x: jax.Array) -> jax.Array:
        return x

    for scale in (1.0, 2.0, 3.0):
        base = cell(scale)
        one = Counted(base.weight, base.left, base.right)
        assert jnp.array_equal(gn.cond(True, one, pass_on, X), base.weight.value * X)
    assert count <= 2


def test_stable_branches_are_traced_once():
    """Eager calls with the same functions do not trace again, whichever is chosen."""
    count = 0

    def counted(one: Cell, x: jax.Array) -> jax.Array:
        nonlocal count
        count += 1
        return one(x)

    gn.cond(True, counted, second, cell(), X)
    once = count
    for pred in (True, False):
        gn.cond(pred, counted, second, cell(2.0), X + 1)
    assert count == once <= 2


def test_a_state_shared_by_operands_is_written_once():
    """One node in two operands is one node inside."""
    one = cell()

    def twice(a: Cell, b: Cell) -> None:
        assert a is b
        a.left.value += b.left.value + 1

    gn.cond(True, twice, lambda a, b: None, one, one)
    assert counts(one) == (1, 0)


# Nodes that come out


def test_nodes_of_equal_structure_come_out():
    """A node that went in comes out as itself, a new one as one live node with the chosen values."""
    one = cell()
    assert gn.cond(True, lambda one: one, lambda one: one, one) is one
    made = gn.cond(False, lambda x: [gn.ParamState(x)], lambda x: [gn.ParamState(2 * x)], X)[0]
    assert made.value.tolist() == [2.0, 4.0]
    around = gn.switch(1, [lambda one, x: Cell(gn.ParamState(k * x), one.left, one.right) for k in (2, 3)], one, X)
    assert around.left is one.left
    assert around.weight.value.shape == (2,)


@pytest.mark.parametrize(
    ("left", "right", "places"),
    [
        (lambda one: cell(), lambda one: Holder(one.left), "1: Cell != Holder"),
        (lambda one: one, lambda one: cell(), "1: the object at 0 != Cell"),
        (lambda one: [cell(), one], lambda one: [cell(), cell()], "2: the object at 0 != Cell"),
    ],
    ids=["class", "other", "second"],
)
def test_nodes_of_different_structure_are_refused(left: Any, right: Any, places: str):
    """Branches give nodes of one structure; the error says where they differ."""
    expected = f": the functions give nodes of different structures: {places}"
    assert message(gn.StructureError, gn.cond, True, left, right, cell()) == "gn.cond" + expected
    assert message(gn.StructureError, gn.switch, 0, [left, right], cell()) == "gn.switch" + expected


# Nesting


def test_branches_are_differentiated():
    """`grad` through cond is that of the chosen function, eager and under jit; its writes reach the caller."""
    for pred in (True, False):
        one, jitted, eager = cell(), cell(), cell()

        def loss(one: Cell, pred: Any) -> jax.Array:
            return jnp.sum(gn.cond(pred, first, second, one, X) ** 2)

        expected = gn.grad(lambda one, pred=pred: jnp.sum((first if pred else second)(one, X) ** 2))(eager)
        for found in (gn.grad(loss)(one, pred), gn.jit(gn.grad(loss))(jitted, pred)):
            assert jnp.allclose(found["weight"].value, expected["weight"].value)
        assert counts(one) == counts(jitted) == counts(eager)


def test_a_cond_in_vmap_chooses_for_each_lane():
    """A mapped predicate: each lane keeps what its own branch wrote."""
    stacked = gn.stack([cell(), cell(2.0), cell(3.0)])
    y = gn.vmap(lambda one, pred: gn.cond(pred, first, second, one, X))(stacked, jnp.array([True, False, True]))
    assert stacked.left.value.tolist() == [1, 0, 1]
    assert stacked.right.value.tolist() == [0, 10, 0]
    for at, (scale, branch) in enumerate([(1.0, first), (2.0, second), (3.0, first)]):
        assert jnp.array_equal(y[at], branch(cell(scale), X))


def test_a_cond_in_a_cond():
    """Branches nest, and the union of what is written is that of all."""
    one = cell()

    def inner(one: Cell, x: jax.Array) -> jax.Array:
        return gn.cond(x[0] > 5, first, second, one, x)

    gn.cond(True, inner, lambda one, x: x, one, X)
    assert counts(one) == (0, 10)


# Errors


def test_a_state_of_another_dtype_is_named():
    """A State that a branch writes keeps structure, shapes and dtypes."""

    def change(one: Cell, x: jax.Array) -> jax.Array:
        one.left.value = x
        one.right.value = one.right.value.astype(jnp.int16)
        return x

    assert message(TypeError, gn.cond, True, first, change, cell(), X) == (
        "gn.cond: a State keeps its structure, shapes and dtypes here; one.left was int32[] and became float32[2]; "
        "one.right was int32[] and became int16[]"
    )


def as_integers(x: jax.Array) -> jax.Array:
    return x.astype(jnp.int32)


def as_it_is(x: jax.Array) -> jax.Array:
    return x


def test_results_of_different_types_are_told():
    """Which branch gives what: by the argument and the name of each function, and the path below the result."""
    assert message(TypeError, gn.cond, True, as_it_is, as_integers, X) == (
        "gn.cond: the functions return different types: result is float32[2] from true_fun (as_it_is), and int32[2] "
        "from false_fun (as_integers)"
    )
    branches = [lambda x: {"a": x, "b": x}, lambda x: {"a": x, "b": x[0]}]
    assert message(TypeError, gn.switch, 0, branches, X) == (
        "gn.switch: the functions return different types: result['b'] is float32[2] from branches[0] (<lambda>), and "
        "float32[] from branches[1] (<lambda>)"
    )
    assert message(TypeError, gn.cond, True, as_it_is, lambda x: (x, 1), X) == (
        "gn.cond: true_fun (as_it_is) returns float32[2], and false_fun (<lambda>) (float32[2], int32[]): a branch "
        "must return what the others return"
    )
    assert message(TypeError, gn.cond, True, lambda one: one, lambda one: X, cell()) == (
        "gn.cond: true_fun (<lambda>) returns a node, and false_fun (<lambda>) float32[2]: a branch must return what "
        "the others return"
    )


def test_a_method_is_named_among_branches():
    """What passes the operands on to a bound method has its name."""
    one = cell()
    assert message(TypeError, gn.cond, True, one.other, lambda x: 1, X) == (
        "gn.cond: the functions return different types: result is float32[2] from true_fun (other), and int32[] from "
        "false_fun (<lambda>)"
    )


def test_weak_types_of_results_may_differ():
    """JAX makes them agree."""
    assert gn.cond(True, lambda x: x[0], lambda x: 1.0, X) == X[0]


@pytest.mark.wrong_types
def test_what_chooses_is_a_scalar():
    """A predicate or index that is none is told as such."""
    assert message(TypeError, gn.cond, "a", as_it_is, as_it_is, X) == (
        "gn.cond: pred must be a boolean scalar, found str 'a'"
    )


def test_what_chooses_has_no_axes():
    """An array with axes is not taken for a scalar; an index is not a floating-point number."""
    assert message(TypeError, gn.cond, X, as_it_is, as_it_is, X) == (
        "gn.cond: pred must be a boolean scalar, found an array float32[2]"
    )
    assert message(TypeError, gn.switch, X, [as_it_is, as_it_is], X) == (
        "gn.switch: index must be an integer scalar, found an array float32[2]"
    )
    with pytest.raises(TypeError):
        gn.switch(1.0, [as_it_is, as_it_is], X)


def test_explicit_shardings_agree():
    """What branches leave in a State, and what they give, is laid out alike over an explicit mesh; a round keeps it."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))

    def gather(box: Holder) -> jax.Array:
        box.held.value = jax.sharding.reshard(box.held.value, jax.P(None))
        return X

    with jax.set_mesh(mesh):
        box = Holder(gn.State(jax.device_put(jnp.ones(4), jax.P("d"))))
        assert message(TypeError, gn.cond, True, gather, lambda box: X, box) == (
            "gn.cond: branches leave a State in one explicit sharding; box.held is float32[4] after true_fun "
            "(gather), and float32[4] as P('d') after false_fun (<lambda>)"
        )
        assert message(TypeError, gn.scan, lambda box, _: (gather(box), (box, None))[1], box, None, 2) == (
            "gn.scan: a State keeps its explicit sharding here; box.held was float32[4] as P('d') and became float32[4]"
        )
        gn.cond(True, gather, gather, box)
        assert jax.typeof(box.held.value).sharding.spec == jax.P(None)


def test_a_change_of_structure_is_named():
    """A State that a branch replaces is named; nothing is changed outside."""
    one = cell()
    left = one.left

    def replace(one: Cell, x: jax.Array) -> jax.Array:
        one.left = gn.ShortTermState(jnp.int32(7))
        return x

    assert message(gn.StructureError, gn.cond, True, replace, first, one, X) == (
        "the structure of an argument changed inside of gn.cond: one.left is another ShortTermState; write to its "
        ".value instead. Change it outside, or return a new node"
    )
    assert one.left is left
    assert counts(one) == (0, 0)


def test_switch_wants_at_least_one_function():
    """Without a branch there is nothing to run."""
    assert message(ValueError, gn.switch, 0, []) == "gn.switch takes at least one function"


@pytest.mark.wrong_types
def test_what_is_no_function_is_refused():
    """A branch is a function, a method or a callable node."""
    assert message(TypeError, gn.cond, True, 3, first, cell(), X) == (
        "gn.cond takes a function, a method or a callable node; found int 3"
    )


def test_a_captured_node_is_not_written():
    """A branch that writes to a node it closes over is refused."""
    one = cell()
    with pytest.raises(gn.TraceError):
        gn.cond(True, lambda x: one(x), lambda x: x, X)
    assert counts(one) == (0, 0)


def test_what_was_compiled_for_a_dead_function_is_not_that_of_another():
    """An interrupt can keep the callback of a dead function from dropping its entry; its id is then another's."""

    def base(x: jax.Array) -> jax.Array:
        return x * 0

    def first(x: jax.Array) -> jax.Array:
        return x + 1

    def second(x: jax.Array) -> jax.Array:
        return x + 100

    x = jnp.float32(10)
    assert gn.cond(False, base, first, x) == 11
    made = _kept._cache_of(base, ("compiled", "cond"))
    assert made is not None
    entries: list[tuple[Any, Any]] = list(made.items())
    for (ids, rest), kept in entries:
        made[tuple([id(second) if one == id(first) else one for one in ids]), rest] = kept
    assert gn.cond(False, base, second, x) == 110
