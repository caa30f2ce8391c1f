"""States and nodes in the places of arrays: each mistake is an error, which says what to write."""

import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Sized
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode._mistaken import _ATTRIBUTES, _INSTEAD

X = jnp.ones((2, 2))

ON_STATE = (
    "ParamState is not an array: write state.value; to transform a function of it, use gn.jit in place of jax.jit, "
    "gn.grad in place of jax.grad, and so on"
)
ON_NODE = (
    "{} is a node, which JAX does not take: use gn.jit in place of jax.jit, gn.grad in place of jax.grad, and so on; "
    "or split it with gn.treefy_split, and merge it inside"
)


class Scale(gn.Node):
    """A node without any attribute that arrays have."""

    weight: gn.ParamState

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.weight.value


@pytest.fixture(params=["layer", "node"])
def node(request: pytest.FixtureRequest) -> gn.Node:
    """A layer, which has a `dtype` as arrays have, and a node that has nothing of the kind."""
    return gn.nn.Linear(2, 2) if request.param == "layer" else Scale(gn.ParamState(X))


def message(mistake: Callable[[], object], error: type[Exception]) -> str:
    """What an error says."""
    with pytest.raises(error) as caught:
        mistake()
    assert type(caught.value) is error
    return str(caught.value)


# Any: no type of a State has operators.
WRITTEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "state + 1": (lambda state: state + 1, "state.value + ..."),
    "1 - state": (lambda state: 1 - state, "... - state.value"),
    "state @ x": (lambda state: state @ np.float64, "state.value @ ..."),
    "state ** 2": (lambda state: state**2, "state.value ** ..."),
    "divmod": (lambda state: divmod(state, 2), "divmod(state.value, ...)"),
    "rdivmod": (lambda state: divmod(2, state), "divmod(..., state.value)"),
    "state & True": (lambda state: state & True, "state.value & ..."),
    "state < 1": (lambda state: state < 1, "state.value < ..."),
    "state >= 1": (lambda state: state >= 1, "state.value >= ..."),
    "-state": (lambda state: -state, "-state.value"),
    "~state": (lambda state: ~state, "~state.value"),
    "abs": (abs, "abs(state.value)"),
    "+=": (lambda state: operator.iadd(state, 1), "state.value += ..."),
    "@=": (lambda state: operator.imatmul(state, 1), "state.value @= ..."),
    "float": (float, "float(state.value)"),
    "int": (int, "int(state.value)"),
    "complex": (complex, "complex(state.value)"),
    "round": (round, "round(state.value)"),
    "floor": (math.floor, "math.floor(state.value)"),
    "range": (range, "int(state.value)"),
    "len": (len, "len(state.value)"),
    "state[0]": (lambda state: state[0], "state.value[...]"),
    "state[0] = 1": (lambda state: operator.setitem(state, 0, 1), "state.value[...]"),
    "del state[0]": (lambda state: operator.delitem(state, 0), "state.value[...]"),
    "list": (list, "state.value[...]"),
    "1 in state": (lambda state: 1 in state, "state.value[...]"),
    "np.asarray": (np.asarray, "np.asarray(state.value)"),
    "np.asarray(dtype)": (lambda state: np.asarray(state, np.float32), "np.asarray(state.value)"),
    "np.sum": (np.sum, "np.asarray(state.value)"),
    "np.ones @ state": (lambda state: np.ones(2) @ state, "np.asarray(state.value)"),
    "np.array([state])": (lambda state: np.array([state]), "np.asarray(state.value)"),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_a_state_that_is_used_as_an_array_says_value(written: str):
    """Operators, functions of Python and NumPy's raise, and say what to write."""
    mistake, instead = WRITTEN[written]
    text = message(lambda: mistake(gn.ParamState(X)), gn.StateUseError)
    assert text == f"ParamState is not an array: write {instead}"


def test_every_special_method_of_the_table_is_there():
    """Each of them raises, whatever it is given."""
    state = gn.BatchState(X)
    for name, instead in _INSTEAD.items():
        text = message(functools.partial(getattr(state, f"__{name}__"), 1, 2), gn.StateUseError)
        assert text == f"BatchState is not an array: write {instead}"
    named = {"add", "radd", "iadd", "rmatmul", "lt", "le", "gt", "ge", "array", "index", "len", "getitem"}
    assert named < _INSTEAD.keys()


