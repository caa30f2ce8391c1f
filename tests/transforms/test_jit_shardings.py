"""`in_shardings`, `out_shardings` and `compiler_options` of `gn.jit`; eight devices are in a process of their own."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

import graphnode as gn
from graphnode import BatchState, ParamState
from tests.devices import run_with_devices

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
import graphnode as gn
from graphnode import BatchState, ParamState
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P


class Model(gn.Node):
    mean: BatchState
    weight: ParamState


def model():
    return Model(BatchState(jnp.zeros(4)), ParamState(jnp.ones((8, 4))))


def apply(model, x):
    y = x @ model.weight.value
    model.mean.value = model.mean.value + y.mean(0)
    return y


X = jnp.arange(64.0).reshape(8, 8)
expected = np.asarray(X).sum(1)[:, None] * np.ones((1, 4))
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
    rows, columns, both, none = [
        NamedSharding(mesh, P(*axes)) for axes in [("data",), (None, "model"), ("data", "model"), ()]
    ]
    halves = NamedSharding(mesh, P("model"))

    # By filter; the same by a state tree, and by paths
    by_filter = gn.axes({ParamState: columns, ...: halves})
    states = gn.treefy_states(model())
    by_tree = jax.tree.map(lambda value: columns if value.ndim == 2 else halves, states)
    by_path = {"weight": columns, "mea*": halves}
    for said in (by_filter, by_tree, by_path):
        for donate in (False, True):
            run = gn.jit(apply, in_shardings=(said, rows), out_shardings=both, donate=donate)
            one = model()
            for count in (1, 2):
                y = run(one, X)
                assert y.sharding == both, (kind, said, y.sharding)
                assert one.mean.value.sharding == halves, (kind, said, one.mean.value.sharding)
                np.testing.assert_allclose(y, expected)
                np.testing.assert_allclose(one.mean.value, count * expected.mean(0), rtol=1e-6)
            # For another shape it is traced again, with the same layouts.
            assert run(one, jnp.ones((16, 8))).sharding == both

    # The layouts that the States have, where XLA would choose others
    one = jax.tree.map(lambda value: jax.device_put(value, none), gn.treefy_states(model()))
    one = gn.treefy_merge(gn.graphdef(model()), one)
    kept = jax.tree.map(lambda value: value.sharding, gn.treefy_states(one))
    def move(model, x):
        model.weight.value = model.weight.value + x[:, :4]
    gn.jit(move, in_shardings=(kept, rows))(one, jax.device_put(X, rows))
    assert one.weight.value.sharding == none, one.weight.value.sharding

    # One for all States of a node; `None` says nothing
    run = gn.jit(apply, in_shardings=(none, None))
    one = model()
    np.testing.assert_allclose(run(one, X), expected)
    assert one.mean.value.sharding == none

    # A result with nodes in it
    made = gn.jit(model, out_shardings=halves)()
    assert made.weight.value.sharding == halves and made.mean.value.sharding == halves
    pair = gn.jit(lambda x: (model(), x), out_shardings=(none, rows))(X)
    assert pair[0].weight.value.sharding == none and pair[1].sharding == rows

    by_class = gn.axes({ParamState: columns, ...: halves})
    found = gn.jit(lambda x: {"net": model(), "x": x}, out_shardings={"net": by_class, "x": rows})(X)
    assert found["net"].weight.value.sharding == columns and found["net"].mean.value.sharding == halves
    assert found["x"].sharding == rows
    assert gn.jit(model, out_shardings=by_tree)().weight.value.sharding == columns
    found = gn.jit(lambda: gn.treefy_states(model()), out_shardings=by_class)()
    assert found["weight"].value.sharding == columns and found["mean"].value.sharding == halves

    # A method: the shardings are those of what the caller gives
    class Layer(Model):
        __call__ = apply
    assert gn.jit(Layer(model().mean, model().weight), in_shardings=(rows,), out_shardings=both)(X).sharding == both

    # What is written only for some shapes, and results of several structures
    def some(model, x):
        if x.shape[0] > 8:
            model.mean.value = x.mean(0)[:4]
            return x, x
        return x
    run = gn.jit(some, in_shardings=(by_filter, rows), out_shardings=rows)
    one = model()
    assert run(one, X).sharding == rows
    assert [part.sharding for part in run(one, jnp.ones((16, 8)))] == [rows, rows]
    np.testing.assert_allclose(one.mean.value, 1.0)
    assert one.mean.value.sharding == halves
    assert run(one, X).sharding == rows

    # Two written States and two arrays, in this order, also those that are donated
    def both_written(model, x, y):
        model.mean.value = model.mean.value + x.sum() + y.sum()
        model.weight.value = model.weight.value * 2
        return y + 1
    places = (by_filter, rows, none)
    for donated, order in (((), [halves, columns, rows, none]), ((0, 2), [halves, columns, none, rows])):
        run = gn.jit(both_written, in_shardings=places, donate_argnums=donated)
        one = model()
        compiled = run.lower(one, X, X).compile()
        assert jax.tree.leaves(compiled.input_shardings) == order, compiled.input_shardings
        run(one, X, X)
        assert one.mean.value.sharding == halves and one.weight.value.sharding == columns

    # What other shapes write has its layout, and what both write is traced once for each
    traces = []
    def one_of_both(model, x):
        traces.append(x.shape)
        state = model.weight if x.shape[0] > 8 else model.mean
        state.value = state.value * 2
        # Both are read for each shape: only what is written differs.
        return x + model.mean.value.sum() * model.weight.value.sum()
    run = gn.jit(one_of_both, in_shardings=(by_filter, rows), out_shardings=rows)
    one = gn.treefy_merge(gn.graphdef(model()), jax.tree.map(jax.device_put, states, by_tree))
    for size in (8, 16, 8, 16, 8):
        run(one, jax.device_put(jnp.ones((size, 8)), rows))
        assert one.mean.value.sharding == halves
    assert one.weight.value.sharding == columns
    # The first shape once more, for what the second one writes
    assert len(traces) == 3, traces

    # Partition specs, where a mesh is set
    one = model()
    with jax.set_mesh(mesh):
        run = gn.jit(apply, in_shardings=(gn.axes({...: P("model")}), P("data")), out_shardings=P("data"))
        y = run(one, X)
        assert y.sharding.spec == P("data"), y.sharding
    compiled = gn.jit(apply, in_shardings=(by_filter, rows), out_shardings=both).lower(model(), X).compile()
    assert jax.tree.leaves(compiled.output_shardings)[-1] == both
    one = model()
    assert compiled(one, X).sharding == both
"""


