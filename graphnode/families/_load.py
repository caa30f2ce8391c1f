"""`load` and its like: from a directory in the layout of Hugging Face to a typed model."""

import json
import os
from collections.abc import Collection
from typing import Any, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._errors import CheckpointError, Fault
from .._hints import with_article
from ..checkpoint import Cast, Change, Changes, Rename, read
from ..checkpoint._globs import Glob, path_of_name
from ..checkpoint._safetensors import open_safetensors
from ..nn import Module
from ..sharding import Plan
from ..transforms import eval_shape
from ._families import known_families
from ._family import Family
from ._settings import Settings

M = TypeVar("M", bound=Module)

CONFIG = "config.json"


@overload
def load(
    directory: "str | os.PathLike[str]",
    cls: type[M],
    /,
    *,
    dtype: DTypeLike | None = None,
    plan: Plan | None = None,
    ignore: Collection[str] = (),
    **options: Any,
) -> M: ...
@overload
def load(
    directory: "str | os.PathLike[str]",
    cls: None = None,
    /,
    *,
    dtype: DTypeLike | None = None,
    plan: Plan | None = None,
    ignore: Collection[str] = (),
    **options: Any,
) -> Module: ...
# Any: arguments of the class, which it checks.
def load(
    directory: "str | os.PathLike[str]",
    cls: type[Module] | None = None,
    /,
    *,
    dtype: DTypeLike | None = None,
    plan: Plan | None = None,
    ignore: Collection[str] = (),
    **options: Any,
) -> Module:
    """Make a model of a directory in the layout of Hugging Face: `config.json`, and files of safetensors.

    Which model it is, its `config.json` says, whose keys are all accounted for: one that
    may change what the model computes, and that its class does not know, is refused. All
    arrays are compared with the model before one is read, and read one by one.

    Args:
        directory: The directory.
        cls: The class that the model is to have; by default any.
        dtype: What floating-point arrays are cast to as they are read; by default they
            keep that of the files, or get the one that holds all of these.
        plan: How the model is laid out over devices: `gn.sharding.plan` of what
            `abstract` gives. Each device reads its own part.
        ignore: Keys of `config.json` that are left out, as they say nothing of what the
            model computes.
        **options: Further arguments of the class, such as `scan=True`.

    Returns:
        The model.

    Raises:
        CheckpointError: There is no such directory, no `config.json` or no weights in it;
            a family that is not known, or is not that of `cls`; settings or arrays that
            do not fit. Names all.

    Example:
        >>> gn.families.save(gn.families.Llama(5, 8, 2, 2, hidden_size=12), "models/llama")
        >>> model = gn.families.load("models/llama", gn.families.Llama)
        >>> model.head.weight.value.shape
        (8, 5)

    See also: `save`, the inverse; `gn.checkpoint.read`, for models of your own.
    """
    task = f"cannot load {os.fspath(directory)}"
    family, model, changes = _prepared(directory, cls, dtype, ignore, options, task)
    read(
        directory,
        into=model,
        changes=changes,
        allow_unused=family.unused,
        shardings=None if plan is None else plan.shardings,
    )
    return model


@overload
def abstract(
    directory: "str | os.PathLike[str]",
    cls: type[M],
    /,
    *,
    dtype: DTypeLike | None = None,
    ignore: Collection[str] = (),
    **options: Any,
) -> M: ...
@overload
def abstract(
    directory: "str | os.PathLike[str]",
    cls: None = None,
    /,
    *,
    dtype: DTypeLike | None = None,
    ignore: Collection[str] = (),
    **options: Any,
) -> Module: ...
# Any: arguments of the class, which it checks.
def abstract(
    directory: "str | os.PathLike[str]",
    cls: type[Module] | None = None,
    /,
    *,
    dtype: DTypeLike | None = None,
    ignore: Collection[str] = (),
    **options: Any,
) -> Module:
    """The model that `load` would make, with shapes for arrays: to look at, and to plan on.

    Args:
        directory: As of `load`.
        cls: As of `load`.
        dtype: As of `load`.
        ignore: As of `load`.
        **options: As of `load`.

    Raises:
        CheckpointError: As of `load`, but for what is compared with arrays.

    Example:
        >>> gn.families.save(gn.families.Llama(5, 8, 2, 2, hidden_size=12), "models/llama")
        >>> model = gn.families.abstract("models/llama", gn.families.Llama)
        >>> model.embedding.weight.value
        ShapeDtypeStruct(shape=(5, 8), dtype=float32)

    See also: `gn.sharding.plan`, which takes it.
    """
    task = f"cannot load {os.fspath(directory)}"
    return _prepared(directory, cls, dtype, ignore, options, task)[1]


# Any: values of JSON.
def config(directory: "str | os.PathLike[str]", /) -> dict[str, Any]:
    """What the `config.json` of a directory says, as it stands there.

    Args:
        directory: The directory.

    Raises:
        CheckpointError: There is none, or it is not a JSON object.

    Example:
        >>> gn.families.save(gn.families.Llama(5, 8, 2, 2, hidden_size=12), "models/llama")
        >>> gn.families.config("models/llama")["hidden_size"]
        8

    See also: `save`, which takes it as `config=`.
    """
    return _config_of(directory, f"cannot read {os.fspath(directory)}")


