"""The package's modules import only from their left, and only `_compat` reaches into JAX."""

import ast
import graphlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "graphnode"
SOURCE = Path(__file__).resolve().parent.parent / PACKAGE

# From left to right. The names in one string form one layer and may not import each other. A subpackage is
# one name; its modules may import each other, but not in a cycle. `__init__` and `__main__` import anything.
LAYERS = (
    "_moved",
    "_public",
    "_compat",
    "_gc",
    "_caches",
    "_importable",
    "_method_names",
    "_errors",
    "_exporting",
    "_tracebacks",
    "_versions",
    "_hints",
    "_mistaken",
    "_foreign",
    "_uses",
    "_redefinition",
    "_class_faults",
    "_paths",
    "_nesting",
    "_patterns",
    "_trie",
    "_registered",
    "_static",
    "_describe",
    "_arguments",
    "_pretty",
    "_value",
    "_marks",
    "_reads",
    "_sharding",
    "_contract",
    "_fields",
    "_members",
    "_state_body",
    "_state",
    "_signals",
    "_keys",
    "_stream",
    "_declare",
    "_graph",
    "_reload",
    "_filters",
    "_filters_json",
    "_selection",
    "_statetree",
    "_lookup",
    "_stack_axes",
    "_inspect",
    "_roles",
    "_split",
    "_merge",
    "_update",
    "_graph_to_tree",
    "_view",
    "_draws",
    "_rngs",
    "_stack_streams",
    "_stack",
    "_broadcast",
    "_cast",
    "_assignments",
    "_exchange",
    "_set_fields",
    "_reinit",
    "_narrowing",
    "_select",
    "_constrain",
    "_growth",
    "_calls",
    "_method_wrappers",
    "transforms",
    "random",
    "nn",
    "optim",
    "metrics",
    "_source",
    "check",
    "_typechecker",
    "_summary",
    "config",
    "_diagram",
    "_processes",
    "sharding",
    "checkpoint",
    "families",
)

ROOTS = (PACKAGE, f"{PACKAGE}.__main__")
JAX_INTERNALS = ("jax._src", "jax.core", "jax.extend")
# `import graphnode` imports these anyway, so a function has no reason to.
CORE_DEPENDENCIES = {"jax", "jaxlib", "numpy", "jaxtyping", "typing_extensions"}


