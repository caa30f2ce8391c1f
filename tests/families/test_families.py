"""What `gn.families` makes of directories: dtypes, layouts, settings, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphnode as gn
from graphnode.families import LanguageModel, Llama, Qwen3, Settings
from graphnode.families._families import known_families
from tests.families.comparing import arrays_in, assert_same, kept
from tests.families.make_references import DECODER, LLAMA3_ROPE

SIZES: Final[dict[str, Any]] = {"num_kv_heads": 2, "hidden_size": 12, "head_size": 4}


def llama(**options: Any) -> Llama:
    """A small one."""
    return Llama(5, 8, 2, 4, **SIZES, **options)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of a small LLaMA."""
    gn.families.save(llama(), tmp_path / "llama")
    return tmp_path / "llama"


def edit(directory: Path, **changes: Any) -> None:
    """Change some settings of a directory."""
    config = {**gn.families.config(directory), **changes}
    (directory / "config.json").write_text(json.dumps(config))


def message(directory: Path, *args: Any, **options: Any) -> str:
    """What `load` says of it, without the directory."""
    with pytest.raises(gn.CheckpointError) as caught:
        gn.families.load(directory, *args, **options)
    return str(caught.value).replace(str(directory), "llama")


# What is loaded


def test_arrays_keep_their_dtype_or_get_another_one(directory: Path, tmp_path: Path):
    """Without a dtype, that of the files; with one, all floats are cast, and so they are saved."""
    assert gn.families.load(directory, Llama).embedding.weight.value.dtype == jnp.float32
    half = gn.families.load(directory, Llama, dtype=jnp.bfloat16)
    dtypes = {state.value.dtype for state in gn.states(half).values()}
    assert dtypes == {jnp.dtype(jnp.bfloat16)}
    gn.families.save(half, tmp_path / "half")
    assert gn.families.config(tmp_path / "half")["torch_dtype"] == "bfloat16"
    assert gn.families.load(tmp_path / "half", Llama).embedding.weight.value.dtype == jnp.bfloat16


def test_several_dtypes_become_the_one_that_holds_all(directory: Path):
    """Norms in float32 lose nothing for weights in half precision."""
    model = gn.families.load(directory, Llama)
    gn.cast(model, jnp.bfloat16, gn.Not(gn.PathContains("norm")))
    gn.families.save(model, directory, overwrite=True)
    loaded = gn.families.load(directory, Llama)
    assert {state.value.dtype for state in gn.states(loaded).values()} == {jnp.dtype(jnp.float32)}


def test_stacked_layers_are_the_same_in_files(directory: Path, tmp_path: Path):
    """Blocks in a list and in a stack are read from one file, and written to one."""
    model = gn.families.load(directory, Llama, scan=True)
    path = gn.parse_path("decoder.blocks.attention.query.weight")
    assert gn.states(model)[path].value.shape == (2, 8, 16)
    gn.families.save(model, tmp_path / "stacked")
    assert_same(arrays_in(tmp_path / "stacked"), arrays_in(directory))


