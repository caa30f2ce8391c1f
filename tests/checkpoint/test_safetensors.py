"""Safetensors files: read like those of the package and written like them, in part, from strangers, and onto a mesh."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from graphnode._errors import CheckpointError
from graphnode.checkpoint import _boxes
from graphnode.checkpoint._safetensors import open_safetensors
from graphnode.checkpoint._safetensors_header import DTYPES
from graphnode.checkpoint._safetensors_write import write_safetensors
from tests.devices import run_with_devices


@contextlib.contextmanager
def refused(text: str) -> Generator[None, None, None]:
    """What is said, with PATH for the directory of the test."""
    with pytest.raises(CheckpointError) as caught:
        yield
    assert re.sub(r"/\S*?/test_[^/]*", "PATH", str(caught.value)) == text


def contents(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    with open_safetensors(path) as arrays:
        return {name: array.read() for name, array in arrays.items()}


def same(left: Any, right: Any) -> bool:
    """Whether two arrays have the same dtype, shape and bits."""
    facts = [(array.dtype, array.shape, array.tobytes()) for array in (left, right)]
    return facts[0] == facts[1]


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file with a header of any content."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def some(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """An array of any bits: of a boolean, of 0 and 1."""
    bits = np.random.default_rng(seed).integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    return (bits % 2 if dtype == np.bool_ else bits).view(dtype)[..., 0]


# Round trips


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Any dtype of the format, no item or some, and any strides."""
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    array = some(dtype, shape, draw(st.integers(0, 9)))
    for change in draw(st.lists(st.sampled_from(["transpose", "reverse", "step", "fortran", "broadcast", "swap"]))):
        if change == "transpose":
            array = array.transpose(draw(st.permutations(range(array.ndim))))
        elif change == "reverse":
            array = array[(slice(None, None, -1),) * array.ndim]
        elif change == "step":
            array = array[..., ::2] if array.ndim else array
        elif change == "fortran":
            array = np.asfortranarray(array)
        elif change == "broadcast" and array.ndim < 5:
            array = np.broadcast_to(array, (2, *array.shape))
        elif change == "swap" and array.dtype.newbyteorder() != array.dtype:
            array = array.astype(array.dtype.newbyteorder())
    return array


FILES = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), arrays(), max_size=4)


@hypothesis.given(FILES, st.none() | st.dictionaries(st.sampled_from(["format", "ü\n"]), st.text(max_size=3)))
def test_what_is_written_is_read(tmp_path_factory: Any, tree: dict[str, Any], metadata: dict[str, str] | None):
    """To the bit, whatever the strides and the byte order; and the file is the one that the package writes."""
    path = tmp_path_factory.mktemp("test_")
    write_safetensors(path / "own", tree, metadata=metadata)
    plain = {
        name: np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
        for name, array in tree.items()
    }
    with open_safetensors(path / "own") as arrays:
        assert set(arrays) == set(tree)
        assert len(arrays) == len(tree)
        assert arrays.metadata == (metadata or {})
        for name, array in plain.items():
            assert same(arrays[name].read(), array)
    safetensors.numpy.save_file(plain, path / "package", metadata=metadata)
    if not tree and metadata == {}:
        return  # the package writes {},"__metadata__":{}}
    # It has several metadata in no order.
    if len(metadata or {}) < 2:
        assert (path / "own").read_bytes() == (path / "package").read_bytes()
    assert contents(path / "package").keys() == tree.keys()


def test_the_package_reads_what_is_written(tmp_path: Path):
    """All dtypes that it can read; the arrays of a file are aligned."""
    # It writes float8 and does not read it.
    tree = {name: some(dtype, (3, 2)).T for name, dtype in DTYPES.items() if not name.startswith("F8")}
    write_safetensors(tmp_path / "file", tree, metadata={"format": "np"})
    loaded = safetensors.numpy.load_file(tmp_path / "file")
    assert all(same(loaded[name], array) for name, array in tree.items())
    assert loaded.keys() == tree.keys()
    with safetensors.safe_open(tmp_path / "file", "numpy") as file:
        assert file.metadata() == {"format": "np"}
    with open_safetensors(tmp_path / "file") as arrays:
        assert all(array._start % array.dtype.itemsize == 0 for array in arrays.values() if array.dtype != np.complex64)


