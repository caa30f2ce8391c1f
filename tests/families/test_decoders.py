"""GPT-2, LLaMA, Qwen 3 and Gemma give what `transformers` gives, and their directories go both ways."""

from pathlib import Path
from typing import Any, Final

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
    logits_of,
    part_of,
    reference_in,
    written_by,
)

FAMILIES: Final[dict[str, type[gn.nn.Module]]] = {
    "gpt2": gn.families.GPT2,
    "gpt2_untied": gn.families.GPT2,
    "llama": gn.families.Llama,
    "llama_tied": gn.families.Llama,
    "qwen3": gn.families.Qwen3,
    "qwen3_window": gn.families.Qwen3,
    "gemma2": gn.families.Gemma2,
    "gemma2_untied": gn.families.Gemma2,
    "gemma3": gn.families.Gemma3,
}
# The quick tests compare one of each kind.
VARIANTS: Final = ("gpt2_untied", "llama_tied", "qwen3", "qwen3_window", "gemma2_untied", "gemma3")


def loaded(reference: Reference, tmp_path: Path, **options: Any) -> Any:
    """The model of a reference, by way of its directory."""
    directory = reference.write(tmp_path / reference.name)
    return gn.families.load(directory, FAMILIES[reference.name], **options)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in VARIANTS else name for name in FAMILIES]
)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path):
    """Of texts with padding."""
    reference = kept(name)
    logits = logits_of(loaded(reference, tmp_path), reference.inputs)
    assert_close(logits, {"logits": reference.outputs["logits"]})


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_written_texts_are_those_of_transformers(name: str, tmp_path: Path):
    """Each token is read once, by caches."""
    reference = kept(name)
    written = written_by(loaded(reference, tmp_path), reference.inputs)
    assert_close(written, {"written": reference.outputs["written"]})


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_saved_is_what_was_loaded(name: str, tmp_path: Path):
    """The same names, arrays to the bit, and settings."""
    reference = kept(name)
    model = loaded(reference, tmp_path)
    gn.families.save(model, tmp_path / "again", config=reference.config)
    assert_same(arrays_in(tmp_path / "again"), reference.arrays())
    assert_settings_are_kept(gn.families.config(tmp_path / "again"), reference.config)
    again = gn.families.load(tmp_path / "again")
    assert gn.graphdef(again) is gn.graphdef(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_live_transformers_agrees_both_ways(name: str, tmp_path: Path):
    """On other weights and texts; and what `save` has written, it reads with the same outputs."""
    ask(name, tmp_path)
    reference = reference_in(tmp_path / f"{name}.npz", seed=1)
    model = loaded(reference, tmp_path / "original")
    found = {**logits_of(model, reference.inputs), **written_by(model, reference.inputs)}
    assert_close(found, reference.outputs)
    gn.families.save(model, tmp_path / "saved", max_shard_bytes=4000)
    (tmp_path / "answers").mkdir()
    ask(name, tmp_path / "answers", "--read", str(tmp_path / "saved"))
    answers = arrays_of_npz(tmp_path / "answers" / f"{name}.npz")
    assert_same(part_of(answers, "outputs"), reference.outputs)
