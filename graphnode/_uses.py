"""Find which attributes of its first argument a function uses, by reading its bytecode.

For a factory: the fields that it computes another one from. For a `__post_init__`: the
fields that it sets. Only certain answers count:

    lambda self: self.a + self.b          {"a", "b"}
    lambda self: helper(self)             None: helper may use any attribute
    def __post_init__(self):
        self.a = 1                        makes a: it runs in every call that returns
        if self.flag:
            self.b = 2                    b is not certain: a jump leads past it
"""

import dis
import inspect
from collections.abc import Iterator, Set
from itertools import pairwise
from types import CodeType, FunctionType
from typing import Final

_JUMPS: Final = frozenset({*dis.hasjrel, *dis.hasjabs})
_ATTRIBUTE: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR"})
# These read the variables of their caller, which its bytecode does not show.
_LOOKS_INTO_CALLER: Final = frozenset(
    {"super", "locals", "vars", "eval", "exec", "_getframe", "currentframe"}
)

# What every object has: no field, and no code of the class.
_CLASS: Final = "__class__"

# Run-time type checkers, ours included.
_CHECKERS: Final = frozenset({"beartype", "graphnode", "jaxtyping"})


def attributes_used(function: object) -> Set[str] | None:
    """The attributes of its first argument that a function uses; `None` if that is not certain.

    For `dataclasses.replace`, which runs neither factories nor `__post_init__`: whether
    one of them would have used a field that is changed.
    """
    code = _code_of(function)
    return None if code is None else _used_in(code, code.co_varnames[0])


def _code_of(function: object) -> CodeType | None:
    """The bytecode to read of a function that takes an argument by position; `None` for anything else."""
    if callable(function):
        function = inspect.unwrap(function, stop=_may_do_more)
    if not isinstance(function, FunctionType) or function.__code__.co_argcount == 0:
        return None
    return function.__code__


def _may_do_more(function: object) -> bool:
    """For `_code_of`: whether a wrapper may use the argument itself; run-time type checkers only inspect it."""
    module = str(getattr(function, "__globals__", {}).get("__name__", ""))
    return module.partition(".")[0] not in _CHECKERS


def _used_in(code: CodeType, variable: str) -> Set[str] | None:
    """For `attributes_used`: the attributes of a variable that a code uses; `None` if that is not certain."""
    if not _LOOKS_INTO_CALLER.isdisjoint(code.co_names):
        return None
    used: set[str] = set()
    for instruction, following in _uses(code, variable):
        if not _is_load(instruction, variable) or following.opname not in _ATTRIBUTE:
            return None
        if following.argval != _CLASS:
            used.add(following.argval)
    inside = _read_inside(code, variable)
    return None if inside is None else used | inside


def _uses(
    code: CodeType, variable: str
) -> Iterator[tuple[dis.Instruction, dis.Instruction]]:
    """For `_used_in`: the instructions that use a variable, each with the next one, which shows what for."""
    for instruction, following in _pairs(code):
        if _is_use(instruction, code, variable):
            yield instruction, following


def _pairs(code: CodeType) -> Iterator[tuple[dis.Instruction, dis.Instruction]]:
    """All instructions, each with the next one, which shows what a variable that is loaded is used for."""
    # An EXTENDED_ARG only holds upper bits of the argument of the next instruction.
    return pairwise(
        [
            instruction
            for instruction in dis.get_instructions(code)
            if instruction.opname != "EXTENDED_ARG"
        ]
    )


def _is_use(instruction: dis.Instruction, code: CodeType, variable: str) -> bool:
    """Whether an instruction of a code loads, stores, deletes or passes on a variable."""
    # A variable that inner functions use is in a cell, and read by "deref" instructions;
    # "fast" ones then pass the cell to the inner functions.
    is_cell = variable in (*code.co_cellvars, *code.co_freevars)
    kind = "DEREF" if is_cell else "FAST"
    return kind in instruction.opname and variable in _variables(instruction)


def _variables(instruction: dis.Instruction) -> tuple[str, ...]:
    """The variables that an instruction names."""
    # Since Python 3.13 one instruction may load or store two variables.
    names = instruction.argval
    return names if isinstance(names, tuple) else (names,)


def _is_load(instruction: dis.Instruction, variable: str) -> bool:
    """Whether an instruction loads the variable last, and uses it for nothing else.

    Then the next instruction alone says what is done with it, such as which attribute
    is read.
    """
    # One that loads and stores ends with a store: the loaded value is below it.
    is_load = "LOAD" in instruction.opname and not instruction.opname.endswith(
        "STORE_FAST"
    )
    *others, last = _variables(instruction)
    return is_load and last == variable and variable not in others


