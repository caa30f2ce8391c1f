"""The names of flax, equinox and PyTorch: an error says what to write here, and everything that it names exists."""

import importlib
import re
from abc import ABC, abstractmethod
from typing import Any

import jax
import optax
import pytest

import graphnode as gn
from graphnode import nn
from graphnode._foreign import LAYER_NAMES, METHODS, MODULE_NAMES
from tests.docrun import ROOT

DOTTED = re.compile(r"\b(gn|jax|optax)((?:\.[A-Za-z_]\w*)+)")
ROOTS = {"gn": gn, "jax": jax, "optax": optax}
TEXTS = sorted({*METHODS.values(), *MODULE_NAMES.values(), *LAYER_NAMES.values()})
# Any: none of these names is there for a type checker.
GRAPHNODE: Any = gn
LAYERS: Any = nn


def attribute_error(owner: Any, name: str) -> str:
    """What the error says that asking for a name raises."""
    assert not hasattr(owner, name)
    with pytest.raises(AttributeError) as caught:
        getattr(owner, name)
    return str(caught.value)


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_named_exists(text: str):
    """Each dotted name of a hint leads somewhere."""
    for root, path in DOTTED.findall(text):
        value: Any = ROOTS[root]
        for part in path.removeprefix(".").split("."):
            value = getattr(value, part)


def test_hints_are_code_or_sentences():
    """What begins with a name of a module is code, and is used; all else says what to do."""
    sentences = [text for text in TEXTS if not text.startswith(("gn.", "jax.", "optax."))]
    verbs = {"a", "annotate", "assign,", "call", "declare", "derive", "nothing", "print", "write"}
    assert {text.partition(" ")[0] for text in sentences} <= verbs


@pytest.mark.parametrize("name", sorted(MODULE_NAMES))
def test_no_foreign_name_is_ours(name: str):
    """A hint for what exists would never be seen."""
    assert not hasattr(gn, name)


@pytest.mark.parametrize("name", sorted(LAYER_NAMES))
def test_no_foreign_layer_is_ours(name: str):
    """As for the names of `gn`."""
    assert not hasattr(nn, name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Param", ": use gn.ParamState"),
        ("Module", ": use gn.nn.Module"),
        ("Variable", ": use gn.State"),
        ("split", ": use gn.treefy_split"),
        ("merge", ": use gn.treefy_merge"),
        ("update", ": use gn.update_states"),
        ("BatchStat", ": use gn.BatchState"),
        ("filter_jit", ": use gn.jit"),
        ("Linear", ": use gn.nn.Linear"),
        ("Dense", ": use gn.nn.Linear"),
        ("Everything", ": write `...`"),
        ("treefy_spilt", ": did you mean 'treefy_split'?"),
        ("vmpa", ": did you mean 'vmap'?"),
        ("zebra", ""),
        ("__wrapped__", ""),
    ],
)
def test_a_name_that_graphnode_lacks(name: str, hint: str):
    """Python's own text, and what to write if that is known, or near."""
    assert attribute_error(GRAPHNODE, name) == f"module 'graphnode' has no attribute {name!r}{hint}"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Dense", ": use gn.nn.Linear"),
        ("Conv2d", ": use gn.nn.Conv"),
        ("BatchNorm1d", ": use gn.nn.BatchNorm"),
        ("ReLU", ": use jax.nn.relu, or gn.nn.Activation(jax.nn.relu) as a layer"),
        ("relu", ": use jax.nn.relu"),
        ("Parameter", ": use gn.ParamState"),
        ("ParamState", ": use gn.ParamState"),
        ("Object", ": use gn.Node"),
        ("ModuleList", ": annotate the fields in the class: layers: list[gn.nn.Linear]"),
        ("Flatten", ": write x.reshape(len(x), -1) in __call__"),
        ("LSTM", ": use gn.nn.RNN(gn.nn.LSTMCell(...))"),
        ("Linaer", ": did you mean 'Linear'?"),
        ("zebra", ""),
        ("__wrapped__", ""),
    ],
)
def test_a_name_that_nn_lacks(name: str, hint: str):
    """As for `graphnode`."""
    assert attribute_error(LAYERS, name) == f"module 'graphnode.nn' has no attribute {name!r}{hint}"


