"""`gn.config.load`, `loads` and `validate`: files, texts and plain data into configs.

The arguments for files of other programs are repeated in each signature, so that
editors complete them; `_dialect` has what they mean.
"""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from .._arguments import wrong_argument
from .._errors import ConfigError
from ._config import Config
from ._dialect import OURS, dialect_of, with_own_containers
from ._formats import FORMATS
from ._read import Document, Files
from ._walk import M, walk


def validate(
    raw: Mapping[str, Any],
    cls: type[M],
    /,
    *,
    rename: Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
    names: Mapping[str, Any] | None = None,
    skip_null: bool = False,
) -> Config[M]:
    """The config that plain data describes, such as `yaml.safe_load` or another configuration library gives.

    The same object in two places is one node; `id:` and `ref:` work as in files.

    Args:
        raw: The data. They stay as they are.
        cls: The class of the model; the data may name a subclass.
        rename: As in `load`, like all that follow.
        ignore: Paths and globs of what is left out.
        names: What names mean here.
        skip_null: Whether null stands for a value that is left out.

    Raises:
        ConfigError: All faults, by path.
        PathError: A path of `rename` or `ignore` does not parse.

    Example:
        >>> config = gn.config.validate({"in_size": 2, "out_size": 3}, gn.nn.Linear)
        >>> config.in_size
        2
    """
    files = Files()
    document = Document("", None)
    dialect = dialect_of(rename, ignore, names, skip_null)
    document.root = raw if dialect is OURS else with_own_containers(raw)
    return walk(files, document, cls, dialect)[0]


def load(
    path: str | Path,
    cls: type[M],
    /,
    *,
    rename: Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
    names: Mapping[str, Any] | None = None,
    skip_null: bool = False,
) -> Config[M]:
    """The config that a file describes: YAML, JSON or TOML, by its suffix.

    A file of another program may use other words: `rename`, `ignore`, `names` and
    `skip_null` translate them, for this call. What is left is held to the class as
    strictly as in a file of one's own.

    Args:
        path: The file. Files that it includes lie beside or below it.
        cls: The class of the model; the file may name a subclass.
        rename: From paths in the file to the ones that their values have here:
            `{"hidden_size": "width", "model_type": "type", "rope.theta": "rope_base"}`.
            What is not in the file is not renamed.
        ignore: What is left out, by the names here: paths, whatever stands there, and
            globs (`"*"`, `"*_token_id"`), of what no field takes. A key that is left
            out by a glob, and is much like one that is not given, is an error.
        names: What the names of functions, other values and classes mean, before those
            that are registered: `{**gn.config.HUGGING_FACE, "llama": Llama}`.
        skip_null: Whether null stands for what is not given, where a field with a
            default does not take it.

    Raises:
        ConfigError: All faults, each as `file:line:column: path: what is wrong`.
        PathError: A path of `rename` or `ignore` does not parse.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "model.yaml")
        ...     _ = file.write_text("{in_size: 2, out_size: 3}")
        ...     gn.config.load(file, gn.nn.Linear).out_size
        3
    """
    if not isinstance(path, (str, PathLike)):
        raise TypeError(wrong_argument("a path first", path))
    files = Files()
    dialect = dialect_of(rename, ignore, names, skip_null)
    return walk(files, files.read_file(Path(path)), cls, dialect)[0]


def loads(
    text: str,
    cls: type[M],
    /,
    *,
    format: str = "yaml",
    name: str = "",
    rename: Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
    names: Mapping[str, Any] | None = None,
    skip_null: bool = False,
) -> Config[M]:
    """The config that a text describes, as `load` reads it from a file.

    Args:
        text: The text.
        cls: The class of the model.
        format: `yaml`, `json` or `toml`.
        name: What messages call the text.
        rename: As in `load`, like all that follow.
        ignore: Paths and globs of what is left out.
        names: What names mean here.
        skip_null: Whether null stands for a value that is left out.

    Raises:
        ConfigError: All faults.
        PathError: A path of `rename` or `ignore` does not parse.

    Example:
        >>> gn.config.loads("{in_size: 2, out_size: 3}", gn.nn.Linear).out_size
        3
    """
    if format not in FORMATS:
        raise ConfigError([f"no format {format!r}: one of {', '.join(FORMATS)}"])
    if not isinstance(text, str):
        raise TypeError(wrong_argument("a text first", text))
    files = Files()
    dialect = dialect_of(rename, ignore, names, skip_null)
    return walk(files, files.read_text(text, name, format), cls, dialect)[0]
