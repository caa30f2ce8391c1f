"""What a class says about its own copies: `copy.deepcopy` asks it, at the root of a graph and below."""

import copy
import dataclasses
import pickle
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, ClassVar

import cloudpickle  # type: ignore[import-untyped]
import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import graphnode as gn


def deep(value: Any) -> Any:
    return copy.deepcopy(value)


def shallow(value: Any) -> Any:
    return copy.copy(value)


class Leaf(gn.Node):
    weight: gn.ParamState
    tag: str = ""


class Holder(gn.Node):
    first: gn.Node
    second: gn.Node
    tag: str = "holder"


class Frozen(Leaf):
    def __deepcopy__(self, memo: dict[int, Any]) -> "Frozen":
        return self


class Marked(Leaf):
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        twin: Any = super().__deepcopy__(memo)
        twin.tag += "!"
        return twin


class Zeroed(Leaf):
    def __reduce__(self) -> Any:
        return Zeroed, (gn.ParamState(self.weight.value * 0), self.tag)


class ZeroedToo(Leaf):
    def __reduce_ex__(self, protocol: Any) -> Any:
        return ZeroedToo, (gn.ParamState(self.weight.value * 0), self.tag)


class Single(Leaf):
    def __reduce__(self) -> Any:
        return "SINGLE"


SINGLE = Single(gn.ParamState(jnp.ones(2)))


class Doubling(Leaf):
    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "weight": gn.ParamState(self.weight.value * 2)}


class Replacing(Holder):
    """Its state has a node that nobody else holds."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "second": Leaf(gn.ParamState(jnp.zeros(2)), "replaced")}


class Tupled(Leaf):
    def __getstate__(self) -> Any:
        return self.tag, self.weight

    def __setstate__(self, state: Any) -> None:
        super().__setstate__({"tag": state[0], "weight": state[1]})


class Joined(Holder):
    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "tag": f"({state['first'].tag} {state['second'].tag})"})


class Own(gn.State[Any]):
    def __deepcopy__(self, memo: dict[int, Any]) -> "Own":
        return self


class HoldsOwn(gn.Node):
    held: Own
    again: list[gn.State]


def leaf(cls: type[Any] = Leaf, tag: str = "") -> Any:
    return cls(gn.ParamState(jnp.ones(2)), tag)


def test_a_childs_own_deepcopy_is_asked():
    """Once, wherever it stands: a teacher that says that it is shared is shared."""
    teacher = leaf(Frozen)
    twin = deep(Holder(teacher, Holder(teacher, leaf())))
    assert twin.first is twin.second.first is teacher
    marked = leaf(Marked)
    twin = deep(Holder(marked, marked))
    assert twin.first is twin.second is not marked
    assert (twin.first.tag, marked.tag) == ("!", "")


def test_an_own_deepcopy_in_a_ring():
    """A class that asks its base, and leads back to the node that is being copied."""

    class Ring(Holder):
        def __deepcopy__(self, memo: dict[int, Any]) -> gn.Node:
            return super().__deepcopy__(memo)

    ring = Ring(leaf(), leaf())
    ring.second = Holder(ring, ring.first)
    twin = deep(ring)
    assert twin.second.first is twin is not ring
    assert twin.second.second is twin.first is not ring.first


@pytest.mark.parametrize("cls", [Zeroed, ZeroedToo])
def test_a_nodes_own_reduction_is_asked_by_deepcopy(cls: type[Any]):
    """As pickle and `copy.copy` ask it, at the root and below."""
    node = leaf(cls, "kept")
    twin = deep(Holder(node, node))
    assert twin.first is twin.second
    for copied in (deep(node), twin.first, shallow(node)):
        assert (type(copied), copied.tag) == (cls, "kept")
        assert copied.weight.value.tolist() == [0, 0]
    assert deep(Holder(SINGLE, leaf())).first is SINGLE


@pytest.mark.parametrize("copied", [deep, lambda node: pickle.loads(pickle.dumps(node))])
def test_setstate_finds_its_children_complete(copied: Any):
    """As in a pickle: the first child comes first, and what nodes share is there, too."""
    shared = leaf(Leaf, "a")
    inner = Joined(shared, leaf(Leaf, "b"))
    twin = copied(Joined(inner, Joined(inner, shared)))
    assert twin.tag == "((a b) ((a b) a))"
    assert twin.first is twin.second.first
    assert twin.first.first is twin.second.second


def test_deepcopy_takes_what_getstate_gives():
    """Another State or node for a field, or a tuple."""
    node = leaf(Doubling)
    for copied in (deep(node), deep(Holder(node, node)).second):
        assert copied.weight.value.tolist() == [2, 2]
    twin = deep([Replacing(leaf(), leaf()) for _ in range(20)])
    assert len({id(one.second) for one in twin}) == 20
    assert {one.second.tag for one in twin} == {"replaced"}
    twin = deep(Holder(leaf(Tupled, "t"), leaf()))
    assert (twin.first.tag, twin.first.weight.value.tolist()) == ("t", [1, 1])


class Updates(gn.Node):
    size: int
    held: list[gn.ParamState[Float[Array, "size"]]]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@pytest.mark.parametrize("copied", [shallow, deep, lambda node: pickle.loads(pickle.dumps(node))])
def test_a_setstate_may_write_into_the_dict(copied: Any):
    """As it is written for plain classes: containers are the node's own, and States are held to their contracts."""
    node = Updates(2, [gn.ParamState(jnp.ones(2))])
    twin = copied(node)
    assert gn.graphdef(twin) is gn.graphdef(node)
    twin.held.append(gn.ParamState(jnp.ones(2)))
    assert (len(node.held), len(gn.states(node)), len(gn.states(twin))) == (1, 1, 2)
    with pytest.raises(gn.ContractError, match=r"Updates\.held\.0: expected size = 2"):
        twin.held[0].value = jnp.ones(3)


