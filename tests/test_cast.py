"""`gn.cast`: the floating values of States in another dtype, in place, all or none."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array, Float, Float32

import graphnode as gn


class Cell(gn.Node):
    weight: gn.ParamState[Float[Array, "3"]]
    mask: gn.ParamState[dict[str, Array]]
    mean: gn.BatchState


def cell() -> Cell:
    mask = {"mask": jnp.array([True, False]), "phase": jnp.complex64(1j), "scale": jnp.float32(0.1)}
    return Cell(gn.ParamState(jnp.full(3, 0.1)), gn.ParamState(mask), gn.BatchState(jnp.zeros(3)))


def dtypes(node: object) -> dict[str, Any]:
    """The dtype of each array of a node, by its path."""
    return {
        gn.path_str(path) + jax.tree_util.keystr(key_path): str(leaf.dtype)
        for path, state in gn.states(node).items()
        for key_path, leaf in jax.tree.leaves_with_path(state.value)
    }


def test_floating_parameters_are_cast_and_nothing_else():
    """By default those of ParamStates; booleans and complex numbers stay, and the States are the same objects."""
    node = cell()
    weight, phase = node.weight, node.mask.value["phase"]
    gn.cast(node, jnp.bfloat16)
    assert dtypes(node) == {
        "mask['mask']": "bool",
        "mask['phase']": "complex64",
        "mask['scale']": "bfloat16",
        "mean": "float32",
        "weight": "bfloat16",
    }
    assert node.weight is weight
    assert node.mask.value["phase"] is phase
    np.testing.assert_array_equal(weight.value, jnp.full(3, 0.1).astype(jnp.bfloat16))


def test_a_filter_selects_what_is_cast():
    """Any filter will do, and `...` selects all; counts and keys of streams stay."""
    node, rngs = cell(), gn.Rngs(0)
    gn.cast(node, "float16", gn.BatchState)
    assert [node.weight.value.dtype, node.mean.value.dtype] == [jnp.float32, jnp.float16]
    before = dtypes(rngs)
    gn.cast([node, rngs], float, filter=...)
    assert node.mean.value.dtype == jnp.float32
    assert dtypes(rngs) == before


def test_a_value_of_the_dtype_is_kept():
    """Nothing is computed for it."""
    node = cell()
    value = node.weight.value
    gn.cast(node, jnp.float32)
    assert node.weight.value is value


def test_a_cast_keeps_the_structure():
    """A graphdef knows no dtypes: bindings, clones and pickles go on."""
    node = cell()
    graphdef, binding = gn.graphdef(node), node._binding
    gn.cast(node, jnp.float16)
    assert gn.graphdef(node) is graphdef
    assert node._binding is binding
    for copy in (gn.clone(node), pickle.loads(pickle.dumps(node))):
        assert dtypes(copy) == dtypes(node)
        assert gn.graphdef(copy) is graphdef


class Fixed(gn.Node):
    first: gn.ParamState[Float32[Array, "3"]]
    free: gn.ParamState[Float[Array, "3"]]
    last: gn.ParamState[Float32[Array, "3"]]


def test_fields_that_declare_another_dtype_are_all_named():
    """Then nothing is cast, not even what might be."""
    node = Fixed(*[gn.ParamState(jnp.ones(3)) for _ in range(3)])
    with pytest.raises(gn.ContractError) as caught:
        gn.cast({"a": node}, jnp.float16)
    assert str(caught.value) == (
        "cannot cast States of dict to float16: 2 faults:\n"
        '  a.first: expected dtype Float32 of Float32[Array, "3"], found float16\n'
        '  a.last: expected dtype Float32 of Float32[Array, "3"], found float16'
    )
    assert set(dtypes(node).values()) == {"float32"}
    gn.cast(node, jnp.float16, gn.PathIn("free"))
    assert node.free.value.dtype == jnp.float16


@pytest.mark.parametrize(
    ("dtype", "found"),
    [
        pytest.param(jnp.int32, "int32", id="integer"),
        pytest.param(jnp.complex64, "complex64", id="complex"),
        pytest.param("foo", "str 'foo'", id="text"),
        pytest.param(None, "None", id="none", marks=pytest.mark.wrong_types),
    ],
)
def test_a_dtype_that_is_not_floating_is_refused(dtype: Any, found: str):
    """The error says what was found."""
    with pytest.raises(TypeError) as caught:
        gn.cast(cell(), dtype)
    assert str(caught.value) == f"gn.cast: dtype is a floating dtype, such as jnp.bfloat16; found {found}"


def test_a_dtype_that_jax_does_not_compute_in_is_refused():
    """float64 would silently be float32."""
    with pytest.raises(ValueError) as caught:
        gn.cast(cell(), jnp.float64)
    assert str(caught.value) == (
        "gn.cast: JAX computes in no float64 unless it is told to, by jax.config.update('jax_enable_x64', True)"
    )
    with jax.enable_x64(True):
        node = cell()
        gn.cast(node, jnp.float64)
        assert node.weight.value.dtype == jnp.float64


def test_what_cannot_be_cast_is_refused():
    """A filter that selects nothing, values in place of a node, and what is neither."""
    make: Any = gn.cast
    with pytest.raises(gn.FilterError) as no_state:
        gn.cast(cell(), jnp.float16, gn.HiddenState)
    assert str(no_state.value) == "gn.cast: no State of Cell is selected by HiddenState"
    with pytest.raises(TypeError) as of_tree:
        make(gn.treefy_states(cell()), jnp.float16)
    assert str(of_tree.value) == (
        "gn.cast takes a node, whose States it writes; found a StateTree. Make another one: jax.tree.map(lambda array: "
        "array.astype(dtype), tree), or cast a gn.clone of the node"
    )
    with pytest.raises(gn.StructureError, match=r"gn\.cast takes a node or a pytree of nodes; found int 3"):
        make(3, jnp.float16)


def test_a_cast_inside_of_a_transform_is_one_outside():
    """Under gn.jit the caller's States have the dtype; a State that was not passed in is refused, as for any write."""
    node = cell()
    gn.jit(lambda node: gn.cast(node, jnp.float16))(node)
    assert node.weight.value.dtype == jnp.float16
    with pytest.raises(gn.TraceError, match="made outside of the running JAX transformation"):
        jax.jit(lambda: gn.cast(node, jnp.float32))()
    assert node.weight.value.dtype == jnp.float16


