"""Settings of other programs: keys by other names, keys that are left out, and names that mean something else there."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.typing import DTypeLike

import graphnode as gn
from graphnode import ConfigError, static


@dataclasses.dataclass(frozen=True)
class Rope:
    kind: Literal["default", "llama3"]
    base: float = 1e4
    factor: float = 1.0


class Decoder(gn.Node):
    """What the two below have in common."""

    width: int
    num_heads: int
    act: Callable[[jax.Array], jax.Array] = static(default=jax.nn.silu)
    epsilon: float = 1e-6


class Llama(Decoder):
    rope: Rope = Rope("default")
    inner_width: int = 0
    dtype: DTypeLike = static(default=jnp.float32)


class Gemma(Decoder):
    pass


class Tower(gn.Node):
    text: Decoder
    vision: Decoder | None = None


CONFIG = """{
  "architectures": ["LlamaForCausalLM"],
  "bos_token_id": 1,
  "hidden_act": "gelu",
  "hidden_size": 64,
  "inner_width": null,
  "model_type": "llama",
  "num_attention_heads": 4,
  "rms_norm_eps": 1e-05,
  "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 500000.0, "attention_factor": null},
  "torch_dtype": "bfloat16"
}"""
RENAME = {
    "model_type": "type",
    "hidden_size": "width",
    "num_attention_heads": "num_heads",
    "rms_norm_eps": "epsilon",
    "hidden_act": "act",
    "rope_parameters": "rope",
    "rope_parameters.rope_type": "rope.kind",
    "rope_parameters.rope_theta": "rope.base",
    "torch_dtype": "dtype",
}
IGNORE = ("rope.attention_factor", "*")
NAMES: dict[str, Any] = {**gn.config.HUGGING_FACE, "llama": Llama, "gemma": Gemma}


def read(text: str = CONFIG, cls: Any = Decoder, **changed: Any) -> Any:
    given: dict[str, Any] = {"rename": RENAME, "ignore": IGNORE, "names": NAMES, "skip_null": True, **changed}
    return gn.config.loads(text, cls, format="json", **given)


def faults_of(text: str = CONFIG, cls: Any = Decoder, **changed: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, cls, **changed)
    return str(caught.value).splitlines()


def test_a_config_of_hugging_face_is_the_same_as_one_of_our_own():
    """Keys by other names, in renamed mappings too; the class by the kind of model; null for what is left out."""
    own = """
    type: Llama
    width: 64
    num_heads: 4
    act: gelu_exact
    epsilon: 1e-5
    rope: {kind: llama3, factor: 8, base: 5e5}
    dtype: bfloat16
    """
    assert read() == gn.config.loads(own, Decoder)
    assert gn.config.loads(gn.config.dump(read()), Decoder) == read()


def test_data_that_a_program_has_stay_as_they_are():
    """`validate` reads the same, and does not write to what it is given."""
    shared = {"hidden_size": 2, "num_attention_heads": 1, "extra": 3}
    data = {"text": shared, "vision": shared}
    rename = {"text.hidden_size": "text.width", "text.num_attention_heads": "text.num_heads"}
    config = gn.config.validate(data, Tower, rename=rename, ignore=["*.extra"])
    assert config.text is config.vision
    assert config.text.width == 2
    assert data == {"text": shared, "vision": shared}
    assert list(shared) == ["hidden_size", "num_attention_heads", "extra"]


def test_a_file_is_read_alike(tmp_path: Path):
    """`load` takes the same arguments, and its messages have the places of the keys that the file has."""
    file = tmp_path / "config.json"
    file.write_text(CONFIG)
    assert gn.config.load(file, Decoder, rename=RENAME, ignore=IGNORE, names=NAMES, skip_null=True) == read()
    file.write_text(CONFIG.replace("64", '"64"'))
    with pytest.raises(ConfigError) as caught:
        gn.config.load(file, Decoder, rename=RENAME, ignore=IGNORE, names=NAMES, skip_null=True)
    assert str(caught.value) == f"{file}:5:18: width: Input should be a valid integer, found str '64'"


def test_keys_may_change_their_names_with_each_other():
    """All are taken before any is put in its place."""
    config = gn.config.validate(
        {"width": 3, "num_heads": 5}, Gemma, rename={"width": "num_heads", "num_heads": "width"}
    )
    assert (config.width, config.num_heads) == (5, 3)


def test_a_value_may_come_from_another_level():
    """Settings that stand side by side there may be inside of a node here."""
    rename = {"hidden_size": "text.width", "heads": "text.num_heads", "kind": "text.type"}
    config = gn.config.validate({"hidden_size": 4, "heads": 2, "kind": "Gemma"}, Tower, rename=rename)
    assert (config.text.node_class, config.text.width, config.text.num_heads) == (Gemma, 4, 2)


def test_names_hold_for_one_call():
    """What they mean there they mean nowhere else, also where the call fails."""
    assert read().act is gn.config.HUGGING_FACE["gelu"]
    faults_of("{}")
    assert gn.config.loads("{type: Gemma, width: 1, num_heads: 1, act: gelu}", Decoder).act is jax.nn.gelu


@pytest.mark.parametrize("name", sorted(gn.config.HUGGING_FACE))
def test_the_names_of_hugging_face_can_be_written_again(name: str):
    """Each function has a name in our own files."""
    config = read(CONFIG.replace("gelu", name))
    assert gn.config.loads(gn.config.dump(config), Decoder).act is config.act


def test_activations_of_hugging_face():
    """Their `gelu` is exact, `gelu_new` the approximation by tanh, `quick_gelu` that by a sigmoid."""
    x = jnp.linspace(-3, 3, 7)
    functions = gn.config.HUGGING_FACE
    exact = x * 0.5 * (1 + jax.scipy.special.erf(x / jnp.sqrt(2)))
    assert jnp.allclose(functions["gelu"](x), exact, atol=1e-6)
    assert jnp.allclose(functions["gelu_new"](x), jax.nn.gelu(x), atol=0)
    assert jnp.allclose(functions["quick_gelu"](x), x / (1 + jnp.exp(-1.702 * x)), atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        (
            {"ignore": ["rope.attention_factor", "architectures", "*_token_id"], "rename": RENAME | {"x": "y"}},
            None,
        ),
        (
            {"rename": {**RENAME, "rms_norm_eps": "epsilom"}},
            "9:3: epsilom: Llama has no field 'epsilom'; did you mean 'epsilon'?",
        ),
        (
            {"rename": {key: value for key, value in RENAME.items() if key != "hidden_size"}},
            "1:1: width: Llama needs 'width'",
        ),
        (
            {"rename": {**RENAME, "bos_token_id": "width"}},
            "3:19: width: given twice, the second time as bos_token_id",
        ),
        (
            {"names": gn.config.HUGGING_FACE},
            "7:17: type: unknown type 'llama'; did you mean 'Llama'?",
        ),
        (
            {"skip_null": False},
            "6:18: inner_width: Input should be a valid integer, found null",
        ),
        (
            {"rename": {**RENAME, "hidden_act": "rope.kind.name"}},
            "hidden_act is renamed to rope.kind.name, but kind holds no mapping",
        ),
    ],
)
def test_what_is_left_is_held_to_the_class(changed: dict[str, Any], fault: str | None):
    """What is missing, unknown or given twice is told at its place in the file."""
    if fault is None:
        assert read(**changed) == read()
    else:
        assert fault in faults_of(**changed)


def test_a_required_field_is_told_by_its_name_in_the_file():
    """A renamed key that is not there."""
    fault = "1:1: num_heads: Llama needs 'num_heads', which is num_attention_heads in the file"
    assert faults_of(CONFIG.replace("num_attention_heads", "heads")) == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            CONFIG.replace("rms_norm_eps", "rms_norm_epz"),
            "9:3: rms_norm_epz: no field takes it, and something like it is not given; did you mean 'rms_norm_eps'? "
            "Rename it, or name it in ignore",
        ),
        (
            CONFIG.replace("inner_width", "inner_widths"),
            "6:3: inner_widths: no field takes it, and something like it is not given; did you mean 'inner_width'? "
            "Rename it, or name it in ignore",
        ),
    ],
)
def test_a_misspelled_key_is_not_left_out_by_a_glob(text: str, fault: str):
    """Neither one that is to be renamed, nor one of the class's own; a path of its own leaves it out."""
    assert faults_of(text) == [fault]
    key = fault.split(": ")[1]
    assert read(text, ignore=[*IGNORE, key]).width == 64


