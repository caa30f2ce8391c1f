"""What is printed and pickled of graphnode's own classes are the names that users import."""

import concurrent.futures
import copy
import functools
import inspect
import io
import multiprocessing
import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar

import cloudpickle  # type: ignore[import-untyped]
import jax
import jax.numpy as jnp
import joblib  # type: ignore[import-untyped]
import pytest

import graphnode as gn
from graphnode import _public

T = TypeVar("T")


class Memory(gn.State):
    """A user's class."""

    class Trace(gn.ShortTermState):
        """One in the body of another."""


class Pair(gn.ParamState[tuple[T, T]], Generic[T]):
    """A generic one."""


class Leaf(gn.Node):
    size: int
    weight: gn.ParamState


STATES: list[type[gn.State[Any]]] = [
    gn.State,
    gn.BatchState,
    gn.HiddenState,
    gn.LongTermState,
    gn.ParamState,
    gn.ShortTermState,
    gn.RngCount,
    gn.RngKey,
    gn.RngState,
    gn.optim.OptimizerState,
]
OWN: list[type[Any]] = [*STATES, gn.StateTree, gn.FlatStates, gn.TreefyState]
USERS: list[type[gn.State[Any]]] = [Memory, Memory.Trace, Pair]


def public(cls: type) -> str:
    return f"graphnode.optim.{cls.__name__}" if cls is gn.optim.OptimizerState else f"graphnode.{cls.__name__}"


# In Python; not in the stubs.
DUMPS_IN_PYTHON: Callable[..., bytes] = getattr(pickle, "_dumps")  # noqa: B009
LOADS_IN_PYTHON: Callable[[bytes], Any] = getattr(pickle, "_loads")  # noqa: B009

DUMPS: dict[str, Callable[[Any], bytes]] = {
    **{
        f"{name} {at}": functools.partial(dumps, protocol=at)
        for name, dumps in (("C", pickle.dumps), ("Python", DUMPS_IN_PYTHON))
        for at in range(2, 6)
    },
    "cloudpickle": cloudpickle.dumps,
    "multiprocessing": lambda value: bytes(ForkingPickler.dumps(value)),
}


# What was pickled has to load: a name that stands here once stays.
NAMES = {
    f"graphnode _pickled_{part}"
    for part in ("class", "end", "graphdef", "layout", "node_spec", "nodes", "state", "state_spec", "value")
}


def globals_of(data: bytes) -> set[str]:
    """What a pickle looks up, as `module name`."""
    found: set[str] = set()

    class Noting(pickle.Unpickler):
        def find_class(self, module: str, name: str, /) -> Any:
            found.add(f"{module} {name}")
            return super().find_class(module, name)

    Noting(io.BytesIO(data)).load()
    return found


@pytest.mark.parametrize("cls", OWN)
def test_a_class_is_printed_by_its_public_name(cls: type[Any]):
    """As users write it, while `__module__` stays where it is defined."""
    assert repr(cls) == f"<class '{public(cls)}'>"
    assert inspect.getsource(cls).startswith((f"class {cls.__name__}", "@"))


def test_other_classes_are_printed_by_their_module():
    """A user's class, one in a function, and a private one."""

    class Local(gn.ParamState):
        pass

    assert [repr(cls) for cls in (Memory, Memory.Trace, Pair, Local)] == [
        f"<class '{__name__}.{name}'>"
        for name in (
            "Memory",
            "Memory.Trace",
            "Pair",
            "test_other_classes_are_printed_by_their_module.<locals>.Local",
        )
    ]
    private = type("ParamState", (gn.State,), {"__module__": "graphnode._state"})
    assert repr(private) == "<class 'graphnode._state.ParamState'>"


@pytest.mark.parametrize("name", DUMPS)
def test_a_pickle_names_what_users_import(name: str):
    """Of States, their classes, graphdefs and state trees, by each pickler: no private module is in it."""
    leaf = Leaf(2, gn.ParamState(jnp.ones(2), tag="a"))
    graphdef, tree = gn.treefy_split(leaf)
    key = gn.RngKey(jax.random.key(0))
    data = DUMPS[name]((graphdef, *OWN, leaf, leaf.weight, key, tree, tree["weight"], gn.states(leaf), graphdef.layout))
    assert pickle.loads(data)[: len(OWN) + 1] == LOADS_IN_PYTHON(data)[: len(OWN) + 1] == (graphdef, *OWN)
    assert {looked_up for looked_up in globals_of(data) if looked_up.startswith("graphnode")} == NAMES