def test_arrays_of_jax_are_written_and_read(tmp_path: Path):
    """Also bfloat16, float8 and scalars; the array does not keep a copy, and can be donated."""
    tree: dict[str, Any] = {
        "a": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3).T,
        "b": jnp.ones((), jnp.float8_e8m0fnu),
        "c": jnp.zeros((0, 3)),
        "d": np.float16(3),
    }
    write_safetensors(tmp_path / "file", tree)
    with open_safetensors(tmp_path / "file") as arrays:
        for name, array in tree.items():
            assert same(arrays[name].to_jax(), array)
            sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            assert same(arrays[name].to_jax(sharding), array)
    assert same(
        jax.jit(jnp.sin, donate_argnums=0)(tree["a"]), jnp.sin(jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3).T)
    )


def test_int64_is_not_cut_to_int32(tmp_path: Path):
    """JAX would do so without a word; NumPy has it."""
    write_safetensors(tmp_path / "file", {"steps": np.array([2**40])})
    with open_safetensors(tmp_path / "file") as arrays:
        assert arrays["steps"].read() == [2**40]
        for sharding in (None, jax.sharding.SingleDeviceSharding(jax.devices()[0])):
            with refused("cannot read PATH/file: steps: JAX would turn int64 into int32: enable jax_enable_x64"):
                arrays["steps"].to_jax(sharding)
        with jax.enable_x64(True):
            assert same(arrays["steps"].to_jax(), np.array([2**40]))


# Parts of arrays


@hypothesis.given(st.data(), st.sampled_from([(1, 4), (9, 40), (10**6, 10**6)]))
def test_a_part_is_what_numpy_takes(data: st.DataObject, sizes: tuple[int, int]):
    """Integers, steps, both directions, `...`; whether rows are read through, jumped over, or in several turns."""
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=False))
    array = some(np.dtype(np.int16), shape)
    content = np.frombuffer(b"\0" * 3 + array.tobytes(), np.uint8)
    read: list[int] = []

    def read_into(target: np.ndarray[Any, Any], start: int) -> None:
        assert 3 <= start < start + target.size <= content.size
        target[:] = content[start : start + target.size]
        read.extend(range(start, start + target.size))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_boxes, "_NEAR", sizes[0])
        patch.setattr(_boxes, "_BUFFER", sizes[1])
        part = _boxes.read_box(array.dtype, shape, 3, index, read_into)
    assert type(part) is np.ndarray
    assert same(part, np.asarray(array[index]))
    assert len(set(read)) == len(read), "no byte is read twice"
    if sizes[0] == 1:
        assert len(read) == part.nbytes, "and none that is not wanted, where each row is far from the next"


def test_no_more_is_read_than_the_rows(tmp_path: Path):
    """Small rows between the first and the last are read through; a part of large ones is read alone."""
    sizes: list[int] = []

    def read_into(target: np.ndarray[Any, Any], start: int) -> None:
        sizes.append(target.size)

    for index in (slice(2, 4), (slice(None), 3), (slice(None, None, 500), 3), (..., slice(0, 2))):
        for shape in ((1000, 8), (4, 2**20)):
            _boxes.read_box(np.dtype(np.uint8), shape, 0, index, read_into)
    assert sizes == [16, 2**21, 8000, 1, 1, 1, 1, 501 * 8, 1, 8000, 2, 2, 2, 2]
    sizes.clear()
    _boxes.read_box(np.dtype(np.uint8), (2**18,), 0, slice(None, None, 2**17), read_into)
    assert sizes == [1, 1]
    sizes.clear()
    _boxes.read_box(np.dtype(np.uint8), (2**20, 8), 0, (slice(None), 3), read_into)
    assert sizes == [2**22, 2**22], "in several turns"


@pytest.mark.no_runtime_types
def test_other_indices_are_refused(tmp_path: Path):
    """Like those of NumPy that an array in memory takes, and those that it has nothing for."""
    write_safetensors(tmp_path / "file", {"a": np.zeros((2, 3))})
    missing: list[tuple[Any, str]] = [
        ((0, 0, 0), "an array with 2 axes has no part [0, 0, 0]"),
        ((..., slice(1, None), ...), "an array with 2 axes has no part [..., 1:, ...]"),
        ((..., -4), "an axis of size 3 has no row -4"),
    ]
    others: list[Any] = [[0, 1], True, None, 0.5]
    with open_safetensors(tmp_path / "file") as arrays:
        for index, text in missing:
            with pytest.raises(IndexError, match=rf"^{re.escape(text)}$"):
                arrays["a"][index]
        for index in others:
            text = f"an array in a file takes integers and slices, found [{index}]; read it, and index what you have"
            with pytest.raises(TypeError, match=rf"^{re.escape(text)}$"):
                arrays["a"][index]


