"""`attributes_used` knows what a function certainly does with its first argument, and says so where it does not."""

import functools
from typing import Any

import pytest
from beartype import beartype
from jaxtyping import jaxtyped

import graphnode as gn
from graphnode._uses import attributes_used


def pass_on(node: Any) -> Any:
    return node


def with_locals(self: Any, x: int) -> None:
    y = self.read
    self.written = x
    self.also = y
    del self.deleted


def rebound(self: Any) -> Any:
    self = [self.a]
    return self.append


def looks_around(self: Any) -> Any:
    return locals()


class Parent:
    """Has something that `super` finds."""

    def reset(self) -> None: ...


class Child(Parent):
    """Reaches its instance without naming it."""

    def reset(self) -> None:
        super().reset()


def wrapped(self: Any) -> Any:
    return self.a


@functools.wraps(wrapped)
def wrapper(*args: Any) -> Any:
    return args[0].b


CERTAIN: dict[str, tuple[Any, set[str]]] = {
    "nothing": (lambda self: 1, set()),
    "reads": (lambda self: pass_on(self.width) + self.height, {"width", "height"}),
    "called": (lambda self: self.act(1), {"act"}),
    "comprehension": (lambda self: [pass_on(self.width) for _ in range(self.n)], {"width", "n"}),
    "inner function": (lambda self: lambda: self.width, {"width"}),
    "another of its name": (lambda self: (lambda self: pass_on(self))(3), set()),
    "a text of its name": (lambda self: pass_on("self"), set()),
    "checked at run time": (jaxtyped(typechecker=beartype)(wrapped), {"a"}),
    "checked with sizes": (jaxtyped(typechecker=gn.typechecker)(wrapped), {"a"}),
    "locals": (with_locals, {"read", "written", "also", "deleted"}),
}
MANY = [f"a{number}" for number in range(600)]  # more than the argument of one instruction can count
CERTAIN["many"] = (eval(f"lambda self: ({', '.join(f'self.{name}' for name in MANY)})"), set(MANY))
UNCERTAIN: dict[str, Any] = {
    "passed on": lambda self: pass_on(self),
    "returned": lambda self: self,
    "kept": lambda self: {"a": self},
    "iterated": lambda self: [x for x in self],
    "passed on inside": lambda self: lambda: pass_on(self),
    "rebound": rebound,
    "locals": looks_around,
    "super": Child.reset,
    "no argument": lambda: 1,
    "any arguments": lambda *args: args[0].width,
    "wrapped": wrapper,
    "checked and wrapped": jaxtyped(typechecker=beartype)(wrapper),
    "a class": int,
    "a callable": "".join,
}


@pytest.mark.parametrize("name", CERTAIN)
def test_attributes_are_found(name: str):
    """Whatever a function reads, sets or deletes of its argument is known, if it does nothing else with it."""
    function, used = CERTAIN[name]
    assert attributes_used(function) == used


@pytest.mark.parametrize("name", UNCERTAIN)
def test_what_is_not_certain_is_not_claimed(name: str):
    """A function that passes its argument on, or may reach it in another way, may use anything of it."""
    assert attributes_used(UNCERTAIN[name]) is None
