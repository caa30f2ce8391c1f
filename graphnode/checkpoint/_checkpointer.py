"""`Checkpointer`: the checkpoints of a training run, written in the background while it goes on."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from types import FrameType, TracebackType
from typing import Any, Final, Literal, TypeVar

from .._errors import CheckpointError
from .._filters import AnyFilter
from ._changes import Change, Changes
from ._choose import Shardings
from ._files import absolute, metadata_of, refusals
from ._manifest import manifest_to_json
from ._orbax import Steps
from ._processes import are_several, by_first, in_any, together
from ._progress import Progress
from ._report import Report
from ._restore import restore
from ._save import check_same_manifest, checked_extra, prepared
from ._tree import take_tree

T = TypeVar("T")

# What a shell says of a process that SIGTERM has ended.
_TERMINATED: Final = 128 + signal.SIGTERM


class Checkpointer:
    """The checkpoints of a training run, one directory for each step.

    `save` returns when the arrays may be changed or donated, and writes in the background.
    At its end, the `with` block waits. A step is there when it is complete: what a killed
    run has left is removed.

    At SIGTERM, which clusters send before they take a machine away, the next `save` writes
    its step whatever `every` says, waits, and ends the program with `SystemExit`. Of several
    processes all do so at the next step that is written, if the signal has come to one.

    Args:
        directory: Made if it is not there.
        keep: How many of the last steps stay; `None` for all.
        every: `save` writes the steps that are multiples of it, and returns at others.
        best: The name of a metric that `save` is given: the step with the best value
            stays beside the last ones.
        mode: Whether the smallest value is the best one, or the largest.
        progress: As of `gn.checkpoint.restore`: what `restore` tells. `save` tells nothing,
            as it writes while the run goes on.

    Raises:
        ModuleNotFoundError: Orbax is not installed.
        ValueError: `keep` or `every` is less than 1.

    Example:
        >>> run = {"model": gn.nn.Linear(2, 3), "step": 0}
        >>> with gn.checkpoint.Checkpointer("runs/linear", keep=2) as checkpoints:
        ...     for step in range(4):
        ...         written = checkpoints.save(step, {**run, "step": step})
        >>> with gn.checkpoint.Checkpointer("runs/linear") as checkpoints:
        ...     print(checkpoints.steps, checkpoints.restore(run)["step"])
        [2, 3] 3

    See also: `save` and `restore`, for a single checkpoint.
    """

    def __init__(
        self,
        directory: "str | os.PathLike[str]",
        /,
        *,
        keep: int | None = 3,
        every: int = 1,
        best: str | None = None,
        mode: Literal["min", "max"] = "min",
        progress: Progress = None,
    ) -> None:
        for name, count in (("keep", keep), ("every", every)):
            if count is not None and count < 1:
                raise ValueError(f"Checkpointer: {name} is at least 1; found {count}")
        self._directory = absolute(directory)
        self._name = os.fspath(directory)
        self._every, self._best = every, best
        self._progress = progress
        self._steps = Steps(self._directory, keep, best, mode == "max")
        self._is_terminated = False
        self._earlier: Callable[[int, FrameType | None], Any] | int | None = None

    @property
    def steps(self) -> list[int]:
        """The steps that there are, ascending."""
        return self._steps.steps

    @property
    def latest(self) -> int | None:
        """The newest step; `None` if there is none."""
        return max(self.steps, default=None)

    def save(
        self,
        step: int,
        tree: object,
        /,
        *,
        metrics: Mapping[str, float] | None = None,
        metadata: Any = None,
        config: str | None = None,
        force: bool = False,
    ) -> bool:
        """Write a step in the background, if it is one to be written.

        Args:
            step: Its number.
            tree: As `gn.checkpoint.save` takes it.
            metrics: What `best` goes by.
            metadata: Any JSON, for `gn.checkpoint.manifest`.
            config: As of `gn.checkpoint.save`.
            force: Whether to write it whatever `every` says.

        Returns:
            Whether it is written.

        Raises:
            CheckpointError: There is such a step; the tree holds what a checkpoint has no
                place for; or this write, or one before, has failed.
            SystemExit: SIGTERM has come, and the step is written.
            TraceError: A transformation of JAX runs.
        """
        # Of several processes one could not tell the others, which leave this step out.
        is_last = self._is_terminated and not are_several()
        if not (force or is_last or step % self._every == 0):
            return False
        task = f"cannot save step {step} to {self._name}"
        with together(task):
            if step in self.steps:
                raise CheckpointError(task, ["there is such a step already"])
            if self._best is not None and self._best not in (metrics or {}):
                raise CheckpointError(
                    task, [f"metrics has no {self._best!r}, which best= goes by"]
                )
            extra = checked_extra(metadata, config, task)
            manifest, arrays = prepared(take_tree(tree, task), task, extra)
            numbers = (
                None if metrics is None else {k: float(v) for k, v in metrics.items()}
            )
        data = manifest_to_json(manifest)
        check_same_manifest(data, task)
        metadata = metadata_of(data)
        self._do(lambda: self._steps.write(step, arrays, metadata, numbers), task)
        if in_any(self._is_terminated, task):
            self.wait()
            self._put_handler_back()
            raise SystemExit(_TERMINATED)
        return True

    def restore(
        self,
        tree: T,
        /,
        *,
        step: int | None = None,
        only: "AnyFilter | None" = None,
        allow_missing: "AnyFilter | None" = None,
        allow_unexpected: "AnyFilter | None" = None,
        allow_changed: "str | Iterable[str]" = (),
        cast: "AnyFilter | None" = None,
        shardings: "Shardings | None" = None,
        changes: "Changes | Iterable[Change]" = (),
        report: "Callable[[Report], object] | None" = None,
    ) -> T:
        """Read a step into a live tree, as `gn.checkpoint.restore` does.

        Args:
            tree: The tree.
            step: The step; by default the newest.
            only: These are as of `gn.checkpoint.restore`.
            allow_missing: As there.
            allow_unexpected: As there.
            allow_changed: As there.
            cast: As there.
            shardings: As there.
            changes: As there.
            report: As there.

        Raises:
            CheckpointError: There is no such step, or it does not fit.
        """
        self.wait()
        task = f"cannot restore from {self._name}"
        found = by_first(lambda: self._found(step, task), task)
        return restore(
            os.path.join(self._name, str(found)),
            tree,
            only=only,
            allow_missing=allow_missing,
            allow_unexpected=allow_unexpected,
            allow_changed=allow_changed,
            cast=cast,
            shardings=shardings,
            changes=changes,
            report=report,
            progress=self._progress,
        )

    def _found(self, step: int | None, task: str) -> int:
        """For `restore`: the step to read.

        Raises:
            CheckpointError: There is none.
        """
        steps = self.steps
        found = max(steps, default=None) if step is None else step
        if found is None or found not in steps:
            numbers = ", ".join(map(str, steps))
            there = f"there are {numbers}" if steps else "there are none"
            what = "there is no step" if step is None else f"there is no step {step}"
            raise CheckpointError(task, [f"{what}; {there}"])
        return found

    def wait(self) -> None:
        """Return when what `save` has begun is complete.

        Raises:
            CheckpointError: It has failed.
        """
        self._do(self._steps.wait, f"cannot save to {self._name}")

    def close(self) -> None:
        """Wait, and give back what the directory needs; the end of a `with` block does it.

        Raises:
            CheckpointError: What `save` has begun has failed.
        """
        self._do(self._steps.close, f"cannot save to {self._name}")

    def _do(self, action: Callable[[], None], task: str) -> None:
        """Let the store do something, in all processes.

        Raises:
            CheckpointError: It has raised something: the disk is full, or a thread has failed.
        """
        with together(task), refusals(self._directory, task):
            action()

    def __enter__(self) -> "Checkpointer":
        # Python takes handlers of signals in the main thread alone.
        if threading.current_thread() is threading.main_thread():
            self._earlier = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        is_unheeded = self._is_terminated and self._earlier is not None
        try:
            if error is None:
                self.close()
            else:
                # Of several processes, the others may not come here.
                with refusals(self._directory, f"cannot save to {self._name}"):
                    self._steps.close()
        finally:
            self._put_handler_back()
        # No `save` came: then the signal does what it does without us.
        if is_unheeded and error is None:
            signal.raise_signal(signal.SIGTERM)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGTERM: the next `save` looks at what it notes."""
        self._is_terminated = True

    def _put_handler_back(self) -> None:
        """Handle SIGTERM as the program did before."""
        if self._earlier is not None:
            signal.signal(signal.SIGTERM, self._earlier)
            self._earlier = None