def test_abstract_and_stacked_models_are_cast():
    """Shapes without values have dtypes too, and an axis more is no matter."""
    abstract = gn.eval_shape(cell)
    gn.cast(abstract, jnp.float16)
    assert abstract.weight.value == jax.ShapeDtypeStruct((3,), jnp.float16)
    stacked = gn.stack([cell(), cell()])
    gn.cast(stacked, jnp.float16)
    assert (stacked.weight.value.shape, stacked.weight.value.dtype) == ((2, 3), jnp.float16)


def test_an_optimizer_is_cast_with_the_model():
    """Its memory keeps its dtypes, unless a filter selects it too; then updates go on in the new one."""
    model = gn.nn.Linear(2, 3)
    optimizer = gn.optim.Optimizer(model, optax.sgd(0.1, momentum=0.9))

    def memory_dtypes() -> set[str]:
        return {dtype for path, dtype in dtypes(optimizer).items() if "weight" in path}

    gn.cast([model, optimizer], jnp.bfloat16)
    assert (memory_dtypes(), model.weight.value.dtype) == ({"float32"}, jnp.bfloat16)
    gn.cast([model, optimizer], jnp.bfloat16, ...)
    optimizer.update(model, jax.tree.map(jnp.ones_like, gn.treefy_states(model)))
    assert (memory_dtypes(), model.weight.value.dtype) == ({"bfloat16"}, jnp.bfloat16)
