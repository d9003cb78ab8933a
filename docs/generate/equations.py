"""TeX to MathML while the site is built: browsers draw it by themselves, without scripts and fonts.

No plugin does this without JavaScript; MkDocs calls `on_page_content` for every page.
"""

from __future__ import annotations

import html
import logging
import re
from typing import Any

from latex2mathml.converter import convert

_FOUND = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
_UPRIGHT = re.compile(r"<mi>&#x000(4[1-9A-F]|5[0-9A]|6[1-9A-F]|7[0-9A]);</mi>")
_NAMED = re.compile(r"<mi>(sin|cos|tan|tanh|arctan|log|ln|exp)</mi>")
_OPERATOR = r'<mo form="prefix" lspace="0.167em" rspace="0.167em">\1</mo>'  # a name with a space on each side
_LEFT_OVER = re.compile(r"\\[A-Za-z]+|<mi>&(amp;)?</mi>")


_ALONE = re.compile(r'<p>(<img [^>]*?src="([^"]+)"[^>]*>)</p>')
_CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)
_SMALL = re.compile(r"\d+(?:\.\d+)?e-\d+")
LOG = logging.getLogger("mkdocs.hooks.jaxapf")  # a warning here fails `mkdocs build --strict`


def on_page_content(html: str, page: Any, **kwargs: Any) -> str:
    """Typeset the equations of a page, and fit pictures and tables to narrow screens."""
    html, failed = with_mathml(html)
    for tex in failed:
        LOG.warning("%s: this equation cannot be typeset: %s", page.file.src_uri, tex)
    return for_narrow_screens(html)


def for_narrow_screens(html: str) -> str:
    """Link pictures to themselves, where they can be enlarged, and keep numbers in tables on one line."""
    html = _ALONE.sub(r'<p><a href="\2">\1</a></p>', html)
    return _CELL.sub(lambda cell: _SMALL.sub(r'<span class="number">\g<0></span>', cell[0]), html)


def with_mathml(page: str) -> tuple[str, list[str]]:
    """Return the page with every equation as MathML, and the equations that could not be typeset."""
    failed: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        block = match[1] == "div"
        tex = html.unescape(match[2]).strip()[2:-2].strip()
        mathml = mathml_of(tex, block)
        if _LEFT_OVER.search(mathml):
            failed.append(tex)
        return f'<div class="equation">{mathml}</div>' if block else mathml

    return _FOUND.sub(replaced, page), failed


def mathml_of(tex: str, block: bool = False) -> str:
    r"""Return the MathML of an equation, with spaces around names and upright `\mathrm{d}`."""
    mathml = _NAMED.sub(_OPERATOR, convert(tex, display="block" if block else "inline"))
    return _UPRIGHT.sub(lambda match: f'<mi mathvariant="normal">{chr(int(match[1], 16))}</mi>', mathml)
