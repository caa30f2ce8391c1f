"""Every public function says of a wrong argument which function it is, what it takes and what was found."""

import functools
import inspect
from collections.abc import Callable, Set
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest

import graphnode as gn
from graphnode import nn

MODEL = nn.Linear(2, 3)
GRAPHDEF, TREE = gn.treefy_split(MODEL)
STATES = gn.states(MODEL)
XS = jnp.ones(2)
CONFIG: Any = gn.config.to_config(MODEL)

# What no argument of the table takes, unless it says so, and how a message calls it.
WRONG: dict[str, tuple[Any, str]] = {
    "text": ("x", "str 'x'"),
    "None": (None, "None"),
    "number": (3, "int 3"),
    "dict": ({"a": 1}, "dict {'a': 1}"),
    "class": (nn.Linear, "the class Linear"),
}


class Argument(NamedTuple):
    """An argument of a public function.

    Attributes:
        call: Calls the function with a value for it, and with what fits for the others.
        text: The message, up to what was found.
        takes: The wrong values that it does take, or of which it says something else.
        error: The class of the error.
        further: What follows in the message.
    """

    call: Callable[[Any], object]
    text: str
    takes: Set[str] = frozenset()
    error: type[Exception] = TypeError
    further: str = ""


def loss(model: nn.Linear) -> jax.Array:
    return (model.weight.value**2).sum()


def same(x: Any) -> Any:
    return x


def pair(carry: Any, x: Any) -> Any:
    return carry, x


# Those whose first argument is a node.
UNTYPED: Any = gn
OF_NODES: dict[str, Callable[[Any], object]] = {
    "aliases": UNTYPED.aliases,
    "broadcast_states": lambda node: gn.broadcast_states(node, gn.ParamState, 2),
    "cast": lambda node: gn.cast(node, jnp.bfloat16),
    "clone": UNTYPED.clone,
    "diagram": UNTYPED.diagram,
    "flatten": UNTYPED.flatten,
    "graphdef": UNTYPED.graphdef,
    "iter_leaf": lambda node: list(gn.iter_leaf(node)),
    "iter_node": lambda node: list(gn.iter_node(node)),
    "nodes": UNTYPED.nodes,
    "pop_states": lambda node: gn.pop_states(node, gn.ParamState),
    "select": UNTYPED.select,
    "states": UNTYPED.states,
    "summary": UNTYPED.summary,
    "treefy_split": UNTYPED.treefy_split,
    "treefy_states": UNTYPED.treefy_states,
    "unbroadcast_states": lambda node: gn.unbroadcast_states(node, gn.ParamState),
    "unstack": UNTYPED.unstack,
    "update_states": lambda node: gn.update_states(node, TREE),
    "view": UNTYPED.view,
    "config.to_config": UNTYPED.config.to_config,
    "optim.Optimizer": lambda node: gn.optim.Optimizer(node, optax.sgd(0.1)),
}

# Those whose first argument is a function; without one, most are decorators.
DECORATORS = ("grad", "hessian", "jacfwd", "jacrev", "jit", "remat", "value_and_grad", "vmap", "shard_map")
OF_FUNCTIONS: dict[str, Callable[[Any], object]] = {
    **{name: getattr(gn, name) for name in DECORATORS if name != "shard_map"},
    "capture": lambda function: gn.capture(function, ...),
    "capture_grads": lambda function: gn.capture_grads(function, ...),
    "associative_scan": lambda function: gn.associative_scan(function, XS),
    "checkify": UNTYPED.checkify,
    "cond": lambda function: UNTYPED.cond(True, function, same, XS),
    "custom_jvp": UNTYPED.custom_jvp,
    "custom_vjp": UNTYPED.custom_vjp,
    "eval_shape": UNTYPED.eval_shape,
    "explain_retrace": UNTYPED.explain_retrace,
    "fori_loop": lambda function: gn.fori_loop(0, 2, function, XS),
    "intervene": lambda function: gn.intervene(function, {}),
    "jvp": lambda function: gn.jvp(function, (XS,), (XS,)),
    "linearize": lambda function: gn.linearize(function, XS),
    "make_jaxpr": UNTYPED.make_jaxpr,
    "scan": lambda function: gn.scan(function, XS, XS),
    "shard_map": lambda function: gn.shard_map(function, in_specs=jax.P(), out_specs=jax.P()),
    "switch": lambda function: gn.switch(0, [function], XS),
    "vjp": lambda function: gn.vjp(function, XS),
    "while_loop": lambda function: gn.while_loop(function, same, XS),
}