ERRORS = """
import jax, jax.numpy as jnp
import graphnode as gn
from graphnode import BatchState, ParamState
from jax.sharding import NamedSharding, PartitionSpec as P


class Model(gn.Node):
    mean: BatchState
    weight: ParamState
    unused: ParamState


def model(**places):
    values = {"mean": jnp.zeros(8), "weight": jnp.ones((8, 8)), "unused": jnp.ones(8)}
    values = {name: jax.device_put(value, places.get(name)) for name, value in values.items()}
    return Model(BatchState(values["mean"]), ParamState(values["weight"]), ParamState(values["unused"]))


def apply(model, x):
    model.mean.value = model.mean.value + x.sum(1)
    return x @ model.weight.value


def notes(run, *args):
    try:
        run(*args)
    except ValueError as error:
        # Without those of JAX about its traceback
        return " ".join(note for note in error.__notes__ if not note.startswith("---"))


one, other = jax.devices()[:2]
mesh = jax.make_mesh((2,), ("data",))
rows, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
X = jnp.ones((8, 8))
apart = model(mean=one, weight=other)
for donate, first, second in ((False, "values[0]", "values[1]"), (True, "donated[0][0]", "values[0]")):
    run = gn.jit(apply, donate=donate)
    assert notes(run, apart, X) == f"To JAX, {first} is model.mean, {second} is model.weight.", notes(run, apart, X)
    assert notes(lambda: run.lower(apart, X).compile()) == notes(run, apart, X)
run = gn.jit(lambda x: x * apart.mean.value @ apart.weight.value)
assert notes(run, 1.0) == "To JAX, captured[0] is apart.mean, captured[1] is apart.weight.", notes(run, 1.0)
run = gn.jit(apply, donate_argnums=1)
text = notes(run, model(mean=one), jax.device_put(X, other))
assert text == "To JAX, donated[1][0] is x, values[0] is model.mean.", text
run = gn.jit(apply)
text = notes(run, model(mean=one), jax.device_put(X, other))
assert text == "To JAX, values[0] is model.mean, other_leaves[0] is x.", text

# Inside of another compiled function the note is that of the one that fails.
inner = gn.jit(apply, in_shardings=(NamedSharding(mesh, P("data", None)), None))
outer = gn.jit(lambda given, x, net: given.weight.value + (inner if x.dtype == "int32" else apply)(net, x))
outer(model(), X, model())
text = notes(outer, model(), jnp.ones((8, 8), "int32"), model())
assert text == "To JAX, values[0] is model.mean.", text

# Too many axes; and a layout that is another, of which JAX names none
run = gn.jit(apply, in_shardings=(NamedSharding(mesh, P(None, "data")), None))
for call in (run, run.lower, run.eval_shape):
    assert notes(call, model(), X) == "To JAX, values[0] is model.mean."
for options in ({}, {"donate": True, "donate_argnums": 1}):
    run = gn.jit(apply, in_shardings=(everywhere, None), **options)
    for name in ("mean", "weight"):
        text = notes(run, model(**{name: rows}, unused=rows), X)
        assert text == f"model.{name} is laid out as {rows}, and in_shardings says {everywhere}.", text
    run = gn.jit(apply, in_shardings=(None, everywhere), **options)
    text = notes(run, model(), jax.device_put(X, rows))
    assert text == f"x is laid out as {rows}, and in_shardings says {everywhere}.", text
run = gn.jit(apply, in_shardings=(None, P()))
with jax.set_mesh(mesh):
    text = notes(run, model(), jax.device_put(X, rows))
assert text == f"x is laid out as {rows}, and in_shardings says {everywhere}.", text

# What was compiled ahead of time
compiled = gn.jit(apply).lower(model(), X).compile()
assert notes(compiled, model(weight=rows), X) == "To JAX, values[1] is model.weight."
"""


