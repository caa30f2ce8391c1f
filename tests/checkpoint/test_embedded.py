"""Files of safetensors that say what model they are of: loaded without a live one."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import graphnode as gn
from graphnode.checkpoint import Changes, Rename, Transpose
from graphnode.checkpoint._safetensors import open_safetensors
from graphnode.checkpoint._safetensors_write import write_safetensors
from tests.checkpoint.nets import Net, net, refused, same, tied, values

CHANGES = Changes([Transpose("model.dec.weight"), Rename("model.dec.*", "decoder.*")])


def rewritten(path: Path, arrays: dict[str, Any], **metadata: str) -> None:
    """Write the file again, with other arrays and metadata."""
    with open_safetensors(path) as file:
        whole = {name: array.read() for name, array in file.items()} | arrays
        texts = {**file.metadata, **metadata}
    kept = {name: array for name, array in whole.items() if array is not None}
    write_safetensors(path, kept, metadata=texts, overwrite=True)


def test_a_model_is_loaded_from_files_alone(tmp_path: Path):
    """One file or several: no constructor runs, what is tied is tied, static values are those that were written."""
    model = tied()
    model.rate = 0.5
    for path, size in ((tmp_path / "net.safetensors", None), (tmp_path / "net", 20)):
        gn.checkpoint.write({"model": model}, path, changes=CHANGES, max_shard_bytes=size)
        constructed = Net.constructed
        loaded = gn.checkpoint.load(path, Net, at="model")
        assert Net.constructed == constructed
        assert same(values(loaded), values(model))
        assert gn.graphdef(loaded) == gn.graphdef(model)
        assert loaded.enc is loaded.dec
        assert gn.checkpoint.manifest(path).structure.paths[-1] == ("model", "dec", "weight")


def test_where_arrays_are_to_be(tmp_path: Path):
    """On the device that is given, and weakly typed where they were."""
    model = net()
    model.enc.weight.value = jnp.full((2, 3), 2.0)
    assert model.enc.weight.value.weak_type
    gn.checkpoint.write(model, tmp_path / "net.safetensors")
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    loaded = gn.checkpoint.load(tmp_path / "net.safetensors", Net, shardings={"dec.**": sharding})
    assert loaded.dec.weight.value.committed
    assert not loaded.enc.weight.value.committed
    assert loaded.enc.weight.value.weak_type


def test_a_file_that_does_not_fit_what_it_says(tmp_path: Path):
    """Arrays that are missing or others, a manifest that is none, none at all: all is told, and no node is made."""
    path = tmp_path / "net.safetensors"
    gn.checkpoint.write({"model": net()}, path, changes=CHANGES)
    rewritten(path, {"decoder.bias": None, "decoder.weight": np.zeros((2, 3), np.float32)})
    with refused(
        "cannot load from PATH/net.safetensors: 2 faults:",
        "  model.dec.bias: missing in the file",
        "  model.dec.weight: the model has float32[2,3], the source float32[3,2], from decoder.weight; "
        "Transpose('model.dec.weight') would fit",
    ):
        gn.checkpoint.load(path, Net, at="model")
    rewritten(path, {}, **{"graphnode.manifest": "{}"})
    with refused(
        "cannot load from PATH/net.safetensors: this version of graphnode reads manifests of format 1; found none"
    ):
        gn.checkpoint.load(path, Net, at="model")
    write_safetensors(path, {"a": np.zeros(2)}, overwrite=True)
    with refused(
        "cannot load from PATH/net.safetensors: the file does not say what model it is of; "
        "gn.checkpoint.read(..., into=model) reads its arrays into one"
    ):
        gn.checkpoint.load(path, Net)
    with refused(
        "cannot load from PATH/net.safetensors: changes= are for what save has written; "
        "read(..., into=model) takes them for a file"
    ):
        gn.checkpoint.load(path, Net, changes=[Transpose("a")])


def test_changes_without_an_inverse_are_written_without_a_manifest(tmp_path: Path):
    """A file that could not be led back does not say that it can."""
    path = tmp_path / "net.safetensors"
    gn.checkpoint.write(net(), path, changes=[gn.checkpoint.Drop("dec.**")])
    with open_safetensors(path) as file:
        assert "graphnode.manifest" not in file.metadata
    gn.checkpoint.write(net(), path, metadata={"made by": "me"}, overwrite=True)
    with open_safetensors(path) as file:
        assert file.metadata["made by"] == "me"
        assert json.loads(file.metadata["graphnode.manifest"])["format"] == 1


def test_a_manifest_that_a_file_cannot_have(tmp_path: Path):
    """A State of no array at all, as somebody may have written: a fault like any other."""
    path = tmp_path / "layer.safetensors"
    gn.checkpoint.write(gn.nn.Linear(2, 3), path)
    with open_safetensors(path) as file:
        manifest = json.loads(file.metadata["graphnode.manifest"])
    manifest["states"][1] = {"path": "weight", "form": {"list": []}, "leaves": []}
    rewritten(path, {}, **{"graphnode.manifest": json.dumps(manifest)})
    with refused("cannot load from PATH/layer.safetensors: weight: the model has , the source float32[2,3]"):
        gn.checkpoint.load(path, gn.nn.Linear)