class Assigns(Leaf):
    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class Fills(Leaf):
    def __copy__(self) -> Any:
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new


UNMADE = (
    "this {} was made by __new__, without its constructor, and filled past graphnode: a __setstate__, __copy__ or "
    "__deepcopy__ of its class calls super().__setstate__(state), super().__copy__() or super().__deepcopy__(memo), "
    "and a __new__ leaves the fields to the constructor. gn.clone and gn.view copy a node, too"
)


def test_what_is_filled_past_graphnode_says_what_to_call():
    """At the first assignment, and where its graph is walked."""
    with pytest.raises(gn.FieldError) as caught:
        deep(leaf(Assigns))
    assert str(caught.value) == UNMADE.format("Assigns")
    filled = shallow(leaf(Fills))
    with pytest.raises(gn.StructureError) as found:
        gn.states(Holder(filled, leaf()))
    assert str(found.value) == UNMADE.format("Fills")


def test_a_states_own_deepcopy_is_asked():
    """A State that says that it is shared."""
    held = Own(jnp.ones(2))
    twin = deep(HoldsOwn(held, [held, gn.ParamState(jnp.ones(1))]))
    assert twin.held is twin.again[0] is held


def test_new_arguments_are_asked_by_deepcopy():
    """`__getnewargs__`, as pickle asks it."""
    seen: list[Any] = []

    class Made(Leaf):
        def __new__(cls, *args: Any) -> Any:
            seen.append(args)
            return super().__new__(cls)

        def __getnewargs__(self) -> tuple[str]:
            return ("new",)

    deep(Holder(leaf(Made), leaf()))
    assert seen[-1] == ("new",)


# Classes that come back by value to where they are


def by_value(value: Any) -> Any:
    """What cloudpickle makes of a value whose class has no name to find it by: it sets the class's attributes again."""
    return cloudpickle.loads(cloudpickle.dumps(value))


def test_a_class_that_comes_back_is_the_one_that_is_there():
    """What was compiled of it stays: its nodes are of one structure, and nothing is traced again."""

    class Base(gn.Node):
        width: int
        weight: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.ones(2)))

    class Sub(Base):
        def total(self) -> Any:
            return self.width * self.weight.value.sum()

    for cls in (Base, Sub):
        node = cls(2)
        summed = gn.jit(lambda node: node.weight.value.sum())
        compiled, graphdef = gn.schema(cls), gn.graphdef(node)
        summed(node)
        generation = node
        for _ in range(3):
            generation = by_value(generation)
            assert type(generation) is cls
            assert gn.graphdef(generation) is gn.graphdef(cls(2)) is gn.graphdef(gn.clone(node)) is graphdef
            summed(generation)
            summed(cls(2))
        assert gn.schema(cls) is compiled
        assert gn.explain_retrace(summed).endswith("<lambda> was traced once")
        assert gn.stack([node, generation]).weight.value.shape == (2, 2)


