"""Checks at run time: axis names mean static fields, and hooks over a module leave its nodes as they are."""

import copy
import importlib
import os
import pickle
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float, PyTree, TypeCheckError, install_import_hook, jaxtyped

import graphnode as gn
from graphnode import _typechecker

from .docrun import ROOT

ImportHooked = Callable[..., types.ModuleType]

OURS, PLAIN = "graphnode.typechecker", "beartype.beartype"


@pytest.fixture
def import_hooked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImportHooked:
    """Write a module, and import it under jaxtyping's hook."""
    monkeypatch.syspath_prepend(tmp_path)

    def import_hooked(source: str, checker: str = OURS, name: str = "my_models") -> types.ModuleType:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        hook = install_import_hook(name, checker)
        try:
            return importlib.import_module(name)
        finally:
            hook.uninstall()

    return import_hooked


# What is reported

LINEAR = """
    import jax
    from jaxtyping import Array, Float

    import graphnode as gn


    class Linear(gn.Node):
        in_size: int
        out_size: int
        weight: gn.ParamState[Float[Array, "in_size out_size"]] = gn.state(jax.nn.initializers.lecun_normal())
        is_transposed: bool = False

        def __call__(self, x: Float[Array, "... in_size"]) -> Float[Array, "... out_size"]:
            y = x @ self.weight.value
            return y.T if self.is_transposed else y
"""