def test_errors_of_layouts_and_devices_name_the_states():
    """JAX names its own inputs, or none."""
    run_with_devices(ERRORS, 2)


@pytest.mark.slow
def test_inputs_and_outputs_are_laid_out_as_said():
    """By filter, by path or by one sharding for all; written States stay laid out as they came in."""
    run_with_devices(PROGRAM, 8)


class Model(gn.Node):
    mean: BatchState
    weight: ParamState


def model() -> Model:
    return Model(BatchState(jnp.zeros(4)), ParamState(jnp.ones((8, 4))))


class Wide(gn.Node):
    more: BatchState


HERE = SingleDeviceSharding(jax.devices()[0])

MISTAKES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "an unknown path": (
        {"in_shardings": ({"waight": HERE},)},
        ValueError,
        "gn.jit: in_shardings: waight is no State of the argument; did you mean 'weight'?",
    ),
    "no sharding": (
        {"in_shardings": ("data",)},
        TypeError,
        "gn.jit: in_shardings of model.mean is a sharding, a partition spec or None; found str 'data'",
    ),
    "an axis": (
        {"in_shardings": (gn.axes({ParamState: 0}),)},
        TypeError,
        "gn.jit: in_shardings of model.weight is a sharding, a partition spec or None; found int 0",
    ),
    "a filter for an array": (
        {"out_shardings": gn.axes({ParamState: HERE})},
        TypeError,
        f"gn.jit: out_shardings: axes({{ParamState: {HERE!r}}}) is for a node or state tree; the result has an array "
        "there",
    ),
    "no sharding for a node of the result": (
        {"out_shardings": (None, gn.axes({ParamState: 1}))},
        TypeError,
        "gn.jit: out_shardings of weight is a sharding, a partition spec or None; found int 1",
    ),
    "an unknown path of the result": (
        {"out_shardings": (None, jax.tree.map(lambda _: HERE, gn.treefy_states(Wide(model().mean))))},
        ValueError,
        "gn.jit: out_shardings: more is no State of the result",
    ),
    "no sharding in the result": (
        {"out_shardings": 1},
        TypeError,
        "gn.jit: out_shardings of the result is a sharding, a partition spec or None; found int 1",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_no_layout_is_refused(name: str):
    """Before anything is compiled, with the place."""
    options, error, text = MISTAKES[name]
    gives_node = isinstance(options.get("out_shardings"), tuple)
    with pytest.raises(error) as caught:
        gn.jit(lambda one: (one.weight.value, model()) if gives_node else one.weight.value, **options)(model())
    assert str(caught.value).replace(" one.", " model.") == text


def scaled(x: jax.Array) -> jax.Array:
    return 2 * x


def test_a_pickled_function_has_its_layouts():
    """The shardings are options as others are."""
    run = gn.jit(scaled, in_shardings=(1,))
    with pytest.raises(TypeError, match="in_shardings of x is a sharding"):
        pickle.loads(pickle.dumps(run))(1.0)


def test_a_prefix_that_does_not_fit_is_refused():
    """More entries than arguments, and a tuple for a result that is none."""
    with pytest.raises(ValueError, match=r"^gn\.jit: \(None, None\) is not a prefix of the arguments: "):
        gn.jit(lambda model: model.weight.value, in_shardings=(None, None))(model())
    with pytest.raises(ValueError, match=r"^gn\.jit: out_shardings is not a prefix of the result: "):
        gn.jit(lambda model: model.weight.value, out_shardings=(None, None))(model())


def test_a_state_that_is_said_twice_must_be_said_alike():
    """One State in two arguments has one layout."""
    one = model()
    other = Model(one.mean, ParamState(jnp.ones(1)))
    run = gn.jit(lambda a, b: a.mean.value + b.mean.value, in_shardings=(HERE, None))
    with pytest.raises(gn.AliasError, match=r"one BatchState is reached as a\.mean with .* and as b\.mean with None"):
        run(one, other)


def test_options_of_the_compiler_reach_it():
    """A known one compiles, and an unknown one is XLA's error."""
    one = model()
    assert gn.jit(lambda x: 2 * x, compiler_options={"xla_cpu_enable_fast_math": True})(1.0) == 2.0
    with pytest.raises(Exception, match="no_such_option"):
        gn.jit(lambda model: model.weight.value, compiler_options={"no_such_option": "1"})(one)
