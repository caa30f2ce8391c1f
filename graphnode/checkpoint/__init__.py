"""Checkpoints that say what they hold: save, restore and load nodes with everything that trains."""

from ._changes import Cast as Cast
from ._changes import Change as Change
from ._changes import Changes as Changes
from ._changes import Drop as Drop
from ._changes import Fill as Fill
from ._changes import Join as Join
from ._changes import Rename as Rename
from ._changes import Reshape as Reshape
from ._changes import Split as Split
from ._changes import Stack as Stack
from ._changes import Sum as Sum
from ._changes import Transpose as Transpose
from ._changes import Unstack as Unstack
from ._checkpointer import Checkpointer as Checkpointer
from ._inspect import manifest as manifest
from ._load import load as load
from ._manifest import Manifest as Manifest
from ._port import read as read
from ._port import write as write
from ._report import Report as Report
from ._restore import restore as restore
from ._save import save as save
from ._tree import DataIterator as DataIterator