@pytest.mark.parametrize("cls", OWN)
def test_a_class_is_pickled_in_few_bytes(cls: type[Any]):
    """Its public name, once; a second mention is a reference to the first."""
    assert globals_of(pickle.dumps(cls)) == {"graphnode _pickled_class"}
    assert len(pickle.dumps(cls)) < 55 + len(public(cls))
    assert len(pickle.dumps((cls,) * 9)) < len(pickle.dumps(cls)) + 30


@pytest.mark.parametrize("name", DUMPS)
@pytest.mark.parametrize("cls", USERS)
def test_a_user_class_is_pickled_by_its_module(cls: type[gn.State[Any]], name: str):
    """As any class: also one in another class, and a generic one; and its States."""
    data = DUMPS[name](cls)
    assert pickle.loads(data) is LOADS_IN_PYTHON(data) is cls
    assert "graphnode _pickled_class" not in globals_of(data)
    state = pickle.loads(DUMPS[name](cls(jnp.ones(2), tag="a")))
    assert (type(state), state.tag, state.value.shape) == (cls, "a", (2,))


def test_an_alias_is_pickled_with_its_class():
    """`ParamState[int]`, and one of a user's class."""
    for alias in (gn.ParamState[int], Pair[int], gn.GraphDef[Leaf]):
        assert pickle.loads(pickle.dumps(alias)) == alias


def test_a_local_class_has_no_name_for_pickle():
    """The text is Python's own; cloudpickle sends the class."""

    class Local(gn.ParamState):
        pass

    class Plain:
        pass

    texts: list[str] = []
    for cls in (Plain, Local):
        with pytest.raises((AttributeError, pickle.PicklingError)) as caught:
            pickle.dumps(cls)
        texts.append(str(caught.value))
    assert texts[0].replace("Plain", "Local") == texts[1]
    sent = pickle.loads(cloudpickle.dumps(Local(jnp.ones(2))))
    assert (type(sent).__name__, type(sent).__bases__) == ("Local", (gn.ParamState,))


def test_a_metaclass_of_the_user_pickles_as_graphnode_does():
    """Pickle asks by the class of a class, and does not look at the bases of that."""

    class Registering(type(gn.State)):  # type: ignore[misc]  # mypy takes no call there
        pass

    cls = Registering("Tagged", (gn.State,), {"__module__": __name__})
    globals()["Tagged"] = cls
    try:
        assert pickle.loads(pickle.dumps(cls)) is cls
    finally:
        del globals()["Tagged"]


@pytest.mark.parametrize("cls", [*OWN, *USERS])
def test_copies_of_a_class_are_the_class(cls: type[Any]):
    """Whatever pickle would write of it."""
    assert copy.copy(cls) is copy.deepcopy(cls) is cls
    assert copy.deepcopy({"a": [cls]}) == {"a": [cls]}


def test_joblib_tells_classes_apart():
    """`joblib.hash`, which keys what is cached on disk, goes by its own pickler."""
    hashes = [joblib.hash(cls) for cls in (*OWN, *USERS)]
    assert len(set(hashes)) == len(hashes)
    assert joblib.hash(gn.ParamState) == hashes[OWN.index(gn.ParamState)]


@pytest.mark.slow
def test_classes_and_states_go_to_a_spawned_process():
    """There `graphnode` is imported by the pickle itself, and a name in `gn.optim` with it."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(repr, gn.optim.OptimizerState).result() == "<class 'graphnode.optim.OptimizerState'>"
        state = pool.submit(copy.copy, gn.ParamState(jnp.ones(2))).result()
    assert type(state) is gn.ParamState


@pytest.mark.parametrize("name", ["config", "optim", "__getattr__", "optim.optax", "config.yaml", "graphdef"])
def test_only_classes_of_graphnode_are_named(name: str):
    """A pickle that may name graphnode alone leads to nothing else through it."""
    with pytest.raises(AttributeError):
        _public.class_named(name)


def test_the_public_name_of_a_text():
    """Python's own text of an annotation has the modules of its classes."""
    text = f"{list[gn.ParamState]} {dict[str, Memory]} graphnode._state.new_state graphnode._nowhere.State"
    assert _public.with_public_names(text) == (
        f"list[graphnode.ParamState] dict[str, {__name__}.Memory] graphnode._state.new_state graphnode._nowhere.State"
    )
