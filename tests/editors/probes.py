"""What editors and interpreters are asked about the program, and what they must answer.

A gap is what one of them cannot do, with the reason. A gap that is none any more fails the tests: the list only gets
shorter by itself.
"""

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.editors.client import Question

CURSOR = "¦"
PROGRAM = Path(__file__).with_name("program.py")
# Names the program in what `Feature.DEFINITION` expects.
HERE = PROGRAM.name


class Feature(enum.Enum):
    """What is asked for."""

    COMPLETION = "completion"
    HOVER = "hover"
    SIGNATURE = "signature"
    DEFINITION = "definition"


class Probe(NamedTuple):
    """One question.

    Args:
        name: A row of the table.
        feature: What is asked for.
        code: Lines after the program, with the cursor in them.
        has: What must be in the answer: names for a completion, all before the first private one; else texts. A
            definition is `file: line`.
        lacks: What must not be.
        gaps: Who cannot do it, and why.
        is_live: Whether the question makes sense where the objects themselves are there.
    """

    name: str
    feature: Feature
    code: str
    has: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    gaps: Mapping[str, str] = {}
    is_live: bool = True


def question_of(probe: Probe) -> Question:
    """The program with the lines of a probe."""
    before, after = probe.code.split(CURSOR)
    lines = (PROGRAM.read_text(encoding="utf-8") + "\n" + before).split("\n")
    return Question("\n".join(lines) + after, len(lines) - 1, len(lines[-1]))


def is_private(name: str) -> bool:
    """Whether a name stands behind all public ones; `_`, as in `_: KW_ONLY`, is an attribute like others to pyright."""
    return name.startswith("_") and name != "_"


def fault_of(probe: Probe, answer: Sequence[str]) -> str:
    """What is wrong with an answer; nothing if it is as it must be."""
    if probe.feature is Feature.COMPLETION:
        private = next((at for at, name in enumerate(answer) if is_private(name)), len(answer))
        offered, shown = set(answer), set(answer[:private])
    else:
        text = "\n".join(answer)
        offered = shown = {part for part in (*probe.has, *probe.lacks) if part in text}
    faults = [f"no {part!r}" for part in probe.has if part not in shown]
    faults += [f"has {part!r}" for part in probe.lacks if part in offered]
    return ", ".join(faults) + f"; found {list(answer[:30])}" if faults else ""


_INIT = "jedi takes every annotated name for a parameter ([jedi #2049](https://github.com/davidhalter/jedi/pull/2049))"
_COMMA = "pyright offers nothing between a comma and the bracket, also for plain functions; one letter is enough"
_NONE = "ty offers what all members of a union have; a test for `None` helps"
_GENERIC = "jedi does not infer the type argument of a class from its constructor; an annotation helps"
_DEFAULT = "jedi does not know defaults of type parameters (PEP 696), here that of `ParamState`"
_PARAMSPEC = "jedi does not follow `ParamSpec`, with which the signature of a function passes through `gn.jit`"
_LIST = "jedi looks into a live list only if its class is `list` itself; that of a node notes changes"
_ERASED = "an object does not know its type arguments, here that of `GraphDef[Model]`"
_FIELD_DOC = "Python keeps no text of a field: the help is that of its value"
_ASSIGNED = "jedi goes to the assignment in `__post_init__`, not to the declaration"
_KW_ONLY = "jedi shows keyword-only fields as if they could be given by position"
_ANY = "the type of the gradients is `Any`"

_CELL = "jedi has no source of a class that was typed, and so not the types of its fields"
_IMPORTED, _TYPED = "IPython, imported", "IPython, typed"


def _live(reason: str) -> dict[str, str]:
    """A gap of both interpreters."""
    return {_IMPORTED: reason, _TYPED: reason}


COMPLETION, HOVER, SIGNATURE, DEFINITION = Feature

