"""What the model of a config takes and does, without making an array: forms of `gn.summary`, with places in files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._arguments import wrong_argument
from .._declare._node import Node
from .._errors import ConfigError, Fault, Place, by_place
from .._hints import did_you_mean, with_hint
from .._paths import Path as Path_
from .._paths import path_str
from .._split import clone
from .._summary._summarize import summarize
from .._summary._summary import Summary
from ..transforms import eval_shape
from ._build import abstractly, build, constructor_faults
from ._config import Config
from ._graph import visits
from ._override import override
from ._read import Files, check_no_faults
from ._walk import Walk, walk


# Any: inputs are pytrees of anything.
def summary(config: Config[Any] | Node, /, *inputs: Any, **named: Any) -> Summary:
    """What the model of a config takes, and what it does with its inputs: `gn.summary` of the model, not built.

    No array is made, unless a constructor needs its values, such as one that makes a
    static array.

    Args:
        config: What to summarize; a live model is taken as it is.
        *inputs: What the model is called with, as for `gn.summary`; without inputs, it
            is not called.
        **named: Inputs by name.

    Raises:
        SummaryError: Shapes do not fit; names all.
        TypeError: It is neither a config nor a node.

    Example:
        >>> gn.config.summary(gn.config.config_of(gn.nn.Linear)(in_size=2, out_size=3))
        path    class       shape     parameters  bytes  shared with
        ------------------------------------------------------------
        bias    ParamState  f32[3]             3     12
        weight  ParamState  f32[2,3]           6     24
        ------------------------------------------------------------
        Linear                                 9     36
    """
    model = config if isinstance(config, Node) else abstract_model(config)
    return summarize(model, inputs, named)


def abstract_model(config: Config[Any] | Node) -> Node:
    """The model of a config, or a copy of a live one, with shapes in place of arrays, for summaries and pictures."""
    if isinstance(config, Node):
        abstract: Node = eval_shape(lambda: clone(config))
        return abstract
    if isinstance(config, Config):
        model: Node = abstractly(lambda: build(config))
        return model
    raise TypeError(wrong_argument("a config or a node", config))


# Any: inputs as texts, or `...`.
def file_summary(
    path: Path,
    changes: Sequence[str],
    inputs: tuple[str, ...],
    named: Mapping[str, str],
    method: str | None = None,
) -> Summary:
    """What the model of a file takes and does; each fault has its place there.

    For the command `graphnode summary`.

    Args:
        path: The file.
        changes: Those of a command line.
        inputs: What the model is called with, as texts.
        named: The same, by name.
        method: The method that is called; by default, the model itself.

    Raises:
        ConfigError: All faults of the file or the changes; where they have none, those
            of the constructors.
        SummaryError: Shapes do not fit; has the faults of all nodes.
    """
    files = Files()
    config, walker = walk(files, files.read_file(path), Node)
    places = _Places(config, walker)
    changed = override(config, changes) if changes else config
    faults = [
        Fault(what, path=path_str(visit.path), place=places.of(visit.path))
        for visit, what in constructor_faults(changed)
    ]
    check_no_faults(sorted(faults, key=by_place))
    model = abstract_model(changed)
    target = model if method is None else _method(model, method)
    return summarize(target, inputs, named, places.of)


class _Places:
    """Where the nodes of a file stand in it."""

    def __init__(self, config: Config[Any], walker: Walk) -> None:
        self._places = {
            visit.path: walker.fault_of(visit.config, "").place
            for visit in visits(config)
        }

    def of(self, path: Path_) -> Place:
        """The place of the node at a path; of what a constructor has made, that of the node which it was made for."""
        for length in range(len(path), -1, -1):
            if path[:length] in self._places:
                return self._places[path[:length]]
        return Place()


# Any: a bound method.
def _method(model: Node, name: str) -> Any:
    """A method of a model by its name.

    Raises:
        ConfigError: The class has none.
    """
    method = getattr(model, name, None)
    if callable(method):
        return method
    cls = type(model)
    names = [other for other in dir(cls) if not other.startswith("_")]
    text = f"{cls.__name__} has no method {name!r}"
    raise ConfigError([with_hint(text, did_you_mean(name, names))])
