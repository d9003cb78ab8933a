"""The result of an alignment: applied to signals of any length, saved as one JSON file, read back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import scipy.fft
from jaxtyping import Float

from jaxapf import allpass
from jaxapf._internal import model_file
from jaxapf._internal.arrays import float64_on_cpu
from jaxapf._internal.delay import HALF_WIDTH, interpolator
from jaxapf._internal.fft import fast_length
from jaxapf._internal.files import PathLike, write_text
from jaxapf._internal.model_file import ModelError
from jaxapf._internal.streaming import BLOCK_SAMPLES, Reader, apply_blocks, read_padded, stream_blocks
from jaxapf._internal.version import __version__

__all__ = ["HALF_WIDTH", "Alignment", "ModelError", "interpolator", "order_of"]

FORMAT = model_file.ModelFormat("jaxapf-alignment", "is not a model", "jaxapf align --model")
MAX_FS, MAX_DELAY_SAMPLES = 1e8, 1e9


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
    def sos(self) -> Float[np.ndarray, "n_sections 6"]:
        """Second-order sections in SciPy's layout, float64."""
        return np.asarray(self.sections.sos).reshape(-1, 6)

    def apply(self, x: Any) -> Float[np.ndarray, "... n_samples"]:
        """Return a signal aligned: delayed, filtered, with its polarity, in its shape and dtype.

        Args:
            x: `(..., n_samples)` at the rate `fs`, float32 or float64. What the delay moves past
                the end is cut.

        Raises:
            ValueError: no time axis, or samples that are not real numbers.

        Example:
            >>> import numpy as np
            >>> model = Alignment(allpass.first_order(np.zeros(0)), 2.0, -1, 48000.0, [], {})
            >>> model.apply(np.array([1.0, 2.0, 3.0, 4.0])).tolist()
            [-0.0, -0.0, -1.0, -2.0]
        """
        return apply_blocks(self.stream, x)

    def stream(
        self, read: Reader, n_samples: int, fs: float | None = None, *, block_samples: int = BLOCK_SAMPLES
    ) -> Iterator[np.ndarray]:
        """Yield the blocks (channels, n) of an aligned signal of any length, together equal to `apply`.

        Args:
            read: `read(start, stop)` gives samples (channels, stop - start), 0 <= start <= stop <= n_samples.
            n_samples: length of the signal.
            fs: its sample rate in Hz, which is that of the model.
            block_samples: length of a block; shorter signals use shorter blocks.
        """

        def process(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
            x = x * self.polarity
            return _filter(self.sections, x, state) if np.size(self.sections.u) else (x, None)

        def delayed(start: int, stop: int) -> np.ndarray:
            return _read_delayed(read, start, stop, n_samples, self.delay_samples)

        return stream_blocks(process, delayed, n_samples, block_samples=block_samples)

    def dumps(self) -> str:
        """Return the text of the model's file.

        Raises:
            ValueError: a value that JSON cannot hold, such as NaN.
        """
        sections = {name: np.asarray(v, np.float64).tolist() for name, v in self.sections._asdict().items()}
        fields = {
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
        return model_file.dumps(FORMAT, fields)

    def save(self, path: PathLike) -> None:
        """Write the model as one JSON file, atomically."""
        write_text(path, self.dumps())

    @classmethod
    def load(cls, path: PathLike) -> Alignment:
        """Read a model that `save` wrote.

        Raises:
            ModelError: the file cannot be opened, is not a model, is of a newer version or is damaged.
        """
        found = model_file.read(path, FORMAT)
        with model_file.check_fields(path, FORMAT.command):
            if found["polarity"] not in (-1, 1):
                raise ValueError(f"polarity is {found['polarity']!r}")
            margins = (np.asarray(found["sections"][name], np.float64) for name in ("u", "v", "m"))
            model = cls(
                sections=allpass.Sections(*margins),
                delay_samples=float(found["delay_samples"]),
                polarity=int(found["polarity"]),
                fs=float(found["fs"]),
                controls=[dict(row) for row in found["controls"]],
                metrics=dict(found["metrics"]),
                method=str(found["method"]),
                stop_reason=str(found["stop_reason"]),
                command=str(found["command"]),
                version=str(found["jaxapf"]),
            )
            _check_values(model)
        return model


def order_of(sections: allpass.Sections) -> int:
    """Return the order of the filter: two for each section, one for a first-order one."""
    return int(2 * np.size(sections.v) - np.count_nonzero(np.asarray(sections.v) == 0))


def _check_values(model: Alignment) -> None:
    u, v, m = model.sections
    if not (u.ndim == 1 and u.shape == v.shape == m.shape and len(model.controls) == len(u)):
        raise ValueError("sections and controls differ in number")
    stable = np.all(np.isfinite([u, v, m])) and np.all(u > 0) and np.all(v >= 0) and np.all(m > 0)
    if not (stable and np.all(u + v + 2 * m < 1e30)):
        raise ValueError("sections are not those of a stable all-pass filter")
    if not (abs(model.delay_samples) <= MAX_DELAY_SAMPLES and 0 < model.fs <= MAX_FS):
        raise ValueError("delay_samples or fs is out of range")
    for name, value in model.metrics.items():
        if not (value is None or (isinstance(value, (int, float)) and math.isfinite(value))):
            raise ValueError(f"{name} is {value!r}")


def _read_delayed(read: Reader, start: int, stop: int, n_samples: int, delay: float) -> np.ndarray:
    """Read samples start ... stop of the delayed signal, with zeros outside the recording."""
    whole = math.floor(delay)
    fraction = delay - whole
    if min(fraction, 1 - fraction) < 1e-9:
        whole = round(delay)
        return read_padded(read, start - whole, stop - whole, n_samples)
    x = read_padded(read, start - whole - HALF_WIDTH, stop - whole + HALF_WIDTH, n_samples)
    taps = interpolator(fraction).astype(x.dtype)
    n_fft = fast_length(x.shape[-1])
    spectrum = np.asarray(scipy.fft.rfft(x, n_fft)) * np.asarray(scipy.fft.rfft(taps, n_fft))
    return np.asarray(scipy.fft.irfft(spectrum, n_fft))[:, 2 * HALF_WIDTH : x.shape[-1]]


def _cascade(sections: allpass.Sections, x: Any, state: Any) -> Any:
    return allpass.cascade(sections, x, zi=state)


_jit_cascade = jax.jit(_cascade)


def _filter(sections: allpass.Sections, x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    """Filter a block in float64 whatever its dtype: float32 is off by 1e-5 on slow sections."""
    if state is None:
        state = np.zeros((len(x), np.size(sections.u), 2))
    with float64_on_cpu():
        sections = allpass.Sections(*(np.asarray(v, np.float64) for v in sections))
        y, state = _jit_cascade(sections, x.astype(np.float64), state)
        return np.asarray(y).astype(x.dtype), state
