"""Run models of `transformers` with small random weights, and keep what they give.

    python -m venv build/families
    build/families/bin/pip install -r requirements-families.txt
    build/families/bin/python -m tests.families.make_references

Each file in `references` has the settings of a model, the names and shapes of its arrays, inputs and outputs; with
arguments, only those of these cases are written. The arrays are not kept: the tests make the same ones. Nothing here
imports graphnode, and the tests need neither `torch` nor `transformers`: the slow ones run this program, where the
environment variable `GRAPHNODE_TRANSFORMERS` has the path of such a Python.
"""

import argparse
import importlib
import json
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Arrays: TypeAlias = dict[str, Array]
# NumPy promises that its numbers stay, as it does of no other generator.
Random: TypeAlias = np.random.RandomState

REFERENCES: Final = Path(__file__).parent / "references"


class Case(NamedTuple):
    """A small model of `transformers`."""

    config: str
    """The class of its settings."""
    model: str
    """Its class."""
    # Any: as the class takes them.
    settings: Mapping[str, Any]
    """What its settings have beside their defaults."""
    inputs: Callable[[Random], Arrays]
    """Draws what it is run on."""
    # Any: a model of `transformers`, which no type checker knows here.
    run: Callable[[Any, Arrays], Arrays]
    """Runs it."""
    untied: Mapping[str, tuple[int, ...]] = {}
    """The shapes of arrays that its files have beside those of a new model, in which they are tied."""


def weight(name: str, shape: tuple[int, ...], seed: int = 0) -> Array:
    """The array of a model with this name: of size 1, or around 1 for the scale of a norm."""
    rng = Random(zlib.crc32(f"{seed} {name}".encode()))
    array = rng.standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        return array / np.float32(np.sqrt(np.prod(shape[1:])))
    return np.float32(0.1) * array + np.float32("norm" in name.lower() and "weight" in name)


# Decoders: logits of texts with padding, and how they go on.


def texts(rng: Random) -> Arrays:
    """Three texts of up to seven tokens."""
    return {"tokens": rng.randint(1, 64, (3, 7)), "lengths": np.array([7, 4, 6])}


def decoded(model: Any, inputs: Arrays) -> Arrays:
    """Logits, zero behind the ends of texts, and the eight tokens that follow on the texts, by caches."""
    torch = importlib.import_module("torch")
    tokens = torch.from_numpy(inputs["tokens"])
    mask = np.arange(tokens.shape[1]) < inputs["lengths"][:, np.newaxis]
    logits = model(tokens, attention_mask=torch.from_numpy(mask.astype(np.int64))).logits
    options = {"max_new_tokens": 8, "do_sample": False, "use_cache": True, "eos_token_id": None, "pad_token_id": 0}
    # What goes on is written behind padding there.
    rows = [np.roll(row, -length) for row, length in zip(inputs["tokens"], inputs["lengths"], strict=True)]
    is_there = torch.from_numpy(np.ascontiguousarray(mask[:, ::-1]).astype(np.int64))
    written = model.generate(torch.from_numpy(np.stack(rows)), attention_mask=is_there, **options)
    return {"logits": logits.numpy() * mask[..., np.newaxis], "written": written[:, tokens.shape[1] :].numpy()}


# Encoders: BERT of texts, ViT of images.


def sentences(rng: Random) -> Arrays:
    """Texts, with the kinds of their tokens."""
    return {**texts(rng), "types": rng.randint(0, 2, (3, 7))}


def encoded(model: Any, inputs: Arrays) -> Arrays:
    """Logits of the tokens, or what is encoded, zero behind the ends of texts; and a summary, if there is one."""
    torch = importlib.import_module("torch")
    tokens, types = (torch.from_numpy(inputs[name]) for name in ("tokens", "types"))
    mask = np.arange(tokens.shape[1]) < inputs["lengths"][:, np.newaxis]
    outputs = model(tokens, attention_mask=torch.from_numpy(mask.astype(np.int64)), token_type_ids=types)
    arrays = {"logits": outputs[0].numpy() * mask[..., np.newaxis]}
    return arrays if len(outputs) == 1 else {**arrays, "pooled": outputs[1].numpy()}


def images(rng: Random) -> Arrays:
    """Two images of 12 rows and 8 columns."""
    return {"images": rng.standard_normal((2, 12, 8, 3)).astype(np.float32)}