def test_each_device_reads_its_part_by_a_plan(directory: Path):
    """The plan is of the abstract model."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rules = gn.sharding.Rules(params={"vocab": "data"}, default=None)
    abstract = gn.families.abstract(directory, Llama)
    assert isinstance(abstract.embedding.weight.value, jax.ShapeDtypeStruct)
    model = gn.families.load(directory, Llama, plan=gn.sharding.plan(abstract, mesh, rules))
    sharding = model.embedding.weight.value.sharding
    assert sharding == jax.NamedSharding(mesh, jax.P("data", None))


def test_large_models_are_several_files(directory: Path, tmp_path: Path):
    """With an index; what was there of the model before goes, and other files stay."""
    arrays = arrays_in(directory)
    (directory / "tokenizer.json").write_text("{}")
    gn.families.save(gn.families.load(directory), directory, max_shard_bytes=2000, overwrite=True)
    names = sorted(path.name for path in directory.iterdir())
    assert names[:2] == ["config.json", "model-00001-of-00004.safetensors"]
    assert names[-2:] == ["model.safetensors.index.json", "tokenizer.json"]
    assert_same(arrays_in(directory), arrays)
    gn.families.save(gn.families.load(directory), directory, overwrite=True)
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]


def test_caches_are_left_out_of_files(directory: Path, tmp_path: Path):
    """A model that has written texts is saved as one that has not."""
    model = gn.families.load(directory, Llama)
    model.init_cache(1, 4)
    gn.families.save(model, tmp_path / "again")
    assert_same(arrays_in(tmp_path / "again"), arrays_in(directory))


def test_a_second_copy_of_a_tied_head_is_left_out(tmp_path: Path):
    """Some files have it."""
    reference = kept("llama_tied")
    extra = {"lm_head.weight": reference.shapes["model.embed_tokens.weight"]}
    path = replace(reference, shapes={**reference.shapes, **extra}).write(tmp_path / "tied")
    assert gn.families.load(path, Llama).head is None


def test_settings_of_the_original_are_kept(directory: Path, tmp_path: Path):
    """Those that the model does not say; what it says counts more, and names of the dtype are not said twice."""
    config = {"eos_token_id": [3, 4], "vocab_size": 7, "dtype": "float16", "max_position_embeddings": 9, "new": 1}
    gn.families.save(gn.families.load(directory), tmp_path / "again", config=config)
    added = {"eos_token_id": [3, 4], "max_position_embeddings": 9}
    assert gn.families.config(tmp_path / "again") == {**gn.families.config(directory), **added}


# Settings, both ways

sizes = st.integers(1, 64)
numbers = st.floats(1e-6, 1e6)
ropes = st.one_of(
    st.none(),
    st.fixed_dictionaries({"rope_type": st.just("linear"), "factor": numbers}),
    st.just(LLAMA3_ROPE),
    st.fixed_dictionaries(
        {
            "rope_type": st.just("yarn"), "factor": numbers, "original_max_position_embeddings": sizes,
            "beta_fast": st.just(32.0), "beta_slow": st.just(1.0),
        },
        optional={"attention_factor": numbers},
    ),
)  # fmt: skip
common = {
    "vocab_size": sizes,
    "hidden_size": sizes,
    "num_hidden_layers": st.just(2),
    "num_attention_heads": st.just(4),
    "num_key_value_heads": st.sampled_from([1, 2, 4]),
    "head_dim": sizes.map(lambda size: 2 * size),
    "intermediate_size": sizes,
    "rms_norm_eps": numbers,
    "attention_bias": st.booleans(),
    "tie_word_embeddings": st.booleans(),
    "rope_theta": numbers,
    "rope_scaling": ropes,
}
acts = st.sampled_from(["silu", "gelu", "gelu_new", "relu"])
layer_types = st.lists(st.sampled_from(["full_attention", "sliding_attention"]), min_size=2, max_size=2)
caps = {
    "query_pre_attn_scalar": sizes,
    "attn_logit_softcapping": st.none() | numbers,
    "final_logit_softcapping": st.none() | numbers,
    "sliding_window": sizes,
    "layer_types": layer_types,
    "hidden_activation": st.sampled_from(["gelu_pytorch_tanh", "gelu", "silu"]),
}
kinds: Final[dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "llama": {**common, "mlp_bias": st.booleans(), "hidden_act": acts},
    "qwen3": {
        **common, "hidden_act": acts, "use_sliding_window": st.just(True), "sliding_window": sizes,
        "layer_types": layer_types,
    },
    "gemma2": {**common, **caps},
    "gemma3_text": {
        **common, **caps, "rope_local_base_freq": numbers, "use_bidirectional_attention": st.just(False),
    },
}  # fmt: skip


# Records stand in for models.
@pytest.mark.no_runtime_types
@pytest.mark.parametrize("model_type", kinds)
@given(data=st.data())
def test_settings_lead_to_a_model_and_back(model_type: str, data: st.DataObject):
    """A model says all that its settings have said."""
    config = data.draw(st.fixed_dictionaries(kinds[model_type]))
    family = known_families()[model_type]
    source = Settings(config)
    # Its fields alone: to make so many models would take a minute.
    found = family.to_config(SimpleNamespace(**family.from_config(source)))
    assert not source.check()
    assert found.pop("architectures")
    assert found == config


@pytest.mark.parametrize(
    ("given", "rotary"),
    [
        ({}, gn.nn.Rotary(10_000.0)),
        ({"rope_theta": 5.0}, gn.nn.Rotary(5.0)),
        ({"rope_parameters": {"rope_theta": 5.0, "partial_rotary_factor": 1.0}}, gn.nn.Rotary(5.0)),
        (
            {"rope_theta": 5.0, "rope_scaling": {"type": "linear", "factor": 2}},
            gn.nn.Rotary(5.0, scaling=gn.nn.LinearScaling(2.0)),
        ),
        # The length of the model, where the scaling does not say.
        (
            {"max_position_embeddings": 64, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
            gn.nn.Rotary(scaling=gn.nn.YarnScaling(2.0, 64)),
        ),
    ],
)
def test_rotations_are_read_as_all_versions_write_them(given: dict[str, Any], rotary: gn.nn.Rotary):
    """Base and scaling have stood in several places."""
    source = Settings({**DECODER, **given})
    found = known_families()["llama"].from_config(source)["rotary"]
    assert not source.faults
    assert gn.graphdef(found) is gn.graphdef(rotary)


def test_defaults_are_those_of_the_families():
    """A file that says only sizes means these."""
    small = {key: DECODER[key] for key in DECODER if not key.endswith("token_id") and "key_value" not in key}

    def arguments(model_type: str, **settings: Any) -> dict[str, Any]:
        return known_families()[model_type].from_config(Settings({**small, **settings}))

    assert arguments("llama")["num_kv_heads"] == 4
    assert arguments("llama")["head_size"] == 4
    assert not arguments("llama")["is_tied"]
    assert arguments("qwen3")["head_size"] == 128
    assert arguments("gemma2")["is_tied"]
    assert arguments("gemma2")["windowed"] == (True, False)
    windowed = arguments("gemma3_text", num_hidden_layers=7)["windowed"]
    assert windowed == (True,) * 5 + (False, True)
    late = arguments("qwen3", use_sliding_window=True, sliding_window=3, max_window_layers=1)
    assert (late["window"], late["windowed"]) == (3, (False, True))


# What is refused


def test_a_directory_needs_settings_and_weights(directory: Path, tmp_path: Path):
    """Each is missed by its name."""
    assert message(tmp_path / "none") == (
        "cannot load llama: expected a directory with config.json and files of safetensors; it does not exist"
    )
    settings = (directory / "config.json").read_text()
    (directory / "config.json").write_text("[")
    assert message(directory) == (
        "cannot load llama: config.json: it is not JSON: Expecting value: line 1 column 2 (char 1)"
    )
    (directory / "config.json").write_text("[]")
    assert message(directory) == "cannot load llama: config.json: expected a JSON object; found list"
    (directory / "config.json").unlink()
    assert message(directory) == (
        "cannot load llama: there is no config.json, which says what model it is of; "
        "gn.checkpoint.read(..., into=model) reads files of arrays alone"
    )
    (directory / "config.json").write_text(settings)
    (directory / "model.safetensors").unlink()
    assert message(directory) == "cannot read llama: it has no file *.safetensors"


def test_an_unknown_family_is_refused_with_those_that_are_known(directory: Path):
    """And so is one that says nothing."""
    known = ", ".join(sorted(known_families()))
    edit(directory, model_type="gemma3")
    assert message(directory) == (
        f"cannot load llama: config.json: model_type: expected one of {known}; found 'gemma3'"
    )
    edit(directory, model_type=None)
    assert message(directory) == f"cannot load llama: config.json: model_type: expected one of {known}; found nothing"


def test_another_family_than_the_expected_one_is_refused(directory: Path):
    """A base of its class is not another one."""
    assert isinstance(gn.families.load(directory, LanguageModel), Llama)
    assert message(directory, Qwen3) == (
        "cannot load llama: config.json: model_type: expected the model_type of a Qwen3; found 'llama', which is a "
        "Llama"
    )


def test_settings_that_nobody_knows_are_refused_together(directory: Path):
    """A key that may change the computation is not read over, unless the caller says that it does not."""
    edit(
        directory,
        hidden_act="gelu_10",
        sliding_window=3,
        mlp_bais=True,
        rope_scaling={"rope_type": "dynamic", "factor": 2.0},
        vocab_size=None,
        attention_bias="yes",
        quantization_config={"bits": 4},
        eos_token_id=2,
    )
    names = ", ".join(gn.config.HUGGING_FACE)
    assert message(directory) == (
        "cannot load llama: 7 faults:\n"
        "  config.json: vocab_size: expected a positive integer; found nothing\n"
        f"  config.json: hidden_act: expected one of {names}; found 'gelu_10'; did you mean 'gelu'?\n"
        "  config.json: attention_bias: expected true or false; found 'yes'\n"
        "  config.json: rope_scaling.rope_type: expected default, linear, llama3 or yarn; found 'dynamic'\n"
        "  config.json: sliding_window: the family does not know this key; found 3; ignore= leaves out a key that says "
        "nothing of what the model computes\n"
        "  config.json: mlp_bais: the family does not know this key; found true; ignore= leaves out a key that says "
        "nothing of what the model computes\n"
        "  config.json: quantization_config: the family does not know this key; found dict; ignore= leaves out a key "
        "that says nothing of what the model computes"
    )


def test_a_rotation_that_stands_there_twice_is_refused(directory: Path):
    """In the layouts of two versions, of which one would be read over."""
    edit(
        directory,
        rope_scaling={"rope_type": "linear", "factor": 2.0},
        rope_parameters={"rope_theta": 5e5, "rope_type": "default"},
    )
    assert message(directory) == (
        "cannot load llama: config.json: rope_parameters: expected nothing beside rope_scaling; found dict"
    )


def test_a_misspelt_key_is_refused_with_the_right_one(directory: Path):
    """Where the right one is not there."""
    config = gn.families.config(directory)
    config["mlp_bais"] = config.pop("mlp_bias")
    (directory / "config.json").write_text(json.dumps(config))
    assert message(directory) == (
        "cannot load llama: config.json: mlp_bais: the family does not know this key; found false; did you mean "
        "'mlp_bias'?"
    )


def test_a_key_that_says_nothing_of_the_computation_can_be_left_out(directory: Path):
    """By name."""
    edit(directory, unsloth_fixed=True)
    assert message(directory) == (
        "cannot load llama: config.json: unsloth_fixed: the family does not know this key; found true; ignore= leaves "
        "out a key that says nothing of what the model computes"
    )
    assert isinstance(gn.families.load(directory, ignore=["unsloth_fixed"]), Llama)


def test_weights_that_do_not_fit_are_all_named(directory: Path):
    """As `gn.checkpoint.read` does it."""
    edit(directory, vocab_size=6, tie_word_embeddings=True)
    assert message(directory).replace(str(directory), "llama") == (
        "cannot read llama: embedding.weight: the model has float32[6,8], the source float32[5,8], from "
        "model.embed_tokens.weight"
    )


def test_what_gemma_cannot_do_is_refused():
    """Attention in both directions."""
    source = Settings(
        {**DECODER, "head_dim": 4, "use_bidirectional_attention": True, "layer_types": ["full_attention"]}
    )
    known_families()["gemma2"].from_config(source)
    assert source.faults == [
        "config.json: use_bidirectional_attention: expected false or null, as the model has nothing else; found true",
        "config.json: layer_types: expected full_attention or sliding_attention for each of 2 layers; found "
        "full_attention",
    ]


def test_a_model_that_runs_is_saved_as_it_is(tmp_path: Path):
    """With caches and remat, which no settings say."""
    model = gn.view(llama(), remat=True)
    model.init_cache(1, 4)
    gn.families.save(model, tmp_path / "new")
    assert not gn.families.load(tmp_path / "new", gn.families.Llama).decoder.remat


def test_a_model_that_was_changed_is_not_saved_as_what_it_was(tmp_path: Path):
    """What settings have no words for is refused by its path, and nothing is written."""
    model = llama()
    attention = gn.nodes(model)["decoder", "blocks", 1, "attention"]
    assert isinstance(attention, gn.nn.MultiHeadAttention)
    attention.window = 2
    model.decoder.norm = gn.nn.RMSNorm(8, epsilon=1e-3)
    with pytest.raises(gn.CheckpointError) as caught:
        gn.families.save(model, tmp_path / "new")
    assert str(caught.value) == (
        f"cannot save to {tmp_path / 'new'}: 2 faults:\n"
        "  decoder.blocks.1.attention.window: expected None, as its settings make it; found 2\n"
        "  decoder.norm.epsilon: expected 1e-06, as its settings make it; found 0.001"
    )
    with pytest.raises(gn.CheckpointError) as caught:
        gn.families.save(llama(act=jnp.sin), tmp_path / "new")
    assert str(caught.value) == (
        f"cannot write config.json: act: expected one of {', '.join(gn.config.HUGGING_FACE)}; found another function"
    )
    assert not (tmp_path / "new").exists()


def test_files_are_not_replaced_unasked(directory: Path):
    """Nor is a model written that no family is of."""
    with pytest.raises(gn.CheckpointError) as caught:
        gn.families.save(llama(), directory)
    assert str(caught.value) == (
        f"cannot save to {directory}: it has config.json, model.safetensors already; pass overwrite=True to replace "
        "them"
    )
    with pytest.raises(gn.CheckpointError) as caught:
        gn.families.save(gn.nn.Linear(2, 3), directory)
    classes = ", ".join(sorted(family.cls.__name__ for family in known_families().values()))
    assert str(caught.value) == (f"cannot save to {directory}: expected a model of the class {classes}; found a Linear")


@pytest.mark.parametrize("name", ["Qwen3", "Gemma2", "Gemma3"])
def test_each_layer_has_a_window_or_not(name: str):
    """A list of another length is refused."""
    with pytest.raises(gn.ContractError) as caught:
        getattr(gn.families, name)(5, 8, 2, 4, **SIZES, windowed=(True,))
    assert str(caught.value) == f"{name}.windowed: expected true or false for each of 2 layers; found 1"