def test_an_import_of_a_foreign_name_says_the_same():
    """Python would make an `ImportError` without the hint of an `AttributeError`."""
    for line, text in (
        ("from graphnode import Param", "cannot import name 'Param' from 'graphnode': use gn.ParamState"),
        ("from graphnode.nn import Dense", "cannot import name 'Dense' from 'graphnode.nn': use gn.nn.Linear"),
        (
            "from graphnode.nn import Linear, Linaer",
            "cannot import name 'Linaer' from 'graphnode.nn': did you mean 'Linear'?",
        ),
    ):
        with pytest.raises(ImportError) as caught:
            exec(line, {})
        assert str(caught.value) == text
    with pytest.raises(ImportError, match="cannot import name 'quaternion' from 'graphnode' "):
        exec("from graphnode import quaternion", {})
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("graphnode.Param")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_that_nodes_lack(name: str):
    """`hasattr` is false, also of the class; the error says what to write."""
    hint = METHODS[name]
    use = "use " if hint.startswith("gn.") else ""
    text = attribute_error(nn.Linear(2, 2), name)
    assert text == f"'Linear' object has no attribute {name!r}: {use}{hint}"
    assert attribute_error(nn.Linear, name) == f"type object 'Linear' has no attribute {name!r}"


def test_usual_methods_say_the_line_to_write():
    """The words of some, and what they say runs."""
    model: Any = nn.Sequential([nn.Linear(2, 2), nn.Dropout(0.5)])
    assert attribute_error(model, "eval") == (
        "'Sequential' object has no attribute 'eval': use gn.view(model, deterministic=True)"
    )
    assert attribute_error(model, "parameters") == (
        "'Sequential' object has no attribute 'parameters': use gn.states(model, gn.ParamState)"
    )
    assert attribute_error(model, "zero_grad") == (
        "'Sequential' object has no attribute 'zero_grad': nothing keeps gradients: gn.grad returns new ones at each "
        "call"
    )
    for name in ("eval", "train", "parameters", "buffers", "modules", "state_dict", "to"):
        code = METHODS[name].partition(", by")[0]
        eval(code, {"gn": gn, "jax": jax, "model": model, "device": jax.devices()[0]})


def test_other_attributes_of_nodes_have_pythons_own_text():
    """As ever."""
    assert attribute_error(nn.Linear(2, 2), "wieght") == "'Linear' object has no attribute 'wieght'"


# A class of the caller's own may use each of these names.


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_name_may_be_a_field(name: str):
    """With a default and without one, inherited with its default or overridden."""
    with_default: Any = type("WithDefault", (gn.Node,), {"__annotations__": {name: int}, name: 3})
    without: Any = type("Without", (gn.Node,), {"__annotations__": {name: int}})
    derived: Any = type("Derived", (with_default,), {"__annotations__": {"other": int}, "other": 1})
    override: Any = type("Override", (with_default,), {"__annotations__": {name: int}, name: 4})
    assert [getattr(cls(), name) for cls in (with_default, derived, override)] == [3, 3, 4]
    assert getattr(without(2), name) == 2
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        without()
    assert name in dir(without(2))
    node = with_default()
    setattr(node, name, 5)
    assert getattr(gn.clone(node), name) == 5


def test_a_field_may_be_called_train():
    """As a declaration reads."""

    class Mode(gn.Node):
        train: bool = True
        children: list[nn.Linear] = gn.subnode(default_factory=list)
        parameters: gn.ParamState | None = None

    mode = Mode()
    assert (mode.train, mode.children, mode.parameters) == (True, [], None)
    assert gn.view(mode, train=False).train is False
    assert str(gn.schema(Mode).fields["train"].kind) == "static"


def test_methods_and_properties_may_have_these_names():
    """In the class, in a mixin, and in a base; they hide the hint."""

    class Mixin:
        def eval(self) -> str:
            return "mixin"

    class Base(gn.Node):
        size: int

        def apply(self, x: int) -> int:
            return x + self.size

        @property
        def children(self) -> list[int]:
            return [self.size]

        @abstractmethod
        def train(self) -> str: ...

    class Net(Mixin, Base):
        def train(self) -> str:
            return "net"

    net = Net(3)
    assert (net.eval(), net.apply(1), net.children, net.train()) == ("mixin", 4, [3], "net")
    assert {"eval", "apply", "children", "train"} < set(dir(net))


def test_a_field_may_implement_an_abstract_property_of_these_names():
    """As under any other name."""

    class Base(gn.Node):
        @property
        @abstractmethod
        def train(self) -> bool: ...

    class Net(Base):
        train: bool = True  # pyright: ignore[reportIncompatibleMethodOverride]  # as it may be assigned

    assert Net().train


