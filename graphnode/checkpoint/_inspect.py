"""Read the manifest of a checkpoint, for programs and for the command line."""

import os

from ._embedded import embedded_manifest, is_array_file
from ._files import absolute, located, read_manifest
from ._manifest import Manifest


def manifest(path: "str | os.PathLike[str]", /) -> Manifest:
    """What a checkpoint holds: paths, classes, shapes, dtypes, sharing, static values and metadata. No array is read.

    None of the classes of the model needs to be imported, nor Orbax. Of a file of
    safetensors that `write` has made, it is that of the model.

    Raises:
        CheckpointError: There is nothing of graphnode at the path.

    Example:
        >>> gn.checkpoint.save("runs/run", gn.nn.Linear(2, 3), metadata={"loss": 0.5})
        >>> gn.checkpoint.manifest("runs/run").metadata
        {'loss': 0.5}
    """
    task = f"cannot read {os.fspath(path)}"
    if is_array_file(absolute(path)):
        return embedded_manifest(absolute(path), task)[0]
    return read_manifest(located(absolute(path), task), task)[0]
