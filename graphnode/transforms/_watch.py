"""`Watch`: the handler of calls that marks what selected nodes give, while a function is traced.

    NodeCall ──► Watch ──► the place of the node ──► was it selected?
                              │ yes
                              ▼
                 result, with a tap on its leaves (`_compat.tapped`), and a `Mark` for the tap

Taps say where in the program values are, marks what they belong to.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp

from .._calls import Label, NodeCall, Proceed
from .._compat import Tap, tapped
from .._describe import describe
from .._errors import CaptureError, FilterError, listed
from .._hints import with_hint
from .._paths import path_str
from .._static import GraphObject
from ._boundary import Call
from ._captured import Captured
from ._choice import Choice, Item, Place, place_of
from ._late_rules import Notes, with_late_rules_checked
from ._seen_methods import method_fault
from ._taps import AGAIN, Arrays, Found, Refused, Tapped
from ._type_text import is_jax_type


class Mark(NamedTuple):
    """What a tap belongs to.

    Attributes:
        place: The node.
        item: The number of the item that selects it.
        treedef: Of what was tapped.
    """

    place: Place
    item: int
    treedef: Any


class Watch:
    """What is done with the results of selected calls, in one trace.

    Attributes:
        marks: By tap.
        changed: The nodes of taps at which arrays are put.
        notes: Where something else was put in by the trace itself.
    """

    def __init__(self, call: Call, items: Sequence[Item], method: str) -> None:
        """Prepare for one trace.

        Args:
            call: Of the function that is traced.
            items: What selects nodes.
            method: The name of the method whose calls are meant.
        """
        self.marks: dict[Tap, Mark] = {}
        self.changed: list[Place] = []
        self.notes = Notes()
        self._transform = f"gn.{call.transform}"
        self.items, self._method = items, method
        self._own = call.site.labels()
        self._around = call.labels_around() or self._own
        self._called: dict[Place, list[str]] = {}
        self.faults: list[str] = []
        self.selected: dict[Place, list[int]] = {}
        choice = Choice(call)
        self._is_named = choice.is_named
        for number, item in enumerate(items):
            try:
                places = choice.selected(item)
            except FilterError as error:
                self.faults.append(str(error))
                continue
            for place in places:
                self.selected.setdefault(place, []).append(number)
        self._unseen = self._unseen_methods(choice)
        if self.selected and len(self._unseen) == len(self.selected):
            self.faults += self._unseen_texts()

    def _unseen_methods(self, choice: Choice) -> dict[Place, str]:
        """Of selected nodes why calls of the method cannot be seen, where they cannot."""
        faults = {
            place: method_fault(choice.classes[place], self._method)
            for place in self.selected
        }
        return {place: fault for place, fault in faults.items() if fault}

    def _unseen_texts(self) -> list[str]:
        """What is said of them: each fault once, of the first node."""
        first = {fault: place for place, fault in reversed(self._unseen.items())}
        return [f"{place.text} {fault}" for fault, place in reversed(first.items())]

    # Any: a method takes and gives whatever it likes.
    def __call__(
        self,
        node_call: NodeCall,
        proceed: Proceed,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Let a call go on, and watch what it gives, if it is one of those that are meant."""
        result = proceed(*args, **kwargs)
        label = self._label_of(node_call)
        place = None if label is None else place_of(label)
        if place is None or place not in self.selected:
            return result
        self._called.setdefault(place, []).append(node_call.method)
        if node_call.method != self._method:
            return result
        leaves, treedef = jax.tree.flatten(result)
        self._check_leaves(place, leaves)
        return self._through(place, result, leaves, treedef)

    def _label_of(self, node_call: NodeCall) -> Label | None:
        """What a node is called below the arguments of the function, which may be called inside of another trace."""
        pairs = [
            (own, around)
            for own, around in zip(self._own, self._around, strict=True)
            if f"{node_call.scope}.".startswith(f"{around.scope}.")
        ]
        if not pairs:
            return None
        # The longest, as one argument may be a part of another.
        own, around = max(pairs, key=lambda pair: len(pair[1].scope))
        return own.below(node_call.path[len(around.path) :])

    def _check_leaves(self, place: Place, leaves: Sequence[Any]) -> None:
        """Raise if a node gives what cannot be captured.

        Raises:
            CaptureError: A leaf of its result is not an array.
        """
        for leaf in leaves:
            if isinstance(leaf, GraphObject) or not is_jax_type(leaf):
                raise self.error(
                    f"{place.text} returns {describe(leaf)}, and only arrays and numbers can be captured or replaced; "
                    "select the nodes inside of it, or another method"
                )

    # Any: as above.
    def _through(
        self, place: Place, result: Any, leaves: list[Any], treedef: Any
    ) -> Any:
        """What takes the place of the result of a call that is meant."""
        raise NotImplementedError  # pragma: no cover  # each subclass defines it

    def tap(
        self,
        place: Place,
        treedef: Any,
        leaves: Sequence[Any],
        *,
        replaces: bool = False,
        adds: bool = False,
    ) -> list[Any]:
        """Arrays with a tap on them, which is noted; `replaces` and `adds` as in `tapped`."""
        tap = Tap(self)
        self.marks[tap] = Mark(place, self.selected[place][0], treedef)
        if replaces or adds:
            self.changed.append(place)
        return tapped(map(jnp.asarray, leaves), tap, replaces=replaces, adds=adds)

    def captured(
        self, taps: Sequence[Found], arrays: Sequence[Arrays]
    ) -> Captured[Any]:
        """What was taken at some taps, by the text of the node's path, and call."""
        results = self.results(taps, arrays)
        return Captured(
            {
                place.text if self._is_named else path_str(place.path): tuple(calls)
                for place, calls in results.items()
            }
        )

    # Any: as above.
    def results(
        self, taps: Sequence[Found], arrays: Sequence[Arrays]
    ) -> dict[Place, list[Any]]:
        """What was taken at some taps, by node, call by call."""
        results: dict[Place, list[Any]] = {}
        for found, leaves in zip(taps, arrays, strict=True):
            mark = self.marks[found.tap]
            result = jax.tree.unflatten(mark.treedef, leaves)
            results.setdefault(mark.place, []).append(result)
        return results

    # What is wrong

    def error(self, *faults: str) -> CaptureError:
        """The error for what is wrong."""
        return CaptureError(f"{self._transform}: {listed(faults)}")

    def refusal(self, refused: Refused) -> CaptureError:
        """The error for a tap that stands where it is of no use."""
        where = _REASONS.get(refused.primitive, _OTHER_REASON.format(refused.primitive))
        place = self.marks[refused.tap].place
        return self.error(f"{place.text} is called inside of {where}")

    def with_late_rules_checked(self, jaxpr: Any) -> Any:
        """What was traced, where a rule raises that JAX traces later, and that does not know of a change."""
        if not self.notes.places:
            return jaxpr
        return with_late_rules_checked(jaxpr, self.notes, self._late_refusal)

    def _late_refusal(self, place: Place, primitive: str) -> CaptureError:
        """The error for a change of which a rule would not know."""
        where = _LATE_REASONS[primitive]
        return self.error(f"{place.text} is called inside of {where}")

    @contextmanager
    def explaining_axes(self) -> Generator[None]:
        """While it is open, an error of JAX about `out_axes` names the nodes by which the lanes of a `vmap` differ.

        Raises:
            CaptureError: In its place, if arrays are put at taps.
        """
        try:
            yield
        except ValueError as error:
            names = dict.fromkeys([place.text for place in self.changed])
            # JAX has no class for it.
            if not names or "out_axes" not in str(error):
                raise
            raise self.error(
                f"{', '.join(names)} would differ between the lanes of a vmap whose out_axes has None, such as that of "
                "jacfwd and hessian: use gn.jacrev, or functions as changes in gn.intervene"
            ) from error

    def check_selected(self) -> None:
        """Raise before anything is traced if an item selects no node.

        Raises:
            CaptureError: Names all such items.
        """
        if self.faults:
            raise self.error(*self.faults)

    def check(self, program: Tapped, *, missing_ok: bool) -> None:
        """Raise if a selected node was not called, or if JAX has left out of the program what a call gives.

        Args:
            program: What was traced.
            missing_ok: Whether nodes need not be called.

        Raises:
            CaptureError: Names all such nodes.
        """
        found = {self.marks[tap.tap].place for tap in (*program.taken, *program.put)}
        lost = {
            mark.place: None for mark in self.marks.values() if mark.place not in found
        }
        faults = [
            f"{place.text} is called, but JAX has left out of the program what it returns, as nothing depends on it"
            for place in lost
        ]
        if not missing_ok:
            faults += self._uncalled()
        if faults:
            raise self.error(*faults)

    def _uncalled(self) -> list[str]:
        """What is wrong with the items of which a node is not called."""
        is_called = {
            place: self._method in methods for place, methods in self._called.items()
        }
        faults = [
            self._uncalled_text(place)
            for place, numbers in self.selected.items()
            if not is_called.get(place)
            and not all(self.items[number].is_all for number in numbers)
        ]
        if self.selected and not faults and not any(is_called.values()):
            faults.append(f"{self._method} of no node is called")
        return faults

    def _uncalled_text(self, place: Place) -> str:
        """What is wrong with a selected node that is not called."""
        if place in self._unseen:
            return f"{place.text} {self._unseen[place]}"
        others = dict.fromkeys(self._called.get(place, []))
        text = f"{self._method} of {place.text} is not called"
        names = " or ".join([f"method={name!r}" for name in others])
        return with_hint(
            text, f"what is called is selected by {names}" if names else ""
        )


