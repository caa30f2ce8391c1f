"""The table of the kinds of static values: to add one, write its `StaticKind` and put it in here.

Exact classes are looked up; the values of another class are of the first kind that matches it, so that an `IntEnum` is
an enum and a scalar of NumPy no float.
"""

from typing import Any, Final

from ._arrays import ARRAY
from ._containers import CONTAINERS
from ._dtypes import DTYPE_KINDS
from ._functions import OBJECT, PARTIAL
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
    OBJECT,
)

set_kinds(KINDS)