def test_a_state_is_neither_true_nor_false():
    """`if self.done:` would always be true."""
    state: Any = gn.ParamState(X)  # of which mypy says that it is always true
    text = "ParamState is neither true nor false: write .value, or `is not None`"
    assert message(lambda: bool(state), gn.StateUseError) == text
    assert message(lambda: state or 1, gn.StateUseError) == text
    assert message(lambda: not state, gn.StateUseError) == text
    assert message(lambda: "yes" if state else "no", gn.StateUseError) == text


def test_equality_and_hash_are_identity_still():
    """Neither raises, and a State is found in lists, sets and dicts."""
    state, other = gn.ParamState(X), gn.ParamState(X)
    assert state == state
    assert state != other
    assert state in [other, state]
    assert {state: 1}[state] == 1


def test_a_state_is_no_iterable():
    """A run-time check would take every State for one, if it had `__iter__`."""
    assert not isinstance(gn.ParamState(X), Iterable)


@pytest.mark.parametrize("name", _ATTRIBUTES)
def test_an_attribute_of_arrays_says_value(name: str):
    """`hasattr` is false; the error says where the attribute is, and arrays have it."""
    state = gn.ParamState(X)
    assert not hasattr(state, name)
    assert not hasattr(gn.ParamState, name)
    text = message(lambda: getattr(state, name), AttributeError)
    assert text == f"'ParamState' object has no attribute '{name}': write state.value.{name}"
    assert hasattr(state.value, name)


def test_other_attributes_have_pythons_own_text():
    """What arrays do not have either gets no hint; nor does a class that is asked."""
    misspelt: Any = gn.ParamState(X)
    assert message(lambda: misspelt.valeu, AttributeError) == "'ParamState' object has no attribute 'valeu'"
    cls: Any = gn.ParamState
    assert message(lambda: cls.shape, AttributeError) == "type object 'ParamState' has no attribute 'shape'"


def test_a_state_class_may_have_what_arrays_have():
    """A property, a method and an operator of the caller's own hide the hint."""

    class Sized(gn.State[jax.Array]):
        @property
        def shape(self) -> tuple[int, ...]:
            return self.value.shape

        def mean(self) -> jax.Array:
            return self.value.mean()

        def __add__(self, other: jax.Array) -> jax.Array:
            return self.value + other

    state = Sized(X)
    assert (state.shape, float(state.mean()), (state + X).tolist()) == ((2, 2), 1.0, [[2.0, 2.0], [2.0, 2.0]])
    assert {"shape", "mean"} < set(dir(state))


class Arithmetic:
    """A mixin for States, with operators and what arrays have."""

    __slots__ = ()

    def __add__(self: Any, other: Any) -> Any:
        return self.value + other

    def __len__(self: Any) -> int:
        return len(self.value)

    def __lt__(self: Any, other: Any) -> Any:
        return self.value < other

    def mean(self: Any) -> Any:
        return self.value.mean()

    @property
    def shape(self: Any) -> Any:
        return self.value.shape

    @shape.setter
    def shape(self: Any, shape: tuple[int, ...]) -> None:
        self.value = self.value.reshape(shape)  # pyrefly: ignore[missing-attribute]


def test_a_mixin_behind_the_state_has_what_arrays_have():
    """It has it in whatever order the bases stand; what it does not have is refused as ever."""

    class Summed(gn.State[Any], Arithmetic):
        pass

    state: Any = Summed(X)
    assert ((state + X).tolist(), len(state), (state < 1).any().item()) == ([[2.0, 2.0], [2.0, 2.0]], 2, False)
    state.shape = (4,)
    assert (state.mean().item(), state.shape) == (1.0, (4,))
    assert {"shape", "mean"} < set(dir(state))
    assert "size" not in dir(state)
    assert message(lambda: state - 1, gn.StateUseError) == "Summed is not an array: write state.value - ..."
    assert message(lambda: bool(state), gn.StateUseError).startswith("Summed is neither true nor false")
    assert message(lambda: state.size, AttributeError).endswith("write state.value.size")
    assert message(lambda: setattr(state, "size", 1), AttributeError).endswith("write state.value.size")


@pytest.mark.parametrize("part", ["name", "tag", "sharding", "metadata"])
def test_a_part_that_is_fixed_says_replace(part: str):
    """Writing it raises, and says how another State is made."""
    state = gn.ParamState(X, tag="a")
    text = message(lambda: setattr(state, part, "b"), AttributeError)
    assert text == (
        f"ParamState.{part} is fixed: put state.replace({part}=...), which is another State, in the field of this one"
    )
    assert state.tag == "a"


