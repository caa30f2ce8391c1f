"""What validators raise. pydantic hands the text on as it is, with a code that tells texts of ours from its own."""

from typing import Literal, TypeAlias

from pydantic_core import PydanticCustomError

Code: TypeAlias = Literal["wrong_value", "wrong_record", "wrong_node", "unknown_name"]


def value_error(text: str, code: Code = "wrong_value") -> PydanticCustomError:
    """The error for a value that a field does not take."""
    # As the argument of a template: the text itself may have braces.
    return PydanticCustomError(code, "{text}", {"text": text})
