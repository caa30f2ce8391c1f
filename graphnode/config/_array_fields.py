"""Arrays of static fields from files, as annotations describe them: of which library, dtypes and sizes.

A file has nested lists of numbers, of which nobody knows the dtype: `[1, 2]` may be of
integers or floats. It follows from the annotation, such as `Float[Array, "3"]`, and
from the default of the field.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple, cast

import jax
import numpy as np

from .._contract import Contract, ContractSyntaxError, contract_of, is_jaxtyping
from .._static import DataForm, DataValueError, Defined, Target, match_kind

_WIDENING: Final = ("b", "iu", "fV", "cUS")
"""Kinds of dtypes (`dtype.kind`) by rank. Numbers may be taken for those of a higher rank, but booleans for nothing
else. Texts (`U`, `S`) are those of complex numbers."""

# Floats come first: integers in a file are meant as floats where the annotation admits
# both floats and complex numbers, but no integers.
_WIDEST: Final = ("float64", "complex128", "int64", "uint64", "bool")


class ArrayField(NamedTuple):
    """What a field for arrays takes.

    Attributes:
        cls: `jax.Array` or `np.ndarray`.
        contract: The sizes and dtypes, where the annotation has some.
        default: The default of the field, if it has one.
    """

    cls: Any
    contract: Contract | None
    default: object

    def read(self, data: Any) -> Any:
        """The array that data of a file stands for, or a program gives, which nobody can write to.

        Raises:
            DataValueError: It is not an array, or does not fit.
        """
        # An array that a program gives has the dtype that is meant.
        if not isinstance(data, jax.Array | np.ndarray):
            data = self._with_dtype(data)
        array = self._form.read(data, Target(self.cls, self.default))
        fault = self._fault(array)
        if fault is not None:
            raise DataValueError(fault)
        return array

    def schema(self) -> Mapping[str, Any] | Defined:
        """The JSON Schema of what `read` accepts. Arrays that give their `dtype` are checked by `load` alone."""
        target = Target(self.cls, self.default)
        general: Mapping[str, Any] | Defined = self._form.schema(target)
        contract = self.contract
        if contract is None or not isinstance(general, Defined):
            return general
        if any(axis.variadic for axis in contract.axes):
            return general
        rows = _rows_schema(contract)
        types = [rows["type"]] if isinstance(rows["type"], str) else rows["type"]
        # `object` is for a mapping with a dtype beside its data.
        mapping = cast("Mapping[str, Any]", general.make())
        return {**mapping, **rows, "type": [*types, "object"]}

    @property
    def _form(self) -> Any:
        """How the static kind of the array class reads data of a file: `read` and `schema` ask it first."""
        form = match_kind(self.cls).data
        assert isinstance(form, DataForm)
        return form

    def _fault(self, array: Any) -> str | None:
        """What of an array's dtype and sizes the annotation does not admit, or `None`.

        Sizes by name, such as "rows", are left to the constructor, which knows the
        other fields.
        """
        if self.contract is None:
            return None
        fault = self.contract.dtype_fault(array.dtype)
        # Sizes by name are those of other fields, which are not known here.
        return fault or self.contract._replace(dtypes=None).fault(array, {}, {})

    def _with_dtype(self, data: Any) -> Any:
        """The data with the dtype that its numbers are meant to have, where NumPy would take another one by itself."""
        fields: dict[str, Any] = data if isinstance(data, dict) else {"data": data}
        # A dtype in the file wins. Without `data`, the reader has the message.
        if "dtype" in fields or "data" not in fields:
            return data
        try:
            numbers = np.asarray(fields["data"])
        except (ValueError, OverflowError):  # the reader says what is wrong
            return data
        dtypes = self._dtypes(numbers.dtype)
        for dtype in dtypes:
            if _may_become(numbers, dtype):
                return {**fields, "dtype": str(dtype)}
        if self.contract is None and dtypes and numbers.dtype.kind in "biuf":
            # Nothing but the default shows what is meant. Numbers that its dtype cannot
            # hold must come with theirs.
            raise DataValueError(self._other_dtype(dtypes[0], numbers.dtype))
        return data

    def _other_dtype(self, default: Any, natural: Any) -> str:
        """The message for numbers that the dtype of the default cannot hold."""
        own = self._canonical(natural)
        text = f"the default has {default}, and these numbers would be {own}"
        return f"{text}; write {{dtype: {own}, data: ...}} if that is meant"

    def _dtypes(self, natural: Any) -> list[Any]:
        """The dtypes that the annotation admits, the best first: the default's, NumPy's, its own.

        `_with_dtype` takes the first of them that the numbers of the file may have.
        """
        dtypes: list[Any] = []
        if isinstance(self.default, jax.Array | np.ndarray):
            dtypes.append(self.default.dtype)
        if self.contract is None:
            return dtypes
        if natural.kind in "biufc":
            dtypes.append(self._canonical(natural))
        dtypes += self._declared(self.contract.dtypes or ())
        return [dtype for dtype in dtypes if self.contract.dtype_fault(dtype) is None]

    def _declared(self, names: Collection[str]) -> list[Any]:
        """The dtypes of an annotation to try: of several, only the widest of each kind.

        They come last: a default, or the numbers themselves, say more about what is
        meant.
        """
        if len(names) == 1:
            # The dtype of random keys is one of JAX, which NumPy does not know.
            return [np.dtype(name) for name in names if name != "prng_key"]
        widest = [np.dtype(name) for name in _WIDEST if name in names]
        return [self._canonical(dtype) for dtype in widest]

    def _canonical(self, dtype: Any) -> Any:
        """The dtype that an array of the annotated library gets for one: JAX has none of 64 bits by default."""
        if issubclass(self.cls, jax.Array):
            return jax.dtypes.canonicalize_dtype(dtype)
        return dtype


def array_field(annotation: Any, default: object) -> ArrayField:
    """What a field with the annotation takes, for `configurable`: an array class, or one of jaxtyping's."""
    if not is_jaxtyping(annotation):
        return ArrayField(annotation, None, default)
    library: Any = annotation.array_type
    is_numpy = isinstance(library, type) and issubclass(library, np.ndarray)
    try:
        contract = contract_of(annotation)
    except ContractSyntaxError:  # more than States may have, such as a size in braces
        contract = None
    return ArrayField(np.ndarray if is_numpy else jax.Array, contract, default)