PROBES = (
    # Constructors
    Probe("constructor: keywords", COMPLETION, "Layer(¦)", ("in_size=", "out_size=", "shift=", "calls=")),
    Probe("constructor: one letter typed", COMPLETION, "Layer(i¦)", ("in_size=",)),
    Probe("constructor: after a comma", COMPLETION, "Layer(2, ¦)", ("out_size=",), gaps={"pyright": _COMMA}),
    Probe("constructor: inherited fields", COMPLETION, "Sensor(¦)", ("in_size=", "scale=", "gain=", "channel=")),
    Probe("constructor: keyword-only fields", COMPLETION, "Sensor(2, 3, g¦)", ("gain=",)),
    Probe("constructor: `InitVar`", COMPLETION, "Layer(2, 3, s¦)", ("scale=", "shift=")),
    Probe(
        "constructor: not what `init=False` leaves out",
        COMPLETION,
        "Layer(¦)",
        ("in_size=",),
        lacks=("weight=",),
        gaps={"jedi": _INIT},
    ),
    Probe("constructor: `gn.nn.Linear(2, 3, w`", COMPLETION, "gn.nn.Linear(2, 3, w¦)", ("w_mask=", "w_init=")),
    # Attributes
    Probe("`gn.`", COMPLETION, "gn.¦", ("Node", "ParamState", "Rngs", "jit", "nn", "optim", "treefy_split", "vmap")),
    Probe("`m.`", COMPLETION, "m.¦", ("head", "layers")),
    Probe(
        "`m.layers[0].`", COMPLETION, "m.layers[0].¦", ("in_size", "weight", "shift", "calls"), gaps={_IMPORTED: _LIST}
    ),
    Probe(
        "loop over `m.layers`",
        COMPLETION,
        "for layer in m.layers:\n    layer.¦",
        ("in_size", "weight"),
        gaps=_live(_LIST),
    ),
    Probe("`m.head.weight.`", COMPLETION, "m.head.weight.¦", ("value", "tag", "replace")),
    Probe("`m.head.weight.value.`", COMPLETION, "m.head.weight.value.¦", ("shape", "dtype", "reshape", "at")),
    Probe("optional field", COMPLETION, "m.head.shift.¦", ("value", "replace"), gaps={"ty": _NONE}, is_live=False),
    Probe(
        "optional field after a test for `None`",
        COMPLETION,
        "if m.head.shift is not None:\n    m.head.shift.value.¦",
        ("shape", "reshape"),
        is_live=False,
    ),
    Probe("generic node, annotated", COMPLETION, "explicit.inner.¦", ("head", "layers")),
    Probe("generic node, inferred", COMPLETION, "wrapped.inner.¦", ("head", "layers"), gaps={"jedi": _GENERIC}),
    # Operations
    Probe("`graphdef` of a split", COMPLETION, "graphdef.¦", ("layout", "type")),
    Probe("state tree of a split", COMPLETION, "params.¦", ("filter", "flat", "split")),
    Probe("merged node", COMPLETION, "merged.¦", ("head", "layers")),
    Probe(
        "`treefy_merge(...).head.`",
        COMPLETION,
        "gn.treefy_merge(graphdef, params, others).head.¦",
        ("in_size", "weight"),
        gaps=_live(_ERASED),
    ),
    Probe(
        "`states(m, gn.ParamState)[path].`",
        COMPLETION,
        "gn.states(m, gn.ParamState)[path].¦",
        ("value", "replace"),
    ),
    Probe(
        "`states(m, gn.ParamState)[path].value.`",
        COMPLETION,
        "gn.states(m, gn.ParamState)[path].value.¦",
        ("shape", "reshape"),
        gaps={"jedi": _DEFAULT, **_live(_DEFAULT)},
    ),
    Probe("`clone(m).`", COMPLETION, "gn.clone(m).¦", ("head", "layers")),
    Probe("`gn.select(m, Layer).`", COMPLETION, "gn.select(m, Layer).¦", ("under", "where", "replace", "freeze")),
    Probe(
        "loop over `gn.select(m, Layer)`",
        COMPLETION,
        "for _, selected in gn.select(m, Layer):\n    selected.¦",
        ("in_size", "weight"),
    ),
    Probe("`gn.diagram(m).`", COMPLETION, "gn.diagram(m).¦", ("arrows", "boxes", "dot", "mermaid", "save", "svg")),
    Probe("`rngs['dropout'].`", COMPLETION, "rngs['dropout'].¦", ("key", "count", "fork")),
    Probe(
        "`Optimizer(...).`",
        COMPLETION,
        "gn.optim.Optimizer(m, optax.sgd(0.1)).¦",
        ("update", "steps", "memory", "tx", "wrt"),
    ),
    Probe("`Mean().`", COMPLETION, "gn.metrics.Mean().¦", ("update", "compute", "reset", "merge")),
    Probe("`Statistics().compute().`", COMPLETION, "gn.metrics.Statistics().compute().¦", ("mean", "std", "count")),
    Probe(
        "`ExponentialMovingAverage(...).view(m).`",
        COMPLETION,
        "gn.metrics.ExponentialMovingAverage(m, 0.9).view(m).¦",
        ("head", "layers"),
    ),
    # Transforms
    Probe(
        "in a function under `gn.jit`",
        COMPLETION,
        "@gn.jit\ndef run(model: Model) -> None:\n    model.head.¦",
        ("in_size", "weight"),
        gaps={_TYPED: _CELL},
    ),
    Probe(
        "result of a function under `gn.jit`", COMPLETION, "step(m, x).¦", ("head", "layers"), gaps={"jedi": _PARAMSPEC}
    ),
    Probe("node from `gn.vmap`", COMPLETION, "ensemble.¦", ("in_size", "weight")),
    # Hover
    Probe("hover: field", HOVER, "m.head.in_s¦ize", ("Features of the input.",), gaps=_live(_FIELD_DOC)),
    Probe(
        "hover: inherited field",
        HOVER,
        "sensor.wei¦ght",
        ("ParamState", "The coefficients, a row for each feature of the input."),
        gaps=_live(_FIELD_DOC),
    ),
    Probe(
        "hover: field of a merged node",
        HOVER,
        "merged.he¦ad",
        ("Layer", "What gives the output."),
        gaps=_live(_FIELD_DOC),
    ),
    Probe(
        "hover: node class",
        HOVER,
        "Lay¦er(2, 3)",
        ("in_size", "out_size", "scale", "A linear map that counts its calls."),
    ),
    Probe("hover: function under `gn.jit`", HOVER, "st¦ep", ("Make one step of training.",)),
    Probe(
        "hover: operation",
        HOVER,
        "gn.treefy_me¦rge",
        ("graphdef", "Build a node from its graphdef and state trees"),
    ),
    # Signatures
    Probe("signature: constructor", SIGNATURE, "Layer(¦)", ("in_size: int", "out_size: int", "scale", "shift")),
    Probe(
        "signature: not what `init=False` leaves out",
        SIGNATURE,
        "Layer(¦)",
        ("in_size: int",),
        lacks=("weight",),
        gaps={"jedi": _INIT},
    ),
    Probe("signature: keyword-only fields", SIGNATURE, "Sensor(¦)", ("*,", "gain"), gaps={"jedi": _KW_ONLY}),
    Probe("signature: call of a node", SIGNATURE, "m(¦)", ("x:",)),
    Probe("signature: under `gn.jit`", SIGNATURE, "step(¦)", ("model: ", "Model"), gaps={"jedi": _PARAMSPEC}),
    # Definitions
    Probe("definition: field", DEFINITION, "m.head.in_s¦ize", (f"{HERE}: in_size: int",), is_live=False),
    Probe(
        "definition: keyword", DEFINITION, "Layer(in_s¦ize=2, out_size=3)", (f"{HERE}: in_size: int",), is_live=False
    ),
    Probe(
        "definition: field of a merged node",
        DEFINITION,
        "merged.he¦ad",
        (f"{HERE}: head: Layer",),
        is_live=False,
    ),
    Probe(
        "definition: field that `__post_init__` sets",
        DEFINITION,
        "gn.nn.Linear(2, 3).wei¦ght",
        ("graphnode/nn/_linear.py: weight: ParamState",),
        gaps={"jedi": _ASSIGNED},
        is_live=False,
    ),
    Probe(
        "definition: operation",
        DEFINITION,
        "gn.treefy_me¦rge",
        ("graphnode/_merge.py: def treefy_merge(",),
        is_live=False,
    ),
    Probe(
        "gradients from `gn.grad`",
        COMPLETION,
        "gradients.¦",
        ("filter", "flat"),
        gaps={"pyright": _ANY, "pyrefly": _ANY, "ty": _ANY, "jedi": _ANY},
    ),
)
