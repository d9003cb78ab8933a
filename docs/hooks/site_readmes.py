"""READMEs as pages: what of them is shown where, and where their links lead on the site."""

from __future__ import annotations

import ast
import json
import posixpath
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/jaxapf/jaxapf"
COLAB = "https://colab.research.google.com/github/jaxapf/jaxapf/blob/main/experiments/notebooks"
# Beside a README: what the site serves as it is.
SERVED = (".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp", ".html", ".flac", ".ogg", ".mp3", ".wav")

_FENCE = re.compile(r"^(?P<fence> *(?:```+|~~~+)).*?^(?P=fence) *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^()\s#]+)(#[^()\s]*)?(?=\))")
_BADGE = re.compile(r"\[!\[([^\]]*)\]\(https?://[^()\s]+\)\]\(([^()\s]+)\)")
_INCLUDE = re.compile(r"^<!-- README: (.+?) -->$", re.MULTILINE)
_PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^()\s]+)\)")
_ALONE = re.compile(r'<p>(<img [^>]*?src="([^"]+)"[^>]*>)</p>')
_CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)
_SMALL = re.compile(r"\d+(?:\.\d+)?e-\d+")
_FILE = re.compile(r"^<!-- file: (.+?) -->$", re.MULTILINE)
_DOTTED = re.compile(r"(?<![\[`])`(?:jaxapf\.)?([a-z_]+(?:\.[A-Za-z_]+)*)`(?!`|\])")


def experiments() -> list[str]:
    """The experiments: every folder with a README."""
    return sorted(path.parent.name for path in (ROOT / "experiments").glob("*/README.md"))


def served_files(folder: str) -> list[str]:
    """Pictures, sounds and pages that lie beside a README, as paths in the repository."""
    paths = [path for path in sorted((ROOT / folder).iterdir()) if path.suffix in SERVED]
    return [f"{folder}/{path.name}" for path in paths if not _is_template(path)]


def _is_template(path: Path) -> bool:
    return path.suffix == ".html" and re.search(r"{{\w+}}", path.read_text(encoding="utf-8")) is not None


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level, without it; "opening" is what stands before the first.

    Raises:
        ValueError: there is no such heading.
    """
    opening, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    if title == "opening":
        return opening.split("\n", 1)[1].strip()
    for part in parts:
        heading, _, body = part.partition("\n")
        if heading.strip() == title:
            return body.strip()
    raise ValueError(f"README.md has no section {title!r}; the page that includes it must name another.")


def with_sections(text: str, readme: str) -> str:
    """Fill in `<!-- README: title -->`, each on a line of its own."""
    return _INCLUDE.sub(lambda match: section(readme, match[1]), text)


def with_files(text: str) -> str:
    """Fill in `<!-- file: path -->`, as a block of code."""
    return _FILE.sub(lambda match: f"```yaml\n{read(match[1]).strip()}\n```", text)


def notebook_list() -> str:
    """The notebooks, each with a link that opens it in Colab."""
    links = []
    for path in sorted((ROOT / "experiments" / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "markdown")
        heading = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
        links.append(f"- [{heading[1] if heading else path.stem}]({COLAB}/{path.name}), in Colab")
    return "\n".join(links) or "There is no notebook yet."


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """Change what is text, and leave blocks of code as they are."""
    done, position = [], 0
    for match in _FENCE.finditer(text):
        done += [change(text[position : match.start()]), match[0]]
        position = match.end()
    return "".join([*done, change(text[position:])])


def as_page(text: str, source: str, pages: Collection[str]) -> str:
    """A README's text as a page of the site.

    Args:
        text: Markdown as GitHub reads it.
        source: path of the file in the repository; the page has the same below docs/.
        pages: what the site has, as paths in the repository.

    Returns:
        Markdown whose relative links lead to pages of the site, or else into the repository.
    """
    return outside_fences(text, lambda part: _relinked(_spaced(_BADGE.sub(r"[\1](\2)", part)), source, pages))


def with_names(text: str, known: Collection[str]) -> str:
    """Link names of the library, such as `allpass.cascade`, to their entries in the reference."""

    def linked(match: re.Match[str]) -> str:
        full = f"jaxapf.{match[1]}"
        is_name = full in known and ("." in match[1] or match[0].startswith("`jaxapf."))
        return f"[{match[0]}][{full}]" if is_name else match[0]

    return outside_fences(text, lambda part: _DOTTED.sub(linked, part))


class Card(NamedTuple):
    """An experiment in short: heading, first sentence, first picture as (text, file) if there is one."""

    title: str
    summary: str
    picture: tuple[str, str] | None


def card(text: str) -> Card:
    """What a README says of itself."""
    heading, _, body = _FENCE.sub("", text).partition("\n")
    prose = [part for part in body.strip().split("\n\n") if re.match(r"[\w*`\[\"]", part)]
    paragraph = " ".join(prose[0].split()) if prose else ""
    sentence = re.match(r".+?(?<!al)\.(?= [A-Z]|$)", paragraph)
    picture = _PICTURE.search(text)
    return Card(
        heading.lstrip("# ").strip(),
        sentence[0] if sentence else paragraph,
        (picture[1], picture[2]) if picture else None,
    )


def purpose(experiment: str) -> str | None:
    """What an experiment's script says that it does, in one sentence."""
    script = ROOT / "experiments" / experiment / "run.py"
    if not script.exists():
        return None
    first = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").split("\n")[0]
    return first.split(": `")[0].rstrip(".") + "."


def _relinked(text: str, source: str, pages: Collection[str]) -> str:
    folder = posixpath.dirname(source)

    def target(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        for candidate in (path, f"{path}/README.md"):
            if candidate in pages:
                return posixpath.relpath(candidate, folder or ".") + (match[2] or "")
        if not path or not (ROOT / path).exists():
            return match[0]  # a page that is made elsewhere, or a mistake, of which MkDocs complains
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{REPOSITORY}/{kind}/main/{path}{match[2] or ''}"

    return _LINK.sub(target, text)


def _spaced(text: str) -> str:
    """Lists and tables that follow a line of text directly: GitHub sees them, Python-Markdown does not."""
    lines = text.split("\n")
    spaced: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        for begins in (r"([-*]|\d+\.) ", r"\|"):
            inside = re.match(begins, before) or before.startswith(("  ", "#"))
            if re.match(begins, line) and before.strip() and not inside:
                spaced.append("")
        spaced.append(line)
    return "\n".join(spaced)


def for_narrow_screens(html: str) -> str:
    """Pictures lead to themselves, where they can be enlarged; numbers in tables are not broken at signs."""
    html = _ALONE.sub(r'<p><a href="\2">\1</a></p>', html)
    return _CELL.sub(lambda cell: _SMALL.sub(r'<span class="number">\g<0></span>', cell[0]), html)


def read(path: str) -> str:
    """A text file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")