@pytest.mark.slow
def test_each_device_gets_its_part():
    """Of rows, of columns, of both, and copies: each part is read once."""
    run_with_devices(
        """
import tempfile
import jax, numpy as np
from graphnode.checkpoint import _boxes
from graphnode.checkpoint._safetensors import _File, open_safetensors
from graphnode.checkpoint._safetensors_write import write_safetensors

array = np.arange(64 * 32, dtype=np.float32).reshape(64, 32)
_boxes._NEAR = 1
sizes = []
read_into = _File.read_into
_File.read_into = lambda self, target, start: (sizes.append(target.size), read_into(self, target, start))
with tempfile.TemporaryDirectory() as directory:
    write_safetensors(directory + "/file", {"a": array})
    with open_safetensors(directory + "/file") as arrays:
        mesh = jax.make_mesh((4, 2), ("x", "y"))
        for spec in [(), ("x",), (None, "x"), ("x", "y"), (("x", "y"),), ("y",)]:
            sharding = jax.NamedSharding(mesh, jax.P(*spec))
            sizes.clear()
            result = arrays["a"].to_jax(sharding)
            assert result.sharding == sharding and result.dtype == array.dtype
            assert sum(sizes) == array.nbytes, (spec, sum(sizes))
            write_safetensors(directory + "/again", {"a": result}, overwrite=True)
            assert result._npy_value is None, "it keeps no copy"
            assert (np.asarray(result) == array).all()
            with open_safetensors(directory + "/again") as again:
                assert (again["a"].read() == array).all()
""",
        8,
    )


def test_a_file_that_changes_is_noticed(tmp_path: Path):
    """Shorter than it was, or closed."""
    write_safetensors(tmp_path / "file", {"a": np.zeros(9)})
    with open_safetensors(tmp_path / "file") as arrays:
        os.truncate(tmp_path / "file", 120)
        with refused("cannot read PATH/file: it has become shorter"):
            arrays["a"].read()
    with refused("cannot read PATH/file: it is closed"):
        arrays["a"].read()


def test_a_boolean_is_0_or_1(tmp_path: Path):
    """NumPy takes other bytes as they are, and its results are then of no value."""
    write(tmp_path / "file", {"mask": entry("BOOL", (2,), (0, 2))}, b"\1\2")
    with open_safetensors(tmp_path / "file") as arrays:
        assert arrays["mask"][:1]
        with refused("cannot read PATH/file: mask: a BOOL has the bytes 0 and 1, and it has others"):
            arrays["mask"].read()


# Files of strangers

