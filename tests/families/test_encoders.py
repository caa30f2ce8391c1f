"""BERT, ViT, T5 and Whisper give what `transformers` gives, and their directories go both ways."""

from pathlib import Path
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from tests.families.comparing import (
    Reference,
    arrays_in,
    arrays_of_npz,
    ask,
    assert_close,
    assert_same,
    assert_settings_are_kept,
    kept,
    part_of,
    reference_in,
)
from tests.families.make_references import Arrays

FAMILIES: Final[dict[str, type[gn.nn.Module]]] = {
    "bert": gn.families.Bert,
    "bert_bare": gn.families.Bert,
    "vit": gn.families.ViT,
    "vit_bare": gn.families.ViT,
    "t5": gn.families.T5,
    "t5_v1_1": gn.families.T5,
    "whisper": gn.families.Whisper,
}
WRITERS: Final = ("t5", "t5_v1_1", "whisper")
# One of each family is enough for the quick tests.
VARIANTS: Final = ("bert_bare", "vit_bare", "t5_v1_1")


def loaded(reference: Reference, tmp_path: Path, **options: Any) -> Any:
    """The model of a reference, by way of its directory."""
    directory = reference.write(tmp_path / reference.name)
    return gn.families.load(directory, FAMILIES[reference.name], **options)


def source_of(inputs: Arrays) -> dict[str, Any]:
    """The inputs beside the texts, as arguments of a call."""
    return {name: jnp.asarray(array) for name, array in inputs.items() if name not in ("tokens", "lengths")}


def outputs_of(model: Any, inputs: Arrays) -> Arrays:
    """What the model gives in one pass, as `make_references` keeps it."""
    if isinstance(model, gn.families.ViT):
        encoded = gn.jit(gn.families.ViT.encode)(model, jnp.asarray(inputs["images"]))
        logits = encoded[:, 0] if model.head is None else model.head(encoded[:, 0])
        return with_pooled(model, np.asarray(logits), encoded)
    tokens, lengths = jnp.asarray(inputs["tokens"]), jnp.asarray(inputs["lengths"])
    mask = np.arange(tokens.shape[1]) < inputs["lengths"][:, np.newaxis]
    logits = gn.jit(model)(tokens, lengths=lengths, **source_of(inputs))
    found = np.asarray(logits)
    return with_pooled(model, found * mask[..., np.newaxis].astype(found.dtype), logits)


def with_pooled(model: Any, logits: Any, encoded: Any) -> Arrays:
    """The outputs, with a summary if the model has one."""
    has_pooler = getattr(model, "pooler", None) is not None
    return {"logits": logits, **({"pooled": np.asarray(model.pooled(encoded))} if has_pooler else {})}


def written_by(model: Any, inputs: Arrays) -> Arrays:
    """What a decoder writes beside a source, which is read once."""
    tokens, source = jnp.asarray(inputs["tokens"], jnp.int32)[:, :1], source_of(inputs)
    if isinstance(model, gn.families.T5):
        model = gn.clone(model)
        model.init_context_cache(len(tokens), source["source"].shape[1])
    return {"written": np.asarray(gn.nn.generate(model, tokens, 8, inputs=source).tokens)}


@pytest.mark.parametrize(
    "name", [name if name == "bert" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_outputs_are_those_of_transformers(name: str, tmp_path: Path):
    """Of texts and sources with padding, of images and of sounds."""
    reference = kept(name)
    expected = {key: array for key, array in reference.outputs.items() if key != "written"}
    assert_close(outputs_of(loaded(reference, tmp_path), reference.inputs), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_written_texts_are_those_of_transformers(name: str, tmp_path: Path):
    """The source is read once, and each token is."""
    reference = kept(name)
    found = written_by(loaded(reference, tmp_path), reference.inputs)
    assert_close(found, {"written": reference.outputs["written"]})


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_stacked_blocks_give_the_same(name: str, tmp_path: Path):
    """With `scan=True`, in one pass and by caches, and what is saved is the same."""
    reference = kept(name)
    model = loaded(reference, tmp_path, scan=True)
    found = outputs_of(model, reference.inputs)
    if name in WRITERS:
        found.update(written_by(model, reference.inputs))
    assert_close(found, reference.outputs)
    gn.families.save(model, tmp_path / "again")
    assert_same(arrays_in(tmp_path / "again"), reference.arrays())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in VARIANTS])
def test_half_precision_gives_nearly_the_same(name: str, tmp_path: Path):
    """All is computed in it, whatever the dtype of images and sounds."""
    reference = kept(name)
    found = outputs_of(loaded(reference, tmp_path, dtype=jnp.bfloat16), reference.inputs)["logits"]
    expected = reference.outputs["logits"]
    np.testing.assert_allclose(found.astype(np.float32), expected, rtol=0, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_saved_is_what_was_loaded(name: str, tmp_path: Path):
    """The same names, arrays to the bit, and settings."""
    reference = kept(name)
    model = loaded(reference, tmp_path)
    gn.families.save(model, tmp_path / "again", config=reference.config)
    assert_same(arrays_in(tmp_path / "again"), reference.arrays())
    config = dict(reference.config)
    if name == "t5_v1_1":
        # As published; version 5 of transformers writes true of every T5.
        config["tie_word_embeddings"] = False
    assert_settings_are_kept(gn.families.config(tmp_path / "again"), config)
    again = gn.families.load(tmp_path / "again")
    assert gn.graphdef(again) is gn.graphdef(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_live_transformers_agrees_both_ways(name: str, tmp_path: Path):
    """On other weights and inputs; and what `save` has written, it reads with the same outputs."""
    ask(name, tmp_path)
    reference = reference_in(tmp_path / f"{name}.npz", seed=1)
    model = loaded(reference, tmp_path / "original")
    found = outputs_of(model, reference.inputs)
    if name in WRITERS:
        found.update(written_by(model, reference.inputs))
    assert_close(found, reference.outputs)
    gn.families.save(model, tmp_path / "saved", config=reference.config, max_shard_bytes=4000)
    (tmp_path / "answers").mkdir()
    ask(name, tmp_path / "answers", "--read", str(tmp_path / "saved"))
    answers = arrays_of_npz(tmp_path / "answers" / f"{name}.npz")
    assert_same(part_of(answers, "outputs"), reference.outputs)