def seen(model: Any, inputs: Arrays) -> Arrays:
    """Logits of labels; or the vector of each image, and a summary."""
    torch = importlib.import_module("torch")
    outputs = model(torch.from_numpy(inputs["images"].transpose(0, 3, 1, 2).copy()))
    if len(outputs) == 1:
        return {"logits": outputs[0].numpy()}
    return {"logits": outputs[0][:, 0].numpy(), "pooled": outputs[1].numpy()}


# Encoder-decoders: T5 of texts, Whisper of sounds.


def pairs_of_texts(rng: Random) -> Arrays:
    """Texts, and sources that are longer than the distances that are told apart."""
    source = rng.randint(1, 64, (3, 17))
    return {**texts(rng), "source": source, "source_lengths": np.array([17, 9, 12])}


def texts_and_sounds(rng: Random) -> Arrays:
    """Texts, and features of sounds."""
    return {**texts(rng), "sound": rng.standard_normal((3, 20, 4)).astype(np.float32)}


def translated(model: Any, inputs: Arrays) -> Arrays:
    """As `decoded`, beside a source; what is written begins with the first token of each text."""
    torch = importlib.import_module("torch")
    tokens = torch.from_numpy(inputs["tokens"])
    mask = np.arange(tokens.shape[1]) < inputs["lengths"][:, np.newaxis]
    if "sound" in inputs:
        source = {"input_features": torch.from_numpy(inputs["sound"].transpose(0, 2, 1).copy())}
    else:
        is_there = np.arange(inputs["source"].shape[1]) < inputs["source_lengths"][:, np.newaxis]
        source = {
            "input_ids": torch.from_numpy(inputs["source"]),
            "attention_mask": torch.from_numpy(is_there.astype(np.int64)),
        }
    logits = model(**source, decoder_input_ids=tokens).logits.numpy() * mask[..., np.newaxis]
    # By hand: `generate` of Whisper does more than that.
    cache, last = None, tokens[:, :1]
    columns: list[Array] = []
    while len(columns) < 8:
        outputs = model(**source, decoder_input_ids=last, cache=cache, use_cache=True)
        cache, last = outputs.cache, outputs.logits[:, -1:].argmax(-1)
        columns.append(last.numpy())
    return {"logits": logits, "written": np.concatenate(columns, 1)}


DECODER: Final = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA3_ROPE: Final = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip

ENCODER: Final = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
}  # fmt: skip
BERT: Final = {**ENCODER, "vocab_size": 64, "max_position_embeddings": 9}
VIT: Final = {**ENCODER, "image_size": [12, 8], "patch_size": 4}
SPECIAL_TOKENS: Final = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
T5: Final = {
    "vocab_size": 64, "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12,
}  # fmt: skip
GPT_2: Final = {
    "vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 20, **SPECIAL_TOKENS,
}  # fmt: skip
WHISPER: Final = {
    "vocab_size": 64, "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 24,
    "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 20, "num_mel_bins": 4,
    "max_source_positions": 10, "max_target_positions": 12, "decoder_start_token_id": 1, **SPECIAL_TOKENS,
}  # fmt: skip

