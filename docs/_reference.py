"""How the package is read for the reference: an extension of griffe, which mkdocstrings loads by this path.

Nothing is imported for the site: griffe reads source. So it does not see that each class of nodes is a dataclass, and
is told here. And the docstrings say `Example:`, of which griffe makes a box of prose, where `>>>` would be a quotation;
it knows `Examples:`, whose doctests become code.
"""

import re
from collections.abc import Iterator

import griffe

NODE = "graphnode._declare._node.Node"
SPECIFIERS = {"state", "static", "subnode", "field"}


class OnSite(griffe.Extension):
    """Gives classes of nodes their constructors, and names sections of docstrings as griffe knows them."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrite the docstring of one object, before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^( *)Example:$",
                r"\1Examples:",
                obj.docstring.value,
                flags=re.MULTILINE,
            )

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        """Once all is read, and bases can be followed."""
        nodes = [
            cls for cls in _classes(pkg) if any(base.path == NODE for base in cls.mro())
        ]
        for cls in nodes:
            if "__init__" not in cls.members:
                cls.set_member("__init__", _constructor(cls))
        for cls in nodes:
            # An init variable is an argument, and no attribute.
            for name in [name for name in cls.attributes if name in cls.members]:
                if "InitVar" in str(cls.attributes[name].annotation):
                    cls.del_member(name)


def _classes(owner: griffe.Module | griffe.Class) -> Iterator[griffe.Class]:
    for member in owner.members.values():
        if member.is_alias:
            continue
        if isinstance(member, griffe.Class):
            yield member
        if isinstance(member, (griffe.Module, griffe.Class)):
            yield from _classes(member)


def _constructor(cls: griffe.Class) -> griffe.Function:
    parameters: dict[str, griffe.Parameter] = {}
    for base in [*reversed(cls.mro()), cls]:
        kind = griffe.ParameterKind.positional_or_keyword
        for name, field in base.attributes.items():
            if "KW_ONLY" in str(field.annotation):
                kind = griffe.ParameterKind.keyword_only
            elif (
                field.annotation is not None
                and "property" not in field.labels
                and not name.startswith("_")
            ):
                if "init=False" in str(field.value) or "ClassVar" in str(
                    field.annotation
                ):
                    parameters.pop(name, None)
                else:
                    parameters[name] = _parameter(name, field, kind)
    itself = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
    ordered = sorted(
        parameters.values(),
        key=lambda parameter: parameter.kind == griffe.ParameterKind.keyword_only,
    )
    return griffe.Function(
        "__init__", parameters=griffe.Parameters(itself, *ordered), lineno=cls.lineno
    )


def _parameter(
    name: str, field: griffe.Attribute, kind: griffe.ParameterKind
) -> griffe.Parameter:
    annotation, default = field.annotation, field.value
    if isinstance(annotation, griffe.ExprSubscript) and str(annotation.left).endswith(
        "InitVar"
    ):
        annotation = annotation.slice
    if (
        isinstance(default, griffe.ExprCall)
        and str(default.function).rpartition(".")[2] in SPECIFIERS
    ):
        values = [
            argument.value
            for argument in default.arguments
            if isinstance(argument, griffe.ExprKeyword) and argument.name == "default"
        ]
        is_made = any(
            not isinstance(argument, griffe.ExprKeyword) or "factory" in argument.name
            for argument in default.arguments
        )
        default = values[0] if values else "..." if is_made else None
    return griffe.Parameter(name, annotation=annotation, kind=kind, default=default)
