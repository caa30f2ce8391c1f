"""What a constructor that fails says: the user's error with its field, Python's error with what would do."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import nn

ZEROS: Any = jnp.zeros  # takes no key, unlike an initialiser


def error_of(action: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # of any class: it is what the test looks at
        action()
    return caught.value


def notes_of(action: Callable[[], object]) -> tuple[str, list[str]]:
    """The class of an error, and the notes that it carries."""
    error = error_of(action)
    return type(error).__name__, getattr(error, "__notes__", [])


# Functions of the user


def fail(*args: Any) -> Any:
    raise KeyError("mine")


class Contracted(gn.Node):
    width: int
    weight: gn.ParamState[Float[Array, "width"]] = gn.state(ZEROS)


class Shaped(gn.Node):
    width: int
    weight: gn.ParamState = gn.state(jax.nn.initializers.lecun_normal(), shape=lambda self: (self.width,))


class Misspelt(gn.Node):
    width: int
    weight: gn.ParamState = gn.state(jax.nn.initializers.ones, shape=lambda self: (self.with_,))


class Factory(gn.Node):
    child: nn.Linear = gn.subnode(factory=fail)


class Defaults(gn.Node):
    left: nn.Linear = gn.subnode(default_factory=lambda: nn.Linear(2, 3))
    right: nn.Linear = gn.subnode(default_factory=fail)


class Nested(gn.Node):
    count: int = gn.static(default_factory=int)
    inner: Defaults = gn.subnode(default_factory=Defaults)


class Handwritten(gn.Node):
    child: nn.Linear = gn.subnode(default_factory=fail)

    def __init__(self) -> None:
        pass


class Derived(Factory):
    pass


@pytest.mark.parametrize(
    ("make", "error", "notes"),
    [
        (
            lambda: Contracted(3),
            "TypeError",
            ["the initializer of Contracted.weight was called as initializer(key, (3,), float32)"],
        ),
        (
            lambda: Shaped(3),
            "ValueError",
            ["the initializer of Shaped.weight was called as initializer(key, (3,), float32)"],
        ),
        (lambda: Misspelt(3), "AttributeError", ["the shape of Misspelt.weight was called as shape(self)"]),
        (Factory, "KeyError", ["the factory of Factory.child was called as factory(self)"]),
        (Derived, "KeyError", ["the factory of Derived.child was called as factory(self)"]),
        (Defaults, "KeyError", ["the default_factory of Defaults.right was called as default_factory()"]),
        (Handwritten, "KeyError", ["the default_factory of Handwritten.child was called as default_factory()"]),
        (
            Nested,
            "KeyError",
            [
                "the default_factory of Defaults.right was called as default_factory()",
                "the default_factory of Nested.inner was called as default_factory()",
            ],
        ),
        (
            lambda: nn.Linear(2, 3, w_init=ZEROS),
            "TypeError",
            ["the initializer zeros was called as initializer(key, (2, 3), float32)"],
        ),
    ],
)
def test_an_error_of_the_users_function_notes_its_field(make: Callable[[], object], error: str, notes: list[str]):
    """What an initialiser, a shape or a factory raises stays as it is, with a note of its field and its call."""
    assert notes_of(make) == (error, notes)


class Stumbling(gn.Node):
    count: int = gn.static(default_factory=lambda: 3)
    other: int = gn.static(default_factory=lambda: 3, init=False)

    def __post_init__(self) -> None:
        raise KeyError("mine")


class WrongDefault(gn.Node):
    child: nn.Linear = gn.subnode(default_factory=lambda: 3)  # type: ignore[assignment]  # pyright: ignore  # ty: ignore[invalid-assignment]


@pytest.mark.no_runtime_types
@pytest.mark.parametrize("make", [Stumbling, WrongDefault])
def test_no_factory_is_named_that_did_not_raise(make: Callable[[], object]):
    """What `__post_init__` or an assignment raises carries no note of a factory."""
    assert notes_of(make)[1] == []


def shaped(result: Callable[[tuple[int, ...]], Any], shape: Callable[[Any], Any] = lambda self: (3,)) -> type[gn.Node]:
    """A class whose initialiser gives what `result` makes of the shape."""

    class Made(gn.Node):
        weight: gn.ParamState = gn.state(lambda key, shape, dtype: result(shape), shape=shape)

    return Made


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (
            shaped(lambda shape: jnp.ones(5)),
            "Made.weight: its initializer was called for the shape (3,) and returned float32[5]",
        ),
        (shaped(lambda shape: None), "Made.weight: its initializer returned None; it returns the array"),
        (
            shaped(jnp.ones, lambda self: 3),
            "Made.weight: shape= takes a function that returns a tuple of sizes, such as lambda self: (self.rows, 3); "
            "it returned int 3",
        ),
    ],
)
def test_a_wrong_result_of_an_initializer_is_refused(cls: type[gn.Node], text: str):
    """Another shape than was asked for, nothing at all and a shape that is none are errors that name the field."""
    assert str(error_of(cls)) == text


class NoDecay(gn.ParamState[Array]):
    """A class of States with a tag of its own."""

    def __init__(self, value: Array, *, tag: str | None = "no_decay", sharding: Any = ("model",)) -> None:
        super().__init__(value, tag=tag, sharding=sharding)


class Alone(gn.ParamState[Array]):
    """A class of States that takes the value alone."""

    def __init__(self, value: Array) -> None:
        super().__init__(value)


def test_a_state_class_describes_what_an_initializer_makes():
    """By the defaults of its `__init__`, where the specifier says nothing."""

    class Norm(gn.Node):
        scale: NoDecay = gn.state(jax.nn.initializers.ones, shape=lambda self: (2,))
        shift: NoDecay = gn.state(jax.nn.initializers.ones, shape=lambda self: (2,), tag="shift")
        plain: Alone = gn.state(jax.nn.initializers.ones, shape=lambda self: (2,))

    norm = Norm()
    assert [(one.tag, one.sharding) for one in (norm.scale, norm.shift)] == [
        ("no_decay", ("model",)),
        ("shift", ("model",)),
    ]
    assert (type(norm.plain), norm.plain.tag) == (Alone, None)


def test_a_state_class_that_refuses_its_description_notes_the_field():
    """An `__init__` that takes no tag, where the specifier says one."""

    class Norm(gn.Node):
        scale: Alone = gn.state(jax.nn.initializers.ones, shape=lambda self: (2,), tag="x")

    assert notes_of(Norm) == ("TypeError", ["the State of Norm.scale was called as Alone(value, tag='x')"])


def test_a_list_is_a_shape():
    """What `shape=` gives may be a list: the initialiser gets a tuple."""
    shapes: list[object] = []

    def record(shape: tuple[int, ...]) -> jax.Array:
        shapes.append(shape)
        return jnp.ones(shape)

    shaped(record, lambda self: [3, 2])()
    assert shapes == [(3, 2)]


# Specifiers

SPECIFIERS: Any = gn  # to be called as no type checker lets them be
LINEAR, STATE = nn.Linear(2, 3), gn.ParamState(jnp.ones(2))

OF_STATE = (
    "gn.state() declares a field that holds a State, and takes an initializer, a function of key, shape and dtype"
)
OF_STATIC = "gn.static() declares a field that is part of the structure, and takes no positional argument"
OF_SUBNODE = "gn.subnode() declares a field that holds a node, and takes no positional argument"
OF_STATES = "write gn.state(default_factory=lambda: ParamState(...))"
OF_ARRAYS = (
    "write gn.state(default_factory=lambda: gn.ParamState(...)) for a State, or gn.static(default=...) for a part of "
    "the structure"
)


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("state", LINEAR, f"{OF_STATE}; found a Linear; for the States of a node, write gn.states(node)"),
        ("state", STATE, f"{OF_STATE}; found a ParamState; {OF_STATES}"),
        (
            "state",
            gn.ParamState,
            f"{OF_STATE}; found the class ParamState; declare the class in front of it: field: ParamState = gn.state()",
        ),
        (
            "state",
            nn.Linear,
            f"{OF_STATE}; found the class Linear; declare the class in front of it: field: Linear = gn.subnode()",
        ),
        ("state", jnp.ones(2), f"{OF_STATE}; found an array float32[2]; {OF_ARRAYS}"),
        ("state", 3, f"{OF_STATE}; found int 3; write gn.state(jax.nn.initializers.zeros)"),
        ("static", 3, f"{OF_STATIC}; found int 3; write gn.static(default=3)"),
        ("static", None, f"{OF_STATIC}; found None; write gn.static(default=...)"),
        ("static", np.ones(2), f"{OF_STATIC}; found an array float64[2]; {OF_ARRAYS}"),
        ("static", STATE, f"{OF_STATIC}; found a ParamState; {OF_STATES}"),
        ("static", LINEAR, f"{OF_STATIC}; found a Linear; write gn.subnode(default_factory=lambda: Linear(...))"),
        ("subnode", LINEAR, f"{OF_SUBNODE}; found a Linear; write gn.subnode(default_factory=lambda: Linear(...))"),
        (
            "subnode",
            STATE,
            f"{OF_SUBNODE}; found a ParamState; write gn.state(default_factory=lambda: ParamState(...))",
        ),
        (
            "subnode",
            nn.Linear,
            f"{OF_SUBNODE}; found the class Linear; write gn.subnode(default_factory=lambda: Linear(...))",
        ),
        ("subnode", "x", f"{OF_SUBNODE}; found str 'x'; write gn.subnode(factory=lambda self: ...)"),
    ],
)
def test_a_specifier_says_what_it_is_for(name: str, value: object, text: str):
    """A specifier that is given a value raises where it is called, with the line to write."""
    error = error_of(lambda: getattr(SPECIFIERS, name)(value))
    assert type(error) is gn.FieldError
    assert str(error) == text


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (
            lambda: SPECIFIERS.state(jax.nn.initializers.ones, shape=(3,)),
            "gn.state: shape= takes a function from the node to the shape; found tuple (3,); write "
            "shape=lambda self: (3,)",
        ),
        (
            lambda: SPECIFIERS.state(jax.nn.initializers.ones, shape=3),
            "gn.state: shape= takes a function from the node to the shape; found int 3; write "
            "shape=lambda self: (self.rows, 3)",
        ),
        (
            lambda: SPECIFIERS.subnode(factory=LINEAR),
            "gn.subnode: factory= takes a function from the node to the value of the field; found a Linear; write "
            "factory=lambda self: Linear(...)",
        ),
        (
            lambda: SPECIFIERS.subnode(default_factory=LINEAR),
            "gn.subnode: default_factory= takes a function without arguments; found a Linear; write "
            "default_factory=lambda: Linear(...)",
        ),
        (lambda: SPECIFIERS.static(defualt=3), "gn.static() has no option 'defualt'; did you mean 'default'?"),
        (
            lambda: SPECIFIERS.subnode(shape=3),
            "gn.subnode() has no option 'shape'; it takes factory, default, default_factory, init, kw_only",
        ),
    ],
)
def test_an_option_of_a_specifier_is_checked_where_it_is_written(declare: Callable[[], object], text: str):
    """What is not a function, and what is not an option, is refused in the class body, with the line to write."""
    error = error_of(declare)
    assert type(error) is gn.FieldError
    assert str(error) == text


ONES: Any = jax.nn.initializers.ones
MADE = "declares a field that the node makes itself, and takes no"


@pytest.mark.parametrize(
    ("options", "given", "instead"),
    [
        (
            {"default": None},
            "default=",
            "{}(default=None) for an argument of the constructor, which __post_init__ replaces",
        ),
        (
            {"init": True},
            "init=True",
            "{}(default=None) for an argument of the constructor, which __post_init__ replaces",
        ),
        (
            {"init": True, "default": None},
            "default= or init=True",
            "{}(default=None) for an argument of the constructor, which __post_init__ replaces",
        ),
        (
            {"default_factory": lambda: STATE},
            "default_factory=",
            "{}(default_factory=...) for an argument of the constructor with a default",
        ),
    ],
)
def test_a_field_that_the_node_makes_takes_no_default(options: dict[str, Any], given: str, instead: str):
    """An initializer or factory and a default cannot both count."""
    of_state, of_node = instead.format("gn.state"), instead.format("gn.subnode")
    end = " if it is None" if "__post_init__" in instead else ""
    assert str(error_of(lambda: SPECIFIERS.state(ONES, **options))) == (
        f"gn.state() with an initializer {MADE} {given}; write gn.state(initializer) alone, or {of_state}{end}"
    )
    assert str(error_of(lambda: SPECIFIERS.subnode(factory=lambda self: LINEAR, **options))) == (
        f"gn.subnode() with factory= {MADE} {given}; write gn.subnode(factory=...) alone, or {of_node}{end}"
    )


def test_a_field_that_the_node_makes_may_say_that_the_constructor_does_not_take_it():
    """As it is anyway."""
    assert SPECIFIERS.state(ONES, init=False).init is SPECIFIERS.subnode(factory=lambda self: LINEAR, init=False).init


# Arguments

LAYERS: Any = nn
AMBIENT = (
    "nodes draw their initial values from the ambient random stream: call gn.random.seed(0) before, or construct "
    "inside `with gn.random.scope(key):` (gn.nn.Dropout takes rngs)"
)


class Width(gn.Node):
    width: int


class Wider(Width):
    """Hands on what it does not know."""

    def __init__(self, factor: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width *= factor


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: LAYERS.Linear(2, 3, use_bais=False),
            "Linear.__init__() got an unexpected keyword argument 'use_bais'; did you mean 'use_bias'?",
        ),
        (
            lambda: LAYERS.Linear(2, 3, bias=False),
            "Linear.__init__() got an unexpected keyword argument 'bias'; did you mean 'use_bias'? The class sets bias "
            "itself",
        ),
        (
            lambda: LAYERS.Linear(2, 3, weight=STATE),
            "Linear.__init__() got an unexpected keyword argument 'weight'; the class sets weight itself",
        ),
        (
            lambda: LAYERS.Linear(2, 3, zzz=1),
            "Linear.__init__() got an unexpected keyword argument 'zzz'; it takes in_size, out_size, w_mask, use_bias, "
            "w_init, b_init, dtype, param_dtype and 3 more",
        ),
        (
            lambda: LAYERS.Linear(2, 3, rngs=gn.Rngs(0)),
            f"Linear.__init__() got an unexpected keyword argument 'rngs'; {AMBIENT}",
        ),
        (
            lambda: LAYERS.Linear(2, 3, key=jax.random.key(0)),
            f"Linear.__init__() got an unexpected keyword argument 'key'; {AMBIENT}",
        ),
        (
            lambda: LAYERS.Sequential(LINEAR, LINEAR),
            "Sequential.__init__() takes 2 positional arguments but 3 were given; layers takes one list: "
            "Sequential([...])",
        ),
        (
            lambda: LAYERS.MLP(8, 16, 4, 3),
            "MLP.__init__() takes 4 positional arguments but 5 were given; by keyword alone: depth, act, "
            "final_act, use_bias, use_final_bias, w_init, b_init, dtype and 1 more",
        ),
        (
            lambda: Wider(3, widht=2),
            "Width.__init__() got an unexpected keyword argument 'widht'; did you mean 'width'?",
        ),
        (lambda: LAYERS.Linear(2), "Linear.__init__() missing 1 required positional argument: 'out_size'"),
    ],
)
def test_a_constructor_says_what_it_takes(make: Callable[[], object], text: str):
    """Python's own text for arguments that do not fit, and what would do."""
    error = error_of(make)
    assert type(error) is TypeError
    # 3.13 counts and names as 3.11 does, apart from the qualified names of classes that are local.
    assert re.sub(r"test_\w+\.<locals>\.", "", str(error)) == text


class Doubled(gn.Node):
    """With a constructor that is written by hand."""

    width: int

    def __init__(self, half: int, *more: int, sign: int = 1, **others: int) -> None:
        self.width = 2 * half * sign


class Labelled(Doubled):
    """With a field of its own, for which the constructor is generated."""

    label: str = ""


def test_a_generated_constructor_says_how_to_keep_that_of_the_parent():
    """Where it is given what the parent takes."""
    make: Any = Labelled
    text = str(error_of(lambda: make(1, sign=-1)))
    assert text.partition("; ")[2] == (
        "Labelled declares fields of its own, so that its constructor is generated, and takes the fields; to keep that "
        "of Doubled, write def __init__(self, half, *more, sign=..., **others): super().__init__(half, *more, "
        "sign=sign, **others)"
    )
    assert ";" not in str(error_of(make))
    assert make(4, "a").width == 4


def test_a_type_error_from_inside_stays_as_it_is():
    """The arguments fit: a TypeError that a constructor raises inside gets no hint of them."""

    class Failing(gn.Node):
        use_bias: bool = True

        def __post_init__(self) -> None:
            raise TypeError("got an unexpected keyword argument 'use_bais'")

    assert str(error_of(Failing)) == "got an unexpected keyword argument 'use_bais'"