def attributes_made(function: object, *, fields: Set[str], lazy: Set[str]) -> Set[str]:
    """The fields of its first argument that a function sets in every call that returns, and has not read before.

    For a `__post_init__` of a base: it would replace what a derived class declares for
    such a field, which is refused. Once the argument is passed on, or an attribute is
    read that may be a method or property, any field may have been read.

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
    assigned, read = set[str](), set(_read_inside(code, code.co_varnames[0]) or ())
    for instruction, following in _transparent_start(code, fields, lazy):
        if _is_use(instruction, code, code.co_varnames[0]):
            if following.opname == "STORE_ATTR" and following.offset in certain:
                # A field that is read before it is set needs its default first.
                assigned |= {following.argval} - read
            else:
                read.add(following.argval)
    return assigned


def _transparent_start(
    code: CodeType, fields: Set[str], lazy: Set[str]
) -> Iterator[tuple[dis.Instruction, dis.Instruction]]:
    """The instructions up to the first that may read unknown fields of the first argument.

    Each comes with the one that follows it. Until then, instructions that use the
    argument read or set one field. What is set later may have been read before that,
    and needed its default.
    """
    variable, plain = code.co_varnames[0], fields - lazy
    inside = _read_inside(code, variable)
    if inside is None or not inside <= plain:
        return
    for instruction, following in _pairs(code):
        if "LOAD" in instruction.opname and instruction.argval in _LOOKS_INTO_CALLER:
            return
        if _is_use(instruction, code, variable):
            is_load = _is_load(instruction, variable)
            if not is_load or following.opname not in _ATTRIBUTE:
                return  # it is passed on, or from here on another object
            # Reading a lazy field runs its factory, which may read others.
            allowed = fields if following.opname == "STORE_ATTR" else plain
            if following.argval not in allowed and following.argval != _CLASS:
                return
        yield instruction, following


def _read_inside(code: CodeType, variable: str) -> Set[str] | None:
    """The attributes of a variable that inner functions, such as lambdas, use; `None` if that is not certain."""
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
    """Whether a function reads an attribute of some object in every call that returns, and no field before.

    That is a `__post_init__` that calls `super().__post_init__()`, say. For the same
    check as `attributes_made`: what the `__post_init__` of a further base sets counts
    only if this one surely calls it.

    Args:
        function: The function.
        name: The attribute, which may be that of `super()`.
        but_not: The field that the function must not mention at all.
        fields: The attributes of its first argument that run no code of the class when they
            are read or set.
        lazy: Those of them that run code when they are read.
    """
    code = _code_of(function)
    if code is None or _mentions(code, but_not):
        return False
    reads = [
        instruction for instruction in _certain(code) if instruction.argval == name
    ]
    if not reads:
        return False
    read = reads[0]
    transparent_count = sum(1 for _ in _transparent_start(code, fields, lazy))
    rest = [instruction for instruction, _ in _pairs(code)][transparent_count:]
    if not rest or read.offset < rest[0].offset:
        return True
    # `super()` itself ends the transparent start; it has read nothing if the attribute
    # is the first that is read after it.
    first_read = next((item for item in rest if _reads_attribute(item)), None)
    return rest[0].argval == "super" and first_read == read


def _mentions(code: CodeType, name: str) -> bool:
    """For `always_reads`: whether a code has an attribute or global of a name, or a function in it the attribute."""
    inside = _read_inside(code, code.co_varnames[0]) or frozenset()
    return name in code.co_names or name in inside


def _reads_attribute(instruction: dis.Instruction) -> bool:
    """For `always_reads`: whether an instruction reads, sets or deletes an attribute of some object."""
    is_of_super = instruction.opname.startswith("LOAD_SUPER")
    return is_of_super or instruction.opname in _ATTRIBUTE


def _certain(code: CodeType) -> Iterator[dis.Instruction]:
    """The instructions that run in every call that returns: no jump skips them, and no return comes before.

    For `attributes_made` and `always_reads`: which fields a `__post_init__` surely
    sets.
    """
    instructions = list(dis.get_instructions(code))
    if any(instruction.opname == "PUSH_EXC_INFO" for instruction in instructions):
        return  # in a `try` or `with`, any instruction may be the last to run
    furthest_target = 0
    for instruction in instructions:
        if instruction.offset >= furthest_target:
            yield instruction
        if instruction.opcode in _JUMPS:
            # A jump backwards, to the start of a loop, skips nothing.
            furthest_target = max(furthest_target, instruction.argval)
        if instruction.opname.startswith("RETURN"):
            return
