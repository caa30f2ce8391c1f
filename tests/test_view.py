"""`view` changes static fields and nothing else, and shares the States."""

import gc
from typing import Any, assert_type

import hypothesis
import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import graphnode as gn
import graphnode._view as implementation

from .properties.strategies import World, reference, worlds


class Layer(gn.Node):
    """A node with a mode."""

    weight: gn.ParamState
    rate: float = 0.5
    deterministic: bool = False


class Other(gn.Node):
    """A node with a mode that stands for something else, and a size."""

    size: int
    weight: gn.ParamState[Float[Array, "size"]] = gn.state(jax.nn.initializers.zeros)
    deterministic: bool | None = None


class Net(gn.Node):
    """Shared layers, containers, a cycle."""

    first: Layer
    items: list[Layer | Other]
    table: dict[str, Layer]
    rngs: gn.Rngs
    name: str = "net"
    parent: "Net | None" = None


def net() -> Net:
    shared = Layer(gn.ParamState(jnp.ones(2)))
    one = Net(shared, [shared, Other(3)], {"a": shared, "b": Layer(shared.weight)}, gn.Rngs(0))
    one.parent = one
    return one


def test_every_node_that_declares_the_field_has_the_value():
    """Nodes of all classes that declare it are changed, others and other fields are not."""
    model = net()
    made = gn.view(model, deterministic=True)
    assert_type(made, Net)
    items: list[Any] = made.items
    assert [one.deterministic for one in (made.first, *items, *made.table.values())] == [True] * 5
    assert (made.first.rate, made.name, items[1].size) == (0.5, "net", 3)


def test_the_states_are_shared_and_the_nodes_are_new():
    """Each State is the same object, so a write to one shows in both."""
    model = net()
    made = gn.view(model, deterministic=True)
    assert list(gn.states(made).values()) == list(gn.states(model).values())
    assert made is not model
    assert made.first is not model.first
    made.first.weight.value = jnp.zeros(2)
    assert model.first.weight.value.tolist() == [0.0, 0.0]
    made.rngs()
    assert int(model.rngs["default"].count.value) == 1


def test_the_original_is_unchanged():
    """Its structure and its binding stay."""
    model = net()
    graphdef, binding = gn.graphdef(model), model._binding
    gn.view(model, deterministic=True, name="other")
    assert gn.graphdef(model) is graphdef
    assert model._binding is binding
    assert (model.first.deterministic, model.name) == (False, "net")


def test_sharing_and_cycles_are_kept():
    """What was one object is one object."""
    model = net()
    made = gn.view(model, deterministic=True)
    assert made.parent is made
    assert made.first is made.items[0] is made.table["a"]
    assert gn.aliases(made) == gn.aliases(model)
    assert [str(one) for one in gn.diff(gn.graphdef(model), gn.graphdef(made))] == [
        "first.deterministic: False != True",
        "items.1.deterministic: None != True",
        "table.b.deterministic: False != True",
    ]


def test_a_view_of_a_view_leads_back():
    """The values from before give the structure from before, as the same graphdef."""
    model = [Layer(gn.ParamState(jnp.ones(2)))]
    back = gn.view(gn.view(model, deterministic=True), deterministic=False)
    assert gn.graphdef(back) is gn.graphdef(model)
    assert gn.graphdef(gn.view(model)) is gn.graphdef(model)


def test_a_view_has_the_structure_that_assignments_make():
    """Its graphdef is that of the original with the values assigned one by one."""
    model = net()
    made = gn.view(model, deterministic=True, rate=0.25, name="other")
    for one in gn.nodes(model).values():
        for name, value in (("deterministic", True), ("rate", 0.25), ("name", "other")):
            if name in gn.schema(type(one)).fields:
                setattr(one, name, value)
    assert gn.graphdef(made) is gn.graphdef(model)


@hypothesis.given(worlds())
def test_a_view_differs_in_the_statics_alone(world: World):
    """In random graphs: the same States at the same paths, the same aliases, and the structure of assignments."""
    root = world.root
    made = gn.view(root, size=7)
    assert list(gn.states(made)) == list(gn.states(root))
    assert list(gn.states(made).values()) == list(gn.states(root).values())
    assert reference(made).aliases == reference(root).aliases
    for one in gn.nodes(root).values():
        found: Any = one
        found.size = 7
    assert gn.graphdef(made) is gn.graphdef(root)
    assert reference(made).structure == reference(root).structure


def test_a_pytree_of_nodes_has_a_view():
    """Nodes in containers keep their places and their sharing."""
    shared = Layer(gn.ParamState(jnp.ones(2)))
    other, (same, last) = gn.view((shared, [shared, Layer(gn.ParamState(jnp.ones(2)))]), deterministic=True)
    assert other is same
    assert (same.deterministic, last.deterministic) == (True, True)


def test_a_state_that_was_popped_stays_popped():
    """A view of a node without a State lacks it too."""
    model = Layer(gn.ParamState(jnp.ones(2)))
    gn.pop_states(model, ...)
    made = gn.view(model, deterministic=True)
    with pytest.raises(gn.UnsetFieldError):
        _ = made.weight


