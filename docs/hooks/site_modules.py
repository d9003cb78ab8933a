"""Which pages the reference has: every public module, in groups. Nothing is imported, only read."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "jaxapf"

# What is in no group is public all the same, and goes to the last one.
GROUPS = {
    "Whole jobs": ("estimate", "alignment", "modelling", "transfer", "export"),
    "Filters": (
        "allpass",
        "filters",
        "recursion",
        "frequency",
        "frames",
        "biquad",
        "matched",
        "feedback",
    ),
    "Effects": ("effects", "effects.chain", "effects.phaser", "effects.compressor", "effects.expander"),
    "Losses and figures": ("losses", "metrics"),
    "Gradients and networks": ("params", "gradients", "nets", "proxies", "style"),
    "Training": (
        "train",
        "loop",
        "batches",
        "parallel",
        "distributed",
        "checkpoint",
        "tracking",
        "programs",
        "cascades",
        "deep",
    ),
    "The network that aligns": ("aligner", "hearing", "placing", "playing", "refining"),
    "Files and pages": ("audio", "report", "stored"),
    "Engine room": (),
}
LAST = "Engine room"


class Module(NamedTuple):
    """A module with a page: name below `jaxapf`, first line, and what of it is shown (all if empty)."""

    name: str
    summary: str
    members: tuple[str, ...] = ()

    @property
    def page(self) -> str:
        """Where its page lies, below docs/."""
        return f"reference/{self.name}.md"


def modules() -> dict[str, Module]:
    """Every public module, by name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not name or any(part.startswith("_") for part in name.split(".")):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        exported = _exported(PACKAGE / parts[0] / "__init__.py") if "." in name else ()
        defined = _defined(tree)
        left = tuple(one for one in defined if one not in exported)
        if parts[-1] == "__init__" or left:
            summary = (ast.get_docstring(tree) or "").split("\n")[0]
            found[name] = Module(name, summary, left if left != defined else ())
    return found


def grouped() -> dict[str, list[Module]]:
    """The modules by group, in the order of the navigation."""
    left = modules()
    groups = {title: [left.pop(name) for name in names] for title, names in GROUPS.items()}
    effects = [name for name in left if name.startswith("effects.")]
    groups["Effects"] += [left.pop(name) for name in effects]
    groups[LAST] += left.values()
    return groups


def page_text(module: Module) -> str:
    """The page of a module that has none of its own under docs/reference."""
    name = f"jaxapf.{module.name}"
    lines = [f"# {name} {{ #{name} }}", "", f"::: {name}"]
    if module.members:
        listed = "".join(f"\n        - {name}" for name in module.members)
        lines += ["    options:", f"      members:{listed}"]
    return "\n".join(lines) + "\n"


def index_text() -> str:
    """The list of all modules."""
    lines = ["# Reference", "", _OPENING]
    for title, listed in grouped().items():
        lines += ["", f"## {title}", "", "| module | what is in it |", "|---|---|"]
        lines += [f"| [`jaxapf.{one.name}`]({one.name}.md) | {one.summary} |" for one in listed]
    return "\n".join(lines) + "\n"


_OPENING = """\
Written from the docstrings; pages of the core begin with their equations. Time is the last axis of every
signal, axes before it are batch and broadcast; units stand in names (`cutoff_hz`, `gain_db`, `attack_ms`,
`delay_samples`); functions are pure, state goes in and comes out. `jaxapf` itself has
[`align`][jaxapf.alignment.estimate.align], [`Alignment`][jaxapf.alignment.model.Alignment],
[`lfilter`][jaxapf.filters.iir.lfilter], [`sosfilt`][jaxapf.filters.iir.sosfilt] and
[`allpole`][jaxapf.filters.recursion.allpole]; everything else is named by its module, `jaxapf.allpass.cascade`.
For another project to link here there is the inventory `objects.inv`."""


def _exported(init: Path) -> tuple[str, ...]:
    for node in ast.parse(init.read_text(encoding="utf-8")).body if init.exists() else ():
        if isinstance(node, ast.Assign) and any(_is_all(target) for target in node.targets):
            return tuple(ast.literal_eval(node.value))
    return ()


def _is_all(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "__all__"


def _defined(tree: ast.Module) -> tuple[str, ...]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return tuple(node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_"))