def test_null_is_null_where_a_field_takes_it():
    """And what has to be given is not left out by it."""
    assert (
        gn.config.validate(
            {"text": {"type": "Gemma", "width": 1, "num_heads": 1}, "vision": None}, Tower, skip_null=True
        ).vision
        is None
    )
    assert faults_of(CONFIG.replace("64", "null")) == ["5:18: width: Input should be a valid integer, found null"]


class Block(gn.Node):
    width: int = 1
    drop: float = 0.1


class Stack(gn.Node):
    layers: list[Block] = gn.subnode(default_factory=list)
    first: Block | None = None


def widths(config: Any) -> list[int]:
    return [block.width for block in config.layers]


@pytest.mark.parametrize(
    "rename",
    [
        {"layers.*.n": "layers.*.width"},
        {"layers.0.n": "layers.0.width", "layers.1.n": "layers.1.width"},
        {"blocks": "layers", "blocks.*.n": "layers.*.width"},
    ],
)
def test_a_star_stands_for_each_key_or_position(rename: dict[str, str]):
    """So that settings of all layers have other names."""
    name = "blocks" if "blocks" in rename else "layers"
    data: dict[str, Any] = {name: [{"n": 4, "extra": 1}, {"n": 8}]}
    assert widths(gn.config.validate(data, Stack, rename=rename, ignore=["**"])) == [4, 8]
    data = {name: [{"n": 4}, {"n": "8"}]}
    with pytest.raises(ConfigError) as caught:
        gn.config.validate(data, Stack, rename=rename)
    assert str(caught.value) == "layers.1.width: Input should be a valid integer, found str '8'"


