"""What MkDocs calls while it builds: pages that are made, not written, and equations."""

from __future__ import annotations

import functools
import logging
import re
from typing import Any

import site_commands
import site_docstrings
import site_equations
import site_modules
import site_readmes
import site_sound
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

LOG = logging.getLogger("mkdocs.hooks.jaxapf")  # a warning here fails `mkdocs build --strict`


def on_config(config: Any) -> Any:
    """Complete the navigation."""
    groups = site_modules.grouped().items()
    for entry in config.nav:
        if "Experiments" in entry:
            entry["Experiments"] += [{name: f"experiments/{name}/README.md"} for name in _experiments()]
        if "Reference" in entry:
            entry["Reference"] += [{title: [{m.name: m.page} for m in listed]} for title, listed in groups]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of experiments and modules, pictures, sounds."""

    def page(path: str, text: str) -> None:
        if files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, content=text))

    for module in site_modules.modules().values():
        page(module.page, site_modules.page_text(module))
    page("reference/index.md", site_modules.index_text())
    page("commands.md", site_commands.page_text())
    page("experiments/index.md", _experiments_index())
    for source in _included():
        page(source, _readme_page(source))
    served = {path: site_readmes.ROOT / path for path in _served()} | site_sound.demo().files
    for path, lies_at in served.items():
        files.append(File.generated(config, path, abs_src_path=str(lies_at)))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **kwargs: Any) -> str:
    """Fill in what pages include, and link files of the repository and names of the library."""
    source = page.file.src_uri
    if source.startswith("reference/"):
        return markdown
    if source not in _included():
        try:
            markdown = site_readmes.with_sections(markdown, site_readmes.read("README.md"))
        except ValueError as error:
            raise PluginError(f"{source}: {error}") from None
        markdown = site_readmes.with_files(markdown)
        for marker, text in _MADE.items():
            markdown = markdown.replace(f"<!-- {marker} -->", text()) if marker in markdown else markdown
    pages = {file.src_uri for file in files}
    return site_readmes.with_names(site_readmes.as_page(markdown, source, pages), _names())


def on_page_content(html: str, page: Any, files: Files, **kwargs: Any) -> str:
    """Turn TeX into MathML, and look after what MkDocs does not: sounds that are not there."""
    source = page.file.src_uri
    html, failed = site_equations.with_mathml(html)
    for tex in failed:
        LOG.warning("%s: this equation cannot be typeset: %s", source, tex)
    for sound in re.findall(r'<audio[^>]* src="([^"]+)"', html):
        if files.get_file_from_path(sound) is None:
            LOG.warning("%s: plays '%s', which is not on the site", source, sound)
    return site_readmes.for_narrow_screens(html)


def _experiments_index() -> str:
    lines = ["# Experiments", "", _OPENING]
    for name in _experiments():
        card = site_readmes.card(site_readmes.read(f"experiments/{name}/README.md"))
        lines += ["", f"## [{card.title}]({name}/README.md)", "", site_readmes.purpose(name) or card.summary]
        if card.picture:
            text, picture = card.picture
            lines += ["", f"[![{text}]({name}/{picture}){{ loading=lazy .small }}]({name}/README.md)"]
    return "\n".join(lines) + "\n"


_OPENING = """\
Each is a folder of the repository with a script, its configuration and a README: the command, the run time,
the figures. The pages are these READMEs, with their pictures."""


def _readme_page(source: str) -> str:
    text = site_readmes.read(source)
    folder = source.rsplit("/", 1)[0]
    for path in _listening():
        name = path.rsplit("/", 1)[1]
        if path.startswith(f"{folder}/") and f"]({name})" not in text:
            text += f"\n[The listening page]({name})\n"
    return f"{text}\n[Code and configuration]({site_readmes.REPOSITORY}/tree/main/{folder})\n"


def _listening_list() -> str:
    links = []
    for path in _listening():
        name = path.split("/")[1]
        card = site_readmes.card(site_readmes.read(f"experiments/{name}/README.md"))
        links.append(f"- [{card.title}]({path})")
    return "\n".join(links)


_MADE = {
    "demo: printed": lambda: site_sound.demo().printed.strip("\n"),
    "notebooks": site_readmes.notebook_list,
    "listening": _listening_list,
}


def _listening() -> list[str]:
    return [path for path in _served() if path.endswith(".html")]


@functools.cache
def _experiments() -> list[str]:
    return site_readmes.experiments()


@functools.cache
def _included() -> tuple[str, ...]:
    return ("checkpoints/README.md", *(f"experiments/{name}/README.md" for name in _experiments()))


@functools.cache
def _served() -> list[str]:
    return [path for name in _experiments() for path in site_readmes.served_files(f"experiments/{name}")]


@functools.cache
def _names() -> set[str]:
    return site_docstrings.known_names(str(site_readmes.ROOT))
