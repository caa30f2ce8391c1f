"""Numbers, strings, `None` and the ellipsis.

The exact classes only: a subclass may add attributes and an equality of its own, and is
compared as an object is.
"""

import math
import re
from collections.abc import Hashable, Mapping
from fractions import Fraction
from types import EllipsisType, NoneType
from typing import Any, Final

from ._attributes import check_no_attributes
from ._json_parts import (
    BASE64_SCHEMA,
    TEXT_SCHEMA,
    base64_bytes,
    base64_text,
    items,
    values_schema,
)
from ._kind import (
    DataForm,
    DataValueError,
    ExpectedError,
    Json,
    JsonForm,
    JsonValueError,
    ReadPart,
    StaticKind,
    Target,
    WritePart,
    subclass_of,
    tagged,
    unchanged,
)
from ._lookup import static_key
from ._object_key import object_key

# Python reads integers of any size, in time that grows with the square: files must not
# choose it.
_MAX_BITS: Final = 4_096
_MAX_DIGITS: Final = 1_000
_NUMBER: Final = r"(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|inf|nan)"
_COMPLEX: Final = rf"^\(?[-+]?{_NUMBER}(?:j|[-+]{_NUMBER}j)?\)?$"
_FRACTION: Final = r"^[-+]?[0-9]+(?:/[0-9]+)?$"


COMPLEX_SCHEMA: Final[Mapping[str, Json]] = {
    "type": ["number", "string"],
    "pattern": _COMPLEX,
    "description": "A number, or such as `1+2j`.",
}


def _itself(value: Any, write_part: WritePart) -> Json:
    """The value itself, where JSON or a file has values of its type: the `write` of these kinds."""
    return value


# An annotation says which of these values is wanted.
_OWN_DATA: Final = DataForm[Any](_itself, is_own=True)


# As hexadecimal text: a NaN is not equal to itself, and 0.0 is equal to -0.0.
# Any: to type checkers a `float` may be an `int`, which has no `hex`.
def _float_key(value: Any) -> Hashable:
    """The key of a float: its class and its hexadecimal text."""
    return (float, value.hex())


def _complex_key(value: Any) -> Hashable:
    """The key of a complex number: its class, and the hexadecimal texts of its two parts.

    By these texts as for floats: a NaN is not equal to itself, and 0.0 is equal to
    -0.0.
    """
    return (complex, value.real.hex(), value.imag.hex())


def _int_to_json(value: int, write_part: WritePart) -> Json:
    """For graphdefs: an integer, bounded in size, as reading one of many digits takes the square of their number."""
    if value.bit_length() > _MAX_BITS:
        raise JsonValueError(f"an integer of more than {_MAX_BITS:,} bits has no JSON")
    return value


def _float_to_json(value: float, write_part: WritePart) -> Json:
    """For the JSON of a graphdef: a float, or its name where JSON has no number for it."""
    return value if math.isfinite(value) else {"float": str(value)}


def _float_from_json(data: Json, read_part: ReadPart) -> float:
    """The float of a name, where JSON has no number for it: a NaN or an infinity."""
    if data not in ("nan", "inf", "-inf"):
        raise JsonValueError("float is one of nan, inf, -inf; others are numbers")
    return float(data)


def _complex_to_json(value: complex, write_part: WritePart) -> Json:
    """For the JSON of a graphdef: a complex number as its real and its imaginary part."""
    return [write_part(value.real), write_part(value.imag)]


def _complex_from_json(data: Json, read_part: ReadPart) -> complex:
    """The complex number that the two parts in the JSON of a graphdef stand for."""
    parts = items(data, read_part)
    if len(parts) != 2 or any(type(part) is not float for part in parts):
        raise JsonValueError("complex is a list of two floats")
    return complex(*parts)


def complex_from_data(data: Json) -> complex:
    """The complex number that a file gives as number or text, `1+2j`; also for arrays and NumPy's scalars."""
    # To Python a boolean is an integer; to a file it is not.
    is_number = isinstance(data, int | float | complex) and not isinstance(data, bool)
    if not is_number and not (isinstance(data, str) and re.fullmatch(_COMPLEX, data)):
        raise ExpectedError("a number, or such as '1+2j'")
    return complex(data)


def _bytes_to_data(value: bytes, write_part: WritePart) -> Json:
    """For a config file, which has no bytes: the string whose UTF-8 they are."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise DataValueError(
            "bytes that are not UTF-8 do not stand in a file: write an array of uint8"
        ) from None


def _bytes_from_data(data: Json, target: Target) -> bytes:
    """The bytes that a string in a config file stands for: its UTF-8. Bytes of a program are left as they are."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes):
        return data
    raise ExpectedError("a string, whose UTF-8 is meant")


def _ellipsis_from_json(data: Json, read_part: ReadPart) -> EllipsisType:
    """The ellipsis, of the only content that its tag may have."""
    if data is not True:
        raise JsonValueError("ellipsis is true")
    return ...


# Fractions


def _fraction_to_json(value: Fraction, write_part: WritePart) -> Json:
    """For the JSON of a graphdef: a fraction as its numerator and its denominator."""
    return [write_part(value.numerator), write_part(value.denominator)]


