"""The result of an alignment: applied to signals of any length, saved as one JSON file, read back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.fft

from jaxapf import allpass
from jaxapf._internal.arrays import enable_x64
from jaxapf._internal.fft import fast_length
from jaxapf._internal.files import write_text
from jaxapf._internal.version import __version__

FORMAT = "jaxapf-alignment"
VERSION = 1
MAX_FS, MAX_DELAY_SAMPLES = 1e8, 1e9
BLOCK_SAMPLES = 2**18
HALF_WIDTH = 64  # of the fractional-delay interpolator, samples
Reader = Callable[[int, int], np.ndarray]


class ModelError(ValueError):
    """A file that is not a readable alignment."""


@dataclass(frozen=True)
class Alignment:
    """A delay, a polarity and a cascade of all-pass filters that lay a dry signal on a wet one.

    wet is close to polarity * cascade(sections, dry delayed by delay_samples).

    Attributes:
        sections: `allpass.Sections` of float64 NumPy margins, `(n_sections,)`.
        delay_samples: latency of the wet signal in samples, fractional; negative: the wet one is earlier.
        polarity: +1 or -1.
        fs: sample rate in Hz that the sections belong to.
        controls: one dict a section: `type`, `cutoff_hz`, `q` (second order; the RBJ form), and
            `radius`, `angle_hz` where the poles are complex; `coefficient` (first order). Of a network also
            its own: `learnt_radius`, `learnt_cutoff_hz`, `learnt_coefficient`, `learnt_warp`.
        metrics: figures on the pair it was fitted to: `esr_raw`, `esr_delay`, `esr_aligned`, `esr_bound`,
            `correlation_raw`, `correlation_delay`, `correlation_aligned`, `delay_only_samples`,
            `delay_only_polarity`, `n_sections`, `order`, `seconds`.
        method: how it was found.
        stop_reason: why the cascade has the order it has.
        command: the command or call that made it.
    """

    sections: allpass.Sections
    delay_samples: float
    polarity: int
    fs: float
    controls: list[dict[str, Any]]
    metrics: dict[str, Any]
    method: str = "spectral"
    stop_reason: str = ""
    command: str = ""
    version: str = field(default=__version__)

    @property
    def sos(self) -> np.ndarray:
        """Second-order sections `(n_sections, 6)`, float64, in SciPy's layout."""
        return np.asarray(self.sections.sos).reshape(-1, 6)

    def apply(self, x: Any) -> np.ndarray:
        """Align a signal: delay it, filter it, turn its polarity.

        Args:
            x: `(..., n_samples)` at the rate `fs`, float32 or float64.

        Returns:
            NumPy array of the same shape and dtype; what the delay moves past the end is cut.

        Raises:
            ValueError: no time axis, or samples that are not real numbers.

        Example:
            >>> import numpy as np
            >>> model = Alignment(allpass.first_order(np.zeros(0)), 2.0, -1, 48000.0, [], {})
            >>> model.apply(np.array([1.0, 2.0, 3.0, 4.0])).tolist()
            [-0.0, -0.0, -1.0, -2.0]
        """
        signal = as_real_signal("x", x)
        if signal.size == 0:
            return signal.copy()
        rows = signal.reshape(-1, signal.shape[-1])
        blocks = list(stream(self, lambda start, stop: rows[:, start:stop], signal.shape[-1]))
        return np.concatenate(blocks, axis=-1).reshape(signal.shape)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model as one JSON file, atomically."""
        sections = {name: np.asarray(v, np.float64).tolist() for name, v in self.sections._asdict().items()}
        document = {
            "format": FORMAT,
            "version": VERSION,
            "jaxapf": self.version,
            "fs": float(self.fs),
            "delay_samples": float(self.delay_samples),
            "polarity": int(self.polarity),
            "order": order_of(self.sections),
            "sections": sections,
            "sos": self.sos.tolist(),
            "controls": self.controls,
            "metrics": self.metrics,
            "method": self.method,
            "stop_reason": self.stop_reason,
            "command": self.command,
        }
        write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Alignment:
        """Read a model that `save` wrote.

        Raises:
            ModelError: the file cannot be opened, is not a model, is of a newer version or is damaged.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"'{path}' cannot be opened: {(error.strerror or '').lower()}") from error
        except (ValueError, RecursionError) as error:
            raise ModelError(
                f"'{path}' is not a model (it is not JSON); give a file that 'jaxapf align --model' wrote"
            ) from error
        return _from_document(str(path), document)


def order_of(sections: allpass.Sections) -> int:
    """Total filter order: two a section, one for a first-order one."""
    return int(2 * np.size(sections.v) - np.count_nonzero(np.asarray(sections.v) == 0))


