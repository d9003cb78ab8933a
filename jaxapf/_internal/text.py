"""Numbers as text for readers: true minus signs, powers of ten, a dash for what is unknown."""

import math
from typing import Any

import numpy as np

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
UNITS = {"hz": "Hz", "db": "dB", "ms": "ms", "s": "s"}


def known(value: Any) -> float:
    """Return a value as a float, NaN where it is no number or not finite."""
    finite = isinstance(value, (int, float, np.number)) and math.isfinite(float(value))
    return float(value) if finite else math.nan


def number(value: Any, digits: int = 3, *, padded: bool = True) -> str:
    """Format a number with so many significant digits; `padded` keeps the zeros at the end of a fraction.

    Example:
        >>> number(1.5), number(-2.0), number(12345.6), number(None), number(1.5, padded=False)
        ('1.50', '−2', '1.23 × 10⁴', '–', '1.5')
    """
    value = known(value)
    if math.isnan(value):
        return "–"
    mark = "#" if padded and value != int(value) else ""
    mantissa, _, exponent = f"{value:{mark}.{digits}g}".removesuffix(".").partition("e")
    text = f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPT)}" if exponent else mantissa
    return text.replace("-", "−")


def fixed(value: Any, decimals: int = 1, *, signed: bool = False) -> str:
    """Format a number with so many decimals.

    Example:
        >>> fixed(-12.34), fixed(2.0, signed=True), fixed(-0.01), fixed(-math.inf), fixed(math.nan)
        ('−12.3', '+2.0', '0.0', '−∞', '–')
    """
    if math.isnan(value):
        return "–"
    text = f"{abs(value):.{decimals}f}" if math.isfinite(value) else "∞"
    zero = not text.strip("0.")
    return ("" if zero else "−" if value < 0 else "+" if signed else "") + text


def decibels(ratio: Any, *, signed: bool = False) -> str:
    """Format a ratio of powers in dB.

    Example:
        >>> decibels(0.01), decibels(0.0), decibels(None), decibels(10, signed=True)
        ('−20.0 dB', '−∞ dB', '–', '+10.0 dB')
    """
    ratio = known(ratio)
    if math.isnan(ratio):
        return "–"
    return f"{fixed(10 * math.log10(ratio) if ratio > 0 else -math.inf, signed=signed)} dB"


def hertz(freq_hz: float) -> str:
    """Format a frequency in Hz or kHz.

    Example:
        >>> hertz(254.2), hertz(12_345.0)
        ('254 Hz', '12.3 kHz')
    """
    return f"{freq_hz:.0f} Hz" if freq_hz < 1000 else f"{freq_hz / 1000:.3g} kHz"


def heading(name: str) -> str:
    """Return a control's name with its unit in brackets.

    Example:
        >>> heading("cutoff_hz"), heading("q")
        ('cutoff (Hz)', 'q')
    """
    *words, last = name.split("_")
    unit = UNITS.get(last, last if last == "samples" else "") if words else ""
    return f"{' '.join(words)} ({unit})" if unit else name.replace("_", " ")


def count(number: int, noun: str) -> str:
    """Format a number with its noun, in the plural where it is not one.

    Example:
        >>> count(1, "channel"), count(2, "channel")
        ('1 channel', '2 channels')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def time_range(start: int, stop: int, fs: float) -> str:
    """Format a range of samples as times h:mm:ss.

    Example:
        >>> time_range(0, 3725_400, 1000)
        '0:00:00 to 1:02:05'
    """
    minutes = [divmod(round(sample / fs), 60) for sample in (start, stop)]
    return " to ".join(f"{whole // 60}:{whole % 60:02d}:{seconds:02d}" for whole, seconds in minutes)


def printable(text: str) -> str:
    """Return a text that UTF-8 can encode; file names may contain bytes that it cannot."""
    return text.encode("utf-8", "backslashreplace").decode()
