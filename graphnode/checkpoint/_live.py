"""Live modules of other libraries, as arrays by name: flax.nnx, equinox, brainstate, PyTorch.

A module is known by the packages of its classes. None of these libraries is imported
unless an object of it is here, so that it is imported already.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._paths import Key, Path, path_str


class LiveArrays(NamedTuple):
    """The arrays of a module.

    Attributes:
        arrays: By name, each at the first one that it has.
        aliases: Further names, each with the first one.
    """

    arrays: Mapping[str, Any]
    aliases: Mapping[str, str]


# Any: whatever somebody reads from.
def live_arrays(module: Any) -> LiveArrays | None:
    """The arrays of a live module; `None` for anything else."""
    packages = [cls.__module__.partition(".")[0] for cls in type(module).__mro__]
    for package in packages:
        flatten = _LIBRARIES.get(package)
        if flatten is not None:
            return _unshared(flatten(module))
    return None


def _unshared(rows: Iterator[tuple[str, Any, object]]) -> LiveArrays:
    """For `live_arrays`: names and arrays, and what is one object, as arrays and further names."""
    arrays: dict[str, Any] = {}
    aliases: dict[str, str] = {}
    first: dict[int, str] = {}
    # Kept, so that no id is used twice.
    kept: list[object] = []
    for name, array, identity in rows:
        kept.append(identity)
        known = first.setdefault(id(identity), name)
        if known == name:
            arrays[name] = array
        else:
            aliases[name] = known
    return LiveArrays(arrays, aliases)


def _of_nnx(module: Any) -> Iterator[tuple[str, Any, object]]:
    nnx: Any = importlib.import_module("flax.nnx")
    for path, variable in nnx.to_flat_state(nnx.state(module)):
        value = (
            variable[...] if _is_array(variable.get_value()) else variable.get_value()
        )
        yield from _leaves(tuple(path), value)


def _of_pytree(module: Any) -> Iterator[tuple[str, Any, object]]:
    yield from _leaves((), module)


def _of_brainstate(module: Any) -> Iterator[tuple[str, Any, object]]:
    brainstate: Any = importlib.import_module("brainstate")
    for path, state in brainstate.graph.states(module).items():
        yield from _leaves(tuple(path), state.value)


def _of_torch(module: Any) -> Iterator[tuple[str, Any, object]]:
    # With their identity, which shows what is tied.
    for name, tensor in module.state_dict(keep_vars=True).items():
        yield name, tensor, tensor


def _leaves(path: tuple[Any, ...], value: Any) -> Iterator[tuple[str, Any, object]]:
    """The arrays in a pytree by name; functions, settings and texts are none."""
    for entries, leaf in jax.tree_util.tree_leaves_with_path(value):
        if _is_array(leaf):
            keys: Path = (*map(_key, path), *map(_key_of_entry, entries))
            yield path_str(keys), leaf, leaf


def _is_array(value: object) -> bool:
    return isinstance(value, (jax.Array, np.ndarray, jax.ShapeDtypeStruct))


def _key(key: Any) -> Key:
    return key if type(key) in (int, str) else str(key)


def _key_of_entry(entry: Any) -> Key:
    """An entry of a key path of JAX as a key."""
    for name in ("key", "idx", "name"):
        if hasattr(entry, name):
            return _key(getattr(entry, name))
    return str(entry)


def is_tensor(value: object) -> bool:
    """Whether something is a tensor of PyTorch."""
    return any(
        cls.__module__.partition(".")[0] == "torch" for cls in type(value).__mro__
    )


def from_torch(tensor: Any) -> "np.ndarray[Any, np.dtype[Any]]":
    """A tensor as an array of NumPy, on the host.

    Raises:
        TypeError, RuntimeError: NumPy has nothing for it, as for one that is sparse, is
            quantized or has no values; PyTorch says what would do.
    """
    name = str(tensor.dtype).removeprefix("torch.")
    # NumPy has none of these of its own, and PyTorch does not know JAX's.
    if name == "bfloat16" or name.startswith("float8"):
        torch: Any = importlib.import_module("torch")
        bits = torch.int16 if name == "bfloat16" else torch.uint8
        host: np.ndarray[Any, np.dtype[Any]] = tensor.detach().cpu().view(bits).numpy()
        return host.view(getattr(jnp, name))
    # With `force`, also from a device, and what is only marked as conjugate.
    array: np.ndarray[Any, np.dtype[Any]] = tensor.numpy(force=True)
    return array


_LIBRARIES: Final[dict[str, Callable[[Any], Iterator[tuple[str, Any, object]]]]] = {
    "flax": _of_nnx,
    "equinox": _of_pytree,
    "brainstate": _of_brainstate,
    "torch": _of_torch,
}
