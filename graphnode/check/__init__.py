"""What no type checker can see in node classes: `python -m graphnode check` as functions.

Modules are imported, the schema of every class is compiled, and its methods are read.
Each finding has a code, which `docs/errors.md` explains.
"""

from ._codes import CODES as CODES
from ._codes import Code as Code
from ._findings import Finding as Finding
from ._modules import TargetError as TargetError
from ._report import REPORTS as REPORTS
from ._report import summary as summary
from ._run import Checked as Checked
from ._run import check as check