def test_a_class_alone_that_comes_back_keeps_its_nodes_working():
    """Also where the pickle is older than what was compiled since."""

    class Lone(gn.Node):
        width: int

    class Waiting(gn.Node):
        later: "list[Later]"

    before = cloudpickle.dumps((Lone, Waiting))

    class Later(gn.Node):
        width: int

    node, waiting = Lone(2), Waiting([Later(1)])
    structures = gn.graphdef(node), gn.graphdef(waiting)
    assert pickle.loads(before) == (Lone, Waiting)
    node.width = 3
    waiting.later = [Later(4)]
    waiting.later[0].width = 1
    assert structures == (gn.graphdef(Lone(2)), gn.graphdef(waiting))
    node.width = 2
    assert gn.graphdef(node) is structures[0]


def test_a_class_that_came_back_replaces_as_before():
    """`dataclasses.replace` shares the States, and runs nothing that makes fields."""

    class Scale(gn.Node):
        width: int
        rate: float = 0.1
        weight: gn.ParamState = gn.state(jax.nn.initializers.zeros, shape=lambda self: (self.width,))

    node = Scale(2)
    by_value(node)
    assert dataclasses.replace(node, rate=0.01).weight is node.weight
    with pytest.raises(gn.ContractError, match=r"Scale.weight: its shape was \(2,\), and would be \(3,\)"):
        dataclasses.replace(node, width=3)


def test_a_class_that_came_back_has_the_fields_that_it_had():
    """Those without a default have none, for it, for subclasses that were there and for new ones."""

    class Base(gn.Node):
        width: int
        start: dataclasses.InitVar[int]

    class Sub(Base):
        rate: float = 0.5

    fields = dataclasses.fields(Base)
    by_value(Base)
    assert all(before is after for before, after in zip(fields, dataclasses.fields(Base), strict=True))
    for name in ("width", "start"):
        with pytest.raises(AttributeError, match=f"type object 'Base' has no attribute '{name}'"):
            getattr(Base, name)

    class Later(Sub):
        depth: int = 1

    assert Later(2, 3).rate == 0.5
    with pytest.raises(TypeError, match="missing 2 required positional arguments: 'width' and 'start'"):
        Later()  # type: ignore[call-arg]  # ty: ignore[missing-argument]


def pickle_of_new(cls: type[Any], *bases: type) -> bytes:
    """The pickle of a class by value, for where it and these bases are not: cloudpickle forgets that they are here."""
    pickled: bytes = cloudpickle.dumps(cls)
    trackers: Any = cloudpickle.cloudpickle
    for new in (cls, *bases):
        del trackers._DYNAMIC_CLASS_TRACKER_BY_ID[trackers._DYNAMIC_CLASS_TRACKER_BY_CLASS.pop(new)]
    return pickled


def arrived(cls: type[Any], *bases: type) -> Any:
    """A class as it arrives by value where it and these bases are not."""
    there: Any = pickle.loads(pickle_of_new(cls, *bases))
    assert there is not cls
    return there


def test_a_class_shares_the_fields_of_its_bases_where_it_arrives():
    """Also for classes that extend it there: of two copies, one would be taken for a field that is declared anew."""

    class Base(gn.Node):
        width: int
        start: dataclasses.InitVar[int]
        rate: float = 0.1
        doubled: int = gn.static(init=False)

        def __post_init__(self, start: int) -> None:
            self.doubled = 2 * start

    class Sub(Base, kw_only=True):
        rate: float = 0.5
        gain: float = 2.0

    class Other(Base):
        pass

    there = arrived(Sub)
    fields, of_base = there.__dataclass_fields__, vars(Base)["__dataclass_fields__"].of_class
    assert [name for name in fields if fields[name] is of_base.get(name)] == ["width", "start", "doubled"]
    node = there(2, 3, gain=4.0)
    assert repr(node) == repr(Sub(2, 3, gain=4.0))
    assert (node.rate, node.gain, node.doubled) == (0.5, 4.0, 6)
    assert dataclasses.replace(node, gain=1.0).gain == 1.0

    class Later(there, Other):  # type: ignore[valid-type,misc]
        depth: int = 1

    assert [field.owner for field in gn.schema(Later).fields.values()] == [Base, there, Base, there, Later]
    assert type(by_value(Later(2, 3))) is Later


