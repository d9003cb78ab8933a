"""Docstrings as the site shows them: examples as code, names as links, fields of named tuples."""

from __future__ import annotations

import re
import textwrap

import griffe

_EXAMPLE = re.compile(r"^(\s*)Example:[ ]*$", re.MULTILINE)
_DOCTEST = re.compile(r"\n\n(?=>>> )")
_RETURNS = re.compile(r"(?<=\nReturns:\n)(?: {4}.*\n?)+")
_COLUMNS = re.compile(r"(?<=\n\n)(?:\S+ {3,}\S.*\n?){2,}")  # a list in columns, at the margin
_NAME = re.compile(r"(?<![\[`\w])`(?:jaxapf\.)?([A-Za-z_]+(?:\.[A-Za-z_]+)*)`(?![`\]])")


class Docstrings(griffe.Extension):
    """What griffe does not do by itself for this library's docstrings."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        """Go through everything once the package is read."""
        names = set(_names(pkg))
        for each in _objects(pkg):
            if each.docstring:
                each.docstring.value = _shown(each.docstring.value, each, names)
            if isinstance(each, griffe.Module) and not each.is_init_module:
                _show_only_its_own(each)
            if isinstance(each, griffe.Class):
                _give_fields(each)


def _shown(text: str, owner: griffe.Object, names: set[str]) -> str:
    text = _EXAMPLE.sub(r"\1Examples:", text)
    if "Examples:" not in text and (bare := _DOCTEST.search(text)):
        text = f"{text[: bare.start()]}\n\nExamples:\n{textwrap.indent(text[bare.end() :], '    ')}"
    text = _COLUMNS.sub(lambda match: textwrap.indent(match[0], "    "), text)
    text = _RETURNS.sub(lambda match: _continued(match[0]), text)
    module, package = owner.module.path, "jaxapf"
    own = {one.name for one in owner.parameters} if isinstance(owner, griffe.Function) else set()

    def linked(match: re.Match[str]) -> str:
        name = match[1]
        candidates = [f"{package}.{name}"] if "." in name else []
        if name not in own and name != owner.name:
            candidates.append(f"{module}.{name}")
        if owner.module.parent is not None:
            candidates.append(f"{owner.module.parent.path}.{name}")
        found = next((one for one in candidates if one in names and one != module), None)
        return f"[{match[0]}][{found}]" if found else match[0]

    before, examples, rest = text.partition("Examples:\n")
    return _NAME.sub(linked, before) + examples + rest


def _show_only_its_own(module: griffe.Module) -> None:
    """What a module imports has its entry where it is defined; packages keep what they gather."""
    if module.exports is not None:
        found = [name for name in module.exports if str(name) in module.members]  # not what is made on use
        module.exports = [name for name in found if not module.members[str(name)].is_alias]


def _continued(block: str) -> str:
    """Results that take several lines: lines that name no further result are indented, as griffe wants it."""
    first, *rest = block.split("\n")
    return "\n".join(
        [first, *(line if re.match(r" {4}\w+: | {5}|$", line) else f"    {line}" for line in rest)]
    )


def _give_fields(tuple_class: griffe.Class) -> None:
    """A constructor to show: griffe knows those of data classes only."""
    if (
        not any(str(base).endswith("NamedTuple") for base in tuple_class.bases)
        or "__init__" in tuple_class.members
    ):
        return
    fields = [one for one in tuple_class.members.values() if isinstance(one, griffe.Attribute)]
    fields = [one for one in fields if one.annotation is not None and "property" not in one.labels]
    kind = griffe.ParameterKind.positional_or_keyword
    given = [griffe.Parameter(f.name, annotation=f.annotation, kind=kind, default=f.value) for f in fields]
    made = griffe.Function("__init__", parameters=griffe.Parameters(*given), parent=tuple_class)
    tuple_class.set_member("__init__", made)


def _objects(parent: griffe.Object):
    yield parent
    for member in parent.members.values():
        if not member.is_alias and isinstance(member, griffe.Object):
            yield from _objects(member)


def _names(pkg: griffe.Module):
    """Paths that the reference has an entry for."""
    for each in _objects(pkg):
        parts = each.path.split(".")
        documented = each.has_docstring or isinstance(each, griffe.Module)
        if documented and not any(part.startswith("_") for part in parts):
            yield each.path


def known_names(root: str) -> set[str]:
    """The same, for pages that are not docstrings."""
    return set(_names(griffe.load("jaxapf", search_paths=[root])))  # type: ignore[arg-type]
