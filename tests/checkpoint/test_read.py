"""`read` and `write`: arrays of other programs into a model, and a model as they have it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import brainstate
import equinox
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

import graphnode as gn
from graphnode.checkpoint import Cast, Changes, Drop, Fill, Join, Rename, Reshape, Split, Transpose
from graphnode.checkpoint._npz import write_npz
from graphnode.checkpoint._safetensors import open_safetensors
from tests.checkpoint.nets import net, refused, same, tied, values

LINEAR = Changes([Rename("fc.kernel", "weight"), Rename("fc.bias", "bias")])


def bias_of(layer: gn.nn.Linear) -> jax.Array:
    assert layer.bias is not None
    return layer.bias.value


def arrays(dtype: str = "float32") -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "fc.kernel": rng.standard_normal((2, 3)).astype(dtype),
        "fc.bias": rng.standard_normal(3).astype(dtype),
    }


def test_arrays_by_name_are_read():
    """Into the States that are there, or that have shapes alone; and the report says what came from where."""
    source, live = arrays(), gn.nn.Linear(2, 3)
    state = live.weight
    for model in (live, gn.eval_shape(lambda: gn.nn.Linear(2, 3))):
        report = gn.checkpoint.read(source, into=model, changes=LINEAR)
        assert isinstance(model.weight.value, jax.Array)
        np.testing.assert_array_equal(model.weight.value, source["fc.kernel"])
        np.testing.assert_array_equal(bias_of(model), source["fc.bias"])
        assert report == gn.checkpoint.Report(
            used={"bias": ("fc.bias",), "weight": ("fc.kernel",)}, changed={"bias": "rename", "weight": "rename"}
        )
    assert live.weight is state
    # The source stays its own.
    source["fc.kernel"][:] = 0
    assert bool(jnp.any(live.weight.value != 0))


def test_all_faults_are_told_at_once_and_nothing_is_read():
    """Names that nothing uses, States that nothing is for, shapes and dtypes with the change that would do."""

    class Unreadable:
        shape, dtype = (3, 2), np.dtype(np.float32)

        def read(self) -> Any:
            raise AssertionError("it is not to be read")

    source = {
        "w": Unreadable(),
        "enc.bias": np.zeros(3, np.float16),
        "dec/kernel": np.zeros((3, 1, 2), np.float32),
        "mask": np.zeros(2, np.int32),
    }
    model = net()
    before = values(model)
    with refused(
        "cannot read the arrays: 6 faults:",
        "  Drop('masks'): there is nothing at 'masks'; did you mean 'mask'?",
        "  dec.bias: nothing is for it (ParamState float32[3] in the tree)",
        "  dec.weight: the model has float32[2,3], the source float32[3,1,2], from dec/kernel; "
        "Reshape('dec.weight', [2, 3]) would fit",
        "  enc.bias: the model has float32[3], the source float16[3]; Cast('enc.bias', 'float32') converts it",
        "  enc.weight: the model has float32[2,3], the source float32[3,2], from w; Transpose('enc.weight') would fit",
        "  mask: nothing uses it (int32[2])",
    ):
        changes = [Rename("w", "enc.weight"), Rename("*/kernel", "*.weight"), Drop("masks")]
        gn.checkpoint.read(source, into=model, changes=changes)
    assert all(old is new for old, new in zip(before, values(model), strict=True))


def test_what_may_lack_and_what_may_be_beyond_is_named():
    """By a filter of the model, and names or globs of the source; or as changes."""
    source, model = {**arrays(), "head/step": np.int32(3)}, gn.nn.Linear(2, 3)
    del source["fc.bias"]
    kernel, bias = LINEAR[0], bias_of(model)
    report = gn.checkpoint.read(
        source, into=model, changes=[kernel], allow_missing=gn.PathIn("bias"), allow_unused="head/*"
    )
    assert (report.filled, report.unused) == (("bias",), ("head/step",))
    assert report == gn.checkpoint.read(source, into=model, changes=[kernel, Fill("bias"), Drop("head/**")])
    assert bias_of(model) is bias
    with refused(
        "cannot read the arrays: bias: has a shape and no value that could stay, for Fill('bias'); "
        "build the model itself"
    ):
        abstract = gn.eval_shape(lambda: gn.nn.Linear(2, 3))
        gn.checkpoint.read(source, into=abstract, changes=[kernel, Fill("bias"), Drop("head/**")])


def test_a_file_of_numpy_is_written_and_read(tmp_path: Path):
    """To the bit, whatever the strides, under other names; and one array after the other."""
    first, second = net(), net()
    changes = Changes([
        Join(["enc.weight", "dec.weight"], "both", axis=1, sizes=[3, 3]),
        Transpose("both"),
        Rename("*.bias", "h/*/b"),
    ])  # fmt: skip
    report = gn.checkpoint.write(first, tmp_path / "net.npz", changes=changes)
    assert str(report) == "\n".join([
        "both     <- enc.weight, dec.weight  join, transpose",
        "h/dec/b  <- dec.bias                rename",
        "h/enc/b  <- enc.bias                rename",
    ])  # fmt: skip
    with np.load(tmp_path / "net.npz") as file:
        assert sorted(file) == ["both", "h/dec/b", "h/enc/b"]
        assert file["both"].shape == (6, 2)
        np.testing.assert_array_equal(file["both"][:3].T, first.enc.weight.value)
    gn.checkpoint.read(tmp_path / "net.npz", into=second, changes=changes.inverse())
    assert same(values(second), values(first))
    with refused("cannot write PATH/net.npz: it exists already; pass overwrite=True to replace it"):
        gn.checkpoint.write(first, tmp_path / "net.npz")
    gn.checkpoint.write(first, tmp_path / "net.npz", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]


def test_a_safetensors_file_is_written_and_read(tmp_path: Path):
    """In bfloat16, transposed, with the further paths of tied weights in its metadata; and a directory of them."""
    first, second = gn.nn.Linear(2, 3, param_dtype=jnp.bfloat16), gn.nn.Linear(2, 3, param_dtype=jnp.bfloat16)
    changes = Changes([Transpose("a.weight")])
    gn.checkpoint.write({"a": first, "b": first}, tmp_path / "x.safetensors", changes=changes)
    for source in (tmp_path / "x.safetensors", tmp_path):
        second.weight.value = jnp.zeros((2, 3), jnp.bfloat16)
        gn.checkpoint.read(source, into={"a": second}, changes=changes.inverse())
        assert same(values(second), values(first))
    with open_safetensors(tmp_path / "x.safetensors") as file:
        assert file["a.weight"].shape == (3, 2)
        assert json.loads(file.metadata["graphnode.aliases"]) == {"b.bias": "a.bias", "b.weight": "a.weight"}


def test_a_directory_of_several_files_is_written_and_read(tmp_path: Path):
    """Each of them has at most so many bytes; an index says which array is where."""
    first, second = net(), net()
    path = tmp_path / "net"
    gn.checkpoint.write(first, path, max_shard_bytes=40)
    assert [part.name for part in sorted(path.iterdir())][-1] == "model.safetensors.index.json"
    for source in (path, path / "model.safetensors.index.json"):
        for state in gn.states(second).values():
            state.value = jnp.zeros_like(state.value)
        gn.checkpoint.read(source, into=second)
        assert same(values(second), values(first))
    with refused("cannot write PATH/a.npz: with max_shard_bytes the path is a directory, and has no suffix"):
        gn.checkpoint.write(first, tmp_path / "a.npz", max_shard_bytes=40)


def test_what_has_no_place_in_a_file_is_refused(tmp_path: Path):
    """Random keys, numbers, dtypes of other libraries, shapes without values, suffixes: with what would do."""
    tree = {"rngs": gn.Rngs(0), "layer": gn.nn.Linear(2, 3, param_dtype=jnp.bfloat16)}
    with refused("cannot write PATH/a.npz: 2 faults:", "..."):
        gn.checkpoint.write(tree, tmp_path / "a.npz", changes=[Drop("rngs.**")])
    with pytest.raises(gn.CheckpointError) as caught:
        gn.checkpoint.write(tree, tmp_path / "a.npz", changes=[Cast("layer.**", "float32"), Fill("x")])
    assert [str(fault) for fault in caught.value.faults] == [
        "rngs.streams.default.key: a file of arrays has no place for key<threefry2x32>[]; "
        "Drop('rngs.streams.default.key') leaves it out",
        "Fill('x'): only a model that is read into can be filled",
    ]
    with refused(
        "cannot write PATH/a.npy: the suffix is one of .npz, .safetensors; max_shard_bytes= writes a directory"
    ):
        gn.checkpoint.write(net(), tmp_path / "a.npy")
    with refused(
        "cannot write PATH/a.npz: 2 faults:",
        "  bias: a shape and dtype without a value; Drop('bias') leaves it out",
        "...",
    ):
        gn.checkpoint.write(gn.eval_shape(lambda: gn.nn.Linear(2, 3)), tmp_path / "a.npz")
    with refused("cannot write PATH/a.npz: x: stands outside of a node"):
        gn.checkpoint.write({"x": jnp.ones(2)}, tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []
    with refused("cannot write PATH/b.npz: x: a file of NumPy has no bfloat16; Cast it, or write another format"):
        write_npz(str(tmp_path / "b.npz"), {"x": SimpleNamespace(dtype=np.dtype(ml_dtypes.bfloat16), shape=())})


def test_a_tied_weight_is_written_once_and_found_again(tmp_path: Path):
    """At the first of its paths; a file that has it at another one is read, and one that has it twice is a fault."""
    first, second = tied(), tied()
    gn.checkpoint.write(first, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as file:
        assert sorted(file) == ["dec.bias", "dec.weight"]
        source = {name.replace("dec", "enc"): file[name] for name in file}
    gn.checkpoint.read(source, into=second)
    assert same(values(second), values(first))
    twice = {**source, **{name.replace("enc", "dec"): array for name, array in source.items()}}
    with refused(
        "cannot read the arrays: 2 faults:",
        "  dec.bias: enc.bias and dec.bias are one State of the tree; leave out one by Drop",
        "...",
    ):
        gn.checkpoint.read(twice, into=second)
    gn.checkpoint.read(twice, into=second, changes=[Drop("dec.*")])


def test_a_checkpoint_of_another_program_is_read(tmp_path: Path):
    """A directory of Orbax, with lists and tuples, of which only what is needed is read."""
    source = arrays()
    tree: Any = {
        "params": {"layers": [{"kernel": jnp.ones(2)}, {"kernel": jnp.asarray(source["fc.kernel"])}]},
        "b": (jnp.zeros(2), source["fc.bias"]),
        "n": 3,
    }
    ocp: Any = pytest.importorskip("orbax.checkpoint").v1
    ocp.save(str(tmp_path / "other"), tree)
    layer = gn.nn.Linear(2, 3)
    changes = [Rename("params.layers.1.kernel", "weight"), Rename("b.1", "bias"), Drop("**.0.**"), Drop("n")]
    gn.checkpoint.read(tmp_path / "other", into=layer, changes=changes)
    np.testing.assert_array_equal(layer.weight.value, source["fc.kernel"])
    np.testing.assert_array_equal(bias_of(layer), source["fc.bias"])


def test_a_checkpoint_of_graphnode_is_read(tmp_path: Path):
    """The model of a run, without what trained it."""
    first, layer = net(), gn.nn.Linear(2, 3)
    gn.checkpoint.save(tmp_path / "run", {"model": first, "step": 3, "rngs": gn.Rngs(0)})
    report = gn.checkpoint.read(
        tmp_path / "run",
        into=layer,
        changes=[Rename("model.enc.*", "*")],
        allow_unused=["model.dec.*", "step", "rngs.**"],
    )
    assert same(values(layer), values(first.enc))
    assert "step" in report.unused


def test_a_module_of_flax_is_read():
    """By the paths of its variables."""
    module: Any = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear(2, 3, rngs=nnx.Rngs(1)))
    model = net()
    changes = [Rename("layers.0.*", "enc.*"), Rename("layers.1.*", "dec.*"), Rename("*.kernel", "*.weight")]
    gn.checkpoint.read(module, into=model, changes=changes)
    np.testing.assert_array_equal(model.dec.weight.value, module.layers[1].kernel[...])


def test_a_module_of_equinox_is_read():
    """By the paths of its arrays; its matrices are transposed ones."""
    module = equinox.nn.MLP(2, 2, 3, 1, key=jax.random.key(0))
    model = gn.nn.MLP(2, 3, 2)
    gn.checkpoint.read(module, into=model, changes=[Transpose("**.weight")])
    x = jnp.asarray([0.5, -1.0])
    np.testing.assert_allclose(
        jax.nn.relu(model.layers[0](x)) @ model.layers[1].weight.value + bias_of(model.layers[1]),
        module(x),
        rtol=1e-5,
    )


def test_a_module_of_brainstate_is_read():
    """By the paths of its States, and those within their values."""
    module = brainstate.nn.Linear(2, 3)
    layer = gn.nn.Linear(2, 3)
    gn.checkpoint.read(module, into=layer, changes=[Rename("weight.*", "*")])
    np.testing.assert_array_equal(layer.weight.value, module.weight.value["weight"])


class Tensor:
    """What is read of a tensor of PyTorch, which is not installed here."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.dtype = f"torch.{array.dtype}"

    def numpy(self, *, force: bool) -> Any:
        assert force
        if self._array.dtype == object:
            raise TypeError("can't convert Sparse layout tensor to numpy.\nUse Tensor.to_dense() first.")
        return self._array


