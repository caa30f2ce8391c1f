"""Make the values of fields that the constructor is not given: by initializers, factories and defaults.

`maker_of` turns a field into a function from the node to the value. What a user's
function raises is not changed; it gets a note with the field, and how it was called.
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
from ._schema import Field, is_computed
from ._type_arguments import open_class

# From the node under construction to the value of the field.
Maker: TypeAlias = Callable[[Any], Any]


def maker_of(field: Field, computed: Set[str]) -> Maker | None:
    """The function that makes a field's value from its node; `None` for a field that only the constructor sets.

    For `compile_plan`: what runs is decided once for a class, not at each construction.

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
    """The static fields of a node that are set: what axes are looked up in.

    For initializers, and to check contracts: the axis `n` has the size that the field
    `n` has.
    """
    fields = node.__dict__
    return {name: fields[name] for name in type(node)._plan.statics if name in fields}


def note_call(
    error: Exception, node: NodeBase, field: str, role: str, call: str
) -> None:
    """Add a note to an error of a user's function: for which field it was called, and how.

    The user has not written the call, and would not see from the traceback what it was
    for.

    Args:
        error: What it raised.
        node: The node under construction.
        field: The name of the field.
        role: What the function is to the field: `initializer`, `factory`.
        call: How it was called.
    """
    error.add_note(f"the {role} of {type(node).__name__}.{field} was called as {call}")


def _call_with_note(
    function: Callable[..., Any],
    args: tuple[object, ...],
    node: NodeBase,
    field: Field,
    role: str,
    call: str,
) -> Any:
    """The result of a user's function; an error gets a note, by `note_call` of the last four arguments.

    For all makers: the note says for which field the function was called.
    """
    try:
        return function(*args)
    except Exception as error:
        note_call(error, node, field.name, role, call)
        raise


def _factory_maker(field: Field, factory: Maker) -> Maker:
    """The maker of a state or subnode field with a `factory`, which takes the node.

    For `gn.subnode(factory=...)`.
    """
    return lambda node: _call_with_note(
        factory, (node,), node, field, "factory", "factory(self)"
    )


def _computing_maker(field: Field) -> Maker:
    """The maker of a static field: a factory, which may read fields that other factories make.

    For `gn.static(factory=...)`: it reads the others in any order, as a read makes
    them.
    """
    factory: Any = field.specifier.factory
    # Two settings may be computed from each other, as one of them is passed in. If
    # neither is, the second factory asks for the first field again.
    # By the id of the node: one maker serves all nodes of the class.
    running = set[int]()

    def make(node: NodeBase) -> Any:
        """The value that the factory gives for a node.

        While it runs, the node is noted, so that a factory that reads it does not run
        for ever.

        Raises:
            FieldError: The factory has asked for its own field.
        """
        if id(node) in running:
            where = f"{type(node).__name__}.{field.name}"
            remedy = "have its factory read other fields"
            if field.init:
                remedy += ", or pass it to the constructor"
            raise FieldError(f"{where} is computed from itself: {remedy}")
        running.add(id(node))
        try:
            return _call_with_note(
                factory, (node,), node, field, "factory", "factory(self)"
            )
        finally:
            running.discard(id(node))

    return make


def _default_maker(field: Field, default: Callable[[], object]) -> Maker:
    """The maker of a field with a default, or with a `default_factory`, which takes nothing.

    For a field that a hand-written constructor leaves out; a generated one has the
    default itself.
    """
    return lambda node: _call_with_note(
        default, (), node, field, "default_factory", "default_factory()"
    )


def _initializer_maker(field: Field, computed: Set[str]) -> Maker:
    """The maker of a State with an `initializer`: it finds shape and dtype, draws a key and wraps the array.

    For `gn.state(initializer)`.

    Args:
        field: A state field that admits one class of States.
        computed: The names of the static fields of its class that have a factory.
    """
    specifier, (leaf,) = field.specifier, field.form.leaves
    variable = open_class(field.annotation) if leaf.cls is State else None
    if variable is not None:
        return _open_maker(field, variable.__name__)
    initializer: Any = specifier.initializer
    contract = leaf.contract
    if specifier.shape is not None:
        shape_of = _declared_shape(field, specifier.shape)
    else:
        # The schema has seen to it that one of the two gives the shape.
        assert contract is not None
        shape_of = _contract_shape(contract, computed)
    # A function, not a value: `jax_enable_x64` may be switched between two
    # constructions.
    dtype = _default_dtype if contract is None else contract.dtype
    make_state = _state_maker(field, leaf.cls)

    def make(node: NodeBase) -> State[Any]:
        """A State with a new array, of the shape that the sizes of the node give."""
        where = f"{type(node).__name__}.{field.name}"
        try:
            shape = shape_of(node)
        except ContractSyntaxError as error:
            raise ContractError(f"{where}: {error}") from None
        value = _initialized(initializer, node, field.name, shape, dtype())
        # A contract is checked once all fields are there.
        has_shape = contract is not None or not isinstance(value, jax.Array)
        if not has_shape and value.shape != shape:
            raise ContractError(
                f"{where}: its initializer was called for the shape {shape} and returned {shape_text(value)}"
            )
        return make_state(node, value)

    return make