def refuse(call: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    """The text of the type checker's error, which names JAX with arrays where equinox is not installed."""
    with pytest.raises(TypeCheckError) as caught:
        call(*args, **kwargs)
    return str(caught.value).replace("(jax)", "")


def test_a_wrong_axis_is_reported_by_the_names_of_the_fields(import_hooked: ImportHooked):
    """The error names the parameter, its axes and the sizes of the node's fields."""
    linear = import_hooked(LINEAR).Linear(2, 3)
    assert linear(jnp.ones((4, 2))).shape == (4, 3)
    text = refuse(linear, jnp.ones((4, 7))).splitlines()
    assert text[:3] == [
        "Type-check error whilst checking the parameters of my_models.Linear.__call__.",
        "The problem arose whilst typechecking parameter 'x'.",
        "Actual value: f32[4,7]",
    ]
    assert text[3].endswith("'... in_size']'>.")
    assert text[-2:] == ["The current values for each jaxtyping axis annotation are as follows.", "in_size=2"]
    assert refuse(linear, x=jnp.ones((4, 7))).splitlines()[-1] == "in_size=2"


def test_a_wrong_result_is_reported_by_the_names_of_the_fields(import_hooked: ImportHooked):
    """The axes of what a method returns mean the fields too."""
    linear = import_hooked(LINEAR).Linear(2, 3, is_transposed=True)
    text = refuse(linear, jnp.ones((4, 2)))
    assert text.startswith("Type-check error whilst checking the return value of my_models.Linear.__call__.")
    assert text.splitlines()[-2:] == ["in_size=2", "out_size=3"]
    assert linear(jnp.ones((3, 2))).shape == (3, 3)


def test_plain_beartype_leaves_the_axis_to_the_argument(import_hooked: ImportHooked):
    """Under it the first array says what `in_size` is, and JAX fails in the product."""
    linear = import_hooked(LINEAR, PLAIN).Linear(2, 3)
    with pytest.raises(TypeError, match="dot_general") as caught:
        linear(jnp.ones((4, 7)))
    assert not isinstance(caught.value, TypeCheckError)


def test_each_node_has_its_own_sizes(import_hooked: ImportHooked):
    """The sizes are those of the node that is called, also where one method calls another's."""
    module = import_hooked(
        LINEAR
        + """
    class Pair(gn.Node):
        in_size: int
        first: Linear
        second: Linear

        def __call__(self, x: Float[Array, "in_size"]) -> Float[Array, "_"]:
            return self.second(self.first(x))
"""
    )
    pair = module.Pair(2, module.Linear(2, 3), module.Linear(3, 4))
    assert pair(jnp.ones(2)).shape == (4,)
    text = refuse(module.Pair(2, module.Linear(2, 3), module.Linear(5, 4)), jnp.ones(2))
    assert "my_models.Linear.__call__" in text
    assert text.splitlines()[-1] == "in_size=5"


X = Float[Array, "size"]


class Kinds(gn.Node):
    """Methods of all kinds, each checked by the decorator."""

    size: int
    shape: tuple[int, ...] = (2, 3)
    label: str = "a"
    tags: tuple[str, ...] = ("a", "b")
    is_on: bool = True
    weight: gn.ParamState[Float[Array, "size"]] = gn.state(jax.nn.initializers.ones)

    @jaxtyped(typechecker=gn.typechecker)
    def variadic(self, x: Float[Array, "n *shape"]) -> Float[Array, "n *shape"]:
        return x

    @jaxtyped(typechecker=gn.typechecker)
    def int_as_shape(self, x: Float[Array, "*size"]) -> None: ...

    @jaxtyped(typechecker=gn.typechecker)
    def other_shape(self, x: Float[Array, "*tags"], y: Float[Array, "shape"]) -> None: ...

    @jaxtyped(typechecker=gn.typechecker)
    def worked_out(self, x: Float[Array, "2*size size+1"]) -> None: ...

    @jaxtyped(typechecker=gn.typechecker)
    def other_names(self, x: Float[Array, "label is_on weight n size=7"]) -> None: ...

    @jaxtyped(typechecker=gn.typechecker)
    def inside(self, *x: list[X] | tuple[X, ...] | None, tree: PyTree[X] = None, **more: X) -> None: ...

    @jaxtyped(typechecker=gn.typechecker)
    def both(self, x: Float[Array, "n size"], y: Float[Array, "n"]) -> None: ...

    @property
    @jaxtyped(typechecker=gn.typechecker)
    def value(self) -> X:
        return self.weight.value[1:]

    @staticmethod
    @jaxtyped(typechecker=gn.typechecker)
    def static(x: X, y: X) -> None: ...

    @classmethod
    @jaxtyped(typechecker=gn.typechecker)
    def of_class(cls, x: X) -> "Kinds":
        return cls(x.shape[0])

    @jaxtyped(typechecker=gn.typechecker)
    def nested(self, x: X) -> None:
        @jaxtyped(typechecker=gn.typechecker)
        def inner(y: Float[Array, "size"]) -> None: ...

        inner(jnp.ones(5))  # a function of its own: `size` is free in it


def test_names_mean_fields_in_every_place_of_a_method():
    """In tuples, sums, unions, containers, pytrees and keyword arguments, for methods and properties."""
    node = Kinds(2)
    assert node.variadic(jnp.ones((5, 2, 3))).shape == (5, 2, 3)
    assert "shape=(2, 3)" in refuse(node.variadic, jnp.ones((5, 2, 4)))
    node.int_as_shape(jnp.ones(2))
    assert "size=(2,)" in refuse(node.int_as_shape, jnp.ones(3))
    node.worked_out(jnp.ones((4, 3)))
    assert "size=2" in refuse(node.worked_out, jnp.ones((6, 4)))
    good, bad = jnp.ones(2), jnp.ones(3)
    node.inside([good], (good,), None, tree={"a": good}, b=good)
    for wrong in ([bad], (bad,)):
        assert "size=2" in refuse(node.inside, wrong)
    assert "size=2" in refuse(node.inside, tree={"a": bad})
    assert "size=2" in refuse(node.inside, b=bad)
    node.both(jnp.ones((3, 2)), jnp.ones(3))
    assert refuse(node.both, jnp.ones((3, 2)), jnp.ones(2)).splitlines()[-2:] == ["size=2", "n=3"]
    with pytest.raises(TypeCheckError, match="size=2"):
        node.value


def test_names_that_give_no_size_are_free():
    """A field that holds no integers, and a remark, leave the name to the first array."""
    Kinds(2).other_names(jnp.ones((3, 4, 5, 6, 7)))
    Kinds(2).other_shape(jnp.ones((3, 4)), jnp.ones(9))


def test_functions_that_are_no_methods_are_checked_by_beartype():
    """Static methods, class methods and functions inside of methods have no fields to look at."""
    node = Kinds(2)
    node.static(jnp.ones(5), jnp.ones(5))
    assert "size=5" in refuse(node.static, jnp.ones(5), jnp.ones(4))
    assert Kinds.of_class(jnp.ones(5)).size == 5
    node.nested(jnp.ones(2))
    assert "size=2" in refuse(node.nested, jnp.ones(3))

    def function(x: X, n: int) -> None: ...

    def method(self: Kinds, x: Float[Array, "*shape size"], y: X) -> Float[Array, "*shape 2*size"]:
        return x

    assert _typechecker._axes_of(function) == ()
    # Each once, however often it stands there.
    assert [(axis.name, axis.is_variadic) for axis in _typechecker._axes_of(method)] == [
        ("shape", True),
        ("size", False),
    ]
    checked = jaxtyped(typechecker=gn.typechecker)(function)
    assert "'n'" in refuse(checked, jnp.ones(2), "3")


def test_the_sizes_are_those_of_the_beginning():
    """A method that changes a field returns what fits its arguments."""

    class Growing(gn.Node):
        size: int

        @jaxtyped(typechecker=gn.typechecker)
        def __call__(self, x: X) -> X:
            self.size += 1
            return x

    node = Growing(2)
    assert node(jnp.ones(2)).shape == (2,)
    assert node.size == 3


def test_a_self_that_is_no_node_is_checked_by_beartype():
    """Other classes may be in the same module."""

    class Plain:
        size = 3

        @jaxtyped(typechecker=gn.typechecker)
        def __call__(self, x: X) -> X:
            return x

    assert Plain()(jnp.ones(7)).shape == (7,)


def test_sizes_need_no_memory():
    """Sizes of any number and height are shown to the checker."""

    class Huge(gn.Node):
        shape: tuple[int, ...]

        @jaxtyped(typechecker=gn.typechecker)
        def __call__(self, x: Float[Array, "*shape"]) -> None: ...

    assert "shape=(1000000000000, 1000000000000)" in refuse(Huge((10**12, 10**12)), jnp.ones(2))
    assert "1, 1)" in refuse(Huge((1,) * 100), jnp.ones(2))


def test_without_beartype_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    """What has to be installed is in the error."""
    monkeypatch.setitem(sys.modules, "beartype", None)
    _typechecker._beartype.cache_clear()
    with pytest.raises(ImportError) as caught:
        gn.typechecker(len)
    _typechecker._beartype.cache_clear()
    assert str(caught.value).startswith("gn.typechecker needs beartype: pip install 'graphnode[runtime-types]' (")


# Transforms


def test_methods_are_checked_while_they_are_traced(import_hooked: ImportHooked):
    """Under jit, grad and vmap the error is the same; an axis that is mapped over is not seen."""
    module = import_hooked(LINEAR)
    linear = module.Linear(2, 3)
    good, bad = jnp.ones((4, 2)), jnp.ones((4, 7))

    def call(model: Any, x: jax.Array) -> Any:
        return model(x)

    def total(model: Any, x: jax.Array) -> Any:
        return model(x).sum()

    transforms: list[Callable[..., Any]] = [
        gn.jit(call),
        gn.vmap(call, in_axes=(None, 0)),
        gn.grad(total),
        gn.remat(call),
        lambda model, x: jax.jit(model)(x),
    ]
    for transformed in transforms:
        transformed(linear, good)
        assert "in_size=2" in refuse(transformed, linear, bad)


def test_stacked_nodes_are_mapped(import_hooked: ImportHooked):
    """Static fields stay as they are in a stack, and mean one of its nodes."""
    module = import_hooked(LINEAR)
    stacked = gn.stack([module.Linear(2, 3), module.Linear(2, 3)])
    run = gn.vmap(lambda model, x: model(x))
    assert run(stacked, jnp.ones((2, 4, 2))).shape == (2, 4, 3)
    assert "in_size=2" in refuse(run, stacked, jnp.ones((2, 4, 7)))


# Nodes of a module under the hook

MODULE = """
    from __future__ import annotations

    import abc
    import dataclasses
    from dataclasses import KW_ONLY, InitVar
    from typing import ClassVar, Generic, TypeVar

    import jax
    import jax.numpy as jnp
    from jaxtyping import Array, Float

    import graphnode as gn
    from graphnode import ParamState, ShortTermState

    N = TypeVar("N", bound=gn.Node)


    @dataclasses.dataclass(frozen=True)
    class Plan:
        # graphnode has a class of this name, and this is another.
        depth: int


    class Base(gn.Node, abc.ABC):
        size: int
        plan: Plan = Plan(1)

        @abc.abstractmethod
        def __call__(self, x: Float[Array, "size"]) -> Float[Array, "size"]: ...


    class Scale(Base):
        calls: ClassVar[int] = 0
        _: KW_ONLY
        start: InitVar[float] = 1.0
        tags: tuple[str, ...] = gn.static(default_factory=lambda: ("a",))
        weight: ParamState[Float[Array, "size"]] = gn.state(init=False)
        trace: ShortTermState[Array] | None = None
        after: Scale | None = None

        def __post_init__(self, start: float) -> None:
            self.weight = ParamState(jnp.full(self.size, start))

        def __call__(self, x: Float[Array, "size"]) -> Float[Array, "size"]:
            y = x * self.weight.value
            if self.trace is not None:
                self.trace.value = y
            return y if self.after is None else self.after(y)

        @property
        def total(self) -> Float[Array, ""]:
            return self.weight.value.sum()

        @total.setter
        def total(self, value: float) -> None:
            self.weight.value = self.weight.value * (value / self.total)


    class Box(gn.Node, Generic[N]):
        items: list[N]
        table: dict[str, N] = gn.subnode(default_factory=dict)

        def __init__(self, *items: N, size: int = 2, x: Float[Array, "size"] | None = None) -> None:
            self.items = list(items)

        def first(self) -> N:
            return self.items[0]


    class Wide(Box[N]):
        def second(self) -> N:
            return self.items[1]


    class Keyed(gn.Node, kw_only=True):
        size: int = 1
        inner: Scale
"""


@pytest.fixture(params=[OURS, PLAIN])
def module(request: pytest.FixtureRequest, import_hooked: ImportHooked) -> Any:
    """The module above, under each checker."""
    return import_hooked(MODULE, request.param)


def test_nodes_of_a_hooked_module_are_constructed_as_before(module: Any):
    """Positions, keywords, defaults, factories, InitVars, abstract and generic classes, own constructors."""
    node = module.Scale(2, start=3.0)
    assert (node.size, node.tags, node.plan.depth, node.weight.value.tolist()) == (2, ("a",), 1, [3.0, 3.0])
    assert list(gn.schema(module.Scale).fields) == ["size", "plan", "tags", "weight", "trace", "after"]
    with pytest.raises(TypeError, match="abstract"):
        module.Base(2)
    with pytest.raises(TypeError, match="positional"):
        module.Scale(2, module.Plan(3), 1.0)
    with pytest.raises(gn.UndeclaredFieldError, match="did you mean 'size'"):
        node.sizes = 3
    box = module.Wide[module.Scale](node, node)
    assert box.first() is box.second() is node
    assert module.Keyed(inner=node).size == 1
    node.total = 4.0
    assert node.total == 4.0


def test_constructors_of_a_hooked_module_are_checked(module: Any):
    """Fields are checked against the classes of their own module, and the names of the user's own hold."""
    assert "'size'" in refuse(module.Scale, "2")
    assert "'plan'" in refuse(module.Scale, 2, 3)
    assert "'after'" in refuse(module.Keyed, inner=3) or "'inner'" in refuse(module.Keyed, inner=3)
    assert module.Scale(2, module.Plan(7)).plan.depth == 7


def test_graph_operations_of_a_hooked_module_are_as_before(module: Any):
    """States, split and merge, sharing, copies, pickles and stacks."""
    inner = module.Scale(2, start=2.0)
    node = module.Scale(2, trace=gn.ShortTermState(jnp.zeros(2)), after=inner)
    assert gn.states(node).keys() == {("weight",), ("trace",), ("after", "weight")}
    merged = gn.treefy_merge(*gn.treefy_split(node))
    for made in (merged, copy.deepcopy(node), gn.clone(node), pickle.loads(pickle.dumps(node))):
        assert type(made) is module.Scale
        assert gn.graphdef(made) is gn.graphdef(node)
        assert made(jnp.ones(2)).tolist() == [2.0, 2.0]
    stacked = gn.stack([module.Scale(2), module.Scale(2, start=5.0)])
    assert gn.vmap(lambda one, x: one(x))(stacked, jnp.ones((2, 2))).tolist() == [[1.0, 1.0], [5.0, 5.0]]
    assert [one.weight.value.tolist() for one in gn.unstack(stacked)] == [[1.0, 1.0], [5.0, 5.0]]


def test_transforms_of_a_hooked_module_are_as_before(module: Any):
    """Derivatives, compiled methods, writes inside, and the error where a write would leak."""
    node = module.Scale(2, trace=gn.ShortTermState(jnp.zeros(2)))
    grads = gn.grad(lambda model, x: model(x).sum())(node, jnp.ones(2))
    assert grads["weight"].value.tolist() == [1.0, 1.0]
    assert gn.jit(lambda model, x: model(x))(node, 2 * jnp.ones(2)).tolist() == [2.0, 2.0]
    assert node.trace.value.tolist() == [2.0, 2.0]
    with pytest.raises(gn.TraceError):
        jax.jit(node)(jnp.ones(2))


def test_contracts_hold_in_a_hooked_module(module: Any):
    """A State of another size is refused by graphnode, as without a hook."""
    node = module.Scale(2)
    with pytest.raises(gn.ContractError) as caught:
        node.weight = gn.ParamState(jnp.ones(3))
    assert str(caught.value) == 'Scale.weight: expected size = 2 of Float[Array, "size"], found shape (3,)'


def test_fields_that_are_not_set_yet_give_no_size(import_hooked: ImportHooked):
    """While `__init__` runs, an axis of its arguments is free."""
    module = import_hooked(
        """
        from jaxtyping import Array, Float

        import graphnode as gn


        class Own(gn.Node):
            size: int

            def __init__(self, x: Float[Array, "size"], y: Float[Array, "size"]) -> None:
                self.size = x.shape[0]

            def __call__(self, x: Float[Array, "size"]) -> None: ...
        """
    )
    own = module.Own(jnp.ones(3), jnp.ones(3))
    assert "size=3" in refuse(own, jnp.ones(2))
    assert "size=3" in refuse(module.Own, jnp.ones(3), jnp.ones(2))


def test_self_may_be_named(import_hooked: ImportHooked):
    """`Self` is accepted, which beartype alone refuses in the functions that jaxtyping hands over."""
    source = """
        from typing import Self

        import graphnode as gn


        class Chain(gn.Node):
            after: "Chain | None" = None

            def then(self, other: Self | None) -> Self:
                self.after = other
                return self

            @classmethod
            def make(cls) -> Self:
                return cls()
    """
    chain = import_hooked(source).Chain.make()
    assert chain.then(None) is chain
    with pytest.raises(Exception, match="Self"):
        import_hooked(source, PLAIN)


def test_an_int_is_a_float(import_hooked: ImportHooked):
    """As type checkers have it, and beartype alone has not."""
    source = """
        import graphnode as gn


        class Rate(gn.Node):
            rate: float = 0.5
    """
    assert import_hooked(source).Rate(1).rate == 1
    assert "'rate'" in refuse(import_hooked(source).Rate, "1")
    assert "'rate'" in refuse(import_hooked(source, PLAIN).Rate, 1)


# Our own tests under the hook


def run_pytest(*arguments: str) -> str:
    """What pytest prints of tests under the hook."""
    command = [sys.executable, "-m", "pytest", "--runtime-types", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env={**os.environ, "PYTEST_ADDOPTS": ""}, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.slow
def test_the_library_passes_under_the_hook():
    """Some of all that the whole suite does under `--runtime-types`: construction, split, merge, jit and layers."""
    names = ("test_linear", "test_state", "test_traverse", "transforms/test_axes")
    printed = run_pytest(*(f"tests/{name}.py" for name in names))
    assert " passed" in printed.splitlines()[-1], printed
    assert "failed" not in printed.splitlines()[-1], printed


@pytest.mark.slow
def test_what_the_type_checker_lets_pass_is_no_wrong_type(tmp_path: Path):
    """A test that is marked `wrong_types` must be stopped by the type checker, and by nothing else."""
    source = """
        import pytest

        import graphnode as gn


        @pytest.mark.wrong_types
        def test_wrong():
            with pytest.raises(gn.FilterTypeError):
                gn.states(gn.nn.Linear(1, 1), 3)


        @pytest.mark.wrong_types
        def test_compared():
            with pytest.raises(TypeError) as caught:
                gn.states(gn.nn.Linear(1, 1), 3)
            assert str(caught.value) == "not a filter: int 3"


        @pytest.mark.wrong_types
        def test_right():
            gn.states(gn.nn.Linear(1, 1))


        @pytest.mark.wrong_types
        def test_fails():
            assert 1 == 2


        def test_unmarked():
            with pytest.raises(gn.FilterTypeError):
                gn.states(gn.nn.Linear(1, 1), 3)
    """
    path = tmp_path / "test_marks.py"
    path.write_text(textwrap.dedent(source))
    printed = run_pytest("-p", "tests.conftest", "-rA", str(path))
    outcomes = {line.split("::")[1].split(" ")[0]: line.split(" ")[0] for line in printed.splitlines() if "::" in line}
    assert outcomes == {
        "test_wrong": "PASSED",
        "test_compared": "PASSED",
        "test_right": "FAILED",
        "test_fails": "FAILED",
        "test_unmarked": "FAILED",
    }
