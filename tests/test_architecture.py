"""The map of the code, `docs/architecture.md` and the READMEs of folders, names what there is, and all of it."""

import ast
import builtins
import difflib
import functools
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import graphnode as gn
from tests.docrun import ROOT, Fence, parse_fences

PACKAGE = ROOT / "graphnode"
MAP = ROOT / "docs" / "architecture.md"
READMES = sorted(PACKAGE.glob("*/README.md"))
PAGES = [MAP, *READMES, ROOT / "CONTRIBUTING.md"]


def page_name(page: Path) -> str:
    """How messages call a page."""
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_page_names_what_there_is(page: Path):
    """Every module, function, class, path and link on a page leads somewhere."""
    faults = page_faults(page.read_text(encoding="utf-8"), page)
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("page", [MAP, *READMES], ids=page_name)
def test_the_pictures_are_well_formed(page: Path):
    """Every line of a Mermaid block is a statement of its kind of diagram."""
    faults = [fault for fence in _fences(page) for fault in diagram_faults(fence, page_name(page))]
    assert not faults, "\n" + "\n".join(faults)


def test_the_map_has_every_module():
    """A module that is new stands on the map, or in the README of its folder."""
    missing = [
        f"{page_name(page)} does not name {module}"
        for page in (MAP, *READMES)
        for module in _modules_of(page)
        if f"`{module}`" not in page.read_text(encoding="utf-8")
    ]
    assert not missing, "\n" + "\n".join(missing)


