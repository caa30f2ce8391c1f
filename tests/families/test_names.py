"""Names and settings of GPT-2, BERT, ViT, T5 and Whisper in published directories, beside those that are written."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphnode as gn
from graphnode.checkpoint._safetensors_write import write_safetensors
from graphnode.families import GPT2, T5, Bert, Settings, ViT, Whisper
from graphnode.families._families import known_families
from tests.families.comparing import arrays_in, assert_same, kept
from tests.families.make_references import Arrays, weight


def loaded(directory: Path, name: str, arrays: Arrays, **settings: Any) -> Any:
    """The model that a directory has, with the settings of a reference but for some, and other arrays."""
    directory.mkdir()
    config = {**kept(name).config, **settings}
    (directory / "config.json").write_text(json.dumps(config))
    write_safetensors(directory / "model.safetensors", arrays, metadata={"format": "pt"})
    return gn.families.load(directory)


# Names of arrays


def test_a_base_alone_is_read_under_its_own_names(tmp_path: Path):
    """GPT-2 was published without its prefix, and with its masks; it is written as it is written today."""
    arrays = kept("gpt2").arrays()
    bare = {name.removeprefix("transformer."): array for name, array in arrays.items()}
    masks = {f"h.{at}.attn.{name}": weight(name, (1, 1, 4, 4)) for at in range(2) for name in ("bias", "masked_bias")}
    model = loaded(tmp_path / "bare", "gpt2", {**bare, **masks})
    gn.families.save(model, tmp_path / "again")
    assert_same(arrays_in(tmp_path / "again"), arrays)


def test_a_base_is_read_from_the_files_of_a_head(tmp_path: Path):
    """What heads there are is left out, and the names of the base lose their prefix when it is written."""
    base, headed = kept("bert_bare").arrays(), kept("bert").arrays()
    whole = {**headed, **{f"bert.{name}": array for name, array in base.items()}}
    model = loaded(tmp_path / "headed", "bert_bare", whole)
    assert model.head is None
    gn.families.save(model, tmp_path / "again")
    assert_same(arrays_in(tmp_path / "again"), base)


def test_norms_of_early_files_have_other_names(tmp_path: Path):
    """BERT was published with those of TensorFlow, with its other heads, and with its positions."""
    arrays = kept("bert").arrays()
    early = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in arrays.items()
    }
    others = ("bert.pooler.dense.weight", "cls.seq_relationship.weight", "bert.embeddings.position_ids")
    model = loaded(tmp_path / "early", "bert", {**early, **{name: weight(name, (2, 2)) for name in others}})
    gn.families.save(model, tmp_path / "again")
    assert_same(arrays_in(tmp_path / "again"), arrays)


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("gpt2", ["lm_head.weight"]),
        ("bert", ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"]),
        ("t5", ["lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]),
        ("whisper", ["proj_out.weight"]),
    ],
)
def test_copies_of_what_is_tied_are_left_out(name: str, copies: list[str], tmp_path: Path):
    """Some files have them."""
    arrays = kept(name).arrays()
    model = loaded(tmp_path / "tied", name, {**arrays, **{copy: weight(copy, (64, 16)) for copy in copies}})
    gn.families.save(model, tmp_path / "again")
    assert_same(arrays_in(tmp_path / "again"), arrays)


# Settings, both ways

sizes = st.integers(1, 64)
numbers = st.floats(1e-12, 1e6)
acts = st.sampled_from(["gelu", "gelu_new", "relu", "quick_gelu", "silu"])
encoder = {
    "hidden_size": sizes, "num_hidden_layers": sizes, "num_attention_heads": sizes, "intermediate_size": sizes,
    "hidden_act": acts, "layer_norm_eps": numbers,
}  # fmt: skip
vit = {
    **encoder, "image_size": sizes | st.just([12, 8]), "patch_size": sizes | st.just([3, 4]), "num_channels": sizes,
    "qkv_bias": st.booleans(), "pooler_act": acts,
}  # fmt: skip
kinds: Final[dict[str, dict[str, Any]]] = {
    "gpt2": {
        "vocab_size": sizes, "n_embd": sizes, "n_layer": sizes, "n_head": sizes, "n_positions": sizes,
        "n_inner": sizes, "activation_function": acts, "layer_norm_epsilon": numbers,
        "scale_attn_weights": st.booleans(), "scale_attn_by_inverse_layer_idx": st.booleans(),
        "tie_word_embeddings": st.booleans(), "add_cross_attention": st.just(False),
    },
    "bert": {
        **encoder, "architectures": st.sampled_from([["BertForMaskedLM"], ["BertModel"]]), "vocab_size": sizes,
        "max_position_embeddings": sizes, "type_vocab_size": sizes, "tie_word_embeddings": st.just(True),
        "is_decoder": st.just(False), "add_cross_attention": st.just(False),
    },
    "vit": {**vit, "architectures": st.just(["ViTModel"]), "pooler_output_size": sizes},
    "t5": {
        "vocab_size": sizes, "d_model": sizes, "d_kv": sizes, "d_ff": sizes, "num_layers": sizes,
        "num_decoder_layers": sizes, "num_heads": sizes, "relative_attention_num_buckets": sizes,
        "relative_attention_max_distance": sizes, "layer_norm_epsilon": numbers,
        "is_encoder_decoder": st.just(True), "is_decoder": st.just(False),
    },
    "whisper": {
        "vocab_size": sizes, "d_model": sizes, "encoder_layers": sizes, "encoder_attention_heads": sizes,
        "encoder_ffn_dim": sizes, "decoder_layers": sizes, "decoder_attention_heads": sizes,
        "decoder_ffn_dim": sizes, "num_mel_bins": sizes, "max_source_positions": sizes,
        "max_target_positions": sizes, "activation_function": acts, "tie_word_embeddings": st.booleans(),
        "scale_embedding": st.just(False), "is_encoder_decoder": st.just(True),
    },
}  # fmt: skip


def arguments_of(model_type: str, config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the class, by settings that are all known."""
    family, source = known_families()[model_type], Settings(config)
    arguments = family.from_config(source)
    assert source.check(family.ignored) == []
    return arguments


