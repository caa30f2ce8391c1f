"""Filters: every form, their combinations, and what is not a filter."""

import abc
import functools
from collections.abc import Callable
from types import EllipsisType
from typing import Annotated, Any, ForwardRef, Literal, TypeVar, Union

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typing_extensions import TypeAliasType

import graphnode as gn
from graphnode._describe import describe
from graphnode._filters import as_filter


class Membrane(gn.HiddenState[jax.Array]):
    pass


class Marker:
    """A plain mixin, by which States may be selected too."""


class Unit(gn.Node):
    weight: gn.ParamState
    bias: gn.ParamState
    v: Membrane


class Gate(Unit):
    pass


class Net(gn.Node):
    units: list[Unit]
    table: dict[str, gn.State]
    mean: gn.BatchState
    gate: Gate | None = None


def unit(cls: type[Unit] = Unit) -> Any:
    return cls(gn.ParamState(jnp.zeros(1)), gn.ParamState(jnp.zeros(1), tag="bias"), Membrane(jnp.zeros(1), tag="bias"))


@functools.cache
def net() -> Net:
    table = {"0": gn.State(jnp.ones(1)), "units": gn.ShortTermState(jnp.ones(1))}
    return Net([unit(), unit()], table, gn.BatchState(jnp.zeros(1)), unit(Gate))


ALL = [
    *("gate.bias", "gate.v", "gate.weight", "mean", 'table."0"', "table.units"),
    *("units.0.bias", "units.0.v", "units.0.weight", "units.1.bias", "units.1.v", "units.1.weight"),
]


def selected(*filters: gn.Filter | EllipsisType) -> list[str]:
    return [gn.path_str(path) for path in gn.states(net(), gn.Any(*filters))]


@pytest.mark.parametrize("everything", [..., True], ids=repr)
def test_ellipsis_and_true_select_all(everything: Any):
    """`...` and `True` select everything."""
    assert [gn.path_str(path) for path in gn.states(net(), everything)] == ALL
    assert [gn.path_str(path) for path in gn.states(net())] == ALL


@pytest.mark.parametrize("nothing", [None, False], ids=repr)
def test_none_and_false_select_nothing(nothing: Any):
    """`None` and `False` select nothing."""
    assert len(gn.states(net(), nothing)) == 0


def test_class_selects_its_instances():
    """A State class selects States of it and of its subclasses, a mixin or generic alias too."""
    assert selected(gn.State) == ALL
    assert selected(gn.BatchState) == ["mean"]
    assert selected(gn.ShortTermState) == ["gate.v", "table.units", "units.0.v", "units.1.v"]
    assert selected(Membrane) == ["gate.v", "units.0.v", "units.1.v"]
    assert selected(gn.LongTermState) == [p for p in ALL if p.endswith(("bias", "weight", "mean"))]
    assert selected(gn.ParamState[jax.Array]) == selected(gn.ParamState)
    mixin: Any = Marker
    assert selected(mixin) == selected(gn.OfType(Marker)) == []


def test_class_selects_by_the_recorded_class():
    """In a state tree, which has no States, the recorded class counts."""
    tree = gn.treefy_states(net())
    assert tree.filter(gn.ShortTermState).layout is gn.states(net(), gn.ShortTermState).layout


def test_string_selects_by_tag():
    """A string selects States of exactly that tag."""
    assert selected("bias") == [p for p in ALL if p.endswith(("bias", ".v"))]
    assert selected("Bias") == selected("bia") == selected("") == []


@pytest.mark.parametrize("group", [tuple, list])
def test_tuple_and_list_select_any_of(group: Any):
    """A tuple or list selects what any of its filters selects, nested too; an empty one nothing."""
    assert selected(group([gn.BatchState, "bias"])) == selected(gn.BatchState, "bias")
    assert selected(group([gn.BatchState, group([Membrane])])) == selected(gn.BatchState, Membrane)
    assert selected(group([])) == []
    assert selected(group([...])) == ALL