Tensor.__module__ = "torch"


class Module:
    """A module of PyTorch with a tied weight."""

    def state_dict(self, *, keep_vars: bool = False) -> dict[str, Any]:
        weight = Tensor(arrays()["fc.kernel"].T)
        bias = Tensor(arrays()["fc.bias"])
        return {
            "fc.weight": weight,
            "fc.bias": bias,
            "tied.weight": weight if keep_vars else Tensor(weight.numpy(force=True)),
        }


Module.__module__ = "torch.nn.modules.module"


def test_a_tensor_that_is_no_array_is_a_fault():
    """PyTorch says what would do, and the name stands before it."""
    source = {"weight": Tensor(np.zeros((), object)), "bias": Tensor(np.zeros(3, np.float32))}
    with refused(
        "cannot read the arrays: weight: no array of NumPy: "
        "can't convert Sparse layout tensor to numpy. Use Tensor.to_dense() first."
    ):
        gn.checkpoint.read(source, into=gn.nn.Linear(2, 3))


def test_bytes_may_be_in_another_order(tmp_path: Path):
    """Files of other machines have the highest first, which JAX takes from nobody."""
    swapped = {name: array.astype(">f4") for name, array in arrays().items()}
    np.savez(tmp_path / "a.npz", **swapped)
    for source in (swapped, tmp_path / "a.npz"):
        layer = gn.nn.Linear(2, 3)
        gn.checkpoint.read(source, into=layer, changes=LINEAR)
        np.testing.assert_array_equal(layer.weight.value, arrays()["fc.kernel"])