def test_a_field_that_hides_a_method_of_these_names_is_refused():
    """The hint does not hide the mistake."""
    with pytest.raises(gn.SchemaError) as caught:

        class Base(gn.Node):
            def train(self) -> None: ...

        class Net(Base):
            train: bool = True  # type: ignore[assignment]  # which no type checker accepts  # ty: ignore[incompatible-attribute-override]

    assert str(caught.value) == (
        "Net.train: Base has a method of this name, which no field replaces; rename one, or make the method abstract"
    )


class Trainable:
    """A mixin with such names."""

    mode = "none"

    def train(self) -> str:
        return f"training {type(self).__name__}"

    @property
    def parameters(self) -> str:
        return self.mode

    @parameters.setter
    def parameters(self, value: str) -> None:
        type(self).mode = value

    @classmethod
    def init(cls) -> str:
        return cls.__name__


def test_a_mixin_behind_the_node_has_these_names():
    """It has them in whatever order the bases stand: methods, properties and their setters."""

    class Net(gn.Node, Trainable):
        width: int = 1

    class Deep(Net):
        def train(self) -> str:
            return "deep, " + super().train()

    net: Any = Net()
    assert (net.train(), net.init(), Net.init(), Deep().train()) == (
        "training Net",
        "Net",
        "Net",
        "deep, training Deep",
    )
    assert (hasattr(net, "parameters"), net.parameters) == (True, "none")
    net.parameters = "all"
    assert net.parameters == "all"
    assert "train" in dir(net)
    assert "eval" not in dir(net)
    with pytest.raises(AttributeError, match=r"^'Net' object has no attribute 'eval': use gn\.view"):
        _ = net.eval


def test_a_mixin_that_asks_for_the_next_class_gets_the_hint():
    """It is not asked again itself."""

    class Asking:
        def train(self) -> object:
            return getattr(super(), "train")()  # noqa: B009  # which no type checker knows

    class Net(Asking, gn.Node):
        pass

    with pytest.raises(AttributeError, match=r"^'Net' object has no attribute 'train': use gn\.view"):
        Net().train()


def test_a_mixin_behind_the_node_may_have_these_names_abstract():
    """The hint does not implement them."""

    class Needs(ABC):
        @abstractmethod
        def train(self) -> None: ...

    class Net(gn.Node, Needs):
        pass

    make: Any = Net
    with pytest.raises(TypeError, match="abstract"):
        make()


def test_a_field_that_hides_a_mixins_method_of_these_names_is_refused():
    """Also where the mixin stands behind the node."""
    with pytest.raises(gn.SchemaError) as caught:

        class Net(gn.Node, Trainable):
            train: bool  # type: ignore[assignment]  # ty: ignore[incompatible-attribute-override]

    assert str(caught.value).startswith("Net.train: Trainable has a method of this name, which no field replaces")


def test_a_getattr_is_asked_for_these_names():
    """One that hands names on to another object gets those too."""

    class Wrapper(gn.Node):
        inner: nn.Linear

        def __getattr__(self, name: str) -> str:
            return f"handed on: {name}"

    wrapper: Any = Wrapper(nn.Linear(2, 2))
    assert wrapper.eval == "handed on: eval"


def test_a_name_that_is_written_is_no_field():
    """An assignment is refused as any other."""
    model: Any = nn.Linear(2, 2)
    with pytest.raises(gn.UndeclaredFieldError) as caught:
        model.train = True
    assert str(caught.value) == "Linear has no field 'train'; declare it in the class: train: bool"


def test_the_table_of_the_page_says_what_the_errors_say():
    """Names of flax.nnx in the page on transforms stand beside what their hints say."""
    page = (ROOT / "docs" / "transforms.md").read_text(encoding="utf-8")
    table = page.partition("\n| flax.nnx | ")[2]
    rows = dict(re.findall(r"^\| `nnx\.(\w+)` \|.*\| `([^`]+)` \|$", table, re.MULTILINE))
    hints = {name: MODULE_NAMES.get(name) or LAYER_NAMES.get(name) for name in rows}
    assert {name: hint for name, hint in hints.items() if hint} == {
        "BatchStat": rows["BatchStat"],
        "Embed": rows["Embed"],
        "Param": rows["Param"],
        "iter_modules": "gn.iter_node",
        "merge": rows["merge"],
        "split": rows["split"],
        "update": rows["update"].partition("(")[0],
    }