def test_what_is_renamed_is_not_left_out_by_a_glob():
    """A target is the path that a value has in the end: here the blocks have gone when the widths come."""
    rename = {"blocks.*.n": "blocks.*.width", "blocks": "layers"}
    with pytest.raises(ConfigError) as caught:
        gn.config.validate({"blocks": [{"n": 4}]}, Stack, rename=rename, ignore=["**"])
    assert str(caught.value) == "blocks: Stack has no field 'blocks'; its fields are layers, first"


def test_a_path_into_a_list_is_left_out():
    """What stands there is left to the class."""
    data = {"layers": [{"drop": 0.5}, {"drop": 0.5}]}
    config = gn.config.validate(data, Stack, ignore=["layers.0.drop"])
    assert [block.drop for block in config.layers] == [0.1, 0.5]


@pytest.mark.parametrize("arguments", [{"ignore": ["layers.0"]}, {"rename": {"layers.0": "first"}}])
def test_an_item_of_a_list_stays_in_its_place(arguments: dict[str, Any]):
    """The others would get other positions."""
    with pytest.raises(ConfigError) as caught:
        gn.config.validate({"layers": [{}, {}]}, Stack, **arguments)
    assert str(caught.value) == "layers.0: an item of a list is neither renamed nor left out"


def test_a_mapping_in_two_places_is_renamed_in_both():
    """Nothing is taken out before all is read."""
    text = "encoder: &both {dim: 4}\ndecoder: *both\n"
    rename = {"encoder.dim": "width", "decoder.dim": "num_heads"}
    config = gn.config.loads(text, Gemma, rename=rename, ignore=["*"])
    assert (config.width, config.num_heads) == (4, 4)
    text = "text_config: &both {hidden: 4, heads: 2, type: Gemma}\nvision_config: *both\n"
    inner = {f"{name}_config.{key}": f"{name}.{field}" for name in ("text", "vision") for key, field in FIELDS.items()}
    rename = {**inner, "text_config": "text", "vision_config": "vision"}
    tower = gn.config.loads(text, Tower, rename=rename)
    assert tower.text is tower.vision
    assert (tower.text.width, tower.text.num_heads) == (4, 2)


FIELDS = {"hidden": "width", "heads": "num_heads"}


