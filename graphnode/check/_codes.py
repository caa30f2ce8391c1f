"""The codes of what `graphnode check` finds: one table, which `docs/errors.md` documents code by code."""

from typing import Final, NamedTuple

from .._class_faults import Rule


class Code(NamedTuple):
    """One thing that may be wrong.

    Attributes:
        code: Such as `GN101`: its hundreds say what was looked at.
        name: The same in words.
        summary: What is wrong, in one line.
    """

    code: str
    name: str
    summary: str

    @property
    def anchor(self) -> str:
        """Where the documentation explains it."""
        return f"docs/errors.md#{self.code.lower()}-{self.name}"


IMPORT_FAILED: Final = Code("GN001", "import-failed", "A module cannot be imported.")

UNDECLARED: Final = Code(
    "GN201",
    "undeclared-assignment",
    "A method assigns an attribute that is not a field.",
)
UNASSIGNED: Final = Code(
    "GN202",
    "unassigned-field",
    "No method assigns a field that the constructor does not take.",
)

IDENTITY_DEFAULT: Final = Code(
    "GN301",
    "identity-default",
    "A static default is a callable that compares by identity and has no importable name.",
)
UNSTABLE_FACTORY: Final = Code(
    "GN302",
    "unstable-factory",
    "A static default_factory makes another value for each instance.",
)
FAILING_FACTORY: Final = Code(
    "GN303", "failing-factory", "A static default_factory raises an error."
)

NO_CONTRACT: Final = Code(
    "GN401",
    "no-contract",
    "A state field's annotation states no shape and dtype (--strict).",
)
FREE_AXIS: Final = Code(
    "GN402",
    "free-axis",
    "An axis has a name that stands nowhere else in its class (--strict).",
)

OF_RULE: Final = {
    Rule.KIND: Code(
        "GN101", Rule.KIND.value, "A specifier says another kind than the annotation."
    ),
    Rule.UNHASHABLE: Code(
        "GN102",
        Rule.UNHASHABLE.value,
        "A static field holds something that is not hashable.",
    ),
    Rule.ARRAY: Code(
        "GN103",
        Rule.ARRAY.value,
        "A field without a specifier holds an array outside of a State.",
    ),
    Rule.AMBIGUOUS: Code(
        "GN104",
        Rule.AMBIGUOUS.value,
        "An annotation does not say what the field holds.",
    ),
    Rule.UNRESOLVED: Code(
        "GN105",
        Rule.UNRESOLVED.value,
        "An annotation names what nothing defines at run time.",
    ),
    Rule.ANNOTATION: Code(
        "GN106",
        Rule.ANNOTATION.value,
        "An annotation does not evaluate, or holds a specifier.",
    ),
    Rule.AXIS_SYNTAX: Code(
        "GN107",
        Rule.AXIS_SYNTAX.value,
        "An axis of a jaxtyping annotation cannot be read.",
    ),
    Rule.AXIS_NAME: Code(
        "GN108",
        Rule.AXIS_NAME.value,
        "An axis of a jaxtyping annotation names no static field.",
    ),
    Rule.AXIS_SIZE: Code(
        "GN109",
        Rule.AXIS_SIZE.value,
        "An initialised State has an axis without a size.",
    ),
    Rule.INITIALIZER: Code(
        "GN110",
        Rule.INITIALIZER.value,
        "An initializer is not told one State class and its shape.",
    ),
    Rule.SHARED: Code(
        "GN111",
        Rule.SHARED.value,
        "A default would be one mutable object for all instances.",
    ),
    Rule.OVERRIDE: Code(
        "GN112",
        Rule.OVERRIDE.value,
        "A class changes the kind of a field that it inherits.",
    ),
    Rule.RESERVED: Code(
        "GN113", Rule.RESERVED.value, "A field has a name that graphnode uses itself."
    ),
    Rule.EQUALITY: Code(
        "GN114",
        Rule.EQUALITY.value,
        "A class of nodes or States defines its own equality or hash.",
    ),
    Rule.SLOTS: Code("GN115", Rule.SLOTS.value, "A node class declares __slots__."),
    Rule.DATACLASS: Code(
        "GN116", Rule.DATACLASS.value, "A class breaks a rule of Python's dataclasses."
    ),
    Rule.SHARDING: Code(
        "GN117",
        Rule.SHARDING.value,
        "A sharding is neither mesh axes nor roles for each axis.",
    ),
    Rule.UNANNOTATED: Code(
        "GN118",
        Rule.UNANNOTATED.value,
        "A node, State or array stands in a class body without an annotation.",
    ),
    Rule.SHADOWED: Code(
        "GN119",
        Rule.SHADOWED.value,
        "A field has the name of a property, method or attribute that is not a field.",
    ),
    Rule.MIXIN: Code(
        "GN120", Rule.MIXIN.value, "A class that is not a node class declares a field."
    ),
    Rule.STATE_FIELD: Code(
        "GN121", Rule.STATE_FIELD.value, "A class of States declares a field."
    ),
    Rule.REGISTERED: Code(
        "GN122",
        Rule.REGISTERED.value,
        "A class of nodes or States is registered with JAX.",
    ),
}

# fmt: off
CODES: Final = {
    code.code: code
    for code in (
        IMPORT_FAILED, *OF_RULE.values(), UNDECLARED, UNASSIGNED,
        IDENTITY_DEFAULT, UNSTABLE_FACTORY, FAILING_FACTORY, NO_CONTRACT, FREE_AXIS,
    )
}
"""All codes, in order."""
# fmt: on

STRICT: Final = frozenset({NO_CONTRACT.code, FREE_AXIS.code})
"""The codes that are looked for under `--strict` alone."""
