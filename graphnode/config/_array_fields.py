"""Arrays of static fields from files, as annotations say: of which library, and of which dtypes and sizes.

Data in: nested lists of numbers, of which nobody knows the dtype; an annotation, such
as `Float[Array, "3"]`; and the default of the field. Data out: the array, or what is
wrong with it.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import jax
import numpy as np

from .._contract import Contract, ContractSyntaxError, contract_of, is_jaxtyping
from .._static import DataForm, DataValueError, Defined, Target, match_kind

_WIDENING: Final = ("b", "iu", "fV", "cUS")
"""The kinds of dtypes that numbers may be taken for, from whole numbers on; texts are those of complex numbers."""

_WIDEST: Final = ("float64", "complex128", "int64", "uint64", "bool")


class ArrayField(NamedTuple):
    """What a field takes.

    Attributes:
        cls: `jax.Array` or `np.ndarray`.
        contract: The sizes and dtypes, where the annotation says some.
        default: The default of the field, if it has one.
    """

    cls: Any
    contract: Contract | None
    default: object

    def read(self, data: Any) -> Any:
        """The array that data of a file stands for, or a program gives, which nobody can write to.

        Raises:
            DataValueError: It is none, or does not fit.
        """
        is_array = isinstance(data, jax.Array | np.ndarray)
        array = self._form.read(
            data if is_array else self._with_dtype(data), Target(self.cls, self.default)
        )
        fault = self._fault(array)
        if fault is not None:
            raise DataValueError(fault)
        return array

    def schema(self) -> Mapping[str, Any] | Defined:
        """What JSON Schemas say of it. Arrays that give their `dtype` are told by `load` alone if they do not fit."""
        general: Mapping[str, Any] | Defined = self._form.schema(
            Target(self.cls, self.default)
        )
        contract = self.contract
        if (
            contract is None
            or any(axis.variadic for axis in contract.axes)
            or not isinstance(general, Defined)
        ):
            return general
        rows = _rows_schema(contract)
        types = [rows["type"]] if isinstance(rows["type"], str) else rows["type"]
        return {
            **cast("Mapping[str, Any]", general.make()),
            **rows,
            "type": [*types, "object"],
        }

    @property
    def _form(self) -> Any:
        form = match_kind(self.cls).data
        assert isinstance(form, DataForm)
        return form

    def _fault(self, array: Any) -> str | None:
        if self.contract is None:
            return None
        # Sizes by name are those of other fields, which are not known here.
        return self.contract.dtype_fault(array.dtype) or self.contract._replace(
            dtypes=None
        ).fault(array, {}, {})

    def _with_dtype(self, data: Any) -> Any:
        """The data with the dtype that its numbers are meant to have, where that is not the one they have by nature."""
        fields: dict[str, Any] = data if isinstance(data, dict) else {"data": data}
        if "dtype" in fields or "data" not in fields:
            return data
        try:
            numbers = np.asarray(fields["data"])
        except (ValueError, OverflowError):  # which the reader tells
            return data
        dtypes = self._dtypes(numbers.dtype)
        wanted = [dtype for dtype in dtypes if _may_become(numbers, dtype)]
        if (
            dtypes
            and not wanted
            and self.contract is None
            and numbers.dtype.kind in "biuf"
        ):
            # Nothing but the default says what is meant: what it cannot hold must say
            # its dtype.
            is_jax = issubclass(self.cls, jax.Array)
            own = (
                jax.dtypes.canonicalize_dtype(numbers.dtype)
                if is_jax
                else numbers.dtype
            )
            text = f"the default has {dtypes[0]}, and these numbers would be {own}"
            raise DataValueError(
                f"{text}; write {{dtype: {own}, data: ...}} if that is meant"
            )
        return {**fields, "dtype": str(wanted[0])} if wanted else data

    def _dtypes(self, natural: Any) -> list[Any]:
        """The dtypes that the annotation admits, the best one first."""
        found: list[Any] = []
        if isinstance(self.default, jax.Array | np.ndarray):
            found.append(self.default.dtype)
        if self.contract is None:
            return found
        is_jax = issubclass(self.cls, jax.Array)
        if natural.kind in "biufc":
            found.append(jax.dtypes.canonicalize_dtype(natural) if is_jax else natural)
        names = self.contract.dtypes or ()
        if len(names) == 1:
            found += [np.dtype(name) for name in names if name != "prng_key"]
        else:
            widest = [np.dtype(name) for name in _WIDEST if name in names]
            found += [
                jax.dtypes.canonicalize_dtype(dtype) if is_jax else dtype
                for dtype in widest
            ]
        return [dtype for dtype in found if self.contract.dtype_fault(dtype) is None]


def array_field(annotation: Any, default: object) -> ArrayField:
    """What a field with the annotation takes: an array class, or one of jaxtyping's."""
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
    """Whether numbers may be meant to be of a dtype: whole ones of a float, but truths of nothing else."""
    kinds = [_rank(numbers.dtype.kind), _rank(dtype.kind)]
    if None in kinds:
        return False
    own, wanted = cast("list[int]", kinds)
    return numbers.size == 0 or own == wanted or 0 < own < wanted


def _rank(kind: str) -> int | None:
    return next((at for at, members in enumerate(_WIDENING) if kind in members), None)


def _rows_schema(contract: Contract) -> dict[str, Any]:
    """Nested lists of numbers, as long as the axes are."""
    schema: dict[str, Any] = {"type": _number_types(contract)}
    last = len(contract.axes) - 1
    for at, axis in reversed(list(enumerate(contract.axes))):
        size = None if axis.names or axis.broadcast else axis.size({})
        # Of nothing, no list says how many axes it has.
        least = 0 if at == last else 1
        sizes = (
            {"minItems": size, "maxItems": size}
            if isinstance(size, int)
            else {"minItems": least}
            if least
            else {}
        )
        schema = {"type": "array", "items": schema, **sizes}
    return schema


def _number_types(contract: Contract) -> str | list[str]:
    names = contract.dtypes
    if names is None or any(name.startswith("complex") for name in names):
        return ["number", "boolean", "string"]
    if all(name.startswith("bool") for name in names):
        return "boolean"
    if all(name.startswith(("int", "uint")) for name in names):
        return "integer"
    has_truths = any(name.startswith("bool") for name in names)
    return ["number", "boolean"] if has_truths else "number"
