"""What `declared_elsewhere` imports for type checkers only."""

import graphnode as gn


class Hidden(gn.Node):
    """Never imported by the module that names it."""

    depth: int = 0
