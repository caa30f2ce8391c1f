"""States: roles, identity, fixed descriptions, copies."""

import copy
import gc
import pickle
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array

import graphnode as gn
from graphnode import BatchState, HiddenState, LongTermState, ParamState, ShortTermState, State

CLASSES = [State, ParamState, ShortTermState, LongTermState, HiddenState, BatchState]
ONE = jnp.ones(2)


class Count(State[Array]):
    """A role of the user's own."""

    unit = "calls"

    def count(self) -> None:
        """One more."""
        self.value = self.value + jnp.ones_like(self.value)


class Weighted(ParamState[Array]):
    pass


@pytest.mark.parametrize("cls", [*CLASSES, Count, Weighted])
def test_a_state_holds_any_pytree(cls: Any):
    """`.value` reads and writes whatever pytree it is given: leaves by identity, containers of its own."""
    for value in (ONE, {"w": ONE, "b": [ONE, None]}, (1, 2.0), None, jax.random.key(0)):
        held = cls(value)
        assert jax.tree.structure(held.value) == jax.tree.structure(value)  # type: ignore[operator]  # JAX's stubs
        pairs = zip(jax.tree.leaves(held.value), jax.tree.leaves(value), strict=True)
        assert all(one is two for one, two in pairs)
        held.value = ONE
        assert held.value is ONE


def test_roles_are_classes():
    """The classes of the tutorial stand below each other as its library has them."""
    assert issubclass(ParamState, LongTermState)
    assert issubclass(BatchState, LongTermState)
    assert issubclass(HiddenState, ShortTermState)
    assert not issubclass(LongTermState, ShortTermState)
    assert all(issubclass(cls, State) for cls in CLASSES)


def test_a_users_class_has_methods_and_class_attributes():
    """A State class of the user's own is a class as any other."""
    count = Count(jnp.array(0))
    count.count()
    assert (int(count.value), count.unit, isinstance(count, State)) == (1, "calls", True)


def test_a_subscripted_state_class_makes_plain_states():
    """`ParamState[Array](x)` is a ParamState, and leaks nothing into its description."""
    held = ParamState[Array](ONE)
    assert type(held) is ParamState
    assert repr(held) == repr(ParamState(ONE))


def test_hash_and_equality_are_identity():
    """Two States of one value are two."""
    one, other = ParamState(ONE), ParamState(ONE)
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2


def test_a_description_is_kept():
    """Name, tag, sharding and metadata are what was given at creation; nothing by default."""
    held = ParamState(ONE, name="w", tag="slow", sharding=("data",), metadata={"unit": "mV"})
    assert (held.name, held.tag, held.sharding, dict(held.metadata)) == (
        "w",
        "slow",
        ("data",),
        {"unit": "mV"},
    )
    bare = ParamState(ONE)
    assert (bare.name, bare.tag, bare.sharding, dict(bare.metadata)) == (None, None, None, {})


@pytest.mark.parametrize("part", ["name", "tag", "sharding", "metadata"])
def test_a_description_is_fixed(part: str):
    """No part of a description can be assigned or deleted."""
    held = ParamState(ONE, name="w")
    with pytest.raises(AttributeError, match=part):
        setattr(held, part, "other")
    with pytest.raises(AttributeError, match=part):
        delattr(held, part)


def test_metadata_cannot_be_changed_from_either_side():
    """Metadata is read-only, and a copy of what was given."""
    given = {"unit": "mV"}
    held: Any = ParamState(ONE, metadata=given)
    with pytest.raises(TypeError, match="does not support item assignment"):
        held.metadata["unit"] = "V"
    given["unit"] = "V"
    assert dict(held.metadata) == {"unit": "mV"}


def test_a_description_is_part_of_the_structure():
    """Two nodes whose States differ in a description differ in structure; a value is none."""

    class Net(gn.Node):
        w: State

    def structure(**description: Any) -> gn.GraphDef[Net]:
        return gn.graphdef(Net(ParamState(jnp.ones(3), **description)))

    variants: list[dict[str, Any]] = [{}, {"name": "a"}, {"tag": "a"}, {"sharding": ("a",)}, {"metadata": {"a": 1}}]
    variants += [{"metadata": {"a": True}}, {"metadata": {"b": 1}}]
    assert len({structure(**variant) for variant in variants}) == len(variants)
    assert all(structure(**variant) is structure(**variant) for variant in variants)
    assert gn.graphdef(Net(ParamState(ONE))) is gn.graphdef(Net(ParamState(jnp.zeros(5))))
    assert gn.graphdef(Net(ParamState(ONE))) != gn.graphdef(Net(LongTermState(ONE)))


def test_metadata_has_no_order():
    """Metadata is compared as a mapping."""

    class Net(gn.Node):
        w: State

    one = gn.graphdef(Net(ParamState(ONE, metadata={"a": 1, "b": 2})))
    assert one == gn.graphdef(Net(ParamState(ONE, metadata={"b": 2, "a": 1})))


BAD = {
    "name": ({"name": 3}, "ParamState: name must be a string, found 3"),
    "tag": ({"tag": ("a",)}, "ParamState: tag must be a string, found ('a',)"),
    "sharding": (
        {"sharding": ["data"]},
        "ParamState: sharding: ['data'] is not a sharding: write jax.P('data') for mesh axes, or ('data',) for roles",
    ),
    "metadata": ({"metadata": {"a": {1}}}, "ParamState: metadata 'a': a set ({1}) is not hashable: write a frozenset"),
}


