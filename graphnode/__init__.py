"""graphnode: models as graphs of declared, typed nodes, for JAX."""

import importlib
import typing

# All that is imported stays, JAX above all: each collection meanwhile would look at it in
# vain. Without a name for it, which editors would offer.
with importlib.import_module("._gc", __name__).collector_paused():
    from . import random as random
    from ._declare._node import Node as Node
    from ._declare._schema import Field as Field
    from ._declare._schema import Schema as Schema
    from ._declare._schema import schema as schema
    from ._errors import AliasError as AliasError
    from ._errors import CaptureError as CaptureError
    from ._errors import CheckpointError as CheckpointError
    from ._errors import ConfigError as ConfigError
    from ._errors import ContractError as ContractError
    from ._errors import DonationError as DonationError
    from ._errors import Fault as Fault
    from ._errors import FieldError as FieldError
    from ._errors import FilterError as FilterError
    from ._errors import FilterTypeError as FilterTypeError
    from ._errors import GraphnodeError as GraphnodeError
    from ._errors import JaxInputError as JaxInputError
    from ._errors import MergeError as MergeError
    from ._errors import PathError as PathError
    from ._errors import PopError as PopError
    from ._errors import RngError as RngError
    from ._errors import SchemaError as SchemaError
    from ._errors import StackError as StackError
    from ._errors import StateUseError as StateUseError
    from ._errors import StructureError as StructureError
    from ._errors import SummaryError as SummaryError
    from ._errors import TraceError as TraceError
    from ._errors import UndeclaredFieldError as UndeclaredFieldError
    from ._errors import UnsetFieldError as UnsetFieldError
    from ._errors import UpdateError as UpdateError
    from ._fields import Kind as Kind
    from ._fields import state as state
    from ._fields import static as static
    from ._fields import subnode as subnode
    from ._filters import All as All
    from ._filters import Any as Any
    from ._filters import Filter as Filter
    from ._filters import NodeFilter as NodeFilter
    from ._filters import Not as Not
    from ._filters import OfType as OfType
    from ._filters import PathContains as PathContains
    from ._filters import PathIn as PathIn
    from ._filters import Under as Under
    from ._graph._graphdef import GraphDef as GraphDef
    from ._graph._graphdef import NodeDef as NodeDef
    from ._graph._graphdef import NodeRef as NodeRef
    from ._graph._layout import Layout as Layout
    from ._inspect import aliases as aliases
    from ._inspect import iter_leaf as iter_leaf
    from ._inspect import iter_node as iter_node
    from ._inspect import nodes as nodes
    from ._merge import treefy_merge as treefy_merge
    from ._merge import unflatten as unflatten
    from ._paths import Key as Key
    from ._paths import Path as Path
    from ._paths import parse_path as parse_path
    from ._paths import path_str as path_str
    from ._split import clone as clone
    from ._split import flatten as flatten
    from ._split import graphdef as graphdef
    from ._split import states as states
    from ._split import treefy_split as treefy_split
    from ._split import treefy_states as treefy_states
    from ._stack_axes import member_graphdef as member_graphdef
    from ._state import BatchState as BatchState
    from ._state import HiddenState as HiddenState
    from ._state import LongTermState as LongTermState
    from ._state import ParamState as ParamState
    from ._state import ShortTermState as ShortTermState
    from ._state import State as State
    from ._statetree import FlatStates as FlatStates
    from ._statetree import StateTree as StateTree
    from ._statetree import TreefyState as TreefyState
    from ._update import pop_states as pop_states
    from ._update import update_states as update_states

__version__ = "0.1.0"

if typing.TYPE_CHECKING:
    from . import check as check
    from . import checkpoint as checkpoint
    from . import config as config
    from . import families as families
    from . import metrics as metrics
    from . import nn as nn
    from . import optim as optim
    from . import sharding as sharding
    from . import transforms as transforms
    from ._broadcast import broadcast_states as broadcast_states
    from ._broadcast import unbroadcast_states as unbroadcast_states
    from ._cast import cast as cast
    from ._diagram._diagram import Diagram as Diagram
    from ._diagram._diagram import diagram as diagram
    from ._graph._diff import Difference as Difference
    from ._graph._diff import diff as diff
    from ._graph_to_tree import NodeStates as NodeStates
    from ._graph_to_tree import graph_to_tree as graph_to_tree
    from ._graph_to_tree import tree_to_graph as tree_to_graph
    from ._pretty._text import pformat as pformat
    from ._rngs import RngCount as RngCount
    from ._rngs import RngKey as RngKey
    from ._rngs import Rngs as Rngs
    from ._rngs import RngState as RngState
    from ._rngs import RngStream as RngStream
    from ._select import Selection as Selection
    from ._select import select as select
    from ._stack import stack as stack
    from ._stack import unstack as unstack
    from ._summary._summarize import summary as summary
    from ._summary._summary import Summary as Summary
    from ._typechecker import typechecker as typechecker
    from ._view import view as view
    from .transforms import *  # noqa: F403  # all of its names
else:
    from . import _foreign, _moved, _reload  # noqa: F401  # autoreload finds what moves nodes once this is imported

    _moved.find_moved()  # so that pickles of earlier versions load

    # Modules that are imported when one of their names is first asked for, so that
    # `import graphnode` costs little more than `import jax`; each with its names here.
    # A table, as the names cannot be read off a module that is not imported yet.
    # fmt: off
    _LATER = {
        "check": (), "checkpoint": (), "config": (), "families": (), "metrics": (), "nn": (), "optim": (),
        "sharding": (),
        "transforms": (
            "Axes", "Captured", "Jitted", "associative_scan", "axes", "capture", "capture_grads", "checkify", "cond",
            "custom_jvp", "custom_vjp", "eval_shape", "explain_retrace", "fori_loop", "grad", "hessian", "intervene",
            "jacfwd", "jacrev", "jit", "jvp", "linearize", "make_jaxpr", "remat", "scan", "shard_map", "switch",
            "value_and_grad", "vjp", "vmap", "while_loop",
        ),
        "_cast": ("cast",),
        "_broadcast": ("broadcast_states", "unbroadcast_states",),
        "_stack": ("stack", "unstack",),
        "_view": ("view",),
        "_diagram._diagram": ("Diagram", "diagram"),
        "_pretty._text": ("pformat",),
        "_graph._diff": ("Difference", "diff",),
        "_graph_to_tree": ("NodeStates", "graph_to_tree", "tree_to_graph",),
        "_rngs": ("RngCount", "RngKey", "Rngs", "RngState", "RngStream"),
        "_select": ("Selection", "select"),
        "_summary._summarize": ("summary",),
        "_summary._summary": ("Summary",),
        "_typechecker": ("typechecker",),
    }
    # fmt: on
    _MODULE_OF = {
        name: module for module, names in _LATER.items() for name in (module, *names)
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise _missing(name)
        module = importlib.import_module(f"{__name__}.{_MODULE_OF[name]}")
        value = module if name in _LATER else getattr(module, name)
        globals()[name] = value  # the next look-up does not come here
        return value

    def _missing(name: str) -> Exception:
        is_private = name.startswith("_")
        layers = () if is_private else dir(importlib.import_module(f"{__name__}.nn"))
        instead = _foreign.instead_of_name(name, layers)
        return _foreign.missing_name(__name__, name, instead, __dir__())

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULE_OF})