def config_of(model_type: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The way back, by the fields alone: to make a model for each would take a minute."""
    return known_families()[model_type].to_config(SimpleNamespace(**arguments))


@pytest.mark.no_runtime_types  # fields stand for a model
@pytest.mark.parametrize("model_type", kinds)
@given(data=st.data())
def test_settings_lead_to_a_model_and_back(model_type: str, data: st.DataObject):
    """A model says all that its settings have said."""
    config = data.draw(st.fixed_dictionaries(kinds[model_type]))
    found = config_of(model_type, arguments_of(model_type, config))
    assert {key: found[key] for key in config} == config


@pytest.mark.no_runtime_types  # fields stand for a model
@pytest.mark.parametrize(
    "said",
    [
        {"feed_forward_proj": "relu", "is_gated_act": False, "dense_act_fn": "relu"},
        {"feed_forward_proj": "gelu", "is_gated_act": False, "dense_act_fn": "gelu"},
        # The approximation, in spite of its name.
        {"feed_forward_proj": "gated-gelu", "is_gated_act": True, "dense_act_fn": "gelu_new"},
        {"feed_forward_proj": "gated-gelu_python", "is_gated_act": True, "dense_act_fn": "gelu"},
        {"feed_forward_proj": "gated-silu", "is_gated_act": True, "dense_act_fn": "silu"},
        {"tie_word_embeddings": True, "scale_decoder_outputs": True},
        {"tie_word_embeddings": False, "scale_decoder_outputs": False},
        {"tie_word_embeddings": False, "scale_decoder_outputs": True},
    ],
)
def test_perceptrons_and_heads_of_t5_lead_back(said: dict[str, Any]):
    """Each kind has a name of its own."""
    sizes = {"vocab_size": 64, "d_model": 16, "num_layers": 2, "num_heads": 4}
    found = config_of("t5", arguments_of("t5", {**sizes, **said}))
    assert {key: found[key] for key in said} == said


@pytest.mark.parametrize(
    ("said", "is_tied", "scales_outputs"),
    [
        ({}, True, True),
        ({"tie_word_embeddings": False}, False, False),
        # What version 5 of transformers writes of version 1.1 of T5, which has a head of its own.
        ({"tie_word_embeddings": True, "scale_decoder_outputs": False}, False, False),
    ],
)
def test_both_ways_to_say_that_t5_has_a_head_are_read(said: dict[str, Any], is_tied: bool, scales_outputs: bool):
    """The key that says so is another one in each version."""
    sizes = {"vocab_size": 64, "d_model": 16, "num_layers": 2, "num_heads": 4}
    arguments = arguments_of("t5", {**sizes, **said})
    assert (arguments["is_tied"], arguments["scales_outputs"]) == (is_tied, scales_outputs)


@pytest.mark.no_runtime_types  # fields stand for a model
def test_labels_of_images_are_kept():
    """By their numbers, in whatever order; without any, there are two."""
    labels = {"1": "dog", "0": "cat"}
    assert arguments_of("vit", {**VIT, "id2label": labels})["labels"] == ("cat", "dog")
    assert arguments_of("vit", VIT)["labels"] == ("LABEL_0", "LABEL_1")
    config = config_of("vit", arguments_of("vit", {**VIT, "id2label": labels}))
    assert (config["id2label"], config["label2id"]) == (labels, {"cat": 0, "dog": 1})
    assert config["architectures"] == ["ViTForImageClassification"]


VIT: Final = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}

# As they are published, but for the numbers of tokens and labels, and what is said of tasks.
PUBLISHED: Final[dict[str, dict[str, Any]]] = {
    "gpt2": {
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
        "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12,
        "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "vocab_size": 50257,
    },
    "bert": {
        "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": False,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02,
        "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
        "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0, "position_embedding_type": "absolute",
        "directionality": "bidi", "pooler_fc_size": 768, "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3, "pooler_size_per_head": 128, "pooler_type": "first_token_transform",
        "transformers_version": "4.6.0.dev0", "type_vocab_size": 2, "use_cache": True, "vocab_size": 30522,
    },
    "vit": {
        "_name_or_path": "google/vit-base-patch16-224-in21k", "architectures": ["ViTForImageClassification"],
        "attention_probs_dropout_prob": 0.0, "encoder_stride": 16, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
        "hidden_size": 768, "id2label": {"0": "tench, Tinca tinca"}, "image_size": 224, "initializer_range": 0.02,
        "intermediate_size": 3072, "label2id": {"tench, Tinca tinca": 0}, "layer_norm_eps": 1e-12,
        "model_type": "vit", "num_attention_heads": 12, "num_channels": 3, "num_hidden_layers": 12,
        "patch_size": 16, "qkv_bias": True, "transformers_version": "4.13.0.dev0",
    },
    "t5": {
        "architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64, "d_model": 768,
        "decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
        "initializer_factor": 1.0, "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5",
        "n_positions": 512, "num_decoder_layers": 12, "num_heads": 12, "num_layers": 12, "output_past": True,
        "pad_token_id": 0, "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32,
        "task_specific_params": {}, "tie_word_embeddings": False, "transformers_version": "4.23.1",
        "use_cache": True, "vocab_size": 32128,
    },
    "whisper": {
        "_name_or_path": "openai/whisper-tiny", "activation_dropout": 0.0, "activation_function": "gelu",
        "architectures": ["WhisperForConditionalGeneration"], "attention_dropout": 0.0,
        "begin_suppress_tokens": [220, 50257], "bos_token_id": 50257, "d_model": 384, "decoder_attention_heads": 6,
        "decoder_ffn_dim": 1536, "decoder_layerdrop": 0.0, "decoder_layers": 4, "decoder_start_token_id": 50258,
        "dropout": 0.0, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536, "encoder_layerdrop": 0.0,
        "encoder_layers": 4, "eos_token_id": 50257, "forced_decoder_ids": [[1, 50259], [2, 50359], [3, 50363]],
        "init_std": 0.02, "is_encoder_decoder": True, "max_length": 448, "max_source_positions": 1500,
        "max_target_positions": 448, "model_type": "whisper", "num_hidden_layers": 4, "num_mel_bins": 80,
        "pad_token_id": 50257, "scale_embedding": False, "suppress_tokens": [], "torch_dtype": "float32",
        "transformers_version": "4.27.0.dev0", "use_cache": True, "vocab_size": 51865,
    },
}  # fmt: skip
MILLIONS: Final = {"gpt2": 124, "bert": 110, "vit": 86, "t5": 248, "whisper": 38}


@pytest.mark.parametrize("model_type", PUBLISHED)
def test_settings_of_published_models_are_known(model_type: str):
    """And the models have as many parameters as is said of them."""
    arguments = arguments_of(model_type, PUBLISHED[model_type])
    model = gn.eval_shape(lambda: known_families()[model_type].cls(**arguments))
    count = sum(state.value.size for state in gn.states(model, gn.ParamState).values())
    assert round(count / 1e6) == MILLIONS[model_type]


# What is refused


def faults_of(model_type: str, **settings: Any) -> list[str]:
    """What is wrong with settings."""
    source = Settings(settings)
    known_families()[model_type].from_config(source)
    return list(map(str, source.faults))


def test_what_the_models_cannot_do_is_refused():
    """By the key."""
    only = "as the model has nothing else; found"
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
    others = {"architectures": ["BertForSequenceClassification"], "position_embedding_type": "relative_key"}
    assert faults_of("bert", **sizes, **others, is_decoder=True) == [
        f"config.json: position_embedding_type: expected 'absolute' or null, {only} 'relative_key'",
        f"config.json: is_decoder: expected false or null, {only} true",
        "config.json: architectures: expected BertForMaskedLM or BertModel, as the family has no other heads; found "
        "BertForSequenceClassification",
    ]
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 64}
    assert faults_of("gpt2", **sizes, add_cross_attention=True) == [
        f"config.json: add_cross_attention: expected false or null, {only} true"
    ]
    assert faults_of("vit", **VIT, patch_size=[4], id2label={"1": "dog"}) == [
        "config.json: patch_size: expected a positive integer or two; found list",
        "config.json: id2label: expected an object with the keys 0, 1 and so on; found dict",
    ]
    sizes = {"d_model": 16, "num_layers": 2, "num_heads": 4, "vocab_size": 64}
    names = ", ".join(gn.config.HUGGING_FACE)
    assert faults_of("t5", **sizes, feed_forward_proj="gated-gelo") == [
        f"config.json: feed_forward_proj: expected one of {names}, or gated- and one of these; found 'gated-gelo'; "
        "did you mean 'gated-gelu'?"
    ]


def test_a_head_of_t5_that_all_versions_would_read_otherwise_is_not_saved(tmp_path: Path):
    """Tied, but not scaled."""
    model = gn.eval_shape(lambda: T5(5, 4, 1, 1, head_size=2, scales_outputs=False))
    with pytest.raises(gn.CheckpointError) as caught:
        gn.families.save(model, tmp_path / "new")
    assert str(caught.value) == (
        f"cannot save to {tmp_path / 'new'}: 2 faults:\n"
        "  is_tied: expected False, as its settings make it; found True\n"
        "  head: expected Linear, as its settings make it; found nothing"
    )


def test_more_tokens_than_positions_are_refused():
    """They would be NaN."""
    tokens = jnp.zeros((1, 5), jnp.int32)
    end = "expected at most 4, as there are no more positions; found 5"
    gpt2 = gn.eval_shape(lambda: GPT2(5, 4, 1, 1, num_positions=4))
    bert = gn.eval_shape(lambda: Bert(5, 4, 1, 1, num_positions=4))
    whisper = gn.eval_shape(lambda: Whisper(5, 4, 1, 1, num_positions=4, num_source_positions=4))
    for model in (gpt2, bert, whisper):
        with pytest.raises(gn.ContractError) as caught:
            model(tokens)
        assert str(caught.value) == f"{type(model).__name__}.positions (Embedding): tokens: {end}"
    for decoder in (gpt2, whisper):
        with pytest.raises(gn.ContractError) as caught:
            decoder.init_cache(1, 5)
        assert str(caught.value) == f"{type(decoder).__name__}.positions (Embedding): length: {end}"
    with pytest.raises(gn.ContractError) as caught:
        gn.eval_shape(lambda model: model.encode(jnp.zeros((1, 10, 80))), whisper)
    assert str(caught.value) == f"Whisper.source_positions (Embedding): half of the frames: {end}"


def test_images_of_another_size_and_missing_summaries_are_refused():
    """By what would do."""
    model = gn.eval_shape(lambda: ViT((4, 6), (2, 2), 4, 1, 1))
    with pytest.raises(gn.ContractError) as caught:
        model(jnp.zeros((1, 6, 4, 3)))
    assert str(caught.value) == "ViT: images: expected (4, 6) rows and columns; found (6, 4)"
    with pytest.raises(gn.ContractError) as caught:
        model.pooled(jnp.zeros((1, 7, 4)))
    assert str(caught.value) == "ViT.pooled: expected a pooled_size; found None"
    with pytest.raises(gn.ContractError) as caught:
        gn.eval_shape(lambda: Bert(5, 4, 1, 1)).pooled(jnp.zeros((1, 7, 4)))
    assert str(caught.value) == "Bert.pooled: expected has_pooler=True; found False"


# Caches of texts that have places of their own


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "t5", "whisper"])
def test_texts_of_several_lengths_are_continued_at_their_own_places(name: str, scan: bool, tmp_path: Path):
    """With ragged caches, each text is read on as if it were alone."""
    reference = kept(name)
    model: Any = gn.families.load(reference.write(tmp_path / name), scan=scan)
    inputs = {key: jnp.asarray(array) for key, array in reference.inputs.items() if key != "lengths"}
    tokens = inputs.pop("tokens")
    expected = gn.jit(model)(tokens, **inputs)
    model.init_cache(3, 6, ragged=True)
    if isinstance(model, T5):
        model.init_context_cache(3, inputs["source"].shape[1])
    gn.jit(model)(tokens[:, :3], lengths=jnp.array([3, 1, 2]), **inputs)
    further = jnp.stack([tokens[0, 3:5], tokens[1, 1:3], tokens[2, 2:4]])
    found = gn.jit(model)(further, lengths=jnp.array([2, 2, 2]))
    for text, start in enumerate((3, 1, 2)):
        assert jnp.allclose(found[text], expected[text, start : start + 2], atol=1e-5)