def test_dir_shows_no_hints(node: gn.Node):
    """No editor offers them, and `inspect.getmembers` does not ask for them."""
    state = gn.ParamState(X)
    shown = {name for name in dir(state) if not name.startswith("_")}
    assert shown == {"metadata", "name", "replace", "sharding", "stacked", "tag", "value"}
    assert "__jax_array__" not in [*dir(state), *dir(node)]
    assert not {"eval", "train", "parameters"} & set(dir(node))
    assert dict(inspect.getmembers(state))["value"] is X
    assert dict(inspect.getmembers(node))["weight"] is node.__dict__["weight"]


# What JAX is given

BY_JAX: dict[str, Callable[[Any], object]] = {
    "jit": lambda it: jax.jit(lambda m, x: x)(it, X),
    "jit by keyword": lambda it: jax.jit(lambda m: X)(m=it),
    "jit in a list": lambda it: jax.jit(lambda m: X)([it]),
    "jit result": lambda it: jax.jit(lambda x: it)(X),
    "lower": lambda it: jax.jit(lambda m: X).lower(it),
    "grad": lambda it: jax.grad(lambda m: X.sum())(it),
    "grad result": lambda it: jax.grad(lambda x: it)(1.0),
    "value_and_grad": lambda it: jax.value_and_grad(lambda m: X.sum())(it),
    "jvp": lambda it: jax.jvp(lambda m: X, (it,), (it,)),
    "hessian": lambda it: jax.hessian(lambda m: X.sum())(it),
    "jacrev": lambda it: jax.jacrev(lambda m: X)(it),
    "vmap": lambda it: jax.vmap(lambda m, x: x)(it, X),
    "vmap result": lambda it: jax.vmap(lambda x: it)(X),
    "eval_shape": lambda it: jax.eval_shape(lambda m: m, it),
    "make_jaxpr": lambda it: jax.make_jaxpr(lambda m: X)(it),
    "checkpoint": lambda it: jax.checkpoint(lambda m: X)(it),
    "scan": lambda it: jax.lax.scan(lambda carry, x: (carry, x), it, X),
    "cond": lambda it: jax.lax.cond(True, lambda m: X, lambda m: X, it),
    "while_loop": lambda it: jax.lax.while_loop(lambda m: False, lambda m: m, it),
    "device_put": jax.device_put,
    "jnp.sum": jnp.sum,
    "jnp.sin": jnp.sin,
    "jnp.asarray": jnp.asarray,
    "jnp.asarray of a list": lambda it: jnp.asarray([it]),
    "jnp.dot": lambda it: jnp.dot(X, it),
    "jnp.where": lambda it: jnp.where(it, X, X),
    "jnp.stack": lambda it: jnp.stack([it, it]),
    "jnp.zeros_like": jnp.zeros_like,
    "softmax": jax.nn.softmax,
    "x + it": lambda it: X + it,
    "x @ it": lambda it: X @ it,
    "x < it": lambda it: operator.lt(X, it),
    "x[it]": lambda it: X[it],
    "x.at[0].set": lambda it: X.at[0].set(it),
}


@pytest.mark.parametrize("function", BY_JAX)
def test_jax_is_given_a_state(function: str):
    """The error says `.value`, and what takes States."""
    assert message(lambda: BY_JAX[function](gn.ParamState(X)), gn.JaxInputError) == ON_STATE


@pytest.mark.parametrize("function", BY_JAX)
def test_jax_is_given_a_node(node: gn.Node, function: str):
    """Also one that has a `dtype`, which JAX would take for a scalar array."""
    assert message(lambda: BY_JAX[function](node), gn.JaxInputError) == ON_NODE.format(type(node).__name__)


class Affine(gn.Node):
    """A node that says what an array on its left does with it; with a `dtype`, as a layer has."""

    weight: gn.ParamState
    dtype: str = "float32"

    def __rmatmul__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight.value

    def __gt__(self, x: jax.Array) -> jax.Array:
        return x < self.weight.value


class Scaling(gn.State[jax.Array]):
    """A State that says the same."""

    def __rmul__(self, x: jax.Array) -> jax.Array:
        return x * self.value


