"""An object as HTML: nested `<details>`, without a script, a style sheet or a font from elsewhere.

What is closed is in the page, but a browser lays it out only when it is opened, so that ten
thousand nodes are no burden. It reads the same where a page may have no scripts, as on GitHub,
and there may be any number of objects on a page.
"""

import secrets
from html import escape
from typing import Final

from ._fold import Group
from ._screen import Row, Screen
from ._tree import ROOT
from ._walk import tree_of

# Several megabytes, and some ten thousand nodes.
_MAX_ENTRIES: Final = 100_000
# Browsers nest about five hundred elements, and put what is deeper beside them.
_MAX_LEVELS: Final = 200
# What is open at first, and how much is put on one line.
_LINES: Final = 32
_WIDTH: Final = 110

# The background is the page's, which may be light or dark, whatever the system prefers:
# so colours are those that can be read on both, and others are shades of the text.
_STYLE: Final = """
.graphnode{font:13px/1.5 ui-monospace,Menlo,Consolas,monospace;overflow-x:auto;text-align:left}
.graphnode details>:not(summary){margin-left:1.6em}
.graphnode details>div,.graphnode>div{padding-left:1.1em;white-space:pre-wrap;overflow-wrap:anywhere}
.graphnode summary{display:list-item;cursor:pointer;padding:0;margin:0}
.graphnode summary:hover{background:rgba(127,127,127,.15)}
.graphnode b{color:#1f7ad1;font-weight:inherit}
.graphnode summary b{font-weight:600}
.graphnode i{font-style:normal;opacity:.75}
.graphnode small{font-size:92%;opacity:.65;margin-left:1.2em}
.graphnode a{color:#1f7ad1;opacity:1}
.graphnode :target{outline:2px solid #1f7ad1;outline-offset:1px}
""".replace("\n", "")


def _new_name() -> str:
    """A name that ids begin with, so that a link leads to its own display."""
    # Not of the content: two models of one structure may be on a page. Not a number that
    # counts: a notebook keeps what several processes have displayed.
    return f"gn{secrets.token_hex(5)}"


def html(value: object) -> str:
    """What `repr` knows of an object, and all that it leaves out, as a part of a page."""
    return _Page(value).text()


class _Page:
    """One object as HTML.

    Attributes:
        screen: Makes the rows; what it has opened is open at first.
        rows: For each entry that can be opened, the rows in it.
        anchors: For each entry that others refer to, the entry whose row a link leads to.
        name: The beginning of ids, which no other display has.
    """

    def __init__(self, value: object) -> None:
        tree = tree_of(value, _MAX_ENTRIES)
        # Without indentation, as a page is as wide as it needs to be.
        self.screen = Screen(tree, _WIDTH, _MAX_LEVELS, _LINES, indent="")
        self.top = self.screen.row(Group(ROOT, "", 1), 0)
        self.rows: dict[int, list[Row]] = {}
        self.collect()
        shown = {row.number for rows in self.rows.values() for row in rows}
        targets = {entry.target for entry in tree.entries if entry.target >= 0}
        self.anchors = {target: self.anchor(target, shown) for target in targets}
        self.ids = set(self.anchors.values())
        self.name = _new_name()

    def collect(self) -> None:
        """Make the rows of everything that can be opened."""
        closed = [self.top]
        while closed:
            row = closed.pop()
            if row.is_closed and row.level < _MAX_LEVELS:
                self.rows[row.number] = rows = self.screen.rows_of(row)
                closed += rows

    def anchor(self, target: int, shown: set[int]) -> int:
        """The entry whose row shows another one: itself, or the innermost one around it that has a row."""
        while target not in shown and target != ROOT:
            target = self.screen.tree.entries[target].parent
        return target

    def text(self) -> str:
        """The whole, with its style."""
        parts = [f'<div class="graphnode"><style>{_STYLE}</style>']
        # The next one last; without recursion, as nodes nest deeply.
        todo: list[Row | str] = [self.top]
        while todo:
            row = todo.pop()
            if isinstance(row, str):
                parts.append(row)
                continue
            rows = self.rows.get(row.number) if row.is_closed else None
            if rows is None:
                parts.append(
                    f"<div{self.id(row)}>{self.line(row, self.named(row))}</div>"
                )
                continue
            parts.append(self.summary(row))
            todo.append("</details>")
            todo += reversed(rows)
        return "".join([*parts, "</div>"])

    def summary(self, row: Row) -> str:
        """The beginning of a row that can be opened, which is open if it fits into the first screen."""
        is_open = row.number in self.screen.opened
        entry = self.screen.tree.entries[row.number]
        # Without the dots, which would say that it is closed.
        text = row.text.replace("... ", "") if entry.is_list else entry.head[:-1]
        line = self.line(row, f"<b>{escape(text)}</b>")
        return f"<details{self.id(row)}{' open' * is_open}><summary>{line}</summary>"

    def named(self, row: Row) -> str:
        """The text of a row that cannot be opened, with the name of an object in its colour."""
        entry = self.screen.tree.entries[row.number]
        name = entry.head.removesuffix("(")
        if entry.is_plain or entry.is_list or not row.text.startswith(name):
            return escape(row.text)
        return f"<b>{escape(name)}</b>{escape(row.text[len(name) :])}"

    def line(self, row: Row, body: str) -> str:
        """The content of a row: label, text, and what is said of it, which is a link if it stands elsewhere."""
        label = f"<i>{escape(row.label)}</i>" if row.label else ""
        if not row.note:
            return label + body
        note = escape(row.note)
        target = self.screen.tree.entries[row.number].target
        if target >= 0:
            note = f'<a href="#{self.name}-{self.anchors[target]}">{note}</a>'
        return f"{label}{body}<small>{note}</small>"

    def id(self, row: Row) -> str:
        """The attribute of a row that links lead to."""
        return f' id="{self.name}-{row.number}"' if row.number in self.ids else ""
