"""What a model takes, by State: shapes, parameters and bytes, as a table, without making an array."""

from typing import Any, NamedTuple

import jax
import numpy as np

from .._arguments import wrong_argument
from .._declare._node import Node
from .._describe import shape_text
from .._inspect import aliases, nodes
from .._paths import Path, path_str
from .._split import clone, states
from ..transforms import eval_shape
from ._build import abstractly, build
from ._config import Config


class Row(NamedTuple):
    """One State of a model that was not built: its path, class, and what it takes."""

    path: Path
    kind: str
    shape: str
    parameters: int
    bytes: int
    others: tuple[Path, ...]


class Summary:
    """What a model takes, by State. `print` shows a table.

    Attributes:
        rows: One for each State.
        parameters: Numbers in all of them.
        bytes: Their size.
    """

    def __init__(self, title: str, rows: list[Row]) -> None:
        self.title: str = title
        self.rows: list[Row] = rows
        self.parameters: int = sum(row.parameters for row in rows)
        self.bytes: int = sum(row.bytes for row in rows)

    def __repr__(self) -> str:
        head = ("path", "class", "shape", "parameters", "bytes", "shared with")
        body = [
            (
                path_str(row.path),
                row.kind,
                row.shape,
                f"{row.parameters:,}",
                f"{row.bytes:,}",
                _few(row.others),
            )
            for row in self.rows
        ]
        foot = (self.title, "", "", f"{self.parameters:,}", f"{self.bytes:,}", "")
        rows = [head, *body, foot]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines: list[str] = []
        for row in rows:
            cells = [_padded(cell, widths[at], at) for at, cell in enumerate(row)]
            lines.append("  ".join(cells).rstrip())
        # The rule is as long as the rows were before their blanks were taken away.
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _few(paths: tuple[Path, ...], limit: int = 2) -> str:
    """The shortest of some paths, for a cell of the table: through the cycles of a graph there are many."""
    text = ", ".join(map(path_str, sorted(paths, key=len)[:limit]))
    return f"{text} and {len(paths) - limit} more" if len(paths) > limit else text


def _padded(cell: str, width: int, at: int) -> str:
    """A cell as wide as its column; numbers, which are in columns 3 and 4, stand to the right."""
    return cell.rjust(width) if at in (3, 4) else cell.ljust(width)


def summary(config: Config[Any] | Node, /) -> Summary:
    """What the model of a config takes: shapes, numbers of parameters and bytes.

    No array is made, unless a constructor needs its values, such as one that makes a
    static array.

    Args:
        config: What to summarize; a live model is taken as it is.

    Raises:
        TypeError: It is neither a config nor a node.

    Example:
        >>> gn.config.summary(gn.config.config_of(gn.nn.Linear)(in_size=2, out_size=3))
        path    class       shape         parameters  bytes  shared with
        ----------------------------------------------------------------
        bias    ParamState  float32[3]             3     12
        weight  ParamState  float32[2,3]           6     24
        ----------------------------------------------------------------
        Linear                                     9     36
    """
    model = abstract_model(config)
    others = aliases(model)
    # Not the root, whose other paths lead through a cycle.
    inner = [path for path in nodes(model) if path]
    shared_nodes = {path: others[path] for path in inner if path in others}
    rows: list[Row] = []
    for path, state in states(model).items():
        other_paths = _others(path, others.get(path, ()), shared_nodes)
        rows.append(_row(path, type(state).__name__, state._value, other_paths))
    return Summary(type(model).__name__, rows)


def abstract_model(config: Config[Any] | Node) -> Node:
    """The model of a config, or a copy of a live one, with shapes in place of arrays, for summaries and pictures."""
    if isinstance(config, Node):
        abstract: Node = eval_shape(lambda: clone(config))
        return abstract
    if isinstance(config, Config):
        model: Node = abstractly(lambda: build(config))
        return model
    raise TypeError(wrong_argument("a config or a node", config))


def _others(
    path: Path, own: tuple[Path, ...], shared_nodes: dict[Path, tuple[Path, ...]]
) -> tuple[Path, ...]:
    """The further paths of a State: its own, and those through a node that is shared.

    The table says where else a State is, as it counts once.
    """
    paths = list(own)
    for length in range(len(path)):
        starts = shared_nodes.get(path[:length], ())
        paths += [(*start, *path[length:]) for start in starts]
    return tuple(paths)


def _row(path: Path, kind: str, value: Any, others: tuple[Path, ...]) -> Row:
    """The row of a State in the table, from its path, class, value (a pytree of arrays) and other paths."""
    leaves = jax.tree.leaves(value)
    parameters = size = 0
    for leaf in leaves:
        count = int(np.prod(leaf.shape))
        parameters += count
        size += count * leaf.dtype.itemsize
    shape = str(jax.tree.map(lambda leaf: _Unquoted(shape_text(leaf)), value))
    return Row(path, kind, shape, parameters, size, others)


class _Unquoted(str):
    """A text that stands without quotes in the `repr` of a container."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