def _fraction_from_json(data: Json, read_part: ReadPart) -> Fraction:
    """The fraction that numerator and denominator, above 0, in the JSON of a graphdef stand for."""
    parts = items(data, read_part)
    if len(parts) != 2 or any(type(part) is not int for part in parts) or parts[1] < 1:
        raise JsonValueError(
            "fraction is a list of two integers, of which the second is above 0"
        )
    return Fraction(*parts)


def _fraction_from_data(data: Json, target: Target) -> Fraction:
    """The fraction that a file gives as an integer, or as text: `1/3`."""
    if isinstance(data, int | Fraction) and not isinstance(data, bool):
        return Fraction(data)
    # A text of many digits takes the square of their number to read.
    if (
        isinstance(data, str)
        and len(data) <= _MAX_DIGITS
        and re.fullmatch(_FRACTION, data)
    ):
        numerator, _, denominator = data.partition("/")
        if int(denominator or 1) != 0:
            return Fraction(int(numerator), int(denominator or 1))
    raise ExpectedError("an integer, or such as '1/3'")


SCALARS: Final[tuple[StaticKind[Any], ...]] = (
    StaticKind[None](
        name="null",
        classes=(NoneType,),
        key=unchanged,
        is_annotation=True,
        json=JsonForm(_itself, own_type="null"),
        data=_OWN_DATA,
    ),
    StaticKind[bool](
        name="boolean",
        classes=(bool,),
        key=lambda value: (bool, value),
        is_annotation=True,
        json=JsonForm(_itself, own_type="boolean"),
        data=_OWN_DATA,
    ),
    StaticKind[int](
        name="integer",
        classes=(int,),
        key=lambda value: (int, value),
        is_annotation=True,
        json=JsonForm(_int_to_json, own_type="number"),
        data=_OWN_DATA,
    ),
    StaticKind[float](
        name="float",
        classes=(float,),
        key=_float_key,
        is_annotation=True,
        json=JsonForm(
            _float_to_json,
            "float",
            _float_from_json,
            {"enum": ["nan", "inf", "-inf"]},
            "number",
        ),
        data=_OWN_DATA,
    ),
    StaticKind[complex](
        name="complex",
        classes=(complex,),
        key=_complex_key,
        is_annotation=True,
        json=tagged(
            "complex",
            _complex_to_json,
            _complex_from_json,
            values_schema(2),
        ),
        data=DataForm(
            lambda value, write_part: str(value),
            lambda data, target: complex_from_data(data),
            lambda target: COMPLEX_SCHEMA,
        ),
        type_names={"complex": complex},
    ),
    StaticKind[str](
        name="string",
        classes=(str,),
        key=unchanged,
        is_annotation=True,
        json=JsonForm(_itself, own_type="string"),
        data=_OWN_DATA,
    ),
    StaticKind[bytes](
        name="bytes",
        classes=(bytes,),
        key=unchanged,
        is_annotation=True,
        json=tagged(
            "bytes",
            lambda value, write_part: base64_text(value),
            lambda data, read_part: base64_bytes(data),
            BASE64_SCHEMA,
        ),
        data=DataForm(_bytes_to_data, _bytes_from_data, lambda target: TEXT_SCHEMA),
        type_names={"bytes": bytes},
    ),
    StaticKind[EllipsisType](
        name="ellipsis",
        classes=(EllipsisType,),
        key=unchanged,
        json=tagged(
            "ellipsis",
            lambda value, write_part: True,
            _ellipsis_from_json,
            {"const": True},
        ),
    ),
    StaticKind[Fraction](
        name="fraction",
        classes=(Fraction,),
        key=lambda value: (
            Fraction,
            static_key(value.numerator),
            static_key(value.denominator),
        ),
        is_annotation=True,
        json=tagged(
            "fraction",
            _fraction_to_json,
            _fraction_from_json,
            values_schema(2),
        ),
        data=DataForm(
            lambda value, write_part: str(value),
            _fraction_from_data,
            lambda target: {
                "type": ["integer", "string"],
                "pattern": _FRACTION,
                "description": "An integer, or such as `1/3`.",
            },
        ),
        type_names={"Fraction": Fraction},
    ),
)


def _scalar_subclass_to_data(value: Any, write_part: WritePart) -> Json:
    """For a config file: written as its base class is (`class Seed(int)` as `3`).

    The annotation of its field says what to read it as.
    """
    base: Any = next(base for base in _BASES if isinstance(value, base))
    # Of all base classes, `Fraction` alone keeps its content in slots, those of numerator
    # and denominator: these are written, and no further attributes.
    check_no_attributes(value, frozenset(Fraction.__slots__))
    return write_part(base(value))


# `bool`, `None` and `...` have no subclasses.
_BASES: Final = tuple([cls for kind in SCALARS for cls in kind.classes])
SCALAR_SUBCLASSES: Final = StaticKind[Any](
    name="subclass of a number or string",
    matches=subclass_of(*_BASES),
    key=object_key,
    is_annotation=True,
    data=DataForm(_scalar_subclass_to_data, is_own=True),
)
