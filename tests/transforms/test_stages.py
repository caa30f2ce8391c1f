"""Ahead of time: `trace`, `lower`, `compile` and `eval_shape` of what `gn.jit` gives, and `jax.export` of it."""

import gc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from graphnode import ParamState, ShortTermState, State


class Cell(gn.Node):
    weight: ParamState
    count: ShortTermState
    unused: State[Any]

    def __call__(self, x: jax.Array) -> jax.Array:
        self.count.value = self.count.value + 1
        return self.weight.value * x


def cell(scale: float = 3.0) -> Cell:
    return Cell(ParamState(jnp.full(2, scale, jnp.float32)), ShortTermState(jnp.int32(0)), State(jnp.zeros(7)))


X = jnp.ones(2)


@gn.jit
def step(model: Cell, x: jax.Array) -> jax.Array:
    return model(x)


def test_what_is_compiled_is_called_with_nodes():
    """It reads and writes the node that it is given, which need not be the one that it was compiled for."""
    compiled = step.lower(cell(), X).compile()
    model = cell(5.0)
    assert compiled(model, X).tolist() == [5.0, 5.0]
    assert model.count.value == 1


def test_an_abstract_model_is_enough_to_compile():
    """Nothing but shapes is needed before the call."""
    x: Any = jax.ShapeDtypeStruct((2,), jnp.float32)
    compiled = step.lower(gn.eval_shape(cell), x).compile()
    model = cell()
    assert compiled(model, X).tolist() == [3.0, 3.0]
    assert model.count.value == 1


def test_each_stage_has_what_jax_gives():
    """The program as a jaxpr and as text, and what the compiler says of it."""
    traced = step.trace(cell(), X)
    assert [str(aval) for aval in traced.jaxpr.in_avals] == ["int32[]", "float32[2]", "float32[2]"]
    assert traced.fun_name == "step"
    assert isinstance(traced, jax.stages.Traced)
    lowered = traced.lower()
    assert "stablehlo.multiply" in lowered.as_text()
    assert lowered.compiler_ir() is not None
    assert isinstance(lowered, jax.stages.Lowered)
    assert len(jax.tree.leaves(lowered.args_info)) == 3
    assert len(jax.tree.leaves(lowered.out_info)) == len(jax.tree.leaves(traced.out_info)) == 2
    compiled = lowered.compile(compiler_options={"xla_cpu_enable_fast_math": False})
    assert "HloModule" in str(compiled.as_text())
    analyses: list[Any] = [compiled.memory_analysis(), lowered.cost_analysis(), compiled.cost_analysis()]
    assert analyses[0].output_size_in_bytes > 0
    assert analyses[1]["flops"] > 0
    assert analyses[2]["flops"] > 0
    assert len(jax.tree.leaves(compiled.input_shardings)) == 3
    assert len(jax.tree.leaves(compiled.output_shardings)) == 2
    assert compiled.runtime_executable() is not None
    assert isinstance(compiled, jax.stages.Compiled)


def test_tracing_ahead_is_no_second_trace():
    """The call that follows finds what was traced; neither stage writes anything."""
    traces: list[int] = []

    def noted(model: Cell, x: jax.Array) -> jax.Array:
        traces.append(1)
        return model(x)

    run, model = gn.jit(noted), cell()
    run.lower(model, X)
    run.eval_shape(model, X)
    assert model.count.value == 0
    run(model, X)
    assert len(traces) == 1


def test_eval_shape_gives_the_result_alone():
    """Arrays become shapes, and a node that goes in comes out as itself."""
    model = cell()
    found = gn.jit(lambda model, x: (model, {"y": model(x)}, ParamState(x))).eval_shape(model, X)
    assert found[0] is model
    assert found[1] == {"y": jax.ShapeDtypeStruct((2,), jnp.float32)}
    assert found[2].value == jax.ShapeDtypeStruct((2,), jnp.float32)
    assert model.count.value == 0