EMPTY = [0, 2**62, 3]
HOSTILE: list[tuple[Any, bytes, str]] = [
    (b"", b"", "the header does not start with {"),
    (b"[]", b"", "the header does not start with {"),
    (b" {}", b"", "the header does not start with {"),
    (b"{", b"", "the header is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    (b"{}{}", b"", "the header is not JSON: Extra data: line 1 column 3 (char 2)"),
    (b'{"a":' * 10**5, b"", "the header is nested too deeply"),
    (b'{"\xff": 1}', b"", "the header is not UTF-8: invalid start byte at byte 2"),
    (
        b'{"\\ud800": 1}',
        b"",
        "the header is not JSON: 'utf-8' codec can't encode character '\\ud800' in position 2: surrogates not allowed",
    ),
    (b'{"a": NaN}', b"", "the header is not JSON: JSON has no NaN"),
    (b'{"a": {}, "a": {}}', b"", "the header is not JSON: a stands twice in an object"),
    ({"__metadata__": []}, b"", "__metadata__ is not an object of texts"),
    ({"__metadata__": {"a": 1}}, b"", "__metadata__ is not an object of texts: see a"),
    ({"a": 1}, b"", "a: expected an object of dtype, shape and data_offsets"),
    ({"a": {**entry(), "b": 1}}, b"", "a: expected an object of dtype, shape and data_offsets"),
    ({"a": entry("I4")}, b"", f"a: I4 is not one of the dtypes {', '.join(DTYPES)}"),
    ({"a": entry(["F32"])}, b"", f"a: ['F32'] is not one of the dtypes {', '.join(DTYPES)}"),
    ({"a": entry("F4")}, b"", "a: F4 has several numbers in a byte, in an order that the format does not say"),
    ({"a": entry(shape=2)}, b"", "a: shape is not a list of sizes"),
    ({"a": entry(shape=[-2])}, b"", "a: shape is not a list of sizes"),
    ({"a": entry(shape=[2.0])}, b"", "a: shape is not a list of sizes"),
    ({"a": entry(shape=[True])}, b"", "a: shape is not a list of sizes"),
    ({"a": entry(offsets=[0])}, b"", "a: data_offsets are not two positions in the file"),
    ({"a": entry(offsets=[-8, 0])}, b"", "a: data_offsets are not two positions in the file"),
    ({"a": entry(offsets=["0", "8"])}, b"", "a: data_offsets are not two positions in the file"),
    ({"a": entry(offsets=[8, 0])}, b"12345678", "a: its bytes end at 0, before they start at 8"),
    ({"a": entry()}, b"1234567", "a: its bytes end at 8, and the file has 7 bytes of arrays"),
    ({"a": entry(shape=[1])}, b"12345678", "a: F32[1] takes 4 bytes, and data_offsets give it 8"),
    ({"a": entry(shape=[2**40, 2**40])}, b"12345678", "a: its shape has more items than memory can hold"),
    ({"a": entry(shape=EMPTY, offsets=[0, 0])}, b"", "a: its shape has more items than memory can hold"),
    ({"a": entry(shape=[10**9] * 10**5)}, b"12345678", "a: it has 100000 axes, and an array has at most 64"),
    ({"a": entry(), "b": entry()}, b"12345678", "b: its bytes start at 0, within those of a"),
    (
        {"a": entry(), "b": entry(offsets=[4, 12])},
        b"123456789012",
        "b: its bytes start at 4, within those of a",
    ),
    (
        {"a": entry(), "b": entry(shape=[0], offsets=[4, 4])},
        b"12345678",
        "b: its bytes start at 4, within those of a",
    ),
    ({"a": entry(offsets=[1, 9])}, b"123456789", "a: its bytes start at 1, and no array has those from 0 on"),
    ({"a": entry()}, b"123456789", "no array has the last 1 bytes of the file"),
    ({}, b"1", "no array has the last 1 bytes of the file"),
    ({"a\n" * 200: 1}, b"", "'" + "a\\n" * 66 + "a...: expected an object of dtype, shape and data_offsets"),
    (
        {"a": entry(shape=[1]), "b": entry("F5")},
        b"12345678",
        "2 faults:\n"
        "  a: F32[1] takes 4 bytes, and data_offsets give it 8\n"
        f"  b: F5 is not one of the dtypes {', '.join(DTYPES)}",
    ),
]


@pytest.mark.parametrize(("header", "data", "text"), HOSTILE, ids=[case[2][:60] for case in HOSTILE])
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, header: Any, data: bytes, text: str):
    """Before an array is read, with the names of all that are wrong."""
    with refused(f"cannot read PATH/file: {text}"):
        open_safetensors(write(tmp_path / "file", header, data))


def test_other_files_are_refused(tmp_path: Path):
    """Short ones, those of another format, pipes, and those that are not there."""
    (tmp_path / "short").write_bytes(b"1234567")
    (tmp_path / "text").write_bytes(b"P" * 20)
    (tmp_path / "cut").write_bytes((99).to_bytes(8, "little") + b"{}")
    (tmp_path / "limit").write_bytes((10**8 + 1).to_bytes(8, "little") + b"{}")
    os.mkfifo(tmp_path / "pipe")
    for name, text in {
        "short": "not a safetensors file: it has 7 bytes, and those have more",
        "text": "not a safetensors file: its header would have 5,787,213,827,046,133,840 bytes, "
        "and may have 100,000,000",
        "limit": "not a safetensors file: its header would have 100,000,001 bytes, and may have 100,000,000",
        "cut": "the file is cut off: its header has 99 bytes, and 2 are left",
        "pipe": "it is not a file",
        "nothing": "No such file or directory",
    }.items():
        with refused(f"cannot read PATH/{name}: {text}"):
            open_safetensors(tmp_path / name)