def _prepared(
    directory: "str | os.PathLike[str]",
    cls: type[Module] | None,
    dtype: DTypeLike | None,
    ignore: Collection[str],
    options: dict[str, Any],
    task: str,
) -> tuple[Family[Any], Module, Changes]:
    """For `load`: the family of a directory, its model with shapes for arrays, and what leads to it from the files."""
    if isinstance(ignore, str):
        ignore = (ignore,)
    settings = _config_of(directory, task)
    family = _family_of(settings, cls, task)
    names, file_dtypes = _names_and_dtypes(directory)
    target = _dtype_of(dtype, file_dtypes)

    def build() -> Module:
        # Some arguments are nodes: they are made in here, too.
        arguments = arguments_of(family, settings, ignore, task)
        result: Module = family.cls(**{**arguments, "param_dtype": target, **options})
        return result

    model = eval_shape(build)
    changes = Changes([*_renames(family, names), *family.table(model)])
    if file_dtypes - {target}:
        changes = Changes([*changes, Cast("**", target)])
    return family, model, changes


# Any: families of all classes.
def _renames(family: Family[Any], names: list[str]) -> list[Change]:
    """What leads to today's names of a whole model from those in the files of a base alone, and in early files."""
    renames: list[Change] = []
    prefix = family.prefix
    if prefix and not any(name.startswith(prefix) for name in names):
        renames.append(Rename("**", f"{prefix}**"))
    for old, new in family.former:
        glob = Glob(old)
        if any(glob.match(path_of_name(name)) is not None for name in names):
            renames.append(Rename(old, new))
    return renames


# Any: values of JSON.
def _config_of(directory: "str | os.PathLike[str]", task: str) -> dict[str, Any]:
    """For `config`: with the task that errors name."""
    path = os.path.expanduser(os.fspath(directory))
    if not os.path.isdir(path):
        what = "it is a file" if os.path.exists(path) else "it does not exist"
        what = f"expected a directory with {CONFIG} and files of safetensors; {what}"
        raise CheckpointError(task, [what])
    try:
        with open(os.path.join(path, CONFIG), encoding="utf-8") as stream:
            result = json.load(stream)
    except FileNotFoundError:
        what = f"there is no {CONFIG}, which says what model it is of"
        hint = "gn.checkpoint.read(..., into=model) reads files of arrays alone"
        raise CheckpointError(task, [Fault(what, hint=hint)]) from None
    except OSError as error:
        fault = Fault(f"it cannot be read: {error.strerror}", path=CONFIG)
        raise CheckpointError(task, [fault]) from None
    except (ValueError, RecursionError) as error:
        fault = Fault(f"it is not JSON: {str(error)[:100]}", path=CONFIG)
        raise CheckpointError(task, [fault]) from None
    if not isinstance(result, dict):
        fault = Fault(
            f"expected a JSON object; found {type(result).__name__}", path=CONFIG
        )
        raise CheckpointError(task, [fault])
    return result


def _family_of(
    settings: dict[str, Any], cls: type[Module] | None, task: str
) -> Family[Any]:
    """For `load`: the family that settings are of.

    Raises:
        CheckpointError: It is not known, or its models are not of the class.
    """
    families = known_families()
    name = settings.get("model_type")
    where = f"{CONFIG}: model_type"
    if not isinstance(name, str) or name not in families:
        found = "nothing" if name is None else repr(name)
        what = f"expected one of {', '.join(sorted(families))}; found {found}"
        raise CheckpointError(task, [Fault(what, path=where)])
    family = families[name]
    if cls is not None and not issubclass(family.cls, cls):
        found = with_article(family.cls.__name__)
        what = f"expected the model_type of {with_article(cls.__name__)}; found {name!r}, which is {found}"
        raise CheckpointError(task, [Fault(what, path=where)])
    return family


# Any: NumPy's type of dtypes has a parameter.
def _names_and_dtypes(
    directory: "str | os.PathLike[str]",
) -> "tuple[list[str], set[np.dtype[Any]]]":
    """The names of the arrays in the files of a directory, and their floating-point dtypes."""
    with open_safetensors(directory) as arrays:
        dtypes = {np.dtype(array.dtype) for array in arrays.values()}
        names = list(arrays)
    return names, {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}


def _dtype_of(dtype: DTypeLike | None, file_dtypes: "set[np.dtype[Any]]") -> Any:
    """The dtype of the parameters of a model: a NumPy dtype, whose type has a parameter."""
    if dtype is not None:
        return jnp.dtype(dtype)
    return widest(file_dtypes) if file_dtypes else jnp.dtype(jnp.float32)


# Any: NumPy's type of dtypes has a parameter.
def widest(dtypes: "set[np.dtype[Any]]") -> "np.dtype[Any]":
    """The dtype that holds the numbers of all of these."""
    # However strict a program is otherwise.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)


# Any: values of JSON, and arguments of a class.
def arguments_of(
    family: Family[Any], settings: dict[str, Any], ignore: Collection[str], task: str
) -> dict[str, Any]:
    """What the class of a family is called with, by its settings.

    Raises:
        CheckpointError: They are not what the family knows; names all.
    """
    source = Settings(settings)
    arguments = family.from_config(source)
    faults = source.check((*family.ignored, *ignore))
    if faults:
        raise CheckpointError(task, faults)
    return arguments
