"""`Summary`: what a model takes and does, as data and as a table."""

from typing import Any, Final, NamedTuple

from .._arguments import wrong_argument
from .._paths import path_str
from ._fold import folded, unfolded
from ._fold_notes import folded_notes
from ._rows import Activity, Item, Row, plain
from ._table import (
    Cells,
    RichTable,
    Table,
    cells_of,
    columns,
    html_of,
    number_text,
    numbers_of,
    text_of,
    with_calls,
)
from ._totals import Total, totals_of


class Options(NamedTuple):
    """How a summary is shown; see `Summary.view`."""

    depth: int | None = None
    states: bool | None = None
    fold: bool = True
    lines: int | None = 100


_DEFAULT: Final = Options()


class Summary:
    """What a model takes and does, by node and State. `print` shows a table, and so do notebooks and rich.

    Example:
        >>> summary = gn.summary(gn.nn.Linear(2, 3), "batch 2")
        >>> summary.parameters, summary.bytes, summary.flops, summary.symbols
        (9, 36, '12*batch', ('batch',))
    """

    def __init__(
        self,
        title: str,
        items: list[Item],
        activity: Activity | None,
        options: Options = _DEFAULT,
    ) -> None:
        self._title = title
        self._items = items
        self._activity = activity
        self._options = options

    @property
    def title(self) -> str:
        """The class of the model."""
        return self._title

    @property
    def rows(self) -> list[Row]:
        """What is shown, before equal siblings are folded: a row for each State; with inputs, one for each node.

        What the model itself holds and does has a line in the table, and no row.
        """
        return [item.row for item in self._shown()]

    @property
    def parameters(self) -> int:
        """Numbers in all States, each counted once."""
        return self._total("parameters")

    @property
    def bytes(self) -> int:
        """The size of all States."""
        return self._total("bytes")

    @property
    def flops(self) -> int | str | None:
        """Operations in products and convolutions; a formula where a size is symbolic, `None` without inputs."""
        return self._root().flops

    @property
    def symbols(self) -> tuple[str, ...]:
        """The sizes that are symbolic: what the summary says holds for every value of them, if no note excepts one."""
        return () if self._activity is None else self._activity.symbols

    @property
    def notes(self) -> tuple[str, ...]:
        """What the operations that are counted leave open, such as the number of rounds of a loop."""
        notes = () if self._activity is None else self._activity.notes
        return tuple(
            [
                text if path is None else f"{path_str(path) or self._title}: {text}"
                for path, text in notes
            ]
        )

    @property
    def totals(self) -> dict[str, Total]:
        """What the States take, by the name of their class, which has its module where two of them have one name."""
        return totals_of(self._items)

    def view(
        self,
        *,
        depth: int | None = None,
        states: bool | None = None,
        fold: bool = True,
        lines: int | None = _DEFAULT.lines,
    ) -> "Summary":
        """The same summary, shown otherwise.

        Args:
            depth: How many nodes below the model are shown; what is deeper counts in
                those above it. By default, all are.
            states: Whether there are rows of States beside those of nodes, or none of
                States. By default there are States alone without inputs, and nodes
                alone with inputs.
            fold: Whether equal neighbours in a list are one row, such as `blocks.0..23`.
            lines: How many rows the table has at most, and says how many more there are;
                `None` for all. The data is always complete.

        Raises:
            TypeError: `depth` or `lines` is not a whole number.
            ValueError: `depth` is negative, or `lines` is less than 1.

        Example:
            >>> gn.summary(gn.nn.MLP(2, 8, 3)).view(depth=1)
            path      class   parameters  bytes  shared with
            ------------------------------------------------
            layers.0  Linear          24     96
            layers.1  Linear          27    108
            ------------------------------------------------
            MLP                       51    204
        """
        _check_number("depth", depth, 0, "a depth of 0 or more (0 is the model alone)")
        _check_number("lines", lines, 1, "1 or more lines, or None for all")
        options = Options(depth, states, fold, lines)
        return Summary(self._title, self._items, self._activity, options)

    def to_dict(self) -> dict[str, Any]:  # Any: of JSON
        """All that is known, as data that can be written as JSON; `None` for what is not known.

        Example:
            >>> gn.summary(gn.nn.Linear(2, 3)).to_dict()["totals"]
            {'ParamState': {'parameters': 9, 'bytes': 36}}
        """
        return {
            "model": self._title,
            "parameters": plain(self.parameters),
            "bytes": plain(self.bytes),
            "flops": self.flops,
            "symbols": list(self.symbols),
            "totals": {
                kind: {"parameters": plain(count), "bytes": plain(size)}
                for kind, (count, size) in self.totals.items()
            },
            "rows": [_row_data(item) for item in self._items],
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        return text_of(self._table())

    def __rich__(self) -> object:
        return RichTable(self._table())

    def _repr_html_(self) -> str:
        return html_of(self._table())

    def _total(self, name: str) -> int:
        """The sum over all States."""
        return sum(getattr(item.row, name) for item in self._items if not item.is_node)

    def _root(self) -> Row:
        """What is known of the model as a whole."""
        first = self._items[0].row if self._items else None
        if first is not None and first.path == ():
            return first
        # A pytree of nodes has no row.
        return Row((), self._title, "", self.parameters, self.bytes, ())

    def _shown(self) -> list[Item]:
        """The rows that are shown, by the options."""
        return [item for item in self._items if self._is_shown(item)]

    def _is_shown(self, item: Item) -> bool:
        """Whether a row is shown; that of the model itself stands below the table."""
        depth, states = self._options.depth, self._options.states
        if item.row.path == () or (depth is not None and item.depth > depth):
            return False
        if states is None:
            # With a depth, what is deeper would be nowhere but in the rows of nodes.
            states_alone = self._activity is None and depth is None
            return item.is_node != states_alone
        return states or item.is_node

    def _table(self) -> Table:
        """The table, by the options."""
        fold = folded if self._options.fold else unfolded
        lines = [line for line in fold(self._items) if self._is_shown(line.item)]
        shown = [line.item for line in lines]
        has_nodes = any(item.is_node for item in shown) or self._activity is not None
        head = columns(
            states=not all(item.is_node for item in shown) or not has_nodes,
            nodes=has_nodes,
            calls=self._activity is not None,
        )
        left_out = len(lines[self._options.lines :]) if self._options.lines else 0
        body = [
            cells for line in lines[: self._options.lines] for cells in cells_of(line)
        ]
        if body and has_nodes:
            body = [*self._own_cells(has_states="shape" in head), *body]
        root = self._root()
        foot = with_calls({"path": self._title, **numbers_of(root)}, root.calls)
        notes = self._notes_below(has_nodes)
        if left_out:
            body.append({"path": "..."})
            rows = "row" if left_out == 1 else "rows"
            text = f"and {left_out:,} more {rows}: .view(lines=None) shows all"
            notes = (text, *notes)
        return Table(head, body, foot, notes)

    def _own_cells(self, has_states: bool) -> list[Cells]:
        """The line of what the model itself holds and does, and no row below it has; none where that is nothing.

        Args:
            has_states: Whether its States have rows.
        """
        root = self._items[0]
        if root.row.path != ():
            return []
        own = [
            item.row for item in self._items if item.parent == 0 and not item.is_node
        ]
        row = root.row._replace(
            parameters=sum(state.parameters for state in own),
            bytes=sum(state.bytes for state in own),
            flops=root.own_flops,
        )
        names = ["flops"] if has_states else ["parameters", "bytes", "flops"]
        if all(getattr(row, name) in {0, None} for name in names):
            return []
        cells = {name: text for name, text in numbers_of(row).items() if name in names}
        return [{"path": "(itself)", **cells}]

    def _notes_below(self, has_nodes: bool) -> tuple[str, ...]:
        """The lines below the table."""
        notes = () if self._activity is None else self._activity.notes
        lines = folded_notes(notes, self._title)
        if self._activity is not None and self.symbols and self._activity.holds:
            lines.insert(0, f"for every size of {', '.join(self.symbols)}")
        if has_nodes and len(self.totals) > 1:
            texts = [
                f"{kind} {number_text(total.parameters)} ({number_text(total.bytes)} bytes)"
                for kind, total in self.totals.items()
            ]
            lines.insert(0, f"parameters by class: {', '.join(texts)}")
        return tuple(lines)


def _row_data(item: Item) -> dict[str, Any]:  # Any: of JSON
    """A row as data of JSON, with paths as texts."""
    data = item.row._asdict()
    data["class"] = data.pop("kind")
    for name in ("parameters", "bytes"):
        data[name] = plain(data[name])
    data["path"] = path_str(item.row.path)
    data["others"] = list(map(path_str, item.row.others))
    data["calls"] = [call._asdict() for call in item.row.calls]
    return {"of": "node" if item.is_node else "state", **data}


# Any: a user may pass anything.
def _check_number(name: str, number: Any, least: int, takes: str) -> None:
    """Refuse an option that is neither `None` nor a whole number, or is too small."""
    if number is None:
        return
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(
            wrong_argument(f"an int or None as {name}", number, "gn.Summary.view")
        )
    if number < least:
        raise ValueError(f"gn.Summary.view takes {takes}; found {number}")
