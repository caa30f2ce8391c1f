"""Random streams in files: seeds by name, sharing, and streams of the key that a model is built with."""

from typing import Any

import jax
import jax.numpy as jnp
import jsonschema
import pytest

import graphnode as gn
from graphnode import nn


class Net(nn.Module):
    rngs: gn.Rngs
    drop: nn.Dropout = gn.subnode(factory=lambda self: nn.Dropout(0.2, rngs=self.rngs))


class Two(nn.Module):
    a: nn.Dropout
    b: nn.Dropout


def built(text: str, cls: Any) -> Any:
    return gn.config.build(gn.config.loads(text, cls))


def key_of(rngs: gn.Rngs, name: str = "default") -> list[int]:
    return jax.random.key_data(rngs[name].key.value).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rngs: 3", {"default": 3}),
        ("rngs: {default: 3}", {"default": 3}),
        ("rngs: {type: Rngs, default: 3, dropout: 1}", {"default": 3, "dropout": 1}),
    ],
)
def test_seeds_are_those_of_python(text: str, expected: dict[str, int]):
    """A number is the seed of the default stream, a mapping has seeds by name."""
    node = built(text, Net)
    made = gn.Rngs(**expected)
    assert list(node.rngs) == list(made)
    assert all(key_of(node.rngs, name) == key_of(made, name) for name in made)
    assert node.drop.rngs is node.rngs


@pytest.mark.parametrize("text", ["rngs: {}", "rngs: {default: null}"])
def test_a_stream_without_a_seed_is_of_the_key_of_the_model(text: str):
    """The same key gives the same stream, another key another one."""
    config = gn.config.loads(text, Net)
    one, same, other = [gn.config.build(config, jax.random.key(seed)) for seed in (0, 0, 1)]
    assert key_of(one.rngs) == key_of(same.rngs) != key_of(other.rngs)


def test_a_layer_that_draws_has_streams_unless_it_is_given_some():
    """Each has its own; `null` gives it none."""
    node = built("a: {rate: 0.5}\nb: {rate: 0.5}", Two)
    assert key_of(node.a.rngs) != key_of(node.b.rngs)
    assert jnp.any(node.a(jnp.ones(32)) != node.b(jnp.ones(32)))
    assert built("{rate: 0.5, rngs: null}", nn.Dropout).rngs is None
    assert nn.Dropout(0.5).rngs is None


def test_streams_that_nothing_is_said_of_are_those_without_a_seed():
    """Both are made of the key of the model and their path."""
    left_out, given = built("rate: 0.5", nn.Dropout), built("{rate: 0.5, rngs: {}}", nn.Dropout)
    assert key_of(left_out.rngs) == key_of(given.rngs)


@pytest.mark.parametrize("rngs", ["&r {default: 0}|*r", "{id: r, default: 0}|{ref: r}"])
def test_streams_are_shared_as_nodes_are(rngs: str):
    """By an anchor, or by `id` and `ref`."""
    one, other = rngs.split("|")
    node = built(f"a: {{rate: 0.5, rngs: {one}}}\nb: {{rate: 0.5, rngs: {other}}}", Two)
    assert node.a.rngs is node.b.rngs
    text = gn.config.dump(gn.config.to_config(node))
    again = built(text, Two)
    assert again.a.rngs is again.b.rngs
    assert "ref: a.rngs" in text


@pytest.mark.parametrize(
    "node",
    [
        lambda: Net(gn.Rngs(0, dropout=1)),
        lambda: nn.Dropout(0.5),
        lambda: nn.Dropout(0.5, rngs=gn.Rngs(params=0)),
        lambda: gn.Rngs(0),
    ],
)
def test_a_model_with_streams_goes_to_a_file(node: Any):
    """With the names of its streams; of which seeds they are, they do not know."""
    made = node()
    again = built(gn.config.dump(gn.config.to_config(made)), type(made))
    assert gn.graphdef(again) is gn.graphdef(made)
    assert len(gn.config.summary(gn.config.to_config(made)).rows) == len(gn.states(made))


def test_the_config_of_a_seed_is_written_with_it():
    """A config knows the seeds that a file has given."""
    config = gn.config.loads("rngs: {default: 3, dropout: null}", Net)
    assert gn.config.dump(config) == "type: Net\nrngs:\n  type: Rngs\n  default: 3\n  dropout: null"
    assert gn.config.loads(gn.config.dump(config), Net) == config


def test_two_names_of_one_stream_do_not_go_to_a_file():
    """A file gives each name a stream of its own."""
    stream = gn.Rngs(0)["default"]
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.to_config(gn.Rngs(a=stream, b=stream))
    assert all(fault.endswith("build would make it otherwise") for fault in caught.value.faults)


REFUSED = {
    "rngs: true": "expected Rngs, found bool true",
    "rngs: abc": "expected Rngs, found str 'abc'",
    "rngs: {dropout: abc}": (
        "dropout: a seed is an integer, or null for one of the key that the model is built with; found 'abc'"
    ),
    "rngs: {dropout: true}": (
        "dropout: a seed is an integer, or null for one of the key that the model is built with; found true"
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_seed_is_refused(text: str):
    """With its place, its path and the name of the stream."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads(text, Net)
    assert str(caught.value) == f"1:7: rngs: {REFUSED[text]}"


def test_a_seed_may_be_overridden():
    """Alone, by its name, and in a layer that says nothing of streams."""
    config = gn.config.loads("rngs: {default: 0, dropout: 1}", Net)
    for change, expected in (("rngs=3", {"default": 3}), ("rngs.dropout=3", {"default": 0, "dropout": 3})):
        node = gn.config.build(gn.config.override(config, [change]))
        assert all(key_of(node.rngs, name) == key_of(gn.Rngs(**expected), name) for name in expected)
    two = gn.config.override(gn.config.loads("{a: {rate: 0.5}, b: {rate: 0.5}}", Two), ["a.rngs.default=3"])
    rngs = gn.config.build(two).a.rngs
    assert rngs is not None
    assert key_of(rngs) == key_of(gn.Rngs(3))
    (difference,) = gn.config.diff(config, gn.config.override(config, ["rngs.dropout=3"]))
    assert str(difference) == "rngs.dropout: 1 -> 3"


@pytest.mark.parametrize("style", ["editor", "strict"])
@pytest.mark.parametrize(
    ("rngs", "is_fine"),
    [(0, True), ({"default": 0}, True), ({"a": None}, True), ({}, True), ("a", False), ({"a": "b"}, False)],
)
def test_schema_and_loader_agree(rngs: Any, is_fine: bool, style: Any):
    """What the schema admits loads, and nothing else does."""
    schema = gn.config.json_schema(Net, style=style)
    assert jsonschema.Draft202012Validator(schema).is_valid({"rngs": rngs}) is is_fine
    if is_fine:
        gn.config.validate({"rngs": rngs}, Net)
    else:
        with pytest.raises(gn.ConfigError):
            gn.config.validate({"rngs": rngs}, Net)


def test_a_stream_without_a_seed_is_of_its_name():
    """Another stream that is given a seed, or that is added, changes nothing."""
    config = gn.config.loads("rngs: {default: null, dropout: null}", Net)
    changed = [gn.config.override(config, [change]) for change in ("rngs.default=0", "rngs.more=null")]
    first, *others = [gn.config.build(one, jax.random.key(0)) for one in (config, *changed)]
    assert [key_of(other.rngs, "dropout") for other in others] == [key_of(first.rngs, "dropout")] * 2
    assert key_of(first.rngs) != key_of(first.rngs, "dropout")