def test_a_model_is_evaluated_by_a_view():
    """One call turns dropout and batch statistics off, and nothing is written."""

    class Model(gn.nn.Module):
        norm: gn.nn.BatchNorm
        dropout: gn.nn.Dropout

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.dropout(self.norm(x))

    model = Model(gn.nn.BatchNorm(2, epsilon=1e-9), gn.nn.Dropout(0.5, rngs=gn.Rngs(0)))
    x = jnp.ones((4, 2))
    before = gn.treefy_states(model)
    evaluated = gn.view(model, deterministic=True)
    assert evaluated(x).tolist() == x.tolist()
    assert all(a is b for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(gn.treefy_states(model)), strict=True))
    assert model(x).tolist() == jnp.zeros((4, 2)).tolist()


# What it refuses


def test_a_name_that_no_node_declares_is_refused():
    """All such names are listed, with the nearest and with the static fields that there are."""
    with pytest.raises(gn.FieldError) as caught:
        gn.view(net(), determinstic=True)
    assert str(caught.value) == (
        "view of Net: no node declares a static field 'determinstic' (did you mean 'deterministic'?); it declares "
        "deterministic, name, rate, size"
    )
    with pytest.raises(gn.FieldError) as caught:
        gn.view(net(), deterministic=True, xyz=1, parent=None)
    assert str(caught.value) == (
        "view of Net: 2 faults:\n"
        "  no node declares a static field 'xyz'\n"
        "  Net.parent is declared subnode, and a view changes static fields alone; it declares deterministic, name, "
        "rate, size"
    )


def test_a_graph_without_statics_says_so():
    """There is nothing to change in streams."""
    with pytest.raises(gn.FieldError) as caught:
        gn.view(gn.Rngs(0), deterministic=True)
    assert str(caught.value) == "view of Rngs: no node declares a static field 'deterministic'; it declares none"


def test_a_value_that_cannot_be_static_is_refused():
    """With the message of an assignment, which names the field."""
    with pytest.raises(gn.FieldError) as caught:
        gn.view(Layer(gn.ParamState(jnp.ones(2))), rate=[0.5])
    assert str(caught.value) == "Layer.rate: a list ([0.5]) is not hashable: write a tuple"
    with pytest.raises(gn.FieldError) as caught:
        gn.view(Layer(gn.ParamState(jnp.ones(2))), rate=jnp.ones(()))
    assert str(caught.value).startswith("Layer.rate is static by its annotation; found an array float32[]; ")


def test_a_size_that_the_states_do_not_have_is_refused():
    """A static field that gives a contract its size cannot say another one; the same size is fine."""
    model = net()
    for _ in range(2):  # also where the structure is known already
        with pytest.raises(gn.ContractError) as caught:
            gn.view(model, size=4)
        assert str(caught.value) == 'Other.weight: expected size = 4 of Float[Array, "size"], found shape (3,)'
    assert gn.graphdef(gn.view(model, size=3)) is gn.graphdef(model)


def test_what_is_no_node_has_no_view():
    """As for every graph operation."""
    with pytest.raises(gn.StructureError):
        gn.view(3, deterministic=True)


# The plan


def test_a_second_view_compiles_nothing(monkeypatch: pytest.MonkeyPatch):
    """The changed structure is worked out once for each structure and values; True and 1 are two."""
    calls: list[object] = []
    compile_once = implementation._compile_plan

    def counting(graphdef: Any, statics: Any) -> Any:
        calls.append(statics)
        return compile_once(graphdef, statics)

    monkeypatch.setattr(implementation, "_compile_plan", counting)
    gc.collect()  # models of other tests, cyclic as they are, keep the structure and what was worked out for it
    model, twin = net(), net()
    made = [gn.view(one, deterministic=True, name="a") for one in (model, twin, model)]
    gn.view(model, name="a", deterministic=True)
    assert len(calls) == 1
    assert gn.graphdef(made[0]) is gn.graphdef(made[1]) is gn.graphdef(made[2])
    assert gn.view(model, deterministic=1).first.deterministic == 1
    assert type(gn.view(model, deterministic=1).first.deterministic) is int
    assert type(gn.view(model, deterministic=True).first.deterministic) is bool
    assert len(calls) == 3


def test_contracts_are_checked_only_where_a_size_changes(monkeypatch: pytest.MonkeyPatch):
    """A view that changes no size looks at no State."""
    checked: list[object] = []
    monkeypatch.setattr(implementation, "check_nodes", checked.extend)
    gn.view(net(), deterministic=True)
    assert checked == []
    made = gn.view(net(), size=4)
    assert checked == [made.items[1]]


def test_plans_do_not_fill_memory():
    """A thousand views with a thousand values leave a bounded number of plans."""
    model = Layer(gn.ParamState(jnp.ones(2)))
    for step in range(1000):
        gn.view(model, rate=float(step))
    assert len(gn.graphdef(model).plans) <= 128


def test_structures_are_dropped_with_their_models():
    """Plans that lead from one structure to another and back keep neither alive."""
    import graphnode._graph._graphdef as graphdefs

    class Local(gn.Node):
        size: int
        flag: bool = False

    def use() -> None:
        model = Local(1)
        gn.view(gn.view(model, flag=True), flag=False)

    use()
    gc.collect()
    alive = [one for one in graphdefs._GRAPHDEFS if getattr(one.tokens[0], "cls", None) is Local]
    assert alive == []


def test_the_binding_of_a_view_comes_with_it():
    """A view is split without a walk."""
    made = gn.view(net(), deterministic=True)
    before = made._binding
    assert before is not None
    gn.treefy_split(made)
    assert made._binding is before
