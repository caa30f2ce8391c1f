"""Static fields that a class computes where a configuration does not say them."""

import copy
import pickle
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import pydantic
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode.config import DEFAULT, build, config_of, diff, dump, json_schema, load, loads, override, to_config
from graphnode.config._show import load_checked, value_rows


class Heads(gn.Node):
    """Computes two fields from the others."""

    width: int
    heads: int = 2
    head_size: Annotated[int, pydantic.Field(gt=0)] = gn.static(factory=lambda self: self.width // self.heads)
    """Features of a head."""
    sizes: tuple[int, ...] = gn.static(factory=lambda self: (self.width, self.head_size))
    total: int = gn.static(factory=lambda self: self.width + self.head_size, init=False)
    weight: gn.ParamState[Float[Array, "head_size"]] = gn.state(jax.nn.initializers.ones)


class Net(gn.Node):
    first: Heads
    second: Heads = gn.subnode(default_factory=lambda: Heads(4))


class Doubled(gn.Node):
    width: int
    size: int = gn.static(factory=lambda self: 2 * self.width)


class Masked(gn.Node):
    width: int
    mask: Array = gn.static(factory=lambda self: jnp.tril(jnp.ones((self.width, self.width))))
    weight: gn.ParamState[Float[Array, "width"]] = gn.state(jax.nn.initializers.ones)


class MaskedLater(gn.Node):
    width: int
    mask: Array = gn.static(init=False)
    weight: gn.ParamState[Float[Array, "width"]] = gn.state(jax.nn.initializers.ones)

    def __post_init__(self) -> None:
        self.mask = jnp.ones(self.width)


class Drawn(gn.Node):
    """What it computes is another value each time."""

    seed: Any = gn.static(factory=lambda self: int(jax.random.randint(gn.random.split_key(), (), 0, 1_000_000)))


CONFIG: Any = config_of(Heads)
OF_DOUBLED: Any = config_of(Doubled)
OF_DRAWN: Any = config_of(Drawn)
OF_NET: Any = config_of(Net)


def test_a_computed_field_may_be_left_out():
    """The node computes it; the config says nothing of it, and does not have what `init=False` keeps from it."""
    config = CONFIG(width=8)
    assert list(CONFIG.model_fields) == ["width", "heads", "head_size", "sizes"]
    assert config.head_size is DEFAULT
    assert str(config) == "Heads(width=8, heads=2)"
    node = build(config)
    assert (node.head_size, node.sizes, node.total, node.weight.value.shape) == (4, (8, 4), 12, (4,))


def test_a_computed_field_may_be_given():
    """In a file, by an override, or by assignment; DEFAULT takes it away again."""
    given = loads("{width: 8, head_size: 3}", Heads)
    changed = override(CONFIG(width=8), ["head_size=3"])
    assigned = CONFIG(width=8)
    assigned.head_size = 3
    assert given == changed == assigned
    assert (build(given).head_size, build(given).sizes) == (3, (8, 3))
    given.head_size = DEFAULT
    assert given == CONFIG(width=8)
    assert build(given).head_size == 4


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("x", "1:23: head_size: Input should be a valid integer, found str 'x'"),
        ("-3", "1:23: head_size: Input should be greater than 0, found int -3"),
        ("null", "1:23: head_size: Input should be a valid integer, found null"),
    ],
)
def test_a_value_in_a_file_is_validated_by_its_annotation(value: str, fault: str):
    """As that of any other field."""
    with pytest.raises(gn.ConfigError) as caught:
        loads(f"{{width: 8, head_size: {value}}}", Heads)
    assert str(caught.value) == fault


def test_what_is_computed_is_left_out_of_files():
    """Also where defaults are written; what was given is written, and both load as they were."""
    left_out, given = CONFIG(width=8), CONFIG(width=8, head_size=3)
    assert dump(left_out) == "type: Heads\nwidth: 8"
    assert dump(left_out, defaults=True) == "type: Heads\nwidth: 8\nheads: 2"
    assert dump(given) == "type: Heads\nwidth: 8\nhead_size: 3"
    for config in (left_out, given):
        assert loads(dump(config), Heads) == config
        assert loads(dump(config, format="json"), Heads, format="json") == config
        assert loads(dump(config, format="toml"), Heads, format="toml") == config
        assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config