def test_combinations_follow_logic():
    """`Any`, `All` and `Not` are or, and, not; of nothing they are nothing and everything."""
    assert selected(gn.All(gn.ParamState, "bias")) == [p for p in ALL if p.endswith("bias")]
    assert selected(gn.All(gn.ParamState, gn.Not("bias"))) == [p for p in ALL if p.endswith("weight")]
    assert selected(gn.Not(gn.All())) == selected(gn.Any()) == selected(gn.Not(...)) == []
    assert selected(gn.All()) == selected(gn.Not(None)) == selected(gn.Not(gn.Any())) == ALL
    assert selected(gn.Not((gn.ParamState, gn.ShortTermState))) == ["mean", 'table."0"']
    left, right = gn.ParamState, gn.PathContains(0)
    assert selected(gn.Not(gn.All(left, right))) == selected(gn.Any(gn.Not(left), gn.Not(right)))


def test_path_contains_selects_by_one_key():
    """`PathContains` selects by a key anywhere in the path: a field, a position or a dict's key, by its type."""
    assert selected(gn.PathContains("gate")) == ["gate.bias", "gate.v", "gate.weight"]
    assert selected(gn.PathContains("units")) == [p for p in ALL if "units" in p]
    assert selected(gn.PathContains(0)) == [p for p in ALL if "units.0" in p]
    assert selected(gn.PathContains("0")) == ['table."0"']
    assert selected(gn.PathContains("unit", missing_ok=True)) == []


@pytest.mark.parametrize(
    ("key", "found"), [("wieght", "'wieght' in its path (did you mean 'weight'?)"), (7, "7 in its path")], ids=str
)
def test_a_key_that_is_nowhere_is_refused(key: Any, found: str):
    """As a path is, at any depth, for States and nodes; `missing_ok=True` says that it may be so."""
    with pytest.raises(gn.FilterError) as caught:
        gn.states(net(), gn.Not(gn.PathContains(key)))
    assert str(caught.value) == f"no State has {found}; if that may be, write gn.PathContains({key!r}, missing_ok=True)"
    with pytest.raises(gn.FilterError, match=f"^no node has {key!r} in its path"):
        gn.nodes(net(), gn.PathContains(key))
    assert selected(gn.Not(gn.PathContains(key, missing_ok=True))) == ALL


@pytest.mark.no_runtime_types
@pytest.mark.parametrize("bad", [True, 1.0, None, ("units", 0), np.bool_(True)], ids=repr)
def test_a_key_is_a_name_or_a_position(bad: Any):
    """A key that no path has is refused where the filter is made: a bool equals a position, and is none."""
    for name, make in (
        ("PathContains", gn.PathContains),
        ("PathIn", lambda key: gn.PathIn(("units", key, "weight"))),
        ("Under", lambda key: gn.Under(("units", key))),
    ):
        with pytest.raises(gn.FilterTypeError) as caught:
            make(bad)
        assert str(caught.value) == f"{name} takes names (str) and positions (int), found {describe(bad)}"


@pytest.mark.no_runtime_types
def test_numpy_integers_are_positions():
    """A loop over `np.arange` counts as well as one over `range`."""
    key: Any = np.int64(1)
    assert selected(gn.PathIn(("units", key, "weight"))) == ["units.1.weight"]
    assert gn.Under(("units", key)) == gn.Under("units.1")
    assert gn.PathContains(key) == gn.PathContains(1)


def test_path_in_selects_whole_paths():
    """`PathIn` selects exact paths, as tuples or texts; parts of a path select nothing, which is an error."""
    assert selected(gn.PathIn("units.0.bias", ("mean",))) == ["mean", "units.0.bias"]
    assert selected(gn.PathIn('table."0"')) == ['table."0"']
    assert selected(gn.PathIn("table.0", "units", "units.0", "nothing.there", missing_ok=True)) == []
    with pytest.raises(gn.FilterError) as caught:
        selected(gn.PathIn("units.0.bais", "nothing.there"))
    assert str(caught.value) == (
        "no State is at 'nothing.there', 'units.0.bais' (did you mean 'units.0.bias'?); if that may be, write "
        "gn.PathIn('nothing.there', 'units.0.bais', missing_ok=True)"
    )
    assert selected(gn.PathIn()) == []


def test_path_text_that_does_not_parse_is_refused():
    """A path text that does not follow the grammar is refused where the filter is made."""
    with pytest.raises(gn.PathError) as caught:
        gn.PathIn("units..bias")
    assert str(caught.value) == (
        "path 'units..bias' does not parse: expected a key at column 7, found '.bias'; quote keys that hold blanks, "
        "dots, quotes or backslashes"
    )