def damaged_files() -> Iterator[tuple[str, bytes]]:
    """A file with each bit of its length and header flipped, and cut off at each place."""
    tree = {"bias": np.arange(3, dtype=np.float32), "mask": np.array([True, False]), "empty": np.zeros((0, 2))}
    content = safetensors.numpy.save(tree, {"format": "np"})
    for bit in range(8 * (len(content) - 12 - 2)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(flipped)
    for size in range(len(content)):
        yield f"{size} bytes", content[:size]


def test_a_damaged_file_is_refused_or_right(tmp_path: Path):
    """One error, or each array that has its name has its values: a flipped bit may be of a name or of a text."""
    whole = {"bias": np.arange(3, dtype=np.float32), "mask": np.array([True, False])}
    opened = 0
    texts: set[str] = set()
    for damage, content in damaged_files():
        (tmp_path / "file").write_bytes(content)
        try:
            found = contents(tmp_path / "file")
        except CheckpointError as error:
            texts.add(str(error).removeprefix(f"cannot read {tmp_path}/file: ")[:12])
            continue
        opened += 1
        assert len(found) == 3, damage
        assert sum(same(found[name], array) for name, array in whole.items() if name in found) >= 1, damage
        assert all(same(found[name], array) for name, array in whole.items() if name in found), damage
    assert 50 < opened < 200
    assert not [text for text in texts if text.startswith("cannot")]


# Several files


def index_of(directory: Path, weight_map: Any) -> Path:
    path = directory / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A directory of two files, with an array each."""
    (tmp_path / "two").mkdir()
    for name in "ab":
        write_safetensors(
            tmp_path / "two" / f"{name}.safetensors", {name: np.full(2, ord(name))}, metadata={"of": name}
        )
    return tmp_path / "two"


def test_several_files_are_read_as_one(two: Path):
    """By their index, by the directory of the index, or of a directory without one all files."""
    index = index_of(two, {"a": "a.safetensors", "b": "b.safetensors"})
    expected = {"a": [97, 97], "b": [98, 98]}
    assert {name: array.tolist() for name, array in contents(index).items()} == expected
    assert {name: array.tolist() for name, array in contents(two).items()} == expected
    index.unlink()
    (two / "config.json").write_text("{}")
    assert {name: array.tolist() for name, array in contents(two).items()} == expected
    with open_safetensors(two) as arrays:
        assert arrays.metadata == {"of": "a"}


def test_links_of_the_cache_of_hugging_face_are_followed(two: Path):
    """A snapshot has links to blobs, whose names are hashes; other links out of a directory are refused."""
    blobs, snapshot = two / "model" / "blobs", two / "model" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    index = index_of(two, {"a": "a.safetensors", "b": "b.safetensors"})
    for at, path in enumerate([two / "a.safetensors", two / "b.safetensors", index]):
        path.rename(blobs / f"{at}")
        (snapshot / path.name).symlink_to(f"../../blobs/{at}")
    assert contents(snapshot).keys() == contents(snapshot / index.name).keys() == {"a", "b"}
    (snapshot / "b.safetensors").unlink()
    (snapshot / "b.safetensors").symlink_to(two / "model")
    with refused(
        "cannot read PATH/two/model/snapshots/abc: b.safetensors: it is a link that leads out of the directory"
    ):
        open_safetensors(snapshot)


@pytest.mark.parametrize(
    ("weight_map", "text"),
    [
        ([], "the index has no weight_map of the names of arrays to files"),
        ({}, "the index has no weight_map of the names of arrays to files"),
        ({"a": 1}, "a: weight_map gives it no file"),
        ({"a": "../two/a.safetensors"}, "../two/a.safetensors: it does not lie in the directory"),
        ({"a": "..\\a.safetensors"}, "'..\\\\a.safetensors': it does not lie in the directory"),
        ({"a": "/etc/passwd"}, "/etc/passwd: it does not lie in the directory"),
        ({"a": "a\0"}, "'a\\x00': it does not lie in the directory"),
        ({"a": "out.safetensors"}, "out.safetensors: it is a link that leads out of the directory"),
        ({"a": ""}, "'': it is a link that leads out of the directory"),
        ({"a": "sub"}, "sub: it is not a file"),
        ({"a": "c.safetensors"}, "c.safetensors: No such file or directory"),
        (
            {"a": "a.safetensors", "c": "./a.safetensors"},
            "c: the index has it in ./a.safetensors, which does not have it",
        ),
        ({"b": "b.safetensors", "a": "b.safetensors"}, "a: the index has it in b.safetensors, which does not have it"),
        (
            {"a": "a.safetensors", "c": "c.safetensors", "d": "/d"},
            "2 faults:\n  /d: it does not lie in the directory\n  c.safetensors: No such file or directory",
        ),
    ],
)
def test_an_index_that_does_not_fit_is_refused(two: Path, weight_map: Any, text: str):
    """It may name no file outside of its directory; all faults are named."""
    (two / "sub").mkdir()
    (two.parent / "outside.safetensors").write_bytes((two / "a.safetensors").read_bytes())
    (two / "out.safetensors").symlink_to("../outside.safetensors")
    index_of(two, weight_map)
    for path in ("two", "two/model.safetensors.index.json"):
        with refused(f"cannot read PATH/{path}: {text}"):
            open_safetensors(two.parent / path)


def test_files_that_do_not_fit_together_are_refused(two: Path):
    """An array that the index leaves out, or that two files have; several indices, and none of anything."""
    index = index_of(two, {"a": "a.safetensors", "b": "b.safetensors"})
    write_safetensors(two / "b.safetensors", {"a": np.zeros(2), "b": np.zeros(2)}, overwrite=True)
    with refused("cannot read PATH/two: a: b.safetensors has it, and the index does not say so"):
        open_safetensors(two)
    index.rename(two / "other.safetensors.index.json")
    index_of(two, {})
    with refused(
        "cannot read PATH/two: it has the indices model.safetensors.index.json, other.safetensors.index.json: "
        "give one of them"
    ):
        open_safetensors(two)
    index.unlink()
    (two / "other.safetensors.index.json").write_text("[")
    with refused("cannot read PATH/two: the index is not JSON: Expecting value: line 1 column 2 (char 1)"):
        open_safetensors(two)
    (two / "other.safetensors.index.json").unlink()
    with refused("cannot read PATH/two: a: both a.safetensors and b.safetensors have it"):
        open_safetensors(two)
    (two / "empty").mkdir()
    with refused("cannot read PATH/two/empty: it has no file *.safetensors"):
        open_safetensors(two / "empty")


# Writing


@hypothesis.given(st.lists(st.integers(0, 5), max_size=8), st.integers(1, 12))
def test_no_file_is_larger_than_it_may_be(tmp_path_factory: Any, sizes: list[int], limit: int):
    """Unless one array is; the index is that of Hugging Face, and one file has none."""
    tree = {f"layer.{at}": np.full(size, at, np.uint8) for at, size in enumerate(sizes)}
    path = tmp_path_factory.mktemp("test_") / "model"
    write_safetensors(path, tree, max_shard_bytes=limit, metadata={"format": "np"})
    read = contents(path)
    assert read.keys() == tree.keys()
    assert all(same(read[name], array) for name, array in tree.items())
    files = sorted(file.name for file in path.glob("*.safetensors"))
    count = len(files)
    for file in files:
        found = contents(path / file)
        assert sum(array.size for array in found.values()) <= limit or len(found) == 1
        assert safetensors.safe_open(path / file, "numpy").metadata() == {"format": "np"}
    if count == 1:
        assert os.listdir(path) == ["model.safetensors"]
        return
    assert files == [f"model-{at + 1:05}-of-{count:05}.safetensors" for at in range(count)]
    index = json.loads((path / "model.safetensors.index.json").read_text())
    assert index == {
        "metadata": {"total_size": sum(sizes)},
        "weight_map": {name: file for file in files for name in contents(path / file)},
    }


def test_the_index_has_the_layout_of_hugging_face(tmp_path: Path):
    """To the byte."""
    write_safetensors(tmp_path / "model", {"ä": np.zeros(2), "b": np.zeros(2)}, max_shard_bytes=16)
    assert (tmp_path / "model" / "model.safetensors.index.json").read_text("utf-8") == (
        "{\n"
        '  "metadata": {\n'
        '    "total_size": 32\n'
        "  },\n"
        '  "weight_map": {\n'
        '    "b": "model-00002-of-00002.safetensors",\n'
        '    "ä": "model-00001-of-00002.safetensors"\n'
        "  }\n"
        "}\n"
    )


@pytest.mark.no_runtime_types
def test_what_has_no_place_in_a_file_is_refused(tmp_path: Path):
    """All at once, and nothing is written."""
    donated = jnp.ones(3) + 1
    jax.jit(jnp.sin, donate_argnums=0)(donated)
    metadata: dict[str, Any] = {"a": 1, "b": "\ud800"}
    tree: dict[Any, Any] = {
        "key": jax.random.key(0, impl="threefry2x32"),
        "donated": donated,
        "abstract": jax.ShapeDtypeStruct((2,), jnp.float32),
        "number": 1.5,
        "int4": jnp.zeros(3, jnp.int4),
        "complex": np.zeros(3, complex),
        "text": np.array(["a"]),
        "masked": np.ma.MaskedArray(np.zeros(3)),
        "__metadata__": np.zeros(2),
        3: np.zeros(2),
        "\ud800": np.zeros(2),
    }
    with refused(
        "cannot write PATH/file: 13 faults:\n"
        "  key: an array key<fry>[] has no dtype of the format; write jax.random.key_data of it\n"
        "  donated: its memory was given away (donated), so that it has no value\n"
        "  abstract: expected an array of JAX or NumPy, found an array float32[2]\n"
        "  number: expected an array of JAX or NumPy, found float 1.5\n"
        "  int4: the format has no dtype for int4; cast it\n"
        "  complex: the format has no dtype for complex128; cast it\n"
        "  text: the format has no dtype for <U1; cast it\n"
        "  masked: expected an array of JAX or NumPy, found MaskedArray\n"
        "  __metadata__: the format has this name for the metadata\n"
        "  3: names are texts, found int 3\n"
        "  '\\ud800': the name has half a character (a lone surrogate)\n"
        "  a: metadata maps texts to texts, found int 1\n"
        "  b: metadata has half a character (a lone surrogate)"
    ):
        write_safetensors(tmp_path / "file", tree, metadata=metadata)
    with refused("cannot write PATH/file: x: a tracer float32[3] has no value yet"):
        jax.jit(lambda x: write_safetensors(tmp_path / "file", {"x": x}))(jnp.ones(3))
    assert os.listdir(tmp_path) == []


class Late:
    """An array that is made when it is written."""

    shape = (2,)
    dtype = np.dtype(np.float32)

    def __init__(self, result: Any) -> None:
        self.result = result

    def read(self) -> Any:
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def test_an_existing_file_is_refused(tmp_path: Path):
    """Unless it is to be replaced; it stays until the new one is complete."""
    path = tmp_path / "file"
    write_safetensors(path, {"a": np.zeros(2, np.float32)})
    with refused("cannot write PATH/file: it exists already; pass overwrite=True to replace it"):
        write_safetensors(path, {"a": np.ones(2, np.float32)})
    whole = path.read_bytes()
    with refused("cannot write PATH/file: a: was announced as float32[2], and is float64[2]"):
        write_safetensors(path, {"a": Late(np.ones(2))}, overwrite=True)
    with refused("cannot write PATH/file: No space left on device"):
        write_safetensors(path, {"a": Late(OSError(28, "No space left on device"))}, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        write_safetensors(path, {"a": Late(KeyboardInterrupt())}, overwrite=True)
    assert path.read_bytes() == whole
    # From itself: it is read while its successor is written.
    with open_safetensors(path) as arrays:
        write_safetensors(path, {"b": arrays["a"], "c": Late(np.ones(2, np.float32))}, overwrite=True)
    assert {name: array.tolist() for name, array in contents(path).items()} == {"b": [0, 0], "c": [1, 1]}
    assert os.listdir(tmp_path) == ["file"]
    with refused("cannot write PATH/nowhere/file: No such file or directory"):
        write_safetensors(tmp_path / "nowhere" / "file", {})
    (tmp_path / "directory").mkdir()
    with refused("cannot write PATH/directory: it is a directory, and is not replaced by a file; delete it first"):
        write_safetensors(tmp_path / "directory", {}, overwrite=True)


def test_an_existing_directory_is_refused(tmp_path: Path):
    """Unless it is to be replaced, and nothing is lost with it."""
    path = tmp_path / "model"
    write_safetensors(path, {"a": np.zeros(2), "b": np.zeros(2)}, max_shard_bytes=1)
    with refused("cannot write PATH/model: it exists already; pass overwrite=True to replace it"):
        write_safetensors(path, {"a": np.zeros(2)}, max_shard_bytes=1)
    write_safetensors(path, {"a": np.zeros(2)}, max_shard_bytes=1, overwrite=True)
    assert os.listdir(path) == ["model.safetensors"]
    (path / "config.json").touch()
    (tmp_path / "file").touch()
    for name, text in {
        "model": "it has other files, such as config.json, and is not replaced; delete it first",
        "file": "it is not a directory, and is not replaced; delete it first",
    }.items():
        with refused(f"cannot write PATH/{name}: {text}"):
            write_safetensors(tmp_path / name, {"a": np.zeros(2)}, max_shard_bytes=1, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["file", "model"]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_directory_is_complete_at_each_moment(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch):
    """Whichever rename a process does not live to see: the old one or the new one is read."""
    path = tmp_path / "model"
    write_safetensors(path, {"a": np.zeros(2)}, max_shard_bytes=1)
    done: list[Any] = []

    def killed(*names: Any) -> None:
        if len(done) == count:
            raise KeyboardInterrupt
        done.append(names)
        rename(*names)

    rename = os.rename
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        # As if the process had ended there.
        patch.setattr(shutil, "rmtree", lambda *args, **options: None)
        with contextlib.suppress(KeyboardInterrupt):
            write_safetensors(path, {"b": np.zeros(2)}, max_shard_bytes=1, overwrite=True)
    assert contents(path).keys() == ({"a"} if count < 2 else {"b"})
    write_safetensors(path, {"c": np.zeros(2)}, max_shard_bytes=1, overwrite=True)
    assert contents(path).keys() == {"c"}
    assert os.listdir(tmp_path) == ["model"]


# Memory

CONVERSION = """
import re, sys
import jax, numpy as np
from graphnode.checkpoint._safetensors import open_safetensors
from graphnode.checkpoint._safetensors_write import write_safetensors

directory, size, count = "DIRECTORY", 2**24, 6

def kilobytes(name):
    with open("/proc/self/status") as file:
        return int(re.search(name + r":\\s+(\\d+)", file.read())[1])

def check(task, function, allowed):
    function()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    before = kilobytes("VmRSS")
    result = function()
    grown = (kilobytes("VmHWM") - before) * 1024
    # A megabyte for the interpreter.
    assert grown < allowed + 2**20, (task, grown / size)
    return result

class Changed:
    dtype = np.dtype(np.float16)
    def __init__(self, array):
        self.array, self.shape = array, array.shape[::-1]
    def read(self):
        return np.asarray(self.array[...]).T.astype(self.dtype)

def write(arrays):
    write_safetensors(directory + "/changed", {name: Changed(array) for name, array in arrays.items()}, overwrite=True)

def transposed(arrays):
    arrays = {name: array.T for name, array in arrays.items()}
    write_safetensors(directory + "/changed", arrays, overwrite=True)

with open_safetensors(directory + "/large") as file:
    check("file to file", lambda: write(file), 2 * size)
    read = lambda: {name: np.ascontiguousarray(Changed(array).read()) for name, array in file.items()}
    check("into memory", read, count * size // 2 + 2 * size)
    model = check("as it is", lambda: {name: array.read() for name, array in file.items()}, count * size)
    check("from memory", lambda: write(model), size)
    check("strides", lambda: transposed(model), size)
    del model
    model = check("to JAX", lambda: jax.block_until_ready({k: a.to_jax() for k, a in file.items()}), (count + 1) * size)
    check("from JAX", lambda: write_safetensors(directory + "/changed", model, overwrite=True), 0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from /proc")
def test_a_conversion_takes_the_memory_of_one_array(tmp_path: Path):
    """Beside the model: of another dtype and layout, from a file and to one."""
    write_safetensors(tmp_path / "large", {f"{at}": np.ones((2**11, 2**11), np.float32) for at in range(6)})
    run_with_devices(CONVERSION.replace("DIRECTORY", str(tmp_path)), 1)