_RULE: Final = "a function with a derivative rule of its own, which would not know of another value"
_REASONS: Final = {
    AGAIN: (
        "a gradient of gn.remat, which computes it once more, and JAX does not say for which of its calls or rounds: "
        "leave the gn.remat (jax.checkpoint) out"
    ),
    "while": (
        "a while loop, whose number of rounds is not known: use gn.scan, or gn.fori_loop with bounds that are Python "
        "integers"
    ),
    "cond": "gn.cond or gn.switch, and so perhaps not at all: call it outside, and choose with jnp.where",
    "shard_map": "gn.shard_map, where each shard has values of its own: return what you need from there",
    "custom_jvp_call": _RULE,
    "custom_vjp_call": _RULE,
}
_LATE_RULE: Final = (
    f"{_RULE}: differentiate inside, as gn.intervene(gn.grad(loss), ...) does"
)
_LATE_REASONS: Final = {
    "custom_jvp_call": _LATE_RULE,
    "custom_vjp_call": _LATE_RULE,
    "custom_vmap_call": (
        "a function with a rule of its own for vmap, which would not know of another value: use gn.vmap inside of "
        "gn.intervene"
    ),
}
_OTHER_REASON: Final = "{} of JAX, which gives nothing of what is inside"


def is_of_arrays(tree: Any) -> bool:
    """Whether all leaves of a pytree are what JAX computes with."""
    return all(map(is_jax_type, jax.tree.leaves(tree)))


def with_arrays(treedef: Any, leaves: Sequence[Any], arrays: Sequence[Any]) -> Any:
    """A result with other arrays; its numbers stay, as Python may compute with them."""
    pairs = zip(leaves, arrays, strict=True)
    return jax.tree.unflatten(
        treedef,
        [array if isinstance(leaf, jax.Array) else leaf for leaf, array in pairs],
    )
