"""Files of weights that graphnode does not read itself, as flat mappings of names to arrays, which `read` takes.

None of them needs the library that wrote the file, and none runs code that stands in one.
"""

import importlib.util
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import h5py
import numpy as np

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Arrays: TypeAlias = dict[str, Array]


def file_of(package: str, *parts: str) -> Path:
    """A file of a package that is installed, which is not imported: most import the library that wrote the weights."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{package} is not installed; `make venv` does so, from requirements-published.txt")
    return Path(spec.submodule_search_locations[0]).joinpath(*parts)


# PyTorch, before version 1.6: five pickles, one after the other, and the numbers.


class _Storage:
    """A row of numbers, of which tensors are views; they stand behind the pickles."""

    def __init__(self, dtype: str, key: str) -> None:
        self.dtype = np.dtype(dtype)
        self.key = key


class _Tensor:
    """A view of a storage."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object):
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.strides = strides

    def array(self, numbers: Array) -> Array:
        """Its numbers, among those of the storage."""
        steps = [step * numbers.itemsize for step in self.strides]
        # What comes from a file may point anywhere: NumPy checks this against the buffer.
        return np.ndarray(self.shape, numbers.dtype, numbers, self.offset * numbers.itemsize, steps)


_STORAGES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8"}
_CLASSES = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
}


class _Unpickler(pickle.Unpickler):
    """Knows the few names that a state dict has; any other is an error, and is not imported."""

    # Any: pickle asks for a class, a function, or whatever else has a name.
    def find_class(self, module: str, name: str, /) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        try:
            return _CLASSES[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a state dict") from None

    # Any: pickle's own signature.
    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, *_ = pid
        return _Storage(dtype, key)


def torch_pickle(path: Path) -> Arrays:
    """The state dict in a file that `torch.save` wrote before PyTorch 1.6."""
    with path.open("rb") as file:
        magic, version, _ = [_Unpickler(file).load() for _ in range(3)]
        assert (magic, version) == (0x1950A86A20F9469CFC6C, 1001)
        tensors: dict[str, _Tensor] = _Unpickler(file).load()
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
        keys: list[str] = _Unpickler(file).load()
        numbers = {key: _storage(file, dtypes[key]) for key in keys}
    return {name: tensor.array(numbers[tensor.storage.key]) for name, tensor in tensors.items()}


def _storage(file: BinaryIO, dtype: "np.dtype[Any]") -> Array:
    """The numbers of the next storage, behind their count."""
    count = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype)


# Keras, before version 3: HDF5.


def keras_hdf5(path: Path) -> Arrays:
    """The weights of a model, by the names of their datasets; those of the optimizer stand beside them."""
    arrays: Arrays = {}

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(path) as file:
        weights = file["model_weights"]
        assert isinstance(weights, h5py.Group)
        weights.visititems(keep)
    return arrays


# ONNX: protocol buffers.


_FLOAT = 1
"""The number of float32 in ONNX."""


def onnx_initializers(path: Path) -> Arrays:
    """The float32 arrays of a graph, by name.

    A message is a row of fields, each a number and a value. Of a model, field 7 is its graph; of this, 5 are the
    initializers; of such a tensor, 1 are its sizes, 2 its dtype, 8 its name and 9 its bytes.
    """
    arrays: Arrays = {}
    for graph in _fields(path.read_bytes()).get(7, ()):
        for tensor in _fields(graph).get(5, ()):
            fields = _fields(tensor)
            if fields[2] != [_FLOAT]:
                continue
            (name,), (numbers,) = fields[8], fields[9]
            shape = [size for entry in fields.get(1, ()) for size in _sizes(entry)]
            arrays[name.decode()] = np.frombuffer(numbers, "<f4").reshape(shape)
    return arrays


# Any: a number, or the bytes of a text, of numbers or of another message, as the field has it.
def _fields(message: bytes) -> dict[int, list[Any]]:
    """The values of the fields of a message."""
    fields: dict[int, list[Any]] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        value: int | bytes
        if wire_type == 0:
            value, at = _varint(message, at)
        else:
            # Of 8 or 4 bytes, or as many as a number before them says.
            size, at = {1: (8, at), 5: (4, at)}.get(wire_type) or _varint(message, at)
            value = message[at : at + size]
            at += size
        fields.setdefault(number, []).append(value)
    return fields


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    number = shift = 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def _sizes(entry: "int | bytes") -> Iterator[int]:
    """Sizes that stand by themselves, or packed."""
    if isinstance(entry, int):
        yield entry
        return
    at = 0
    while at < len(entry):
        size, at = _varint(entry, at)
        yield size


# Equinox: the leaves of a pytree, without names.


def npy_sequence(path: Path) -> Arrays:
    """The arrays of files `.npy` that stand one after the other in one, by their number."""
    arrays: Arrays = {}
    end = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < end:
            arrays[f"leaves.{len(arrays)}"] = np.load(file, allow_pickle=False)
    return arrays
