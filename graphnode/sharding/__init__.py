"""Models over many devices: rules from roles of axes to mesh axes, a plan that is checked first, and its use."""

from .._constrain import constrain as constrain
from .._roles import Roles as Roles
from ._agreement import ProcessError as ProcessError
from ._plan import Plan as Plan
from ._plan import PlanError as PlanError
from ._plan import Row as Row
from ._plan import plan as plan
from ._rules import Rules as Rules
from ._use import abstract as abstract
from ._use import gather as gather
from ._use import init as init
from ._use import place as place
from ._use import use as use
