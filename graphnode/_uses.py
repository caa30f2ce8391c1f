"""Which attributes of its first argument a function uses, as its bytecode tells.

That is what a factory makes a field of, and which fields a `__post_init__` makes. Only
what is certain counts. Of a factory, every use of the argument has to be an attribute
that is read, set or deleted; a function that does anything else with it, such as
passing it on, may use whatever it likes.
"""

import dis
import inspect
from collections.abc import Iterator, Set
from itertools import pairwise
from types import CodeType, FunctionType
from typing import Final

_JUMPS: Final = frozenset({*dis.hasjrel, *dis.hasjabs})
_ATTRIBUTE: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR"})
# They get at the variables of their caller without a word in its bytecode.
_LOOKS_INTO_CALLER: Final = frozenset(
    {"super", "locals", "vars", "eval", "exec", "_getframe", "currentframe"}
)

_CHECKERS: Final = frozenset({"beartype", "graphnode", "jaxtyping"})


def attributes_used(function: object) -> Set[str] | None:
    """The attributes of its first argument that a function uses; `None` where that is not certain."""
    code = _code_of(function)
    return None if code is None else _used_in(code, code.co_varnames[0])


def _code_of(function: object) -> CodeType | None:
    """The code of a function that takes an argument by position."""
    function = (
        inspect.unwrap(function, stop=_is_no_checker)
        if callable(function)
        else function
    )
    if not isinstance(function, FunctionType) or function.__code__.co_argcount == 0:
        return None
    return function.__code__


def _is_no_checker(function: object) -> bool:
    """Whether a wrapper may do anything; one that checks types at run time only looks at the argument."""
    module = str(getattr(function, "__globals__", {}).get("__name__", ""))
    return module.partition(".")[0] not in _CHECKERS


def _used_in(code: CodeType, variable: str) -> Set[str] | None:
    if not _LOOKS_INTO_CALLER.isdisjoint(code.co_names):
        return None
    used: set[str] = set()
    for instruction, following in _uses(code, variable):
        if not _is_load(instruction, variable) or following.opname not in _ATTRIBUTE:
            return None
        used.add(following.argval)
    inside = _read_inside(code, variable)
    return None if inside is None else used | inside


def _uses(
    code: CodeType, variable: str
) -> Iterator[tuple[dis.Instruction, dis.Instruction]]:
    """The instructions that use a variable, each with the one that follows it."""
    for instruction, following in _pairs(code):
        if _is_use(instruction, code, variable):
            yield instruction, following


def _pairs(code: CodeType) -> Iterator[tuple[dis.Instruction, dis.Instruction]]:
    """All instructions, each with the one that follows it."""
    return pairwise(
        [one for one in dis.get_instructions(code) if one.opname != "EXTENDED_ARG"]
    )


def _is_use(instruction: dis.Instruction, code: CodeType, variable: str) -> bool:
    # A variable that inner functions use is in a cell; "fast" instructions then pass
    # the cell on to them.
    is_cell = variable in (*code.co_cellvars, *code.co_freevars)
    kind = "DEREF" if is_cell else "FAST"
    return kind in instruction.opname and variable in _variables(instruction)


def _variables(instruction: dis.Instruction) -> tuple[str, ...]:
    # Since Python 3.13 one instruction may stand for two that follow each other.
    names = instruction.argval
    return names if isinstance(names, tuple) else (names,)


def _is_load(instruction: dis.Instruction, variable: str) -> bool:
    """Whether an instruction loads the variable last, and uses it for nothing else."""
    is_load = "LOAD" in instruction.opname and not instruction.opname.endswith(
        "STORE_FAST"
    )
    *others, last = _variables(instruction)
    return is_load and last == variable and variable not in others


def attributes_made(function: object, *, fields: Set[str], lazy: Set[str]) -> Set[str]:
    """The fields of its first argument that a function sets in every call that returns, and cannot have read before.

    What gets the argument, or is asked of it and may be a method or property, may have
    read anything.

    Args:
        function: The function.
        fields: The attributes of the argument that run no code of the class when they
            are read or set.
        lazy: Those of them that run code when they are read.
    """
    code = _code_of(function)
    if code is None:
        return frozenset()
    certain = {instruction.offset for instruction in _certain(code)}
    made, read = set[str](), set(_read_inside(code, code.co_varnames[0]) or ())
    for instruction, following in _straight(code, fields, lazy):
        if _is_use(instruction, code, code.co_varnames[0]):
            if following.opname == "STORE_ATTR" and following.offset in certain:
                made |= {following.argval} - read
            else:
                read.add(following.argval)
    return made


def _straight(
    code: CodeType, fields: Set[str], lazy: Set[str]
) -> Iterator[tuple[dis.Instruction, dis.Instruction]]:
    """The instructions from the start of a function to the first that may read any field of its first argument.

    Each comes with the one that follows it. Those that use the argument read or set one
    field.
    """
    variable, plain = code.co_varnames[0], fields - lazy
    inside = _read_inside(code, variable)
    if inside is None or not inside <= plain:
        return
    for instruction, following in _pairs(code):
        if "LOAD" in instruction.opname and instruction.argval in _LOOKS_INTO_CALLER:
            return
        if _is_use(instruction, code, variable):
            if (
                not _is_load(instruction, variable)
                or following.opname not in _ATTRIBUTE
            ):
                return  # it is passed on, or from here on another object
            if following.argval not in (
                fields if following.opname == "STORE_ATTR" else plain
            ):
                return
        yield instruction, following


def _read_inside(code: CodeType, variable: str) -> Set[str] | None:
    """The attributes of a variable that inner functions use; `None` where that is not certain."""
    used: set[str] = set()
    for inner in code.co_consts:
        if isinstance(inner, CodeType) and variable in inner.co_freevars:
            used_inside = _used_in(inner, variable)
            if used_inside is None:
                return None
            used |= used_inside
    return used


def always_reads(
    function: object, name: str, *, but_not: str, fields: Set[str], lazy: Set[str]
) -> bool:
    """Whether a function asks something for an attribute in every call that returns, and has read no field before.

    Args:
        function: The function.
        name: The attribute, which `super()` may be asked for.
        but_not: The field, of which the function may say nothing afterwards either.
        fields: As in `attributes_made`.
        lazy: As there.
    """
    code = _code_of(function)
    if (
        code is None
        or but_not in code.co_names
        or but_not in (_read_inside(code, code.co_varnames[0]) or ())
    ):
        return False
    asking = next(
        (instruction for instruction in _certain(code) if instruction.argval == name),
        None,
    )
    if asking is None:
        return False
    before = sum(1 for _ in _straight(code, fields, lazy))
    behind = [instruction for instruction, _ in _pairs(code)][before:]
    if not behind or asking.offset < behind[0].offset:
        return True
    asked = (
        one
        for one in behind
        if one.opname in _ATTRIBUTE or one.opname.startswith("LOAD_SUPER")
    )
    return behind[0].argval == "super" and next(asked, None) == asking


def _certain(code: CodeType) -> Iterator[dis.Instruction]:
    """The instructions that run in every call that returns: no jump leads past them, and no return stands before."""
    instructions = list(dis.get_instructions(code))
    if any(instruction.opname == "PUSH_EXC_INFO" for instruction in instructions):
        return  # in a `try` or `with`, any instruction may be the last
    landing = 0
    for instruction in instructions:
        if instruction.offset >= landing:
            yield instruction
        if instruction.opcode in _JUMPS:
            landing = max(landing, instruction.argval)
        if instruction.opname.startswith("RETURN"):
            return