def _from_document(path: str, document: Any) -> Alignment:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelError(f"'{path}' is not a model; give a file that 'jaxapf align --model' wrote")
    version = document.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
        raise ModelError(
            f"'{path}' is a model of version {version!r}, this jaxapf reads {VERSION}; update jaxapf"
        )
    try:
        margins = {name: np.asarray(document["sections"][name], np.float64) for name in ("u", "v", "m")}
        sections = allpass.Sections(**margins)
        alignment = Alignment(
            sections=sections,
            delay_samples=float(document["delay_samples"]),
            polarity=_polarity(document["polarity"]),
            fs=float(document["fs"]),
            controls=[dict(row) for row in document["controls"]],
            metrics=dict(document["metrics"]),
            method=str(document["method"]),
            stop_reason=str(document["stop_reason"]),
            command=str(document["command"]),
            version=str(document["jaxapf"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(
            f"'{path}' is a damaged model (missing or wrong: {error}); make it again with 'jaxapf align'"
        ) from error
    _check_values(path, alignment)
    return alignment


def _polarity(value: Any) -> int:
    if value not in (-1, 1):
        raise ValueError(f"polarity {value!r}")
    return int(value)


def _is_figure(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and math.isfinite(value))


def _check_values(path: str, alignment: Alignment) -> None:
    u, v, m = alignment.sections
    sane = (
        u.ndim == 1
        and u.shape == v.shape == m.shape
        and bool(np.all(np.isfinite([u, v, m])) and np.all(u > 0) and np.all(v >= 0) and np.all(m > 0))
        and len(alignment.controls) == len(u)
        and abs(alignment.delay_samples) <= MAX_DELAY_SAMPLES
        and bool(np.all(u + v + 2 * m < 1e30))
        and all(_is_figure(value) for value in alignment.metrics.values())
        and 0 < alignment.fs <= MAX_FS
    )
    if not sane:
        raise ModelError(
            f"'{path}' is a damaged model (its sections, delay, polarity or sample rate are impossible); "
            "make it again with 'jaxapf align'"
        )


def as_real_signal(name: str, x: Any) -> np.ndarray:
    """NumPy array (..., n_samples) of float32 or float64."""
    signal = np.asarray(x)
    if signal.dtype.kind in "iub":
        signal = signal.astype(np.float32)
    if signal.dtype.kind != "f":
        raise ValueError(f"{name} has dtype {signal.dtype}; expected real samples, float32 or float64.")
    if signal.ndim == 0:
        raise ValueError(
            f"{name} is a single number; expected samples along the last axis, (..., n_samples)."
        )
    return signal if signal.dtype == np.float64 else signal.astype(np.float32, copy=False)


def interpolator(fraction: float) -> np.ndarray:
    """FIR that delays by HALF_WIDTH + fraction samples: Kaiser-windowed sinc, 2 HALF_WIDTH + 1 taps.

    Flat within 1e-4 up to 0.9 of the Nyquist frequency and 2e-4 up to 0.96.
    Source: Laakso et al. 1996, "Splitting the unit delay".
    """
    offset = np.arange(-HALF_WIDTH, HALF_WIDTH + 1) - fraction
    window = np.i0(8.0 * np.sqrt(np.clip(1 - (offset / (HALF_WIDTH + 1)) ** 2, 0, None))) / np.i0(8.0)
    return np.sinc(offset) * window


def stream(
    alignment: Alignment, read: Reader, n_samples: int, *, block_samples: int = BLOCK_SAMPLES
) -> Iterator[np.ndarray]:
    """Align a signal block by block, whatever its length.

    Args:
        alignment: the model.
        read: `read(start, stop)` gives samples `(channels, stop - start)`, 0 <= start <= stop <= n_samples.
        n_samples: length of the signal.
        block_samples: length of a block in samples; shorter signals use shorter blocks.

    Yields:
        Aligned blocks `(channels, n)`, together as long as the signal and equal to `alignment.apply`.
    """
    if block_samples < 1:
        raise ValueError(f"block_samples is {block_samples}; expected 1 or more.")
    # Few block lengths, hence few compilations; the last block is padded, its tail dropped.
    block = min(block_samples, max(256, 1 << max(0, n_samples - 1).bit_length()))
    sections = alignment.sections
    state: Any = None
    for start in range(0, n_samples, block):
        stop = min(start + block, n_samples)
        y = _delayed(read, start, stop, n_samples, alignment.delay_samples) * alignment.polarity
        if np.size(sections.u):
            padded = np.pad(y, [(0, 0), (0, block - (stop - start))])
            if state is None:
                state = np.zeros((len(y), np.size(sections.u), 2))
            filtered, state = _filter(sections, padded, state)
            y = filtered[:, : stop - start]
        yield y


def _delayed(read: Reader, start: int, stop: int, n_samples: int, delay: float) -> np.ndarray:
    """Samples start ... stop of the delayed signal, zeros outside the recording."""
    whole = math.floor(delay)
    fraction = delay - whole
    if fraction < 1e-9:
        return padded(read, start - whole, stop - whole, n_samples)
    if fraction > 1 - 1e-9:
        return padded(read, start - whole - 1, stop - whole - 1, n_samples)
    x = padded(read, start - whole - HALF_WIDTH, stop - whole + HALF_WIDTH, n_samples)
    taps = interpolator(fraction).astype(x.dtype)
    n_fft = fast_length(x.shape[-1])
    spectrum = np.asarray(scipy.fft.rfft(x, n_fft)) * np.asarray(scipy.fft.rfft(taps, n_fft))
    return np.asarray(scipy.fft.irfft(spectrum, n_fft))[:, 2 * HALF_WIDTH : x.shape[-1]]


def padded(read: Reader, start: int, stop: int, n_samples: int) -> np.ndarray:
    """Samples start ... stop of what `read` gives, zeros outside the recording."""
    inside = min(max(start, 0), n_samples), min(max(stop, 0), n_samples)
    x = as_real_signal("what read returned", read(*inside))
    before = min(max(0, -start), stop - start)
    return np.pad(x, [(0, 0), (before, stop - start - before - x.shape[-1])])


def _cascade(sections: allpass.Sections, x: Any, state: Any) -> Any:
    return allpass.cascade(sections, x, zi=state)


_jit_cascade = jax.jit(_cascade)


def _filter(sections: allpass.Sections, x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    """One block, in float64 whatever it came in: float32 is off by 1e-5 on slow sections."""
    with enable_x64(), jax.default_device(jax.local_devices(backend="cpu")[0]):
        sections = allpass.Sections(*(np.asarray(v, np.float64) for v in sections))
        y, state = _jit_cascade(sections, x.astype(np.float64), state)
        return np.asarray(y).astype(x.dtype), state
