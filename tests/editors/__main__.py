"""Print the table of what works in which editor, or write it into the documentation."""

import argparse

from tests.editors.table import PAGE, store, table

parser = argparse.ArgumentParser("python -m tests.editors", description=__doc__)
parser.add_argument("--update", action="store_true", help=f"write it into docs/guides/{PAGE.name}")
if parser.parse_args().update:
    store()
else:
    print(table())
