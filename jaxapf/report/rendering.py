"""Pages from Jinja templates: those of this package, and of the folders of others that extend them."""

from functools import cache
from os import PathLike, fspath
from typing import Any

import jinja2

from jaxapf._internal import text
from jaxapf._internal.version import __version__

__all__ = ["render"]


def render(name: str, folder: str | PathLike[str] | None = None, **values: Any) -> str:
    """Return a page, every value escaped except `markupsafe.Markup`.

    `name` is that of a template of this package, or of `folder`, which may extend `base.html`: that takes
    `title` and `media`, its policy's source of sounds ("data:").
    """
    return _environment(None if folder is None else fspath(folder)).get_template(name).render(values)


@cache
def _environment(folder: str | None) -> jinja2.Environment:
    own = jinja2.PackageLoader("jaxapf.report", "templates")
    environment = jinja2.Environment(
        loader=own if folder is None else jinja2.ChoiceLoader([jinja2.FileSystemLoader(folder), own]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["version"] = __version__
    environment.filters |= {
        "decibels": text.decibels,
        "fixed": text.fixed,
        "heading": text.heading,
        "number": text.number,
    }
    return environment
