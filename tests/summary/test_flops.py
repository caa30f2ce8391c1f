"""The operations of programs: by XLA's own count, and by the scopes that they are in."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from graphnode import nn
from graphnode._summary._flops import Work, work_of
from tests.summary.models import Scale, chain

F32 = "float32"


def shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, F32)


def work(function: Callable[..., Any], *inputs: Any) -> Work:
    return work_of(jax.make_jaxpr(function)(*inputs))


def of_xla(function: Callable[..., Any], *inputs: Any) -> int:
    """What XLA says of the compiled program."""
    analysis: Any = jax.jit(function).lower(*inputs).compile().cost_analysis()
    return int(analysis["flops"])


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "same": {"padding": "SAME"},
    "strides": {"padding": "VALID", "window_strides": (2, 1)},
    "dilations": {"padding": [(1, 2), (3, 0)], "lhs_dilation": (2, 3), "rhs_dilation": (1, 2)},
    "groups": {"padding": "SAME", "feature_group_count": 2},
    "batch groups": {"padding": "SAME", "batch_group_count": 2},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_counts_as_xla_counts_it(name: str):
    """Products with padding, and with the gaps of a dilation, are left out."""
    options: dict[str, Any] = {"window_strides": (1, 1), **CONVOLUTIONS[name]}

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, **options)

    inputs = shape(2, 9, 8, 4), shape(3, 2, 4 // options.get("feature_group_count", 1), 6)
    assert work(convolve, *inputs).total() == of_xla(convolve, *inputs) > 0


@pytest.mark.parametrize("rule", ["ij,jk->ik", "bij,bkj->bik", "abij,akj->bik"])
def test_a_product_counts_as_xla_counts_it(rule: str):
    """Each product with its sum is two operations, whatever axes there are."""
    letters: dict[str, int] = dict(zip("abijk", (2, 3, 4, 5, 6), strict=True))
    left, right = [shape(*[letters[axis] for axis in part]) for part in rule.partition("->")[0].split(",")]

    def product(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.einsum(rule, x, y)

    assert work(product, left, right).total() == of_xla(product, left, right)


def test_the_operations_of_a_model_are_those_of_xla():
    """Of a model of products alone; XLA counts additions and the like, too."""
    model, x = chain(4, 8, 8, 2), jnp.ones((3, 4))
    compiled: Any = gn.jit(lambda model, x: model(x)).lower(model, x).compile()
    assert gn.summary(model, x).flops == int(compiled.cost_analysis()["flops"]) == 2 * 3 * (32 + 64 + 16)


def test_a_ragged_product_counts_each_row_once():
    """Each row meets the matrix of its group; in its derivative, each group has its own rows."""
    inputs = shape(6, 4), shape(2, 4, 5), jax.ShapeDtypeStruct((2,), "int32")
    assert work(jax.lax.ragged_dot, *inputs).total() == 2 * 6 * 4 * 5

    def loss(x: jax.Array, matrices: jax.Array, sizes: jax.Array) -> jax.Array:
        return jax.lax.ragged_dot(x, matrices, sizes).sum()

    assert work(jax.grad(loss, 1), *inputs).total() == 2 * 2 * 6 * 4 * 5


def test_a_scan_counts_each_round():
    """Also one in another one."""

    def body(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return x @ x, None

    def inner(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jax.lax.scan(body, x, None, length=3)

    assert work(lambda x: jax.lax.scan(inner, x, None, length=5), shape(2, 2)).total() == 15 * 16


def test_of_a_while_loop_one_round_is_counted_and_said():
    """The note is left out where the body has no operations that count."""
    found = work(lambda x: jax.lax.while_loop(lambda x: x.sum() < 3, lambda x: x @ x, x), shape(2, 2))
    assert found.total() == 16
    assert [text for _, text in found.notes] == [
        "one round of a while loop is counted, as the number of rounds is not known"
    ]
    assert not work(lambda x: jax.lax.while_loop(lambda x: x.sum() < 3, lambda x: x + x, x), shape(2, 2)).notes


def test_products_in_the_condition_of_a_loop_are_counted_once_and_said():
    """As those of its body are."""
    found = work(lambda x: jax.lax.while_loop(lambda x: (x @ x).sum() < 3, lambda x: x + x, x), shape(2, 2))
    assert found.total() == 16
    assert [text for _, text in found.notes] == [
        "one round of a while loop is counted, as the number of rounds is not known"
    ]


def test_of_branches_that_are_equally_large_in_different_nodes_it_is_said_which_is_counted():
    """The first. Where they are equal in each node, nothing is left open."""

    class Experts(gn.Node):
        experts: list[Scale]
        at: tuple[int, ...]

        def __call__(self, x: jax.Array, chosen: jax.Array) -> Any:
            branches = [lambda x, at=at: self.experts[at](x) for at in self.at]
            return jax.lax.switch(chosen, branches, x)

    def notes(*at: int) -> tuple[str, ...]:
        return gn.summary(Experts([Scale(2, 3), Scale(2, 3)], at), "4 2", "int32[]").notes

    text = "Experts: the first branch is counted: others have as many operations, in other nodes"
    assert notes(0, 1) == notes(1, 0, 0) == (text,)
    assert notes(0, 0) == ()


def test_what_a_branch_leaves_open_is_said_though_another_is_counted():
    """It may have more operations than are known."""

    def loop(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: x.sum() < 3, lambda x: x @ x, x)

    found = work(lambda x: jax.lax.cond(x.sum() > 0, loop, lambda x: x @ x @ x, x), shape(2, 2))
    assert [text for _, text in found.notes] == [
        "one round of a while loop is counted, as the number of rounds is not known",
        "the branch with most operations is counted",
    ]


def test_of_branches_the_largest_is_counted_and_said():
    """Without a note where all are the same."""
    branches = [lambda x: x, lambda x: x @ x @ x, lambda x: x @ x]
    found = work(lambda at, x: jax.lax.switch(at, branches, x), jax.ShapeDtypeStruct((), "int32"), shape(2, 2))
    assert found.total() == 32
    assert [text for _, text in found.notes] == ["the branch with most operations is counted"]
    same = [lambda x: x @ x, lambda x: (x + x) @ x]
    found = work(lambda at, x: jax.lax.switch(at, same, x), jax.ShapeDtypeStruct((), "int32"), shape(2, 2))
    assert (found.total(), found.notes) == (16, {})


def test_which_branch_is_largest_may_depend_on_symbolic_sizes():
    """Then the first one is counted, and a note says so."""
    rows, cols = jax.export.symbolic_shape("rows, cols")
    left, right = jax.ShapeDtypeStruct((rows, 2), F32), jax.ShapeDtypeStruct((cols, 2), F32)
    branches = [lambda x, y: (x @ x.T).sum(), lambda x, y: (y @ y.T).sum()]
    found = work(lambda at, x, y: jax.lax.switch(at, branches, x, y), jax.ShapeDtypeStruct((), "int32"), left, right)
    assert str(found.total()) == "4*rows^2"
    text = "the first branch is counted: which has most operations depends on the symbolic sizes"
    assert [note for _, note in found.notes] == [text]


def test_of_shards_those_of_one_device_are_counted_and_said():
    """As each device does as much."""
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.P("rows")
    found = work(jax.shard_map(lambda x: x @ x.T, mesh=mesh, in_specs=rows, out_specs=rows), shape(2, 2))
    assert found.total() == 16
    assert [text for _, text in found.notes] == ["the operations of one device are counted in shard_map"]


def test_functions_in_functions_count():
    """`jit`, `remat`, and functions with a derivative of their own."""

    @jax.custom_vjp
    def double(x: jax.Array) -> jax.Array:
        return x @ x

    double.defvjp(lambda x: (double(x), x), lambda x, g: (g @ x,))

    def nested(x: jax.Array) -> Any:
        return jax.checkpoint(double)(jax.jit(lambda x: jax.nn.relu(x @ x))(x))

    assert work(nested, shape(2, 2)).total() == 32


def test_a_convolution_of_symbolic_size_counts_its_padding():
    """How much of it there is depends on the size."""
    layer = nn.Conv(1, 2, 3)
    assert gn.summary(layer, "length 1").flops == "12*length"
    assert gn.summary(layer, "9 1").flops == 12 * 9 - 2 * 2 * 2


def test_operations_have_the_scopes_around_them():
    """Those of the jaxprs around theirs, too."""

    def step(x: jax.Array) -> Any:
        with jax.named_scope("outer"):
            return jax.jit(inner)(x) @ x

    def inner(x: jax.Array) -> jax.Array:
        with jax.named_scope("inner"):
            return x @ x @ x

    assert work(step, shape(2, 2)).flops == {("outer",): 16, ("outer", "inner"): 32}


def test_operations_have_the_path_of_the_innermost_node():
    """Through `jit`, `remat`, `vmap` and a scan over a stack, with the number of its rounds."""

    class Deep(gn.Node):
        first: Scale
        stack: Scale
        last: Scale

        @gn.jit
        def __call__(self, x: jax.Array) -> Any:
            x = gn.vmap(lambda layer, row: layer(row), in_axes=(None, 0))(self.first, x)
            x, _ = gn.scan(lambda x, layer: (layer(x), None), x, self.stack)
            return gn.remat(lambda layer, x: layer(x))(self.last, x)

    model = Deep(Scale(2, 3), gn.stack([Scale(3, 3) for _ in range(4)]), Scale(3, 5))
    rows = {gn.path_str(row.path): row.flops for row in gn.summary(model, "7 2").rows}
    expected = {"first": 2 * 7 * 6, "stack": 4 * 2 * 7 * 9, "last": 2 * 7 * 15}
    assert rows == expected
    assert gn.summary(model, "7 2").flops == sum(expected.values())


def test_what_cannot_be_counted_is_said():
    """A call of Python, for instance."""

    class Calling(gn.Node):
        def __call__(self, x: jax.Array) -> Any:
            return jax.pure_callback(lambda x: x, x, x)

    assert gn.summary(Calling(), "2").notes == ("Calling: what pure_callback computes is not counted",)
