"""The language servers, configured for the running interpreter and this checkout."""

import sys

from tests.docrun import ROOT
from tests.editors.client import Server

_PYTHON = {"pythonPath": sys.executable}

PYRIGHT = Server(
    "pyright",
    ("pyright-langserver", "--stdio"),
    options={},
    settings={
        "python": _PYTHON
        | {"analysis": {"extraPaths": [str(ROOT)], "diagnosticMode": "openFilesOnly", "autoImportCompletions": False}}
    },
)
PYREFLY = Server(
    "pyrefly",
    # Else it reads all that lies beside the checkout, and does not stop before it has.
    ("pyrefly", "lsp", "--indexing-mode", "none"),
    options=_PYTHON,
    settings={"python": _PYTHON},
)
TY = Server("ty", ("ty", "server"), options={}, settings={})
JEDI = Server(
    "jedi",
    ("jedi-language-server",),
    options={"workspace": {"environmentPath": sys.executable, "extraPaths": [str(ROOT)]}},
    settings={},
)

SERVERS = {server.name: server for server in (PYRIGHT, PYREFLY, TY, JEDI)}
