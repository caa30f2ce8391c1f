"""The manifest of a model in the metadata of a file of arrays, so that the file alone says what model it is of.

    metadata    graphnode.manifest   what `save` would write of the model, without checksums
                graphnode.changes    what led from the model to the names and layout of the file

`write` puts them there where the changes have an inverse; `load` and `manifest` read them.
To every other program they are texts that it does not know.
"""

import json
import os
from collections.abc import Mapping
from typing import Final

from .._errors import CheckpointError, Fault
from ._changes import Changes
from ._manifest import (
    Manifest,
    ManifestFaultError,
    manifest_of,
    manifest_to_json,
    parse,
)
from ._safetensors import INDEX_SUFFIX, SUFFIX, open_safetensors

_MANIFEST: Final = "graphnode.manifest"
_CHANGES: Final = "graphnode.changes"


def embedded(manifest: Manifest, changes: Changes) -> dict[str, str]:
    """What the metadata of a file say of the model; nothing, where the changes have no inverse.

    Args:
        manifest: That of the model.
        changes: What led from the model to the file.
    """
    try:
        changes.inverse()
    except CheckpointError:
        return {}
    text = json.dumps(manifest_to_json(manifest))
    return {_MANIFEST: text, _CHANGES: changes.to_json()}


def is_array_file(path: str) -> bool:
    """Whether what is at a path would have its manifest in metadata: files of safetensors."""
    if path.endswith((SUFFIX, INDEX_SUFFIX)):
        return True
    names = os.listdir(path) if os.path.isdir(path) else []
    return any(name.endswith(SUFFIX) for name in names)


def embedded_manifest(path: str, task: str) -> tuple[Manifest, Changes]:
    """The manifest of the model that a file is of, and what leads from the file to the model.

    Raises:
        CheckpointError: The file cannot be read, or says nothing of a model.
    """
    with open_safetensors(path) as arrays:
        metadata: Mapping[str, str] = arrays.metadata
    if _MANIFEST not in metadata:
        what = "the file does not say what model it is of"
        hint = "gn.checkpoint.read(..., into=model) reads its arrays into one"
        raise CheckpointError(task, [Fault(what, hint=hint)])
    try:
        manifest = manifest_of(parse(metadata[_MANIFEST]))
    except ManifestFaultError as error:
        raise CheckpointError(task, [str(error)]) from None
    changes = Changes.from_json(metadata.get(_CHANGES, "[]"))
    return manifest, changes.inverse()