def test_docstrings_and_comments_name_what_there_is():
    """A private name that a docstring or comment mentions is that of a module, or stands in the code."""
    texts = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    known = {part for module in module_scopes() for part in module.split(".")}
    for text in texts.values():
        known.update(re.findall(r"(?<!`)\b_\w+", text))
    faults = [
        f"{page_name(path)}:{number}: nothing is called {name}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        for name in re.findall(r"`(_[a-z]\w*)", line)
        if name not in known
    ]
    assert not faults, "\n" + "\n".join(faults)


def _modules_of(page: Path) -> list[str]:
    """The modules that a page is about: those beside a README, those and the folders of the package for the map."""
    folder = PACKAGE if page == MAP else page.parent
    modules = [path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__")]
    return sorted([*modules, *[path.parent.name for path in folder.glob("*/__init__.py")]])


# What there is


@dataclass(frozen=True)
class Scope:
    """The names that a module or class defines, apart from what it imports or inherits.

    Attributes:
        names: The statement that defines each.
        bases: The names of the classes that a class extends.
    """

    names: Mapping[str, ast.AST]
    bases: Sequence[str] = ()


def scope_of(node: ast.Module | ast.ClassDef) -> Scope:
    """What a module or class defines."""
    names: dict[str, ast.AST] = {name: child for child in _statements(node.body) for name in _defined(child)}
    if isinstance(node, ast.Module):
        return Scope(names)
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
            owner = child.value
            if isinstance(owner, ast.Name) and owner.id == "self":
                names.setdefault(child.attr, child)
    slots = names.get("__slots__")
    if slots is not None:
        texts = [child.value for child in ast.walk(slots) if isinstance(child, ast.Constant)]
        names |= {text: slots for text in texts if isinstance(text, str)}
    # Of `Memo[K, V]`, the name; of `module.Base`, the last part.
    bases = [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases]
    return Scope(names, bases)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, those under `if` and `try` too."""
    for child in body:
        yield child
        for part in ("body", "orelse", "handlers", "finalbody"):
            if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from _statements(getattr(child, part, ()))


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        targets = [name for target in statement.targets for name in ast.walk(target)]
        yield from (name.id for name in targets if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store))
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id


@functools.cache
def module_scopes() -> Mapping[str, Scope]:
    """The modules of the package, by their dotted names within it: `_graph._binding`, `config._walk`."""
    scopes: dict[str, Scope] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        scopes[name] = scope_of(ast.parse(path.read_text(encoding="utf-8")))
    return scopes


@functools.cache
def classes() -> Mapping[str, Sequence[Scope]]:
    """The classes of the package by their names, of which several may have one."""
    found: dict[str, list[Scope]] = {}
    for scope in module_scopes().values():
        for name, definition in scope.names.items():
            if isinstance(definition, ast.ClassDef):
                found.setdefault(name, []).append(scope_of(definition))
    return found


@functools.cache
def all_names() -> frozenset[str]:
    """What any module of the package defines, the constants of tests, such as `LAYERS`, and what Python defines."""
    names = {name for scope in module_scopes().values() for name in scope.names}
    for path in (ROOT / "tests").glob("test_*.py"):
        # Not parsed, which would take longer than all else here.
        names |= set(re.findall(r"^([A-Z]+)\b.* = ", path.read_text(encoding="utf-8"), re.MULTILINE))
    return frozenset(names.union(dir(builtins)))


def member_of(scope: Scope, name: str) -> ast.AST | None:
    """What a class, or one that it extends, defines under a name."""
    if name in scope.names:
        return scope.names[name]
    inherited = (member_of(base, name) for text in scope.bases for base in classes().get(text, ()))
    return next((member for member in inherited if member is not None), None)


# What a page says


_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE = re.compile(r"[\w.*/-]+(?:/|\.(?:py|md|toml|ini|txt|json))|[\w.*-]+(?:/[\w.*-]+)+")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
_LABEL = re.compile(r'"([^"]*)"')


def page_faults(text: str, page: Path) -> list[str]:
    """What a page names that is not there, each as `page:line: what is wrong`."""
    faults: list[str] = []
    lines = text.splitlines()
    pictures = set[int]()
    for fence in parse_fences(text, page_name(page)):
        if fence.words == ("mermaid",):
            pictures |= set(range(fence.first, fence.last))
        else:
            lines[fence.first : fence.last] = [""] * (fence.last - fence.first)
    for at, line in enumerate(lines):
        found = [name_fault(name, page.parent) for name in _named(line, is_picture=at in pictures)]
        found += [link_fault(target, page, text) for target in _LINK.findall(line)]
        if line.replace("```", "").count("`") % 2:
            found.append("code must begin and end on one line")
        faults += [f"{page_name(page)}:{at + 1}: {fault}" for fault in found if fault]
    return faults


def _named(line: str, *, is_picture: bool) -> Iterator[str]:
    """What a line puts in code, and in a picture each name with a dot or a leading underscore."""
    if not is_picture:
        yield from _CODE.findall(line)
        return
    for label in _LABEL.findall(line) or [line.partition(": ")[2]]:
        for word in re.split(r"<br/>|[\s,:;()]+", label):
            if _DOTTED.fullmatch(word) or word.startswith("_"):
                yield word


def name_fault(code: str, folder: Path) -> str | None:
    """What is wrong with a name; `None` for what leads somewhere, and for what is not a name of ours.

    Args:
        code: What stands between backticks: a call may have its arguments.
        folder: Where the page lies: in a README, names of the folder's own modules need not repeat the folder's.
    """
    name = code.partition("(")[0]
    if _FILE.fullmatch(name):
        return None if any(any(base.glob(name)) for base in (folder, ROOT, PACKAGE)) else f"{name}: no such file"
    if name.startswith("gn."):
        return _public_fault(name)
    if _DOTTED.fullmatch(name) or re.fullmatch(r"_[a-z]\w*", name):
        return _inner_fault(name, folder)
    if re.fullmatch(r"[A-Z]\w+", name):
        known = all_names()
        return None if name in known else f"{name}: nothing of this name is defined{_nearest(name, known)}"
    return None


def _public_fault(name: str) -> str | None:
    value: object = gn
    for part in name.split(".")[1:]:
        if not hasattr(value, part):
            return f"{name}: no public name"
        value = getattr(value, part)
    return None


def _inner_fault(name: str, folder: Path) -> str | None:
    """What is wrong with `module`, `module.function`, `module.Class.member` or `Class.member`."""
    parts = name.split(".")
    prefix = (folder.name,) if folder.parent == PACKAGE else ()
    for start in (prefix, ()):
        for end in range(len(parts), 0, -1):
            module = ".".join([*start, *parts[:end]])
            if module in module_scopes():
                return _rest_fault(name, module_scopes()[module], parts[end:], f"graphnode.{module}")
    if parts[0] in classes():
        faults = [_rest_fault(name, scope, parts[1:], parts[0]) for scope in classes()[parts[0]]]
        return None if None in faults else faults[0]
    if len(parts) > 1 and importlib.util.find_spec(parts[0]) is not None:
        return None  # of another library
    return f"{name}: no module{_nearest(name, module_scopes())}"


def _rest_fault(name: str, scope: Scope, rest: Sequence[str], owner: str) -> str | None:
    for part in rest:
        found = member_of(scope, part)
        if found is None:
            return f"{name}: {owner} defines no {part!r}{_nearest(part, scope.names)}"
        scope = scope_of(found) if isinstance(found, ast.ClassDef) else Scope({})
        owner = f"{owner}.{part}"
    return None


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def link_fault(target: str, page: Path, text: str) -> str | None:
    """What is wrong with the target of a link on a page of this text."""
    path, _, anchor = target.partition("#")
    if "://" in path:
        return None
    file = page.parent / path
    if not file.exists():
        return f"{target}: no such file"
    there = text if not path else file.read_text(encoding="utf-8") if anchor else ""
    headings = re.findall(r"^#+ (.*)$", there, re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return f"{target}: no such heading" if anchor and anchor not in anchors else None


# Pictures

# To Mermaid, these are the beginnings of other statements.
_RESERVED = "call|class|classDef|click|default|end|flowchart|graph|href|interpolate|linkStyle|style|subgraph"
_NODE = rf"(?!(?:{_RESERVED})\b)\w+" + r'(?:\["[^"]*"\]|\(\["[^"]*"\]\)|\{"[^"]*"\})?'
_ARROW = r'(?:-->|-\.->|==>)(?:\|"[^"]*"\|)?'
# What is used here of each kind of diagram, line by line: no more than GitHub shows for certain.
DIAGRAMS: Mapping[str, str] = {
    "flowchart (?:LR|TB)": "|".join(
        [rf"{_NODE}(?: (?:{_ARROW}|&) {_NODE})*", r'subgraph \w+(?:\["[^"]*"\])?', "direction (?:LR|TB)", "end"]
    ),
    "sequenceDiagram": "|".join(
        [r"participant \w+ as [^;#]+", r"\w+-?->>\w+: [^;#]+", r"Note (?:over|right of) \w+(?:,\w+)?: [^;#]+"]
    ),
}


def _fences(page: Path) -> Iterator[Fence]:
    """The pictures of a page."""
    fences = parse_fences(page.read_text(encoding="utf-8"), page_name(page))
    return (fence for fence in fences if fence.words == ("mermaid",))


def diagram_faults(fence: Fence, page: str) -> list[str]:
    """The lines of a picture that are no statement of its kind, each as `page:line: what is wrong`."""
    first, *rest = fence.text.splitlines() or [""]
    statement = next((DIAGRAMS[kind] for kind in DIAGRAMS if re.fullmatch(kind, first.strip())), None)
    if statement is None:
        return [f"{page}:{fence.first + 1}: not a kind of diagram that is known here: {first.strip()}"]
    lines = [line.strip() for line in rest]
    faults = [
        f"{page}:{fence.first + at}: not a statement of the diagram: {line}"
        for at, line in enumerate(lines, 2)
        if line and not re.fullmatch(statement, line)
    ]
    opened = sum(line.startswith("subgraph ") for line in lines)
    if opened != lines.count("end"):
        faults.append(f"{page}:{fence.first + 1}: {opened} subgraph and {lines.count('end')} end")
    return faults


# The rules notice what they are for


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "`_graph._flatten.walk`, `config._walk.Walk.run`, `Binding.groups`, `_static._table.KINDS`, `_split`",
            None,
        ),
        ("`State._value`, `Memo.of`, `ParamState.value`, `jax.jit`, `gn.config.load`, `LAYERS`, `type: x`", None),
        (
            "`graphnode/_graph/_binding.py`, `_class_faults.py`, `docs/`, `docs/*.md`, [a](limits.md), [b](#the-map)",
            None,
        ),
        ("`_bindings`", "_bindings: no module; did you mean 'check._findings'?"),
        (
            "`_graph._flatten.wlak`",
            "_graph._flatten.wlak: graphnode._graph._flatten defines no 'wlak'; did you mean 'walk'?",
        ),
        # Imported there, and defined elsewhere: `_split` would still have the name if `_graph._binding` was renamed.
        ("`_split.binding_of`", "_split.binding_of: graphnode._split defines no 'binding_of'"),
        ("`Binding.group`", "Binding.group: Binding defines no 'group'; did you mean 'groups'?"),
        ("`Bindings`", "Bindings: nothing of this name is defined; did you mean 'Binding'?"),
        ("`gn.treefy_spilt`", "gn.treefy_spilt: no public name"),
        ("`graphnode/_bindings.py`", "graphnode/_bindings.py: no such file"),
        ("[limits](limit.md)", "limit.md: no such file"),
        ("`gn.treefy_split(model,", "code must begin and end on one line"),
        ("[map](#the-mop)", "#the-mop: no such heading"),
        ('```mermaid\nflowchart LR\na["reads _wlak.x"] --> b\n```', "_wlak.x: no module"),
    ],
)
def test_broken_name_is_reported(line: str, fault: str | None):
    """Each kind of name is looked up where it belongs, and what leads nowhere is told with its line."""
    faults = page_faults(f"# The map\n\n{line}", MAP)
    number = 5 if "mermaid" in line else 3
    assert faults == ([] if fault is None else [f"docs/architecture.md:{number}: {fault}"])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('flowchart LR\n  a["one (1)"] --> b & c\n  subgraph s["S"]\n  end\n  b -->|"x"| c', None),
        ("sequenceDiagram\n  participant a as A\n  a->>b: takes\n  Note over a,b: both", None),
        ("pie\n", "p.md:2: not a kind of diagram that is known here: pie"),
        ("flowchart LR\n  a[one (1)] --> b", "p.md:3: not a statement of the diagram: a[one (1)] --> b"),
        ("flowchart LR\n  a -->", "p.md:3: not a statement of the diagram: a -->"),
        ("flowchart LR\n  graph --> a", "p.md:3: not a statement of the diagram: graph --> a"),
        ('flowchart LR\n  subgraph s["S"]', "p.md:2: 1 subgraph and 0 end"),
        ("sequenceDiagram\n  a->b", "p.md:3: not a statement of the diagram: a->b"),
    ],
)
def test_broken_picture_is_reported(text: str, fault: str | None):
    """A picture that GitHub might not draw is told with its line."""
    (fence,) = parse_fences(f"```mermaid\n{text}\n```", "p.md")
    assert diagram_faults(fence, "p.md") == ([] if fault is None else [fault])