def _state_maker(field: Field, cls: Any) -> Callable[[NodeBase, Any], State[Any]]:
    """The function that wraps a value in a State of a class, as the specifier describes it.

    For `_initializer_maker`, whose initializer gives an array.
    """
    specifier = field.specifier
    description = {
        "name": specifier.name,
        "tag": specifier.tag,
        "sharding": specifier.sharding,
    }
    # Parts that the specifier leaves out are not passed: the `__init__` of the class may
    # have other defaults for them, or take the value alone.
    options = {name: part for name, part in description.items() if part is not None}

    def make_state(node: NodeBase, value: Any) -> State[Any]:
        """The value in a State; an error of its class gets the name of the field."""
        try:
            return cls(value, **options)  # type: ignore[no-any-return]
        # A shape that only the node knows may not have the rank of the sharding.
        except FieldError as error:
            where = f"{type(node).__name__}.{field.name}"
            raise FieldError(f"{where}: {error}") from None
        except Exception as error:  # a user's class may raise anything
            keywords = [f"{name}={part!r}" for name, part in options.items()]
            call = f"{cls.__name__}({', '.join(['value', *keywords])})"
            note_call(error, node, field.name, "State", call)
            raise

    return make_state


def _open_maker(field: Field, variable: str) -> Maker:
    """The maker of a field whose annotation is a type variable: it refuses, as only a subclass says which State.

    For `_initializer_maker`: the class may be used all the same, where the constructor
    is given a State.
    """

    def refuse(node: NodeBase) -> State[Any]:
        """Raise `FieldError`, in place of making a value."""
        raise FieldError(
            f"{type(node).__name__}.{field.name}: state(initializer) makes a State, and nothing says of which class "
            f"{variable} is; have a subclass say it, as class Sub({field.owner.__name__}[gn.ParamState]), or give "
            f"{variable} a default"
        )

    return refuse


def _initialized(
    initializer: Any, node: NodeBase, name: str, shape: tuple[int, ...], dtype: Any
) -> Any:
    """The value that an initializer makes.

    For `_initializer_maker`: its errors get a note, and a forgotten `return` is found
    here.

    Raises:
        FieldError: It is `None`.
    """
    key = split_key_for(lambda key: initializer(key, shape, dtype))
    try:
        value = initializer(key, shape, dtype)
    except Exception as error:
        call = f"initializer(key, {shape}, {dtype})"
        note_call(error, node, name, "initializer", call)
        raise
    if value is None:
        raise FieldError(
            f"{type(node).__name__}.{name}: its initializer returned None; it returns the array"
        )
    return value


def _default_dtype() -> Any:
    """The dtype of an array whose annotation says none: float32, or float64 where JAX is set to 64 bits.

    For an initializer whose field has no contract: there is nothing else to go by.
    """
    return jax.dtypes.canonicalize_dtype(float)


def _declared_shape(
    field: Field, shape_of: Callable[[Any], tuple[int, ...]]
) -> Callable[[Any], tuple[int, ...]]:
    """The shape that `shape=` gives, as a tuple.

    For an initializer: `shape=` is called for each node, as it may read its static
    fields.
    """

    def shape(node: NodeBase) -> tuple[int, ...]:
        """What `shape=` returns for a node, as a tuple."""
        sizes = _call_with_note(shape_of, (node,), node, field, "shape", "shape(self)")
        if isinstance(sizes, (tuple, list)):
            return tuple(sizes)
        raise FieldError(
            f"{type(node).__name__}.{field.name}: shape= takes a function that returns a tuple of sizes, such as "
            f"lambda self: (self.rows, 3); it returned {describe(sizes)}"
        )

    return shape


def _contract_shape(
    contract: Contract, computed: Set[str]
) -> Callable[[NodeBase], tuple[int, ...]]:
    """A function from the node to the shape that a contract gives, for its initializer.

    For `_initializer_maker`, where `shape=` says nothing.

    Args:
        contract: The contract of the field.
        computed: The names of the static fields that have a factory, and may not be set
            yet.
    """
    # Sorted, as the order of a set differs between processes, and a factory may draw
    # random numbers.
    names = sorted(contract.names & computed)

    def shape(node: NodeBase) -> tuple[int, ...]:
        """The shape of the contract at the sizes of a node."""
        for name in names:
            getattr(node, name)  # has the factory of a field that is not set yet run
        return contract.shape(sizes_of(node))

    return shape
