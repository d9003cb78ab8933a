"""Pages that are made while the site is built: reference, commands, experiments, checkpoints, sounds.

`mkdocs-gen-files` runs this script; what is written by hand lies in docs/.
"""

from __future__ import annotations

import argparse
import ast
import base64
import os
import posixpath
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import mkdocs_gen_files

from jaxapf import audio, cli
from jaxapf.report import players

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/jaxapf/jaxapf"
SERVED = (".png", ".svg", ".jpg", ".gif", ".webp", ".html", ".flac", ".ogg")
ROOMS = {
    "alignment": "Alignment",
    "allpass": "All-pass sections",
    "filters": "Filters",
    "frequency": "Filters",
    "effects": "Effects",
    "losses": "Losses and metrics",
    "metrics": "Losses and metrics",
    "params": "Networks and parameters",
    "nets": "Networks and parameters",
    "training": "Training",
    "audio": "Files, recordings, pages",
    "datasets": "Files, recordings, pages",
    "report": "Files, recordings, pages",
    "notebooks": "Files, recordings, pages",
}


def write(path: str, text: str) -> None:
    """Write a page unless it is written by hand."""
    if not (ROOT / "docs" / path).exists():
        with mkdocs_gen_files.open(path, "w") as file:
            file.write(text)


# Reference


def exported(tree: ast.Module) -> list[str]:
    """Return the names in a module's `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "__all__" for target in node.targets):
            return list(ast.literal_eval(node.value))
    return []


def public_modules() -> Iterator[tuple[str, str]]:
    """Give name and first line of every public module, but those that their package exports whole."""
    package_names: dict[str, set[str]] = {}
    for path in sorted((ROOT / "jaxapf").rglob("*.py"), key=lambda path: (path.parent, path.stem)):
        parts = path.relative_to(ROOT / "jaxapf").with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not parts or parts[0] not in ROOMS or any(part.startswith("_") for part in parts):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = set(exported(tree))
        if path.stem == "__init__":
            package_names[".".join(parts)] = names
        elif names and names <= package_names.get(".".join(parts[:-1]), set()):
            continue
        yield ".".join(parts), (ast.get_docstring(tree) or "").split("\n")[0]


def write_reference() -> None:
    """Write a page a module, the list of all, and the navigation in the order of the rooms."""
    nav = ["* [Overview](index.md)"]
    index = [(ROOT / "docs" / "generate" / "reference.md").read_text(encoding="utf-8")]
    found = list(public_modules())
    for title in dict.fromkeys(ROOMS.values()):
        members = [(name, line) for name, line in found if ROOMS[name.split(".")[0]] == title]
        nav += [f"* {title}", *(f"    * [{name}]({name}.md)" for name, _ in members)]
        index += [f"\n## {title}\n", "| module | what is in it |", "|---|---|"]
        index += [f"| [`jaxapf.{name}`]({name}.md) | {line} |" for name, line in members]
        for name, _ in members:
            write(f"reference/{name}.md", f"# jaxapf.{name} {{ #jaxapf.{name} }}\n\n::: jaxapf.{name}\n")
    write("reference/index.md", "\n".join(index) + "\n")
    write("reference/SUMMARY.md", "\n".join(nav) + "\n")


# Commands


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Give a parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


def write_commands() -> None:
    """Write what `--help` prints, for every command."""
    lines = [(ROOT / "docs" / "generate" / "commands.md").read_text(encoding="utf-8")]
    with mock.patch.dict(os.environ, COLUMNS="84", NO_COLOR="1"):
        for parser in parsers(cli.parser()):
            lines += ["", f"## {parser.prog}", "", "```text", parser.format_help().strip(), "```"]
    write("commands.md", "\n".join(lines) + "\n")


# Experiments


def relinked(text: str, folder: str, pages: set[str]) -> str:
    """Lead relative links to pages of the site, or else into the repository."""

    def target(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        for candidate in (path, f"{path}/README.md"):
            if candidate in pages:
                return posixpath.relpath(candidate, folder) + (match[2] or "")
        if not (ROOT / path).exists():
            return match[0]  # a mistake, of which MkDocs complains
        return f"{REPOSITORY}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}{match[2] or ''}"

    # Badges are fetched from elsewhere; their text serves.
    text = re.sub(r"\[!\[([^\]]*)\]\(https?://[^()\s]+\)\]\(([^()\s]+)\)", r"[\1](\2)", text)
    return re.sub(r"(?<=\]\()(?!https?:|mailto:|#)([^()\s#]+)(#[^()\s]*)?(?=\))", target, text)


def served_files(folder: Path) -> list[Path]:
    """Return the pictures, sounds and pages beside a README; templates are no pages."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in SERVED and not (path.suffix == ".html" and "{%" in path.read_text(encoding="utf-8"))
    ]


def write_experiments() -> None:
    """Write the READMEs of experiments and checkpoints with what they show, and the list of experiments."""
    sources = [*sorted((ROOT / "experiments").glob("*/*.md")), ROOT / "checkpoints" / "README.md"]
    served = [path for source in {one.parent for one in sources} for path in served_files(source)]
    pages = {path.relative_to(ROOT).as_posix() for path in (*sources, *served)}
    for path in served:
        with mkdocs_gen_files.open(path.relative_to(ROOT).as_posix(), "wb") as file:
            file.write(path.read_bytes())
    nav, index = ["* [Overview](index.md)"], [(ROOT / "docs" / "generate" / "experiments.md").read_text()]
    for source in sources:
        name, folder = source.relative_to(ROOT).as_posix(), source.parent.relative_to(ROOT).as_posix()
        text = relinked(source.read_text(encoding="utf-8"), folder, pages)
        write(name, text)
        if source.name == "tables.md":
            nav.append(f"* [{source.parent.name}, tables]({source.parent.name}/tables.md)")
        elif folder.startswith("experiments/"):
            place = f"{source.parent.name}/README.md"
            heading, _, body = text.partition("\n")
            nav.append(f"* [{source.parent.name}]({place})")
            index.append(
                f"\n## [{heading.lstrip('# ')}]({place})\n\n{body.strip().partition(chr(10) * 2)[0]}"
            )
    write("experiments/index.md", "\n".join(index) + "\n")
    write("experiments/SUMMARY.md", "\n".join(nav) + "\n")


# Sounds


def write_demo() -> None:
    """Run `jaxapf demo`; write what it printed, its report, and what the pages play."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jaxapf", "demo", "-o", "demo"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        made = Path(folder, "demo")
        signals = [audio.read(made / f"example_{name}.flac") for name in ("dry", "wet", "aligned")]
        (dry, fs), (wet, _), (aligned, _) = signals
        excerpt = players.excerpt(dry, wet, aligned, fs)
        for name in ("dry", "wet", "50-before", "50-after"):
            with mkdocs_gen_files.open(f"sounds/{name}.flac", "wb") as file:
                file.write(base64.b64decode(excerpt.players[name].data))
        with mkdocs_gen_files.open("sounds/report.html", "wb") as file:
            file.write((made / "report.html").read_bytes())
    with mkdocs_gen_files.open("engineers.md", "r") as file:
        page = file.read()
    with mkdocs_gen_files.open("engineers.md", "w") as file:
        file.write(page.replace("<!-- demo: printed -->", done.stdout.strip()))


write_reference()
write_commands()
write_experiments()
write_demo()