def test_function_gets_path_and_live_state():
    """A function is given the full path and the live State; any truth it returns counts."""
    seen: dict[gn.Path, object] = {}

    def ask(path: gn.Path, state: Any) -> Any:
        seen[path] = state
        return state.value > 0  # an array of one element

    assert [gn.path_str(path) for path in gn.states(net(), ask)] == ['table."0"', "table.units"]
    assert list(seen) == list(gn.states(net()))
    assert all(seen[path] is state for path, state in gn.states(net()).items())


def test_callable_objects_and_partials_are_functions():
    """Anything callable serves as a function: a bound method, a partial, an object with `__call__`."""

    class Ends:
        def __call__(self, path: gn.Path, state: object) -> bool:
            return path[-1] == "mean"

    assert selected(Ends()) == selected(Ends().__call__) == ["mean"]
    assert selected(functools.partial(lambda key, path, state: path[-1] == key, "mean")) == ["mean"]


def test_first_filter_wins():
    """A State goes to the first filter that accepts it, and to no other."""
    biases, params, rest = gn.states(net(), "bias", gn.ParamState, ...)
    assert [gn.path_str(path) for path in params] == [p for p in ALL if p.endswith("weight")]
    assert len(biases) == 6
    assert [gn.path_str(path) for path in rest] == ["mean", 'table."0"', "table.units"]


OPERATIONS: list[Callable[..., object]] = [
    gn.states,
    gn.treefy_states,
    gn.treefy_split,
    gn.nodes,
    gn.pop_states,
    lambda node, *filters: gn.treefy_states(node).split(*filters),
]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ((..., gn.ParamState), "`...` accepts all States, so nothing is left for ParamState; put `...` last"),
        (
            (gn.BatchState, ..., gn.PathContains("bias"), ...),
            "`...` accepts all States, so nothing is left for PathContains(key='bias'), ...; put `...` last",
        ),
        ((True, gn.Not("x")), "`...` accepts all States, so nothing is left for Not('x'); put `...` last"),
    ],
)
def test_filter_after_ellipsis_is_refused(operation: Callable[..., object], filters: tuple[Any, ...], message: str):
    """`...` before another filter is an error of every operation, since the other could never match."""
    with pytest.raises(gn.FilterError) as caught:
        operation(net(), *filters)
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)
    assert caught.value.paths == ()


REMEDY = (
    "; give a State class, a union of them, a tag, `...`, None, a tuple of filters, gn.Any, gn.All, gn.Not, "
    "gn.PathContains, gn.PathIn, gn.Under or a function of path and State"
)


