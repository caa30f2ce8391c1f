"""Static values: what a node's structure may hold beside its States.

`KINDS` is the one table of what they are, `static_key` says when two of them are the
same, and `to_json` writes them down. A new kind is an entry of the table.
"""

from collections.abc import Hashable
from typing import Any, TypeAlias

import jax
import numpy as np

from ._arrays import ARRAY as ARRAY
from ._distinct_texts import ANOTHER as ANOTHER
from ._distinct_texts import distinct_texts as distinct_texts
from ._json import add_json_form as add_json_form
from ._json import from_json as from_json
from ._json import to_json as to_json
from ._json import value_schema as value_schema
from ._json_parts import part as part
from ._json_parts import registered_name as registered_name
from ._kind import DEFINED as DEFINED
from ._kind import ByName as ByName
from ._kind import DataForm as DataForm
from ._kind import DataValueError as DataValueError
from ._kind import Defined as Defined
from ._kind import ExpectedError as ExpectedError
from ._kind import Json as Json
from ._kind import JsonForm as JsonForm
from ._kind import JsonValueError as JsonValueError
from ._kind import ReadPart as ReadPart
from ._kind import StaticKind as StaticKind
from ._kind import StaticValueError as StaticValueError
from ._kind import Target as Target
from ._kind import TracedValueError as TracedValueError
from ._kind import WritePart as WritePart
from ._kind import tagged as tagged
from ._lookup import frozen as frozen
from ._lookup import kind_of as kind_of
from ._lookup import match_kind as match_kind
from ._lookup import static_key as static_key
from ._objects import NO_TEMPLATE as NO_TEMPLATE
from ._objects import GraphObject as GraphObject
from ._objects import Uncompiled as Uncompiled
from ._objects import compares_by_identity as compares_by_identity
from ._objects import template_there as template_there
from ._options import options_schema as options_schema
from ._options import read_option as read_option
from ._table import KINDS as KINDS

# What may be part of the structure: arrays and slices have no hash, and are compared by
# content.
StaticValue: TypeAlias = Hashable | jax.Array | np.ndarray[Any, np.dtype[Any]] | slice
