"""`save`, from a model to a directory in the layout of Hugging Face."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any, Final

import jax.numpy as jnp

from .._declare._schema import schema
from .._errors import CheckpointError, Fault
from .._fields import Kind
from .._graph._diff import diff
from .._hints import with_article
from .._paths import path_str
from .._split import graphdef, states
from .._state import ParamState
from ..checkpoint import Changes, Drop, Rename, write
from ..nn import Module
from ..transforms import eval_shape
from ._families import known_families
from ._family import Family
from ._load import CONFIG, arguments_of, widest
from ._settings import IGNORED

# What a model has while it runs, and no settings say.
_OF_A_RUN: Final = ("cache", "context_cache", "deterministic", "remat", "remat_policy")
_ENDINGS: Final = (".safetensors", ".safetensors.index.json")
# What the library of the layout writes, unless it is told otherwise.
_SHARD_BYTES: Final = 5 * 10**9


# Any: values of JSON.
def save(
    model: Module,
    directory: "str | os.PathLike[str]",
    /,
    *,
    config: Mapping[str, Any] | None = None,
    max_shard_bytes: int = _SHARD_BYTES,
    overwrite: bool = False,
) -> None:
    """Write a model of a known family to a directory in the layout of Hugging Face, for `load` and `transformers`.

    Arrays keep their dtype. Caches and other States that are no parameters are left out.

    Args:
        model: The model.
        directory: The directory, which may be there, with other files in it.
        config: Settings that say more of the model, such as those of the directory that
            it came from (`gn.families.config`): special tokens, lengths of texts. What
            the model itself says counts more.
        max_shard_bytes: No file has more bytes of arrays, unless one array has; of
            several files there is an index.
        overwrite: Whether a `config.json` and files of safetensors in the directory are
            replaced.

    Raises:
        CheckpointError: The model is of no known family; its parts are no longer those
            that such settings make; or files are there. Names all.

    Example:
        >>> import os
        >>> gn.families.save(gn.families.Llama(5, 8, 2, 2, hidden_size=12), "models/llama", config={"eos_token_id": 2})
        >>> sorted(os.listdir("models/llama")), gn.families.config("models/llama")["eos_token_id"]
        (['config.json', 'model.safetensors'], 2)

    See also: `load`, the inverse; `gn.checkpoint.save`, for whole runs.
    """
    task = f"cannot save to {os.fspath(directory)}"
    family = _family_of(model, task)
    path = os.path.abspath(os.path.expanduser(os.fspath(directory)))
    if os.path.exists(path) and not os.path.isdir(path):
        raise CheckpointError(task, ["expected a directory; found a file"])
    present = _written_files(path)
    if present and not overwrite:
        what = (
            f"it has {', '.join(present)} already; pass overwrite=True to replace them"
        )
        raise CheckpointError(task, [what])
    content = _settings(model, family, config or {})
    _check_says_all(model, family, content, task)
    others = [
        Drop(path_str(at))
        for at, state in states(model).items()
        if not isinstance(state, ParamState)
    ]
    changes = family.table(model).inverse()
    if family.is_bare(model):
        changes = Changes([*changes, Rename(f"{family.prefix}**", "**")])
    os.makedirs(path, exist_ok=True)
    # Beside what it replaces: from there, a rename moves it.
    with tempfile.TemporaryDirectory(dir=path, prefix=".graphnode-new-") as new:
        weights = os.path.join(new, "weights")
        # Other programs ask the metadata which library knows the names.
        write(
            model,
            weights,
            changes=[*others, *changes],
            metadata={"format": "pt"},
            max_shard_bytes=max_shard_bytes,
        )
        with open(os.path.join(weights, CONFIG), "w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=2, sort_keys=True)
            stream.write("\n")
        written = os.listdir(weights)
        # The settings last: without them, nothing is loaded.
        for name in sorted(written, key=lambda name: name == CONFIG):
            shutil.move(os.path.join(weights, name), os.path.join(path, name))
    for name in set(present) - set(written):
        os.remove(os.path.join(path, name))


def _family_of(model: Module, task: str) -> Family[Any]:
    """The family of a model.

    Raises:
        CheckpointError: There is none.
    """
    families = known_families().values()
    for family in families:
        if type(model) is family.cls:
            return family
    names = ", ".join(sorted(family.cls.__name__ for family in families))
    what = f"expected a model of the class {names}; found {with_article(type(model).__name__)}"
    raise CheckpointError(task, [what])


def _written_files(path: str) -> list[str]:
    """The files in a directory that `save` writes."""
    names = sorted(os.listdir(path)) if os.path.isdir(path) else []
    return [name for name in names if name == CONFIG or name.endswith(_ENDINGS)]


# Any: values of JSON, and families of all classes.
def _settings(
    model: Module, family: Family[Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """What `config.json` says: of the model, and what is known of it beside that."""
    dtypes = {
        jnp.dtype(state.value.dtype) for state in states(model, ParamState).values()
    }
    own = {"model_type": family.model_type, **family.to_config(model)}
    if dtypes:
        own["torch_dtype"] = widest(dtypes).name
    # Later versions say `dtype`; earlier ones know the other name alone, and all read that.
    kept = {*IGNORED, *family.ignored} - {"dtype"}
    return {**{key: config[key] for key in config if key in kept}, **own}


# Any: values of JSON, and families of all classes.
def _check_says_all(
    model: Module, family: Family[Any], content: dict[str, Any], task: str
) -> None:
    """Raise if a model is not what its settings make, since a part of it was exchanged or assigned to.

    Raises:
        CheckpointError: Names all places that differ.
    """

    def build() -> Module:
        arguments = arguments_of(family, content, (), task)
        # What no settings say, such as whether layers are stacked, is as it is.
        fields = schema(family.cls).fields.values()
        own = {
            field.name: getattr(model, field.name)
            for field in fields
            if field.kind is Kind.STATIC and field.init
        }
        result: Module = family.cls(**{**own, **arguments})
        return result

    differences = diff(graphdef(eval_shape(build)), graphdef(model))
    faults = [
        Fault(
            f"expected {one.left}, as its settings make it; found {one.right}",
            path=path_str(one.path),
        )
        for one in differences
        if not one.path or one.path[-1] not in _OF_A_RUN
    ]
    if faults:
        raise CheckpointError(task, faults)