UNION: Any = Union  # of what no type checker takes
NO_FILTERS: list[tuple[Any, str]] = [
    (1, "int 1"),
    (0, "int 0"),
    (1.5, "float 1.5"),
    (b"tag", "bytes b'tag'"),
    ({"a"}, "set {'a'}"),
    ({"a": 1}, "dict {'a': 1}"),
    (np.zeros(3), "an array float64[3]"),
    (np.array(True), "an array bool[]"),
    (jnp.ones(2), "an array float32[2]"),
    ((3,), "int 3"),
    ([[2]], "int 2"),
]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        *(pytest.param(bad, f"not a filter: {found}", marks=pytest.mark.wrong_types) for bad, found in NO_FILTERS),
        (int, "not a filter: int is not a class of States or nodes"),
        (np.ndarray, "not a filter: ndarray is not a class of States or nodes"),
        ((gn.ParamState, int), "not a filter: int is not a class of States or nodes"),
        ([None, [int]], "not a filter: int is not a class of States or nodes"),
        (gn.ParamState | None, "not a filter: NoneType is not a class of States or nodes"),
        (Union[gn.ParamState, int], "not a filter: int is not a class of States or nodes"),  # noqa: UP007
        (UNION[gn.ParamState, ForwardRef("later")], "not a filter: ForwardRef ForwardRef('later') in a union"),
        (Annotated[gn.ParamState, 1], "not a filter: _AnnotatedAlias typing.Annotated[graphnode.ParamState, 1]"),
        (Literal["tag"], "not a filter: _LiteralGenericAlias typing.Literal['tag']"),
        (Any, "not a filter: Any is not a class of States or nodes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_filter_is_printed(operation: Callable[..., object], bad: Any, message: str):
    """Something that is not a filter is a TypeError that prints it, in every operation and at any depth."""
    with pytest.raises(gn.FilterTypeError) as caught:
        operation(net(), bad)
    assert str(caught.value) == message + REMEDY
    assert isinstance(caught.value, TypeError)


T = TypeVar("T")
Learned = TypeAliasType("Learned", gn.ParamState | gn.BatchState)
LearnedOf = TypeAliasType("LearnedOf", gn.ParamState[T] | gn.BatchState[T], type_params=(T,))

UNIONS: dict[str, Any] = {
    "|": gn.ParamState | gn.BatchState,
    "Union": Union[gn.ParamState, gn.BatchState],  # noqa: UP007
    "of an alias": gn.ParamState[jax.Array] | gn.BatchState,
    "named": Learned,
    "named, with parameters": LearnedOf[jax.Array],
    "OfType": gn.OfType(gn.ParamState | gn.BatchState),
}


@pytest.mark.parametrize("name", UNIONS)
def test_a_union_of_classes_means_any_of_them(name: str):
    """Wherever a class may stand: alone, in other filters, in keys of axes, in `wrt`, where States are popped."""
    union = UNIONS[name]
    model = net()
    expected = selected((gn.ParamState, gn.BatchState))
    assert selected(union) == expected
    assert selected(gn.Not(union)) == selected(gn.Not((gn.ParamState, gn.BatchState)))
    assert list(gn.treefy_states(model, union).flat()) == list(gn.states(model, union))
    assert list(gn.treefy_states(model).filter(union).flat()) == list(gn.states(model, union))
    assert list(gn.grad(lambda one: jnp.sum(one.mean.value), wrt=union)(model).flat()) == list(gn.states(model, union))
    mapped = gn.vmap(lambda one: one.mean.value, in_axes=gn.axes({union: 0, ...: None}), axis_size=1)(model)
    assert mapped.shape == (1,)
    popped = gn.pop_states(gn.clone(model), union)
    assert [gn.path_str(path) for path in popped] == expected
    assert repr(gn.Not(union)) == "Not(ParamState | BatchState)"


def test_a_union_of_node_classes_selects_nodes():
    """In `nodes`, where one of State classes is refused, whole or in part."""
    model = net()
    nodes: Any = gn.nodes
    assert list(nodes(model, Net | Unit)) == list(nodes(model, (Net, Unit)))
    with pytest.raises(gn.FilterTypeError, match=r"^not a filter here: ParamState; select nodes by node classes"):
        nodes(model, Net | gn.ParamState)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("bad", "found"),
    [("x", "str 'x'"), (None, "None"), (gn.ParamState(1), "a ParamState"), ((gn.State,), "tuple (<class 'gr")],
    ids=str,
)
def test_what_is_no_class_is_refused_by_of_type(bad: Any, found: str):
    """When the filter is made, not when it is used."""
    with pytest.raises(gn.FilterTypeError) as caught:
        gn.OfType(bad)
    assert str(caught.value).startswith(f"OfType takes a class or a union of classes, found {found}")


@pytest.mark.wrong_types
def test_state_or_node_is_no_filter():
    """A State or a node given for a filter is refused, also when the node can be called."""

    class Callable_(gn.Node):
        size: int

        def __call__(self, path: object, state: object) -> bool:
            return True

    for bad in (gn.ParamState(0), Callable_(1)):
        with pytest.raises(gn.FilterTypeError):
            gn.states(net(), bad)  # type: ignore[arg-type]  # a State is not a filter; the node passes for a function  # ty: ignore[invalid-argument-type]


@pytest.mark.wrong_types
def test_wrong_part_of_a_combination_is_refused_when_it_is_made():
    """`Any`, `All` and `Not` refuse a part that is not a filter at once."""
    bad: Any = 3
    for combination in (gn.Any, gn.All, gn.Not):
        with pytest.raises(gn.FilterTypeError):
            combination(bad)