# fmt: off
CASES: Final[dict[str, Case]] = {
    "gpt2": Case("GPT2Config", "GPT2LMHeadModel", GPT_2, texts, decoded),
    "gpt2_untied": Case(
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            **GPT_2,
            "n_inner": 24,
            "activation_function": "relu",
            "scale_attn_by_inverse_layer_idx": True,
            "scale_attn_weights": False,
            "tie_word_embeddings": False,
        },
        texts,
        decoded,
    ),
    "bert": Case("BertConfig", "BertForMaskedLM", BERT, sentences, encoded),
    "bert_bare": Case("BertConfig", "BertModel", BERT, sentences, encoded),
    "vit": Case("ViTConfig", "ViTForImageClassification", {**VIT, "num_labels": 3}, images, seen),
    "vit_bare": Case("ViTConfig", "ViTModel", {**VIT, "qkv_bias": False, "pooler_output_size": 6}, images, seen),
    "t5": Case("T5Config", "T5ForConditionalGeneration", T5, pairs_of_texts, translated),
    "t5_v1_1": Case(
        "T5Config",
        "T5ForConditionalGeneration",
        {**T5, "feed_forward_proj": "gated-gelu", "num_decoder_layers": 1, "tie_word_embeddings": False},
        pairs_of_texts,
        translated,
        {"lm_head.weight": (64, 16)},
    ),
    "whisper": Case("WhisperConfig", "WhisperForConditionalGeneration", WHISPER, texts_and_sounds, translated),
    # A factor that counts already in texts that are as short as these.
    "llama": Case(
        "LlamaConfig",
        "LlamaForCausalLM",
        {**DECODER, "rope_parameters": {**LLAMA3_ROPE, "rope_theta": 100.0}, "rms_norm_eps": 1e-5},
        texts,
        decoded,
    ),
    "llama_tied": Case(
        "LlamaConfig",
        "LlamaForCausalLM",
        {**DECODER, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 6},
        texts,
        decoded,
    ),
    "qwen3": Case(
        "Qwen3Config",
        "Qwen3ForCausalLM",
        {**DECODER, "head_dim": 6, "rope_theta": 1000.0},
        texts,
        decoded,
    ),
    # A window that is shorter than the texts, in the second layer.
    "qwen3_window": Case(
        "Qwen3Config",
        "Qwen3ForCausalLM",
        {
            **DECODER, "head_dim": 4, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1,
            "tie_word_embeddings": True, "attention_bias": True, "max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 100.0,
            },
        },
        texts,
        decoded,
    ),
    # Caps that count for numbers of size 1.
    "gemma2": Case(
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {
            **DECODER, "head_dim": 6, "query_pre_attn_scalar": 10, "sliding_window": 3, "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
        texts,
        decoded,
    ),
    "gemma2_untied": Case(
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {
            **DECODER, "head_dim": 4, "attn_logit_softcapping": None, "final_logit_softcapping": None,
            "tie_word_embeddings": False, "layer_types": ["full_attention", "full_attention"],
        },
        texts,
        decoded,
    ),
    # A layer of each kind.
    "gemma3": Case(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {
            **DECODER, "head_dim": 6, "query_pre_attn_scalar": 10, "sliding_window": 3, "final_logit_softcapping": 3.0,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            },
        },
        texts,
        decoded,
    ),
}
# fmt: on
"""By the name of the file that keeps what they gave."""


# Any: a model of `transformers`.
def _model_of(case: Case, seed: int) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The model of a case, with the weights of a seed; and the shapes of these, by their names in files."""
    numpy = importlib.import_module("safetensors.numpy")
    transformers = importlib.import_module("transformers")
    cls = getattr(transformers, case.model)
    with tempfile.TemporaryDirectory() as directory:
        # By way of files: some names in these are not those of the modules.
        cls(getattr(transformers, case.config)(**case.settings)).save_pretrained(directory)
        path = Path(directory) / "model.safetensors"
        shapes = {name: array.shape for name, array in numpy.load_file(path).items()} | dict(case.untied)
        arrays = {name: weight(name, shape, seed) for name, shape in shapes.items()}
        numpy.save_file(arrays, path, metadata={"format": "pt"})
        return cls.from_pretrained(directory, attn_implementation="eager").eval(), shapes


def _outputs(case: Case, model: Any, inputs: Arrays) -> Arrays:
    """What a model gives for inputs, with names that say that they are outputs."""
    with importlib.import_module("torch").no_grad():
        return {f"outputs.{name}": array for name, array in case.run(model, inputs).items()}


def reference(name: str, seed: int = 0) -> Arrays:
    """All that is kept of a case."""
    case = CASES[name]
    model, shapes = _model_of(case, seed)
    inputs = case.inputs(Random(seed))
    settings = {"architectures": [case.model], **model.config.to_diff_dict()}
    return {
        "config": np.array(json.dumps(settings, sort_keys=True)),
        "shapes": np.array(json.dumps(shapes, sort_keys=True)),
        **{f"inputs.{name}": array for name, array in inputs.items()},
        **_outputs(case, model, inputs),
    }


def reread(name: str, seed: int, directory: str) -> Arrays:
    """What a model gives that `transformers` reads from a directory; nothing may be missing there, or left over."""
    case = CASES[name]
    transformers = importlib.import_module("transformers")
    cls = getattr(transformers, case.model)
    model, report = cls.from_pretrained(directory, attn_implementation="eager", output_loading_info=True)
    assert not any(report.values()), report
    return _outputs(case, model.eval(), case.inputs(Random(seed)))


def main() -> None:
    """Write the references of some cases, or of all; or what a model in a directory gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--read", metavar="DIRECTORY", help="a model to read")
    parser.add_argument("--to", metavar="DIRECTORY", type=Path, default=REFERENCES)
    arguments = parser.parse_args()
    for name in arguments.names or CASES:
        if arguments.read is None:
            arrays = reference(name, arguments.seed)
        else:
            arrays = reread(name, arguments.seed, arguments.read)
        path = arguments.to / f"{name}.npz"
        np.savez_compressed(path, allow_pickle=False, **arrays)
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
