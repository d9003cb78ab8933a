"""The files of the pages, filled in."""

import re
from collections.abc import Mapping
from html import escape
from importlib import resources

from jaxapf._internal.version import __version__


def filled(name: str, parts: Mapping[str, str], *, title: str, policy: str) -> str:
    """Return a page: the head of all pages and the file `name`, each `{{part}}` replaced.

    Args:
        name: a file of this folder, which begins where the head ends.
        parts: HTML by the name of its place.
        title: the page's title, plain text.
        policy: its content security policy.

    Returns:
        The page.

    Example:
        >>> parts = dict.fromkeys(["style", "figures", "table"], "")
        >>> "<title>Tape &amp; tube</title>" in filled("curves.html", parts, title="Tape & tube", policy="")
        True
    """
    folder = resources.files("jaxapf.report")
    template = "".join(folder.joinpath(file).read_text(encoding="utf-8") for file in ("head.html", name))
    known = {"version": escape(__version__), "title": escape(title), "policy": policy, **parts}
    # one pass, so that braces in a name or label are never taken for a placeholder
    return re.sub(r"\{\{(\w+)\}\}", lambda match: known[match[1]], template)
