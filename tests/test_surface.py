"""What `import graphnode` offers, and what it costs."""

import inspect
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

import graphnode as gn
from tests.docrun import ROOT

NAMES = [
    "AliasError",
    "All",
    "Any",
    "Axes",
    "BatchState",
    "CaptureError",
    "Captured",
    "CheckpointError",
    "ConfigError",
    "ContractError",
    "Diagram",
    "Difference",
    "Field",
    "DonationError",
    "Fault",
    "FieldError",
    "Filter",
    "FilterError",
    "FilterTypeError",
    "FlatStates",
    "GraphDef",
    "GraphnodeError",
    "HiddenState",
    "JaxInputError",
    "Jitted",
    "Key",
    "Kind",
    "Layout",
    "LongTermState",
    "MergeError",
    "Node",
    "NodeDef",
    "NodeFilter",
    "NodeRef",
    "NodeStates",
    "Not",
    "OfType",
    "ParamState",
    "Path",
    "PathContains",
    "PathError",
    "PathIn",
    "PopError",
    "RngCount",
    "RngError",
    "RngKey",
    "RngState",
    "RngStream",
    "Rngs",
    "Schema",
    "SchemaError",
    "Selection",
    "ShortTermState",
    "StackError",
    "State",
    "StateTree",
    "StateUseError",
    "StructureError",
    "Summary",
    "SummaryError",
    "TraceError",
    "TreefyState",
    "UndeclaredFieldError",
    "Under",
    "UnsetFieldError",
    "UpdateError",
    "aliases",
    "associative_scan",
    "axes",
    "check",
    "checkify",
    "checkpoint",
    "broadcast_states",
    "capture",
    "capture_grads",
    "cast",
    "clone",
    "cond",
    "config",
    "custom_jvp",
    "custom_vjp",
    "diagram",
    "diff",
    "eval_shape",
    "families",
    "explain_retrace",
    "flatten",
    "fori_loop",
    "grad",
    "graph_to_tree",
    "graphdef",
    "hessian",
    "intervene",
    "iter_leaf",
    "iter_node",
    "jacfwd",
    "jacrev",
    "jit",
    "jvp",
    "linearize",
    "make_jaxpr",
    "member_graphdef",
    "metrics",
    "nn",
    "nodes",
    "optim",
    "parse_path",
    "path_str",
    "pformat",
    "pop_states",
    "random",
    "remat",
    "scan",
    "schema",
    "select",
    "shard_map",
    "sharding",
    "stack",
    "state",
    "states",
    "static",
    "subnode",
    "summary",
    "switch",
    "transforms",
    "tree_to_graph",
    "treefy_merge",
    "treefy_split",
    "treefy_states",
    "typechecker",
    "unflatten",
    "unbroadcast_states",
    "unstack",
    "update_states",
    "value_and_grad",
    "view",
    "vjp",
    "vmap",
    "while_loop",
]

RANDOM_NAMES = ["choice", "normal", "permutation", "rand", "randint", "randn", "scope", "seed", "split_key", "uniform"]

ALIASES = {
    "Filter",
    "Key",
    "NodeFilter",
    "Path",
}  # names of types that are written out elsewhere: they carry no docstring


def public(module: types.ModuleType) -> dict[str, object]:
    """The public names of a module that are not modules of the interpreter or of a dependency."""
    return {
        name: value
        for name, value in ((name, getattr(module, name)) for name in dir(module))
        if not name.startswith("_") and not (isinstance(value, types.ModuleType) and "graphnode" not in value.__name__)
    }


def test_the_public_names_are_these():
    """Nothing is public by accident, and nothing goes missing."""
    assert sorted(public(gn)) == sorted(NAMES)


def test_the_transforms_are_all_at_the_top():
    """`gn.transforms` and the table of what is imported later list the same names; type checkers read the first."""
    assert sorted(vars(gn)["_LATER"]["transforms"]) == sorted(public(gn.transforms))


def test_the_names_of_random_are_these():
    """`graphnode.random` defines the draws, and what seeds and scopes them."""
    defined = {name for name, value in public(gn.random).items() if inspect.isfunction(value)}
    assert sorted(defined) == sorted(RANDOM_NAMES)


@pytest.mark.parametrize("name", sorted(set(NAMES) - ALIASES))
def test_every_public_name_is_documented(name: str):
    """Each has a docstring of its own."""
    assert inspect.getdoc(getattr(gn, name)), name


FUNCTIONS = sorted(name for name in NAMES if inspect.isfunction(getattr(gn, name)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_has_an_example(name: str):
    """A doctest that shows its use, run with the other tests."""
    assert ">>> " in (inspect.getdoc(getattr(gn, name)) or ""), name


def test_import_graphnode_imports_nothing_optional():
    """What an extra brings is imported by the layer that needs it, never by `import graphnode`."""
    code = "import sys, graphnode; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    loaded = {name.partition(".")[0] for name in names}
    optional = {
        "optax",
        "pydantic",
        "rich",
        "orbax",
        "treescope",
        "yaml",
        "flax",
        "equinox",
        "matplotlib",
        "sklearn",
        "tqdm",
        "click",
        "beartype",
        "igraph",
    }
    assert not optional & loaded
    # Nor what is only for who looks at a model.
    shown = {name.removeprefix("graphnode._pretty.") for name in names if name.startswith("graphnode._pretty.")}
    assert shown == {"_records", "_shown", "_values"}


def test_errors_extend_our_base_and_a_built_in():
    """A caller may catch the base of all, or the built-in that the kind of mistake has always raised."""
    errors = [
        value for value in public(gn).values() if isinstance(value, type) and issubclass(value, gn.GraphnodeError)
    ]
    for error in errors:
        assert error.__module__ == "graphnode"
        if error is not gn.GraphnodeError:
            built_in = {base for base in error.__mro__ if base.__module__ == "builtins"}
            assert built_in - {object, BaseException, Exception}, error


def test_the_wheel_says_that_it_is_typed(tmp_path: Path):
    """The wheel has every module and `py.typed`, without which mypy would take every name for Any; and no README."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "graphnode").rglob("*.py")}
    assert {"graphnode/py.typed", *modules} <= packed
    assert not [name for name in packed if name.endswith(".md")]