def test_nodes_in_the_result_of_a_compiled_function_are_live():
    """As from `gn.jit`: the caller's node is itself, and a new one is a node."""
    model = cell()
    compiled = gn.jit(lambda model: (model, ParamState(model.weight.value + 1))).lower(model).compile()
    found, made = compiled(model)
    assert found is model
    assert made.value.tolist() == [4.0, 4.0]


def test_a_method_and_static_arguments_are_compiled():
    """A bound node is an argument as ever, and static arguments are given again."""
    model = cell()

    def scaled(model: Cell, x: jax.Array, power: int) -> jax.Array:
        return model(x) ** power

    compiled = gn.jit(scaled, static_argnums=2).lower(model, X, 2).compile()
    assert compiled(model, X, 2).tolist() == [9.0, 9.0]
    with pytest.raises(gn.StructureError, match=r"^gn\.jit: it was compiled for another structure: power: 2 != 3$"):
        compiled(model, X, 3)
    assert model.count.value == 1
    assert gn.jit(model).lower(X).compile()(X).tolist() == [3.0, 3.0]
    assert model.count.value == 2


def test_donated_memory_is_gone_after_a_compiled_call():
    """What was compiled with donation donates."""

    def move(model: Cell) -> None:
        model.weight.value = model.weight.value + 1

    model = cell()
    compiled = gn.jit(move, donate=True).lower(model).compile()
    before = model.weight.value
    compiled(model)
    assert before.is_deleted()
    assert model.weight.value.tolist() == [4.0, 4.0]


def test_captured_states_are_read_at_the_call():
    """What a compiled function reads from outside is not compiled in."""
    other = State(jnp.float32(1))
    compiled = gn.jit(lambda x: x * other.value).lower(X).compile()
    other.value = jnp.float32(4)
    assert compiled(X).tolist() == [4.0, 4.0]


def test_other_captured_states_than_were_compiled_are_named():
    """Another shape or dtype, and another structure around the function."""
    other = State(jnp.float32(1))
    models: list[Any] = [cell()]
    compiled = gn.jit(lambda x: x * other.value * models[0].weight.value).lower(X).compile()
    other.value = jnp.ones(2, jnp.int32)
    with pytest.raises(TypeError) as caught:
        compiled(X)
    assert str(caught.value) == "gn.jit: it was compiled for other types: other: float32[] != int32[2]"
    models[0] = State(X)
    with pytest.raises(gn.StructureError, match=r"^gn\.jit: it was compiled for another structure: "):
        compiled(X)