def test_a_class_that_its_base_leads_to_arrives_before_its_base():
    """While its base is still empty, what came out of the pickle is that of the base, also where this overrides it."""

    class Root(gn.Node):
        rate: float = 0.1

    class Base(Root):
        rate: float = 0.2
        width: int = 3

        def child(self) -> Any:
            return Sub()

    class Sub(Base):
        depth: int = 1

    there = arrived(Sub, Base)
    base = there.__base__
    assert base is not Base
    assert type(base().child()) is there
    assert repr(there()) == repr(Sub())
    assert all(there.__dataclass_fields__[field.name] is field for field in dataclasses.fields(base))


def test_a_class_is_extended_after_its_plain_dataclass_came_back():
    """The dataclass has got copies of its fields from cloudpickle, and the class of nodes has those of before."""

    @dataclasses.dataclass(eq=False)
    class Plain:
        width: int = 1
        start: dataclasses.InitVar[int] = 3

    class Sub(Plain, gn.Node):
        depth: int = 2

    class Waiting(Plain, gn.Node):
        later: "Later | None" = None

    by_value((Sub, Waiting))
    assert Plain.__dataclass_fields__["width"] is not Sub.__dataclass_fields__["width"]

    class Later(Sub):
        more: int = 3

    assert repr(Later(4, more=5)) == "Later(width=4, depth=2, more=5)"
    assert Waiting(later=Later()).width == 1


class Versioned(gn.Node):
    """The base of a class that is sent by value: it is found by its name."""

    constant: ClassVar[int] = 3
    width: int = 1
    rate: float = 0.1
    start: dataclasses.InitVar[int] = 2


def test_a_class_whose_base_has_other_fields_where_it_arrives_is_refused(monkeypatch: pytest.MonkeyPatch):
    """As where the module of the base is of another version."""

    class Sub(Versioned):
        depth: int = 1

    class Other(gn.Node):
        width: int = 1
        speed: float = 0.1

    pickled = pickle_of_new(Sub)
    monkeypatch.setitem(globals(), "Versioned", Other)
    there: Any = pickle.loads(pickled)
    with pytest.raises(gn.SchemaError) as caught:
        there()
    remedy = "use one version of its bases in both processes"
    assert caught.value.faults == (
        f"Sub.rate: no base declares it here, and one did where it was pickled; {remedy}",
        f"Sub.start: no base declares it here, and one did where it was pickled; {remedy}",
        f"Sub.speed: Other has it here, and did not where Sub was pickled; {remedy}",
    )

    class Later(there):  # type: ignore[misc]
        more: int = 1

    with pytest.raises(gn.SchemaError, match=r"Later.rate: no base declares it here"):
        Later()


class HandsOn:
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def total(node: Any) -> Any:
    return node.weight.value.sum()


def parts(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What cloudpickle sends with a function: what it captures, the globals that it uses, its defaults."""
    captured = [cell.cell_contents for cell in function.__closure__ or ()]
    yield from zip(function.__code__.co_freevars, captured, strict=True)
    todo = [function.__code__]
    while todo:
        code = todo.pop()
        todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        yield from [(name, function.__globals__[name]) for name in code.co_names if name in function.__globals__]
    yield from (function.__kwdefaults__ or {}).items()
    yield from [("defaults", value) for value in function.__defaults__ or ()]


@pytest.mark.no_runtime_types
def test_what_graphnode_puts_on_a_class_goes_by_reference():
    """What its functions hold comes out of cloudpickle as the same object, or as an equal one that never changes."""

    class Net(HandsOn, gn.Node):
        weight: gn.ParamState
        jitted = gn.jit(total)
        rematted = gn.remat(total)
        graded = gn.grad(total)
        valued = gn.value_and_grad(total)
        mapped = gn.vmap(total)
        checked = gn.checkify(total)
        traced = gn.make_jaxpr(total)
        reverse = gn.jacrev(total)
        forward = gn.jacfwd(total)
        second = gn.hessian(total)

    todo = [(name, member) for name, member in vars(Net).items() if isinstance(member, FunctionType)]
    functions, copied = set[str](), set[str]()
    while todo:
        path, value = todo.pop()
        twin = by_value(value)
        if twin is value:
            continue
        if isinstance(value, FunctionType):
            functions.add(path)
            todo += [(f"{path}.{name}", part) for name, part in parts(value)]
        elif type(value).__hash__ is None or twin != value:
            copied.add(path)
    assert {"__init__", "__getattr__", "rematted.function", "graded.function"} <= functions
    # The options of a call as they were given, which nobody writes to.
    assert {path.rpartition(".")[2] for path in copied} == {"keywords"}