def test_arrays_may_be_counted():
    """A key that is a number is a position."""
    layer = gn.nn.Linear(2, 3)
    source = dict(enumerate(arrays().values()))
    gn.checkpoint.read(source, into=layer, changes=[Rename("0", "weight"), Rename("1", "bias")])
    np.testing.assert_array_equal(layer.weight.value, source[0])


def test_a_module_of_pytorch_is_read():
    """As `state_dict` has it, each tied tensor once; and the tensors by name."""
    changes = [Transpose("fc.weight"), Rename("fc.*", "*")]
    for source, further in ((Module(), []), (Module().state_dict(), [Drop("tied.*")])):
        layer = gn.nn.Linear(2, 3)
        gn.checkpoint.read(source, into=layer, changes=[*changes, *further])
        np.testing.assert_array_equal(layer.weight.value, arrays()["fc.kernel"])
    # By the other name of the tied one.
    layer = gn.nn.Linear(2, 3)
    gn.checkpoint.read(
        Module(), into=layer, changes=[Rename("tied.weight", "weight"), Transpose("weight"), Rename("fc.bias", "bias")]
    )
    np.testing.assert_array_equal(layer.weight.value, arrays()["fc.kernel"])


def test_what_is_no_source_is_refused(tmp_path: Path):
    """Each with what was expected, or what is wrong."""
    layer = gn.nn.Linear(2, 3)
    (tmp_path / "a.npz").write_bytes(b"x")
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object), y=np.ones(2))
    with refused("cannot read int: expected a path, arrays by name, or a live module; found int 3"):
        gn.checkpoint.read(3, into=layer)
    with refused("cannot read PATH/a.npz: not a file of NumPy: File is not a zip file"):
        gn.checkpoint.read(tmp_path / "a.npz", into=layer)
    with refused(
        "cannot read PATH/a.bin: it is a file of none of the formats .npz, .safetensors, .safetensors.index.json; "
        "let the library that wrote it read the arrays, and pass them by name"
    ):
        gn.checkpoint.read(tmp_path / "a.bin", into=layer)
    with refused("cannot read PATH/none: not a checkpoint: it does not exist"):
        gn.checkpoint.read(tmp_path / "none", into=layer)
    with refused("cannot read PATH/empty: not a checkpoint: ..."):
        gn.checkpoint.read(tmp_path / "empty", into=layer)
    with refused("cannot read PATH/objects.npz: x: a checkpoint holds arrays and numbers; found ..."):
        gn.checkpoint.read(tmp_path / "objects.npz", into=layer)
    with refused("cannot read the arrays: x: stands outside of a node"):
        gn.checkpoint.read({}, into={"x": jnp.ones(2)})