def test_what_is_compiled_is_called_under_the_plan_that_it_was_traced_under():
    """Under another one it would lay out activations as the first says: an error, before anything runs."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rules = gn.sharding.Rules(activations={"batch": "data"}, default=None)
    plan, other = [gn.sharding.plan(cell(), mesh, rules) for _ in range(2)]
    with plan:
        traced = step.trace(cell(), X)
        compiled = traced.lower().compile()
        assert compiled(cell(), X).tolist() == [3.0, 3.0]
    model = cell()
    with pytest.raises(ValueError) as caught, other:
        compiled(model, X)
    assert str(caught.value) == (
        "gn.jit: it was traced under a plan that is not the active one now: call it within `with plan:` of that plan, "
        "or trace and compile it again here"
    )
    with pytest.raises(ValueError, match=r"^gn\.jit: it was traced under a plan that is not the active one now: "):
        traced.lower().compile()(model, X)
    outside = step.lower(cell(), X).compile()
    with pytest.raises(ValueError) as caught, plan:
        outside(model, X)
    assert str(caught.value) == (
        "gn.jit: it was traced without a plan, and one is active now: call it outside of it, or trace and compile it "
        "again here"
    )
    assert model.count.value == 0


def test_an_untouched_state_may_have_any_shape():
    """It is no input of what was compiled."""
    compiled = step.lower(cell(), X).compile()
    model = cell()
    model.unused.value = jnp.zeros((3, 3))
    assert compiled(model, X).tolist() == [3.0, 3.0]


def test_other_arguments_than_were_compiled_are_named():
    """Another structure and other types are errors with names, and nothing is written."""
    compiled = step.lower(cell(), X).compile()
    model = cell()
    with pytest.raises(TypeError) as caught:
        compiled(model, jnp.ones(3))
    assert str(caught.value) == "gn.jit: it was compiled for other types: x: float32[2] != float32[3]"
    model.weight.value = jnp.ones(5)
    with pytest.raises(TypeError) as caught:
        compiled(model, X)
    assert str(caught.value) == "gn.jit: it was compiled for other types: model.weight: float32[2] != float32[5]"
    with pytest.raises(
        gn.StructureError, match=r"^gn\.jit: it was compiled for another structure: model: Cell != State"
    ):
        compiled(State(X), X)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # ty: ignore[invalid-argument-type]
    assert model.count.value == 0


def test_options_of_the_stages_reach_jax():
    """And an unknown one is an error of JAX or XLA."""
    traced = step.trace(cell(), X)
    with pytest.raises(TypeError, match="no_such_option"):
        traced.lower(no_such_option=True)
    with pytest.raises(Exception, match="no_such_option"):
        traced.lower().compile(compiler_options={"no_such_option": "1"})


def test_another_error_of_types_goes_on_as_it_is():
    """Where all types are those that were compiled."""
    compiled, model = step.lower(cell(), X).compile(), cell()
    with pytest.raises(TypeError, match="Cannot apply JAX transformations to a function lowered and compiled"):
        jax.vmap(lambda x: compiled(model, x))(jnp.ones((3, 2)))


def test_a_later_trace_may_look_at_more():
    """In each stage, and for the inputs, it is as at a call."""

    def by_size(model: Cell, x: jax.Array) -> Any:
        return x * model.weight.value if x.shape[0] > 1 else x

    model = cell()
    stages: list[Callable[[Any, jax.Array], int]] = [
        lambda run, x: len(run.trace(model, x).jaxpr.in_avals),
        lambda run, x: len(jax.tree.leaves(run.lower(model, x).args_info)),
        lambda run, x: len(jax.tree.leaves(run.inputs(model, x))),
    ]
    for count_inputs in stages:
        run = gn.jit(lambda model, x: by_size(model, x))
        assert [count_inputs(run, jnp.ones(size)) for size in (1, 2)] == [1, 2]
        assert run.eval_shape(model, X).shape == (2,)


def test_a_captured_state_that_is_gone_is_replaced_in_all_stages():
    """It stands where nobody looks; the next trace takes the one that is there now."""
    outer, inner = SimpleNamespace(), SimpleNamespace(state=State(jnp.float32(1)))
    outer.inner = SimpleNamespace(inner=inner)
    run = gn.jit(lambda x: x * outer.inner.inner.state.value)
    for size in (1, 2):
        inner.state = State(jnp.ones(size))
        gc.collect()
        assert run.lower(X).compile()(X).tolist() == [1.0, 1.0]


def test_a_leaf_that_jax_does_not_take_is_named():
    """As at a call."""
    with pytest.raises(TypeError, match="x is str 'a'"):
        step.lower(cell(), "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # ty: ignore[invalid-argument-type]


def test_a_jitted_function_can_be_exported():
    """`jax.export` takes it; the arrays of a call are its inputs, and the result is the last of what it gives."""
    model, run = cell(), step
    exported: Any = jax.export.export(run)(model, X)  # pyrefly: ignore
    assert "stablehlo" in exported.mlir_module()
    model.weight.value = jnp.full(2, 7.0, jnp.float32)
    written, new_values, result = exported.call(*step.inputs(model, X))
    assert written.numbers == (0,)
    assert new_values == (1,)
    assert result.tolist() == [7.0, 7.0]


def test_inputs_are_what_is_touched_and_captured():
    """In the order that the jaxpr has them."""
    model, other = cell(), State(jnp.float32(2))
    run = gn.jit(lambda model, x: model(x) * other.value)
    assert [leaf.shape for leaf in jax.tree.leaves(run.inputs(model, X))] == [(), (2,), (), (2,)]
    assert model.count.value == 0