def test_filters_print_as_they_were_written():
    """The repr of a filter is what a caller writes, as errors show it."""
    shown = {
        "...": ...,
        "None": None,
        "ParamState": gn.ParamState,
        "'bias'": "bias",
        "Any(ParamState, 'bias')": (gn.ParamState, "bias"),
        "All(Not(...), Any())": gn.All(gn.Not(...), gn.Any()),
        "PathContains(key=0)": gn.PathContains(0),
        "PathIn('a.0')": gn.PathIn("a.0"),
        "Under('a.0')": gn.Under(("a", 0)),
        "positive": positive,
    }
    assert {repr(as_filter(one)): one for one in shown.values()} == shown


def positive(path: gn.Path, state: object) -> bool:
    return True


def test_equal_filters_are_equal():
    """Filters made alike are equal and hash alike, so that a filter written in a loop is resolved once."""
    pairs: list[tuple[Any, Any]] = [
        (gn.PathContains("a"), gn.PathContains("a")),
        (gn.PathIn("a.b", "c"), gn.PathIn("c", ("a", "b"))),
        (gn.Any(gn.ParamState, "t"), gn.Any(gn.ParamState, "t")),
        (gn.Not(gn.All("x")), gn.Not(gn.All("x"))),
    ]
    for left, right in pairs:
        assert left == right
        assert hash(left) == hash(right)
    unlike: list[tuple[Any, Any]] = [(gn.Any("t"), gn.All("t")), (gn.Any("t", "u"), gn.Any("u", "t"))]
    for left, right in unlike:
        assert left != right
    model = net()
    counts: list[int] = []
    for _ in range(20):
        gn.treefy_states(model, gn.All(gn.ParamState, gn.Not(gn.PathIn("units.0.bias"))))
        counts.append(len(gn.graphdef(model).layout._answers))
    assert set(counts) == {counts[0]}


def test_nodes_are_filtered_by_class_path_and_function():
    """`nodes` takes the same filters: node classes, paths, functions of path and node."""
    model = net()
    assert [gn.path_str(path) for path in gn.nodes(model, Unit)] == ["gate", "units.0", "units.1"]
    assert [gn.path_str(path) for path in gn.nodes(model, Gate)] == ["gate"]
    assert list(gn.nodes(model, gn.PathContains(1))) == [("units", 1)]
    gates, rest = gn.nodes(model, Gate, ...)
    assert list(gates) == [("gate",)]
    assert list(rest) == [("units", 0), ("units", 1), ()]
    found = gn.nodes(model, lambda path, node: node is model.units[1])
    assert found == {("units", 1): model.units[1]}


def test_a_tag_selects_no_node():
    """Only States have tags."""
    tag: Any = "bias"
    assert gn.nodes(net(), tag) == {}


def test_class_of_the_wrong_family_is_refused():
    """A State class selects no nodes and a node class no States: both are errors that say which function does."""
    wrong: Any = gn.ParamState
    with pytest.raises(gn.FilterTypeError) as caught:
        gn.nodes(net(), wrong)
    assert str(caught.value) == (
        "not a filter here: ParamState; select nodes by node classes; gn.states filters States"
    )
    bad: Any = (gn.ParamState, Unit)
    with pytest.raises(gn.FilterTypeError) as caught:
        gn.states(net(), bad)
    assert str(caught.value).startswith("not a filter here: Unit; ")


def test_a_class_that_is_registered_later_is_selected():
    """An abstract base class takes subclasses at any time: what was remembered of a filter by it is asked anew."""

    class Frozen(abc.ABC):  # noqa: B024  # classes are registered with it
        """What is not trained."""

    class Table(gn.ParamState): ...

    class Lookup(gn.Node):
        table: Table = gn.state(default_factory=lambda: Table(jnp.ones(2)))
        weight: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.ones(2)))

    node, held = Lookup(), gn.All(gn.OfType(Frozen))
    for _ in range(2):
        assert not gn.states(node, gn.OfType(Frozen))
        assert not gn.states(node, held)
        assert len(gn.states(node, gn.Not(gn.OfType(Frozen)))) == 2
    Frozen.register(Table)
    for model in (node, Lookup()):
        for given in (gn.OfType(Frozen), gn.OfType(Frozen | gn.BatchState), held):
            assert list(gn.states(model, given)) == list(gn.treefy_states(model, given).flat()) == [("table",)]
        assert list(gn.states(model, gn.Not(gn.OfType(Frozen)))) == [("weight",)]