@pytest.mark.parametrize(
    ("data", "rename", "fault"),
    [
        (
            {"text_config": {"hidden_siez": 4}},
            {"text_config": "first", "text_config.hidden_size": "first.width"},
            "first.hidden_siez: no field takes it, and something like it is not given; did you mean 'hidden_size'? "
            "Rename it, or name it in ignore",
        ),
        (
            {"text_config": {"hidden_siez": 4}},
            {"text_config.hidden_size": "first.width"},
            "text_config.hidden_siez: no field takes it, and something like it is not given; "
            "did you mean 'hidden_size'? Rename it, or name it in ignore",
        ),
        (
            {"text_confg": {"hidden_size": 4}},
            {"text_config.hidden_size": "first.width"},
            "text_confg: no field takes it, and something like it is not given; did you mean 'text_config'? "
            "Rename it, or name it in ignore",
        ),
        (
            {"layers": [{"dropps": 4}]},
            {"layers.*.dropp": "layers.*.drop"},
            "layers.0.dropps: no field takes it, and something like it is not given; did you mean 'dropp'? "
            "Rename it, or name it in ignore",
        ),
    ],
)
def test_a_misspelled_key_is_noticed_in_renamed_mappings(data: dict[str, Any], rename: dict[str, str], fault: str):
    """Also in one that is left out as a whole, but for what is renamed."""
    with pytest.raises(ConfigError) as caught:
        gn.config.validate(data, Stack, rename=rename, ignore=["**"])
    assert str(caught.value) == fault


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"ignore": "*"}, TypeError, "gn.config.loads takes a list of paths as ignore; found str '*'"),
        (
            {"rename": {"layers.*.n": "layers.width"}},
            gn.PathError,
            "rename: 'layers.*.n' and 'layers.width' have not the same number of stars",
        ),
        (
            {"rename": {"num_*": "size"}},
            gn.PathError,
            "rename: 'num_*': a star stands for a whole key here, not for 'num_*'",
        ),
        ({"rename": {"": "a"}}, gn.PathError, "the path of a key is expected, found the empty text"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], text: str):
    """They are told before anything is read."""
    with pytest.raises(error) as caught:
        read(**arguments)
    assert str(caught.value) == text


@pytest.mark.wrong_types
@pytest.mark.parametrize("argument", ["rename", "names"])
def test_a_list_is_no_mapping(argument: str):
    """Nor is it taken for one."""
    given: dict[str, Any] = {argument: ["a"]}
    with pytest.raises(TypeError) as caught:
        read(**given)
    assert str(caught.value) == f"gn.config.loads takes a mapping as {argument}; found list ['a']"


names = st.text("abcdefgh", min_size=1, max_size=3)


@given(st.permutations(["a", "b", "c"]), st.dictionaries(names, st.integers(), max_size=3))
def test_renamed_and_left_out_is_the_same_as_our_own(order: list[str], more: dict[str, int]):
    """Whatever the keys are called, and whatever stands beside them."""
    values: dict[str, Any] = dict(zip(("width", "num_heads", "epsilon"), (3, 4, 0.5), strict=True))
    data = {f"their_{name}": value for name, value in zip(order, values.values(), strict=True)}
    rename = {f"their_{name}": field for name, field in zip(order, values, strict=True)}
    others = {f"other.{key}" if key in "abc" else f"{key}0": value for key, value in more.items()}
    config = gn.config.validate({**others, **data}, Gemma, rename=rename, ignore=["*"])
    assert config == gn.config.validate(values, Gemma)


def slow_descent(learning_rate: float) -> optax.GradientTransformation:
    return optax.sgd(0.01 * learning_rate)


@dataclasses.dataclass(frozen=True)
class Decay:
    steps: int = 1


@dataclasses.dataclass(frozen=True)
class SlowDecay(Decay): ...


class Run(gn.Node):
    tx: gn.optim.Transformation | None = static(default=None)
    decay: Decay = Decay()


def test_names_of_factories_and_records():
    """They are given a meaning like all others, also where optax, or another class, has the name."""
    names = {"sgd": slow_descent, "Adam": optax.adam, "slow": SlowDecay, "Decay": SlowDecay}
    for name, factory in (("sgd", slow_descent), ("Adam", optax.adam)):
        config = gn.config.validate({"tx": {"type": name, "learning_rate": 1.0}}, Run, names=names)
        assert config.tx.factory is factory
    for name in ("slow", "Decay"):
        config = gn.config.validate({"decay": {"type": name, "steps": 3}}, Run, names=names)
        assert config.decay == SlowDecay(3)
    assert gn.config.validate({"tx": {"type": "sgd", "learning_rate": 1.0}}, Run).tx.factory is optax.sgd
