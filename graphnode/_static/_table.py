"""The table of the kinds of static values.

To add one, write its `StaticKind` in the module of its family and a sample in
`tests/test_static_kinds.py`; nothing else knows what kinds there are, and `make schemas`
writes the schema of graphdefs anew. Exact classes are
looked up; the values of another class are of the first kind that matches it. So the
order counts: an `IntEnum` is an enum, and a scalar of NumPy is not a float.
"""

from typing import Any, Final

from ._arrays import ARRAY
from ._containers import CONTAINERS
from ._dtypes import DTYPE_KINDS
from ._functions import FUNCTION, METHOD, OBJECT, PARTIAL
from ._kind import StaticKind
from ._lookup import set_kinds
from ._numpy_scalars import NUMPY_SCALAR
from ._records import ENUM, RECORD
from ._refused import REFUSED
from ._scalars import SCALAR_SUBCLASSES, SCALARS
from ._shardings import SHARDINGS

KINDS: Final[tuple[StaticKind[Any], ...]] = (
    *REFUSED,
    *SCALARS,
    ARRAY,
    ENUM,
    NUMPY_SCALAR,
    *DTYPE_KINDS,
    *SHARDINGS,
    *CONTAINERS,
    RECORD,
    PARTIAL,
    SCALAR_SUBCLASSES,
    FUNCTION,
    METHOD,
    OBJECT,
)

set_kinds(KINDS)
