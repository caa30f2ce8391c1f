"""The functions that make fields: initialisers, factories and defaults, each with its place in what it raises.

Data in: a field. Data out: the function that makes its value from the node. What a
user's function raises stays as it is, with a note that says which field it was called
for, and how.
"""

from collections.abc import Callable, Set
from typing import Any, TypeAlias

import jax

from .._contract import Contract, ContractSyntaxError
from .._describe import describe, shape_text
from .._errors import ContractError, FieldError
from .._fields import NodeBase
from .._state import State
from .._stream import split_key_for
from ._annotations import open_class
from ._schema import Field, is_computed

# From the node under construction to the value of the field.
Maker: TypeAlias = Callable[[Any], Any]


def maker_of(field: Field, computed: Set[str]) -> Maker | None:
    """What makes a field's value from its node; `None` for a field that only its constructor sets.

    Args:
        field: The field.
        computed: The names of the static fields of its class that have a factory.
    """
    specifier = field.specifier
    if is_computed(field):
        return _computing_maker(field)
    if specifier.factory is not None:
        return _factory_maker(field, specifier.factory)
    if specifier.initializer is not None:
        return _initializer_maker(field, computed)
    return None if field.default is None else _default_maker(field, field.default)


def sizes_of(node: NodeBase) -> dict[str, object]:
    """The static fields of a node that are set: what axes are looked up in."""
    return {
        name: node.__dict__[name]
        for name in type(node)._plan.statics
        if name in node.__dict__
    }


def note_call(
    error: Exception, node: NodeBase, field: str, role: str, call: str
) -> None:
    """Say with an error of a user's function which field it was called for, and how.

    Args:
        error: What it raised.
        node: The node under construction.
        field: The name of the field.
        role: What the function is to the field: `initializer`, `factory`.
        call: How it was called.
    """
    error.add_note(f"the {role} of {type(node).__name__}.{field} was called as {call}")


def _called(
    function: Callable[..., Any],
    args: tuple[object, ...],
    node: NodeBase,
    field: Field,
    role: str,
    call: str,
) -> Any:
    """What a user's function gives; what it raises gets a note. For the last four arguments, see `note_call`."""
    try:
        return function(*args)
    except Exception as error:
        note_call(error, node, field.name, role, call)
        raise


def _factory_maker(field: Field, factory: Maker) -> Maker:
    return lambda node: _called(
        factory, (node,), node, field, "factory", "factory(self)"
    )


def _computing_maker(field: Field) -> Maker:
    """Of a static field. Settings may be computed from each other, where one of them is given."""
    factory: Any = field.specifier.factory
    running = set[int]()

    def make(node: NodeBase) -> Any:
        if id(node) in running:
            where = f"{type(node).__name__}.{field.name}"
            remedy = "have its factory read other fields" + (
                ", or pass it to the constructor" if field.init else ""
            )
            raise FieldError(f"{where} is computed from itself: {remedy}")
        running.add(id(node))
        try:
            return _called(factory, (node,), node, field, "factory", "factory(self)")
        finally:
            running.discard(id(node))

    return make


def _default_maker(field: Field, default: Callable[[], object]) -> Maker:
    return lambda node: _called(
        default, (), node, field, "default_factory", "default_factory()"
    )


def _initializer_maker(field: Field, computed: Set[str]) -> Maker:
    specifier, (leaf,) = field.specifier, field.form.leaves
    variable = open_class(field.annotation) if leaf.cls is State else None
    if variable is not None:
        return _open_maker(field, variable.__name__)
    initializer: Any = specifier.initializer
    if specifier.shape is None:
        shape_of = _contract_shape(leaf.contract, computed)
    else:
        shape_of = _declared_shape(field, specifier.shape)
    dtype = leaf.contract.dtype if leaf.contract is not None else _default_dtype
    described = {
        "name": specifier.name,
        "tag": specifier.tag,
        "sharding": specifier.sharding,
    }
    # What the specifier does not say, the class says: its `__init__` may have other
    # defaults, or take the value alone.
    description = {part: said for part, said in described.items() if said is not None}

    def make(node: NodeBase) -> State[Any]:
        where = f"{type(node).__name__}.{field.name}"
        try:
            shape = shape_of(node)
        except ContractSyntaxError as error:
            raise ContractError(f"{where}: {error}") from None
        value = _initialized(initializer, node, field.name, shape, dtype())
        # Where the annotation says a shape, it is the contract that is checked, once
        # all fields are there.
        if (
            leaf.contract is None
            and isinstance(value, jax.Array)
            and value.shape != shape
        ):
            found = shape_text(value)
            raise ContractError(
                f"{where}: its initializer was called for the shape {shape} and returned {found}"
            )
        try:
            return leaf.cls(value, **description)  # type: ignore[no-any-return]
        except FieldError as error:  # a shape that only the node knows, of another rank than the sharding
            raise FieldError(f"{where}: {error}") from None
        except Exception as error:  # of an `__init__` of the user's
            written = ", ".join(
                ["value", *(f"{part}={said!r}" for part, said in description.items())]
            )
            note_call(
                error, node, field.name, "State", f"{leaf.cls.__name__}({written})"
            )
            raise

    return make


def _open_maker(field: Field, variable: str) -> Maker:
    """Of a field whose annotation is a type variable: a subclass may say what it stands for, and a node may not."""

    def refuse(node: NodeBase) -> State[Any]:
        raise FieldError(
            f"{type(node).__name__}.{field.name}: state(initializer) makes a State, and nothing says of which class "
            f"{variable} is; have a subclass say it, as class Sub({field.owner.__name__}[gn.ParamState]), or give "
            f"{variable} a default"
        )

    return refuse


def _initialized(
    initializer: Any, node: NodeBase, name: str, shape: tuple[int, ...], dtype: Any
) -> Any:
    """What an initialiser makes.

    Raises:
        FieldError: It gives nothing.
    """
    key = split_key_for(lambda key: initializer(key, shape, dtype))
    try:
        value = initializer(key, shape, dtype)
    except Exception as error:
        note_call(
            error, node, name, "initializer", f"initializer(key, {shape}, {dtype})"
        )
        raise
    if value is None:
        raise FieldError(
            f"{type(node).__name__}.{name}: its initializer returned None; it returns the array"
        )
    return value


def _default_dtype() -> Any:
    return jax.dtypes.canonicalize_dtype(float)


def _declared_shape(
    field: Field, shape_of: Callable[[Any], tuple[int, ...]]
) -> Callable[[Any], tuple[int, ...]]:
    """The shape that `shape=` gives, as a tuple."""

    def shape(node: NodeBase) -> tuple[int, ...]:
        sizes = _called(shape_of, (node,), node, field, "shape", "shape(self)")
        if isinstance(sizes, (tuple, list)):
            return tuple(sizes)
        raise FieldError(
            f"{type(node).__name__}.{field.name}: shape= takes a function that returns a tuple of sizes, such as "
            f"lambda self: (self.rows, 3); it returned {describe(sizes)}"
        )

    return shape


def _contract_shape(
    contract: Contract | None, computed: Set[str]
) -> Callable[[NodeBase], tuple[int, ...]]:
    # The schema saw to it, where the specifier does not say the shape
    assert contract is not None
    # In one order in all processes: a factory may draw
    to_read = sorted(contract.names & computed)
    if not to_read:
        return lambda node: contract.shape(sizes_of(node))

    def shape(node: NodeBase) -> tuple[int, ...]:
        for name in to_read:
            getattr(node, name)  # which makes it, if it is not there yet
        return contract.shape(sizes_of(node))

    return shape