def test_a_live_node_gives_what_its_factory_would_not_make():
    """What it would make is left to it, and follows the fields that it is computed from."""
    computed, given = Heads(8), Heads(8, head_size=3)
    assert to_config(computed) == CONFIG(width=8)
    assert to_config(given) == CONFIG(width=8, head_size=3)
    assert gn.graphdef(build(to_config(computed))) is gn.graphdef(computed)
    assert gn.graphdef(build(to_config(given))) is gn.graphdef(given)
    wider = build(override(to_config(computed), ["width=16"]))
    assert (wider.head_size, wider.sizes) == (8, (16, 8))
    assert build(override(to_config(given), ["width=16"])).head_size == 3


@pytest.mark.parametrize("cls", [Masked, MaskedLater])
def test_a_static_array_that_the_class_computes_is_made(cls: type[Masked | MaskedLater], tmp_path: Path):
    """Where a model is looked at without arrays, too: this one belongs to the structure."""
    masked = cls(2)
    assert gn.graphdef(build(to_config(masked))) is gn.graphdef(masked)
    summary = gn.config.summary(to_config(masked))
    assert [(row.path, row.shape) for row in summary.rows] == [(("weight",), "f32[2]")]
    path = tmp_path / "masked.yaml"
    path.write_text("width: 2")
    assert load_checked(path, cls) == to_config(masked)


def test_a_live_node_gives_what_is_not_computed_any_more():
    """A size that has changed since is written beside the value that was computed of the old one."""
    plain = Doubled(2)
    plain.width = 5
    assert to_config(plain) == OF_DOUBLED(width=5, size=4)
    assert build(to_config(plain)).size == 4


def test_a_live_node_gives_what_its_factory_draws():
    """It would be another value; and to look at it draws nothing from the caller's stream."""
    node = Drawn()
    with gn.random.scope(0):
        config = to_config(node)
        first = gn.random.split_key()
    with gn.random.scope(0):
        assert bool(first == gn.random.split_key())
    assert config == OF_DRAWN(seed=node.seed)


def test_a_difference_tells_what_is_computed():
    """In words, as no value is there."""
    one, other = CONFIG(width=8), CONFIG(width=8, head_size=3)
    assert [str(change) for change in diff(one, other)] == ["head_size: (made by Heads) -> 3"]
    assert diff(one, CONFIG(width=8)) == ()


def test_what_is_shown_of_a_file_tells_what_is_computed(tmp_path: Path):
    """It is a default, until the command line says otherwise."""
    path = tmp_path / "heads.yaml"
    path.write_text("{width: 8, heads: 4}")
    assert load(path, Heads) == CONFIG(width=8, heads=4)
    shown = {row.path: (row.value, row.origin) for row in value_rows(path, Heads, ["sizes=[1]"])}
    assert shown["head_size"] == ("(made by Heads)", "default")
    assert shown["sizes"] == ("[1]", "command line")


@pytest.mark.parametrize("style", ["editor", "strict"])
def test_a_schema_lets_a_computed_field_be_left_out(style: Any):
    """It has its type, constraints and text, and no default."""
    schema = json_schema(Heads, style=style)["$defs"]["Heads"]
    assert schema["properties"]["head_size"] == {
        "description": "Features of a head.",
        "exclusiveMinimum": 0,
        "type": "integer",
    }
    assert schema["then"]["required"] == ["width"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("first.sizes[0]=3", "first.sizes: the class computes this value; write the whole value, first.sizes=..."),
        (
            "second.width=6",
            "second: the default of the class cannot be changed in part: nothing says whether its default_factory "
            "gives head_size or the class computes it; write the whole value first, such as second={type: ...}",
        ),
    ],
)
def test_a_part_of_what_is_computed_is_not_overridden(change: str, fault: str):
    """The value is there only once the node is; and a function may have given what it would be."""
    with pytest.raises(gn.ConfigError) as caught:
        override(OF_NET(first=CONFIG(width=8)), [change])
    assert str(caught.value) == fault