def test_modules_import_only_from_their_left():
    """Every module has a layer, and imports from lower ones at the top of the file."""
    paths = sorted(SOURCE.rglob("*.py"))
    assert paths, f"no modules in {SOURCE}"
    sources = {path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    faults = layer_faults(sources, LAYERS)
    assert not faults, "\n" + "\n".join(faults)


# The rules


@dataclass(frozen=True)
class Import:
    """One imported name, absolute: `graphnode._state.State`, `jax.extend.core`."""

    line: int
    target: str
    in_function: bool


def layer_faults(sources: Mapping[str, str], layers: Sequence[str]) -> list[str]:
    """What breaks the rules, each as `file:line: message`.

    Args:
        sources: The text of each file, by its path inside the package.
        layers: As `LAYERS`.
    """
    position = {name: index for index, layer in enumerate(layers) for name in layer.split()}
    files = {_module_name(file): file for file in sources}
    faults: list[str] = []
    siblings: dict[str, set[str]] = {}
    for module, file in files.items():
        if module not in ROOTS and _layer_name(module) not in position:
            faults.append(f"{file}:1: no layer; add {_layer_name(module)} to LAYERS in tests/test_layers.py")
            continue
        for found in _imports(ast.parse(sources[file], file), module, file.endswith("__init__.py")):
            faults += (f"{file}:{found.line}: {fault}" for fault in _place_faults(found, module))
            target = _owner(found.target, files)
            if target is None or target == module or module in ROOTS:
                continue
            if _layer_name(target) == _layer_name(module):
                siblings.setdefault(module, set()).add(target)
            # A module without a layer is reported by itself, not by all who import it.
            elif target in ROOTS or position.get(_layer_name(target), -1) >= position[_layer_name(module)]:
                faults.append(f"{file}:{found.line}: imports {target}, which is not to its left")
    # One line may import several names from the wrong place.
    return [*dict.fromkeys(faults), *_cycle_faults(siblings)]


def _module_name(file: str) -> str:
    inner = file.removesuffix(".py").removesuffix("__init__").strip("/")
    return f"{PACKAGE}.{inner}".rstrip(".").replace("/", ".")


def _layer_name(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _imports(tree: ast.AST, module: str, is_package: bool, in_function: bool = False) -> Iterator[Import]:
    """All imports of a module, and each `jax.core`, `jax.extend` and `jax._src` spelt out in it."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Import):
            yield from (Import(child.lineno, alias.name, in_function) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            package = module.split(".")[: None if is_package else -1]
            above = package[: len(package) + 1 - child.level] if child.level else []
            base = ".".join([*above, *([child.module] if child.module else [])])
            yield from (Import(child.lineno, f"{base}.{alias.name}", in_function) for alias in child.names)
        elif isinstance(child, ast.Attribute) and ast.unparse(child) in JAX_INTERNALS:
            yield Import(child.lineno, ast.unparse(child), in_function=False)
        inner = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports(child, module, is_package, inner)


def _owner(target: str, files: Mapping[str, str]) -> str | None:
    """The module of the package that an import reads; None outside of the package."""
    while target not in files and "." in target:
        target = target.rpartition(".")[0]
    return target if target in files else None


def _place_faults(found: Import, module: str) -> Iterator[str]:
    """What is wrong with an import whatever its layer."""
    top = found.target.split(".")[0]
    if found.in_function and (top in {PACKAGE, *CORE_DEPENDENCIES} or top in sys.stdlib_module_names):
        yield f"imports {found.target} inside a function; only optional packages may be"
    internal = any(f"{found.target}.".startswith(f"{name}.") for name in JAX_INTERNALS)
    if internal and module != f"{PACKAGE}._compat":
        yield f"uses {found.target}; only _compat may"


def _cycle_faults(graph: Mapping[str, set[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [f"cycle: {' -> '.join(reversed(error.args[1]))}"]
    return []


# The rules notice what they are for


@pytest.mark.parametrize(
    ("sources", "faults"),
    [
        pytest.param({"_a.py": "", "_b.py": "from ._a import x\nimport jax\n"}, [], id="left"),
        pytest.param(
            {"_a.py": "from ._b import x, y\n", "_b.py": ""},
            ["_a.py:1: imports graphnode._b, which is not to its left"],
            id="right",
        ),
        pytest.param(
            {"_a.py": "import graphnode._b as b\n", "_b.py": ""},
            ["_a.py:1: imports graphnode._b, which is not to its left"],
            id="right, absolute",
        ),
        pytest.param(
            {"_a.py": "if TYPE_CHECKING:\n    from . import _b\n", "_b.py": ""},
            ["_a.py:2: imports graphnode._b, which is not to its left"],
            id="right, for the type checker",
        ),
        pytest.param(
            {"_c.py": "", "_d.py": "from . import _c\n"},
            ["_d.py:1: imports graphnode._c, which is not to its left"],
            id="same layer",
        ),
        pytest.param(
            {"__init__.py": "from ._b import x as x\n", "_b.py": "from graphnode import x\n"},
            ["_b.py:1: imports graphnode, which is not to its left"],
            id="__init__ imports all and is imported by none",
        ),
        pytest.param(
            {"_a.py": "from ._z import x\n", "_z.py": ""},
            ["_z.py:1: no layer; add _z to LAYERS in tests/test_layers.py"],
            id="unlisted",
        ),
        pytest.param(
            {"_a.py": "", "sub/__init__.py": "from ._one import x\n", "sub/_one.py": "from .._a import y\n"},
            [],
            id="subpackage",
        ),
        pytest.param(
            {"_a.py": "from .sub._one import x\n", "sub/__init__.py": "", "sub/_one.py": ""},
            ["_a.py:1: imports graphnode.sub._one, which is not to its left"],
            id="subpackage on the right",
        ),
        pytest.param(
            {"sub/_one.py": "from ._two import x\n", "sub/_two.py": "from . import _one\n"},
            ["cycle: graphnode.sub._one -> graphnode.sub._two -> graphnode.sub._one"],
            id="cycle in a subpackage",
        ),
        pytest.param(
            {"sub/__init__.py": "from ._one import x\n", "sub/_one.py": "from . import y\n"},
            ["cycle: graphnode.sub -> graphnode.sub._one -> graphnode.sub"],
            id="cycle through a subpackage's __init__",
        ),
        pytest.param(
            {
                "_a.py": "",
                "_b.py": "def f():\n    from ._a import x\n    if x:\n        import json, jax, optax\n",
            },
            [
                "_b.py:2: imports graphnode._a.x inside a function; only optional packages may be",
                "_b.py:4: imports json inside a function; only optional packages may be",
                "_b.py:4: imports jax inside a function; only optional packages may be",
            ],
            id="inside a function",
        ),
        pytest.param(
            {"_compat.py": "from jax.extend.core import Primitive\nimport jax._src\nfrom jax import core\n"},
            [],
            id="_compat",
        ),
        pytest.param(
            {"_a.py": "from jax.extend.core import Primitive\nfrom jax import core\njax.core.Tracer\n"},
            [
                "_a.py:1: uses jax.extend.core.Primitive; only _compat may",
                "_a.py:2: uses jax.core; only _compat may",
                "_a.py:3: uses jax.core; only _compat may",
            ],
            id="JAX's internals",
        ),
    ],
)
def test_broken_rule_is_reported(sources: dict[str, str], faults: list[str]):
    """Each rule finds the package that breaks it, and names file and line."""
    assert sorted(layer_faults(sources, ["_compat", "_a", "_b", "_c _d", "sub"])) == sorted(faults)