def _may_become(numbers: Any, dtype: Any) -> bool:
    """Whether numbers in a file may be meant to be of a dtype: integers of a float, but booleans of nothing else."""
    own, other = _rank(numbers.dtype.kind), _rank(dtype.kind)
    if own is None or other is None:
        return False
    # Rank 0 is that of booleans. An empty list may be of any dtype.
    return numbers.size == 0 or own == other or 0 < own < other


def _rank(kind: str) -> int | None:
    """The position of a dtype's kind in `_WIDENING`; `None` for other kinds, such as keys.

    Numbers are taken for those of a higher rank.
    """
    for rank, kinds in enumerate(_WIDENING):
        if kind in kinds:
            return rank
    return None


def _rows_schema(contract: Contract) -> dict[str, Any]:
    """The JSON Schema of nested lists of numbers, as deep and as long as the axes of a contract."""
    schema: dict[str, Any] = {"type": _number_types(contract)}
    last = len(contract.axes) - 1
    # From the last axis, whose items are the numbers, outwards.
    for position, axis in reversed(list(enumerate(contract.axes))):
        size = None if axis.names or axis.broadcast else axis.size({})
        schema = {"type": "array", "items": schema}
        if isinstance(size, int):
            schema |= {"minItems": size, "maxItems": size}
        elif position != last:
            # An empty list would not show how many axes there are below.
            schema["minItems"] = 1
    return schema


def _number_types(contract: Contract) -> str | list[str]:
    """The JSON types of the numbers in an array, for `_rows_schema`, by the dtypes that its contract admits."""
    names = contract.dtypes
    if names is None or any(name.startswith("complex") for name in names):
        # JSON has no complex numbers: in files they are texts, such as `1+2j`.
        return ["number", "boolean", "string"]
    if all(name.startswith("bool") for name in names):
        return "boolean"
    if all(name.startswith(("int", "uint")) for name in names):
        return "integer"
    has_booleans = any(name.startswith("bool") for name in names)
    return ["number", "boolean"] if has_booleans else "number"