def test_an_array_leaves_an_operator_to_what_is_on_its_right():
    """To the reflected operators of a class, eagerly and under a trace."""
    affine, scaling, right = Affine(gn.ParamState(X)), Scaling(X), Scale(gn.ParamState(X))
    operators: Any = X
    assert (operators @ affine).tolist() == [[2, 2], [2, 2]]
    assert (operators < affine).tolist() == [[False, False], [False, False]]
    assert (operators * scaling).tolist() == X.tolist()
    assert gn.jit(lambda x, node: x @ node)(operators, affine).tolist() == [[2, 2], [2, 2]]
    assert message(lambda: operators * affine, TypeError).startswith("unsupported operand type(s) for *")
    assert message(lambda: operators @ scaling, gn.StateUseError) == (
        "Scaling is not an array: write ... @ state.value"
    )
    assert message(lambda: operators @ right, gn.JaxInputError) == ON_NODE.format("Scale")


@pytest.mark.parametrize("function", [name for name in BY_JAX if name not in ("x + it", "x @ it", "x < it")])
def test_jax_is_given_a_node_with_reflected_operators(function: str):
    """All but an operator raises as ever."""
    text = message(lambda: BY_JAX[function](Affine(gn.ParamState(X))), gn.JaxInputError)
    assert text == ON_NODE.format("Affine")


def test_a_state_may_be_an_argument_of_ours():
    """As the message says."""
    assert gn.jit(lambda state: 2 * state.value)(gn.ParamState(X)).tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_nodes_and_states_are_leaves_of_pytrees(node: gn.Node):
    """What looks at no leaf is as it was: functions of trees, and what JAX leaves alone."""
    state = gn.ParamState(X)
    tree = {"node": node, "state": [state]}
    assert jax.tree.leaves(tree) == [node, state]
    assert jax.tree.map(lambda leaf: leaf, tree) == tree
    assert jax.block_until_ready(tree) == tree
    constant = jax.vmap(lambda it, x: x @ it.weight.value, in_axes=(None, 0))(node, X)
    assert constant.shape == (2, 2)
    assert jax.grad(lambda x, it: (x * it.weight.value).sum())(X, node).shape == (2, 2)


def test_a_static_argument_of_jax_is_a_constant():
    """JAX asks for nothing but its hash, so that nobody can be told: see the page on limits."""
    model = Scale(gn.ParamState(X))
    static = jax.jit(lambda m, x: m(x), static_argnums=0)
    before = static(model, X)
    model.weight.value = 2 * X
    assert static(model, X).tolist() == before.tolist()
    text = message(lambda: gn.jit(lambda m, x: m(x), static_argnums=0)(model, X), gn.FieldError)
    assert "static" in text


def test_numpy_keeps_nodes_as_objects(node: gn.Node):
    """A node is in no place of an array there: NumPy holds any object."""
    assert np.asarray(node).item() is node


# What the page on limits says

OWN_TEXT: dict[str, Callable[[Any], object]] = {
    "vjp": lambda it: jax.vjp(lambda m: X, it),
    "lax.add": lambda it: jax.lax.add(it, X),
    "relu": jax.nn.relu,
}


@pytest.mark.skipif(jax.__version_info__ < (0, 10), reason="earlier versions of JAX look there too")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("function", OWN_TEXT)
def test_jax_has_its_own_text_where_it_does_not_look(node: gn.Node, function: str):
    """An error all the same: none of them computes with a node or State."""
    for mistaken in (node, gn.ParamState(X)):
        with pytest.raises(TypeError) as caught:
            OWN_TEXT[function](mistaken)
        assert not isinstance(caught.value, gn.GraphnodeError)


def test_a_debug_callback_takes_neither_node_nor_state(node: gn.Node):
    """JAX asks what it is given whether it is an array."""
    for mistaken in (node, gn.ParamState(X)):
        with pytest.raises(gn.JaxInputError):
            jax.debug.callback(lambda it: None, mistaken)


def test_what_is_run_as_a_function_of_jax_is_a_constant():
    """A node that is called, and one in a partial or closure: nobody can be told."""
    model = Scale(gn.ParamState(X))
    functions = [jax.jit(model), jax.jit(functools.partial(Scale.__call__, model)), jax.jit(lambda x: model(x))]
    before = [function(X).tolist() for function in functions]
    model.weight.value = 2 * X
    assert [function(X).tolist() for function in functions] == before


def test_an_array_is_not_compared_with_a_state():
    """By `==`, which asks the other one to become an array."""
    with pytest.raises(gn.JaxInputError):
        assert gn.ParamState(X) == X
    assert isinstance(gn.ParamState(X), Sized)
