"""TeX to MathML while the site is built: browsers draw it by themselves, without scripts and fonts."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_FOUND = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
_UPRIGHT = re.compile(r"<mi>&#x000(4[1-9A-F]|5[0-9A]|6[1-9A-F]|7[0-9A]);</mi>")
_NAMED = re.compile(r"<mi>(sin|cos|tan|tanh|arctan|log|ln|exp)</mi>")
_OPERATOR = r'<mo form="prefix" lspace="0.167em" rspace="0.167em">\1</mo>'  # a name with a space on each side
_LEFT_OVER = re.compile(r"\\[A-Za-z]+|<mi>&(amp;)?</mi>")


def with_mathml(page: str) -> tuple[str, list[str]]:
    """The page with every equation as MathML, and the equations that could not be read as a whole."""
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
    r"""MathML of an equation, with what browsers must be told: spaces around names, upright `\mathrm{d}`."""
    mathml = _NAMED.sub(_OPERATOR, convert(tex, display="block" if block else "inline"))
    return _UPRIGHT.sub(lambda match: f'<mi mathvariant="normal">{chr(int(match[1], 16))}</mi>', mathml)