@pytest.mark.wrong_types
@pytest.mark.parametrize(("description", "text"), BAD.values(), ids=BAD)
def test_a_description_must_be_hashable(description: dict[str, Any], text: str):
    """What cannot be structure is refused with class, part and remedy, at creation and in `replace`."""
    with pytest.raises(gn.FieldError) as caught:
        ParamState(ONE, **description)
    assert str(caught.value) == text
    held = ParamState(ONE)
    with pytest.raises(gn.FieldError) as caught:
        held.replace(**description)
    assert str(caught.value) == text


@pytest.mark.wrong_types
def test_metadata_names_are_strings():
    """A metadata name that is not a string is refused with the class and the name."""
    make: Any = ParamState
    with pytest.raises(gn.FieldError, match=r"^ParamState: metadata.*1"):
        make(ONE, metadata={1: "a", "b": 2})


def test_replace_makes_another_state():
    """`replace` changes the parts it is given and keeps the class and the rest; the State itself is as before."""
    held = Weighted(ONE, name="w", tag="slow", sharding=("data",), metadata={"a": 1})
    other = held.replace(tag=None, metadata={})
    assert type(other) is Weighted
    assert (other.value is ONE, other.name, other.tag, other.sharding) == (True, "w", None, ("data",))
    assert (dict(other.metadata), held.tag, dict(held.metadata)) == ({}, "slow", {"a": 1})
    emptied: Any = held
    assert emptied.replace(value=None).value is None
    assert held.replace() is not held


@pytest.mark.parametrize("cls", [*CLASSES, Count])
def test_a_misspelt_attribute_fails(cls: Any):
    """States have slots: assigning `valeu` is an AttributeError, not a silent new attribute."""
    held = cls(ONE)
    with pytest.raises(AttributeError, match=f"{cls.__name__!r} object has no attribute 'valeu'"):
        held.valeu = ONE
    assert not hasattr(held, "__dict__")


def test_equal_descriptions_are_one_object():
    """Descriptions are interned: equal means identical, so comparing them costs nothing."""
    one, other = ParamState(ONE, tag="a"), ParamState(jnp.zeros(3), tag="a")
    assert one._spec is other._spec
    assert one._spec is one.replace(value=jnp.zeros(5))._spec
    assert one._spec is not ParamState(ONE, tag="b")._spec
    assert one._spec is not LongTermState(ONE, tag="a")._spec
    assert ParamState(ONE)._spec is ParamState(ONE)._spec


def test_descriptions_are_dropped_with_their_states():
    """An interned description lives as long as a State has it, and so does a State class."""
    held = ParamState(ONE, tag="only here")
    gone = weakref.ref(held._spec)
    del held
    gc.collect()
    assert gone() is None

    class Brief(State[Array]):
        pass

    Brief(ONE, tag="a")
    class_gone = weakref.ref(Brief)
    del Brief
    gc.collect()
    assert class_gone() is None


def test_two_state_classes_of_one_name_are_two():
    """A State class that is defined again is another class: its descriptions are not confused."""

    def define() -> Any:
        class Role(State[Array]):
            pass

        return Role

    old, new = define(), define()
    assert old(ONE)._spec is not new(ONE)._spec
    assert type(old(ONE).replace(tag="a")) is old


@pytest.mark.parametrize("cls", [*CLASSES, Count])
def test_states_pickle(cls: Any):
    """Pickle keeps class, value and description, and which State is which."""
    held = cls({"w": ONE}, name="w", tag="slow", metadata={"a": (1, 2.0)})
    one, other = pickle.loads(pickle.dumps([held, held]))
    assert one is other
    assert (type(one), one.value["w"].tolist(), one._spec is held._spec) == (cls, [1.0, 1.0], True)


def test_deepcopy_copies_the_value_and_keeps_sharing():
    """`copy.deepcopy` makes another State of the same description, once for each State."""
    held = Count({"w": jnp.ones(2)}, tag="a")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    one, other = copy.deepcopy([held, held])
    assert one is other
    assert one is not held
    assert one._spec is held._spec
    one.value["w"] = jnp.zeros(2)
    assert held.value["w"].tolist() == [1.0, 1.0]


def test_copy_keeps_the_value_by_identity():
    """`copy.copy` makes another State that holds the same value."""
    held = Count(ONE, tag="a")
    other = copy.copy(held)
    assert other is not held
    assert (type(other), other.value is ONE, other.tag) == (Count, True, "a")


def test_deepcopy_of_several_roots_keeps_what_they_share():
    """A State in two nodes is one State in their copies."""

    class Net(gn.Node):
        w: ParamState

    shared = ParamState(ONE)
    one, other = copy.deepcopy([Net(shared), Net(shared)])
    assert one.w is other.w
    assert one.w is not shared


def test_the_repr_shows_shapes_and_description():
    """A State prints its class, the shapes of its value, and the parts of its description that are set."""
    assert repr(ParamState(ONE)) == "ParamState(f32[2])"
    held = Count({"w": ONE, "n": 3}, name="c", tag="t", sharding=("x",), metadata={"unit": "mV"})  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    assert repr(held) == "Count({'n': 3, 'w': f32[2]}, name='c', tag='t', sharding=('x',), unit='mV')"


def test_a_state_is_weakly_referable():
    """Tools may keep a State weakly."""
    held = ParamState(ONE)
    gone = weakref.ref(held)
    del held
    assert gone() is None