def test_shapes_of_heads_and_parts():
    """A table of another library: joined heads, a split matrix, dtypes."""
    rng = np.random.default_rng(0)
    source = {
        "attn/qkv/kernel": rng.standard_normal((8, 24)).astype(np.float16),
        "attn/qkv/bias": rng.standard_normal(24).astype(np.float16),
        "attn/out/kernel": rng.standard_normal((2, 4, 8)).astype(np.float16),
        "attn/out/bias": rng.standard_normal(8).astype(np.float16),
    }
    names = ("query", "key", "value")
    changes = Changes([
        Rename("attn/*/kernel", "*.weight"),
        Rename("attn/*/bias", "*.bias"),
        Split("qkv.*", [f"{name}.*" for name in names], axis=-1),
        Reshape("out.weight", [8, 8], before=[2, 4, 8]),
        Cast("**", "float32", before="float16"),
    ])  # fmt: skip
    layer = gn.nn.MultiHeadAttention(8, 2)
    gn.checkpoint.read(source, into=layer, changes=changes)
    np.testing.assert_array_equal(layer.key.weight.value, source["attn/qkv/kernel"][:, 8:16].astype(np.float32))
    np.testing.assert_array_equal(layer.out.weight.value, source["attn/out/kernel"].reshape(8, 8).astype(np.float32))