A_NODE = "a node or a pytree of nodes"
A_FUNCTION = "a function, a method or a callable node"
A_TREE = "a StateTree, FlatStates or a nested mapping by path"
POSITIONS = "an integer or a sequence of integers"
NONE, NUMBER, TEXT = {"None"}, {"number"}, {"text"}

ARGUMENTS: dict[str, Argument] = {
    **{
        f"{name}: node": Argument(call, f"gn.{name} takes {A_NODE}", {"dict"}, gn.StructureError)
        for name, call in OF_NODES.items()
    },
    **{
        # A class can be called, too.
        f"{name}: function": Argument(
            call, f"gn.{name} takes {A_FUNCTION}", {"class", "None"} if name in DECORATORS else {"class"}
        )
        for name, call in OF_FUNCTIONS.items()
    },
    "axes": Argument(UNTYPED.axes, "gn.axes takes a mapping from filters to axes", {"dict"}),
    "axes: axis": Argument(
        lambda axis: gn.axes({gn.ParamState: axis}), "gn.axes: an axis is an integer or None", NONE | NUMBER
    ),
    "broadcast_states: size": Argument(
        lambda size: gn.broadcast_states(gn.clone(MODEL), gn.ParamState, size),
        "gn.broadcast_states: size is an integer",
        NUMBER,
    ),
    "broadcast_states: axis": Argument(
        lambda axis: gn.broadcast_states(MODEL, gn.ParamState, 2, axis),
        "gn.broadcast_states: axis is an integer",
        NUMBER,
    ),
    "unbroadcast_states: axis": Argument(
        lambda axis: gn.unbroadcast_states(MODEL, gn.ParamState, axis),
        "gn.unbroadcast_states: axis is an integer",
        NUMBER,
    ),
    "checkify: errors": Argument(
        lambda errors: gn.checkify(loss, errors),
        "gn.checkify takes a set of errors second, such as checkify.user_checks",
    ),
    **{
        f"{name}: selection": Argument(
            functools.partial(getattr(gn, name), loss),
            f"gn.{name} selects by paths, globs, node classes, filters by path such as gn.Under, a gn.select(...), or "
            "several of these",
            {"text", "dict", "class"},
            gn.FilterTypeError,
        )
        for name in ("capture", "capture_grads")
    },
    "capture: method": Argument(
        lambda method: gn.capture(loss, ..., method=method), "gn.capture: method is the name of a method", {"text"}
    ),
    "capture_grads: method": Argument(
        lambda method: gn.capture_grads(loss, ..., method=method),
        "gn.capture_grads: method is the name of a method",
        {"text"},
    ),
    "intervene: method": Argument(
        lambda method: gn.intervene(loss, {}, method=method),
        "gn.intervene: method is the name of a method",
        {"text"},
    ),
    "intervene: changes": Argument(
        lambda changes: gn.intervene(loss, changes),
        "gn.intervene takes a mapping of changes by path or node class second",
        {"dict"},
    ),
    "diff: left": Argument(
        lambda left: gn.diff(left, GRAPHDEF),
        "gn.diff takes two graphdefs",
        further="; take gn.graphdef(...) of a node",
    ),
    "diff: right": Argument(
        lambda right: gn.diff(GRAPHDEF, right),
        "gn.diff takes two graphdefs",
        further="; take gn.graphdef(...) of a node",
    ),
    "fori_loop: lower": Argument(
        lambda lower: gn.fori_loop(lower, 5, pair, XS),
        "gn.fori_loop: lower is an integer or an array of one",
        NUMBER,
    ),
    "fori_loop: upper": Argument(
        lambda upper: gn.fori_loop(0, upper, pair, XS),
        "gn.fori_loop: upper is an integer or an array of one",
        NUMBER,
    ),
    "fori_loop: init": Argument(
        lambda init: gn.fori_loop(0, 2, lambda i, carry: carry, init),
        "gn.fori_loop takes arrays, numbers and nodes; carry is",
        NONE | NUMBER | {"dict"},
    ),
    "grad: argnums": Argument(
        lambda argnums: gn.grad(loss, argnums=argnums)(MODEL), f"gn.grad: argnums is {POSITIONS}", NUMBER
    ),
    "jit: static_argnums": Argument(
        lambda positions: gn.jit(loss, static_argnums=positions),
        f"gn.jit: a position of an argument is {POSITIONS}",
        NONE | NUMBER,
    ),
    "jit: donate_argnums": Argument(
        lambda positions: gn.jit(loss, donate_argnums=positions),
        f"gn.jit: a position of an argument is {POSITIONS}",
        NONE | NUMBER,
    ),
    "jit: static_argnames": Argument(
        lambda names: gn.jit(loss, static_argnames=names),
        "gn.jit: static_argnames is a name or a sequence of names",
        NONE | TEXT | {"dict"},
    ),
    "jit: donate_argnames": Argument(
        lambda names: gn.jit(loss, donate_argnames=names),
        "gn.jit: donate_argnames is a name or a sequence of names",
        NONE | TEXT | {"dict"},
    ),
    "member_graphdef": Argument(UNTYPED.member_graphdef, "gn.member_graphdef takes a GraphDef first"),
    "member_graphdef: axis": Argument(
        lambda axis: gn.member_graphdef(GRAPHDEF, axis), "gn.member_graphdef: axis is an integer", NUMBER
    ),
    "remat: policy": Argument(
        lambda policy: gn.remat(loss, policy=policy),
        "gn.remat takes a function as its policy, such as one of jax.checkpoint_policies",
        NONE | {"class"},
    ),
    "scan: length": Argument(
        lambda length: gn.scan(pair, XS, XS, length), "gn.scan: length is an integer", NONE | NUMBER
    ),
    "schema": Argument(UNTYPED.schema, "gn.schema takes a node class", {"class"}),
    "stack": Argument(UNTYPED.stack, "gn.stack takes a sequence of nodes", TEXT | {"dict"}),
    "stack: node": Argument(lambda node: gn.stack([node]), f"gn.stack takes {A_NODE}", {"dict"}, gn.StructureError),
    "stack: axis": Argument(lambda axis: gn.stack([MODEL], axis), "gn.stack: axis is an integer", NUMBER),
    "treefy_merge: graphdef": Argument(
        lambda value: gn.treefy_merge(value, TREE), "gn.treefy_merge takes a GraphDef first"
    ),
    "treefy_merge: tree": Argument(
        lambda tree: gn.treefy_merge(GRAPHDEF, tree), f"gn.treefy_merge takes {A_TREE}", {"dict"}
    ),
    "typechecker": Argument(UNTYPED.typechecker, "gn.typechecker takes a function", {"class"}),
    "unflatten: graphdef": Argument(lambda value: gn.unflatten(value, STATES), "gn.unflatten takes a GraphDef first"),
    "unflatten: states": Argument(
        lambda states: gn.unflatten(GRAPHDEF, states),
        "gn.unflatten takes live States as FlatStates",
        further="; for values, use gn.treefy_merge",
    ),
    "unstack: axis": Argument(lambda axis: gn.unstack(MODEL, axis), "gn.unstack: axis is an integer", NUMBER),
    "update_states: tree": Argument(
        lambda tree: gn.update_states(MODEL, tree), f"gn.update_states takes {A_TREE}", {"dict"}
    ),
    "vmap: in_axes": Argument(
        lambda axes: gn.vmap(same, in_axes=axes)(XS), "x: an axis is an integer or None", NONE | NUMBER | {"dict"}
    ),
    "vmap: out_axes": Argument(
        lambda axes: gn.vmap(same, out_axes=axes),
        "gn.vmap: out_axes: an axis is an integer or None",
        NONE | NUMBER | {"dict"},
    ),
    "vmap: axis_size": Argument(
        lambda size: gn.vmap(same, axis_size=size), "gn.vmap: axis_size is an integer", NONE | NUMBER
    ),
    "random.seed": Argument(UNTYPED.random.seed, "gn.random.seed takes an integer or a key of jax.random", NUMBER),
    "config.build": Argument(UNTYPED.config.build, "gn.config.build takes a config", {"class"}),
    "config.config_of": Argument(UNTYPED.config.config_of, "gn.config.config_of takes a node class", {"class"}),
    "config.diff: one": Argument(
        lambda config: gn.config.diff(config, CONFIG), "gn.config.diff takes a config", {"class"}
    ),
    "config.diff: other": Argument(
        lambda config: gn.config.diff(CONFIG, config), "gn.config.diff takes a config", {"class"}
    ),
    "config.dump": Argument(UNTYPED.config.dump, "gn.config.dump takes a config", {"class"}),
    "config.dump: path": Argument(
        lambda path: gn.config.dump(CONFIG, path), "gn.config.dump takes a path second", NONE | TEXT
    ),
    "config.json_schema": Argument(UNTYPED.config.json_schema, "gn.config.json_schema takes a node class", {"class"}),
    "config.load": Argument(lambda path: gn.config.load(path, nn.Linear), "gn.config.load takes a path first", TEXT),
    "config.loads": Argument(lambda text: gn.config.loads(text, nn.Linear), "gn.config.loads takes a text first", TEXT),
    "config.loads: class": Argument(
        lambda cls: gn.config.loads("{}", cls), "gn.config.loads takes a node class second", {"class"}
    ),
    "config.override": Argument(
        lambda config: gn.config.override(config, []), "gn.config.override takes a config", {"class"}
    ),
    "config.override: changes": Argument(
        lambda changes: gn.config.override(CONFIG, changes),
        "gn.config.override takes a list of changes, each path=value",
        {"dict"},
    ),
    "config.register": Argument(UNTYPED.config.register, "gn.config.register takes a name first", TEXT),
    "config.summary": Argument(UNTYPED.config.summary, "gn.config.summary takes a config or a node"),
    "config.validate: class": Argument(
        lambda cls: gn.config.validate({}, cls), "gn.config.validate takes a node class second", {"class"}
    ),
}

PAIRS = [(name, kind) for name, argument in ARGUMENTS.items() for kind in WRONG if kind not in argument.takes]


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(("name", "kind"), PAIRS, ids=[f"{name}, {kind}" for name, kind in PAIRS])
def test_a_wrong_argument_is_named_with_its_function(name: str, kind: str):
    """The function that the user called, what it takes and what was found, in an error of a class that says so."""
    argument = ARGUMENTS[name]
    value, found = WRONG[kind]
    with pytest.raises(argument.error) as caught:
        argument.call(value)
    before = " " if argument.text.endswith(" is") else "; found "
    start = f"{argument.text}{before}{found}"
    message = str(caught.value)
    # After `is`, JAX's transforms go on with what to do.
    assert message == start + argument.further if before != " " else message.startswith(start)


@pytest.mark.no_runtime_types
@pytest.mark.parametrize("name", OF_NODES)
def test_what_is_no_node_in_a_pytree_is_named_with_its_place(name: str):
    """Of a pytree it is the leaf that is told, with its path."""
    with pytest.raises(gn.StructureError) as caught:
        OF_NODES[name]({"a": [MODEL, 1]})
    assert str(caught.value) == f"gn.{name} takes {A_NODE}; found int 1 at a.1"


# What reads its argument in ways of its own: each with its message.
OTHERS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "path_str of a text": (
        lambda: UNTYPED.path_str("a.b"),
        TypeError,
        "gn.path_str takes a path, a tuple of keys; found 'a.b'; gn.parse_path reads texts",
    ),
    "path_str of None": (
        lambda: UNTYPED.path_str(None),
        TypeError,
        "gn.path_str takes a path, a tuple of keys; found None; gn.parse_path reads texts",
    ),
    "path_str of what is not a key": (
        lambda: UNTYPED.path_str(("a", None)),
        TypeError,
        "gn.path_str: a key is a text or an integer; found ('a', None)",
    ),
    "parse_path of None": (lambda: UNTYPED.parse_path(None), TypeError, "gn.parse_path takes a text; found None"),
    "parse_path of a path": (
        lambda: UNTYPED.parse_path(("a",)),
        TypeError,
        "gn.parse_path takes a text; found ('a',)",
    ),
    "GraphDef.from_json": (
        lambda: UNTYPED.GraphDef.from_json(None),
        TypeError,
        "GraphDef.from_json takes a text; found None",
    ),
    "PathIn": (
        lambda: UNTYPED.PathIn({"a": 1}),
        gn.FilterTypeError,
        "PathIn takes paths, each a tuple of keys or a text; found dict {'a': 1}",
    ),
    "Under": (
        lambda: UNTYPED.Under(None),
        gn.FilterTypeError,
        "Under takes paths, each a tuple of keys or a text; found None",
    ),
    "State(metadata=...)": (
        lambda: UNTYPED.ParamState(XS, metadata="x"),
        gn.FieldError,
        "ParamState: metadata takes a mapping; found str 'x'",
    ),
    "a stack of one": (
        lambda: UNTYPED.stack(MODEL),
        gn.StructureError,
        "gn.stack takes a sequence of nodes; found a Linear alone",
    ),
    "build of a node": (
        lambda: UNTYPED.config.build(MODEL),
        TypeError,
        "gn.config.build takes a config; found a Linear; gn.config.to_config(node) makes one",
    ),
    "build of a class": (
        lambda: UNTYPED.config.build(nn.Linear),
        TypeError,
        "gn.config.build takes a config; found the class Linear; gn.config.config_of(cls)(...) makes one",
    ),
    "gradients of an update": (
        lambda: UNTYPED.optim.Optimizer(MODEL, optax.sgd(0.1)).update(MODEL, 3),
        TypeError,
        f"Optimizer.update takes {A_TREE}; found int 3",
    ),
    "model of an update": (
        lambda: UNTYPED.optim.Optimizer(MODEL, optax.sgd(0.1)).update(3, {}),
        gn.StructureError,
        "Optimizer.update takes a node or a pytree of nodes; found int 3",
    ),
}


@pytest.mark.no_runtime_types
@pytest.mark.parametrize("name", OTHERS)
def test_further_wrong_arguments_have_their_messages(name: str):
    """Each in full."""
    call, error, text = OTHERS[name]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


# Whose arguments are values that any tree, or any function of JAX, may have; or that are tested elsewhere.
ELSEWHERE = {
    "graph_to_tree": "it takes any pytree",
    "tree_to_graph": "it takes any pytree",
    "path_str": "among the further ones",
    "pformat": "tests/test_printing.py; it takes anything",
    "parse_path": "among the further ones",
    "state": "tests/test_constructors.py",
    "static": "tests/test_constructors.py",
    "subnode": "tests/test_constructors.py",
}


def test_the_table_has_every_public_function():
    """A new function has to say what it takes."""
    functions = {name for name in dir(gn) if inspect.isfunction(getattr(gn, name)) and not name.startswith("_")}
    told = {name.partition(":")[0] for name in ARGUMENTS}
    assert functions - told == ELSEWHERE.keys()
