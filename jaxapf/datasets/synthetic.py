"""Pairs of recordings made on the fly: one source, two ways to the listener, and what was done to it.

    source -> room -> equalisation ------------------------------> noise, level -> dry
           -> room -> equalisation -> all-pass cascade, delay ---> noise, level -> wet

Pair n is a function of the key and n alone, independent of the order of access.
"""

import operator
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from jaxapf._internal.allpass_response import numerators, response
from jaxapf._internal.delay import delay_response
from jaxapf._internal.fft import fast_length
from jaxapf._internal.rng import seed_words

__all__ = ["KNOWN", "Pairs", "Recipe", "SyntheticPair"]

SPEED_OF_SOUND = 343.0  # m / s
HIGHEST = 0.45  # of the rate, for a section's frequency
LOWEST_RATE = 1000.0  # of a pair
IMAGE_ORDER = 8  # reflections of an image source
TAPS = 8  # of the interpolator that puts a reflection between samples
MEMBRANE = np.array([1.0, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156, 3.501])  # modes of a drum head
Rng = np.random.Generator


class Recipe(NamedTuple):
    """What may happen to a pair, and how often; ranges are drawn from uniformly, or on a log scale.

    ``room``: share of pairs with two microphones in a room; of those ``opposite`` have them on either side of
    a drum, the wet one inverted; ``filtered``: share with all-pass sections, their number in ``sections``,
    ``cutoff_hz`` and ``q``; ``equalised``: share with a high-pass, a peak and a shelf on each side, up to
    ``gain_db``; ``delayed``: share, of those without a room, with a delay up to ``delay_ms`` of either sign;
    ``inverted``: share with the wet side inverted; ``noise_db``: level of the noise below the signal;
    ``level_db``: of the wet side against the dry one, up or down.
    """

    room: float = 0.65
    opposite: float = 0.25
    filtered: float = 0.5
    sections: tuple[int, int] = (1, 6)
    cutoff_hz: tuple[float, float] = (30.0, 16e3)
    q: tuple[float, float] = (0.2, 5.0)
    equalised: float = 0.8
    gain_db: float = 6.0
    delayed: float = 0.7
    delay_ms: float = 15.0
    inverted: float = 0.3
    noise_db: tuple[float, float] = (25.0, 90.0)
    level_db: float = 12.0


# Nothing but a cascade of six sections, a delay and a polarity: a pair whose answer is known.
KNOWN = Recipe(
    room=0.0,
    filtered=1.0,
    sections=(6, 6),
    cutoff_hz=(40.0, 12e3),
    q=(0.3, 4.0),
    equalised=0.0,
    delayed=1.0,
    delay_ms=5.0,
    inverted=0.5,
    noise_db=(60.0, 60.0),
    level_db=0.0,
)


class SyntheticPair(NamedTuple):
    """Two recordings and what was done between them, `Recipe` by `Recipe`.

    ``dry``, ``wet`` (n_samples,) float32; ``delay_samples`` of the direct sound, and ``polarity``;
    ``cutoff_hz``, ``q`` (n_sections,) of the all-pass cascade of the wet one.
    """

    dry: np.ndarray
    wet: np.ndarray
    delay_samples: float
    polarity: int
    cutoff_hz: np.ndarray
    q: np.ndarray


class Pairs:
    """An endless sequence of pairs, made on access: a source with `len` and `pairs[n]`, as Grain expects it.

    Pair n of `n_samples` at `fs` Hz is a function of n and the `key`: None, a JAX key, or whole numbers.
    `recipe` is what may happen to it. `sources` are mono recordings at `fs` (one-shots, loops), each (n,):
    every other pair is made from an excerpt of one of them; without them all are made from synthetic hits and
    patterns.

    Raises:
        ValueError: too few samples, a rate that is none, a source that is no mono signal, a position below 0.
        IndexError: a position at or beyond the length.

    Example:
        >>> pairs = Pairs(4096, 44100, key=1)
        >>> bool(np.all(pairs[5].wet == pairs[5].wet)), pairs[5].dry.shape, pairs[6].polarity in (-1, 1)
        (True, (4096,), True)
    """

    def __init__(
        self,
        n_samples: int,
        fs: float,
        *,
        key: Any = None,
        recipe: Recipe | None = None,
        sources: Sequence[np.ndarray] = (),
        length: int = 2**31 - 1,
    ) -> None:
        if n_samples < 64:
            raise ValueError(f"n_samples is {n_samples}; expected 64 or more.")
        if not (np.isfinite(fs) and fs >= LOWEST_RATE):
            raise ValueError(f"fs is {fs}; expected a sample rate of {LOWEST_RATE:g} Hz or more.")
        for number, source in enumerate(sources):
            if np.ndim(source) != 1 or not np.size(source):
                raise ValueError(
                    f"sources[{number}] has shape {np.shape(source)}; give mono signals, each (n_samples,)."
                )
            if not np.all(np.isfinite(source)):
                raise ValueError(f"sources[{number}] holds NaN or infinite samples; repair the recording.")
        self.n_samples, self.fs = n_samples, float(fs)
        self.words, self.recipe, self.length = seed_words(key), recipe or Recipe(), length
        self.sources = [np.asarray(source, np.float32) for source in sources]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> SyntheticPair:
        position = operator.index(position)
        if position < 0:
            raise ValueError(f"position is {position}; expected 0 or more.")
        if position >= self.length:
            raise IndexError(f"position is {position}; expected less than the length, {self.length}.")
        rng = np.random.default_rng([*self.words, position])
        return make_pair(rng, self._source(rng), self.fs, self.recipe)

    def __iter__(self) -> Iterator[SyntheticPair]:
        return (self[position] for position in range(self.length))

    def _source(self, rng: Rng) -> np.ndarray:
        if not self.sources or rng.random() < 0.5:
            return pattern(rng, self.n_samples, self.fs)
        source = self.sources[rng.integers(len(self.sources))]
        first = int(rng.integers(max(1, len(source) - self.n_samples // 2)))
        cut = source[first : first + self.n_samples]
        if float(np.max(np.abs(cut), initial=0.0)) < 1e-3 * float(np.max(np.abs(source))):
            cut = source[: self.n_samples]  # never all silent
        return np.pad(cut, (0, self.n_samples - len(cut)))


def pattern(rng: Rng, n_samples: int, fs: float) -> np.ndarray:
    """Return one hit (mostly) or several, (n_samples,) float32."""
    x = np.zeros(n_samples, np.float32)
    starts = [int(rng.uniform(0, 0.02) * fs)]
    if rng.random() < 0.25:
        starts += list(rng.integers(0, n_samples, rng.integers(1, 4)))
    for start in starts:
        hit = one_shot(rng, n_samples, fs)[: max(0, n_samples - start)]
        x[start : start + len(hit)] += hit * np.float32(10 ** rng.uniform(-0.6, 0))
    return x


# Hits


def one_shot(rng: Rng, n_samples: int, fs: float) -> np.ndarray:
    """Return a synthetic hit: a drum, snare, cymbal, bell or plucked string, (n_samples,) float32."""
    make = HITS[rng.choice(len(HITS), p=HIT_SHARES)]
    x = make(rng, n_samples, fs)
    attack = rng.uniform(0.0, 3e-3) * fs
    x[: int(attack)] *= np.linspace(0, 1, int(attack), dtype=np.float32)
    click = _noise(rng, n_samples, fs, rng.uniform(3e-4, 4e-3)) * np.float32(10 ** rng.uniform(-2.5, -0.5))
    x = x + click * np.max(np.abs(x), initial=1e-6)
    return (x / max(float(np.max(np.abs(x))), 1e-9)).astype(np.float32)


def _log_uniform(rng: Rng, low: float, high: float, size: Any = None) -> Any:
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def _modes(
    freqs_hz: np.ndarray, decays_s: np.ndarray, gains: np.ndarray, n: int, fs: float, rng: Rng, bend: float
) -> np.ndarray:
    """Return decaying sines, whose pitch falls by `bend` within some hundredths of a second."""
    t = np.arange(n, dtype=np.float32) / np.float32(fs)
    settle = np.float32(rng.uniform(0.01, 0.05))
    turns = t + np.float32(bend) * settle * (1 - np.exp(-t / settle))
    x = np.zeros(n, np.float32)
    for freq, decay, gain in zip(freqs_hz, decays_s, gains, strict=True):
        last = min(n, int(8 * decay * fs) + 1)
        phase = np.float32(2 * np.pi * freq) * turns[:last] + np.float32(rng.uniform(0, 2 * np.pi))
        x[:last] += np.float32(gain) * np.exp(-t[:last] / np.float32(decay)) * np.sin(phase)
    return x


def _noise(rng: Rng, n: int, fs: float, decay_s: float) -> np.ndarray:
    """Return noise that decays, in a random band."""
    import scipy  # commands that make no pairs need not wait for it

    last = min(n, int(8 * decay_s * fs) + 2)
    x = rng.standard_normal(last, np.float32) * np.exp(
        -np.arange(last, dtype=np.float32) / np.float32(decay_s * fs)
    )
    n_fft = fast_length(last)
    freqs = np.fft.rfftfreq(n_fft, 1 / fs).astype(np.float32) + 1
    low, high = _log_uniform(rng, 30, 6000), _log_uniform(rng, 2000, 20000)
    shape = 1 / (1 + (np.float32(low) / freqs) ** 2) / (1 + (freqs / np.float32(max(high, 2 * low))) ** 2)
    shaped = scipy.fft.irfft(scipy.fft.rfft(x, n_fft) * shape, n_fft)[:last]
    return np.pad(shaped / max(float(np.max(np.abs(shaped))), 1e-9), (0, n - last)).astype(np.float32)


def _drum(rng: Rng, n: int, fs: float) -> np.ndarray:
    count = int(rng.integers(2, len(MEMBRANE) + 1))
    base = _log_uniform(rng, 38, 420)
    freqs = base * MEMBRANE[:count] * rng.uniform(0.95, 1.05, count)
    decays = _log_uniform(rng, 0.03, 0.5) * (freqs / base) ** -rng.uniform(0.3, 1.5)
    gains = 10 ** (-rng.uniform(0.0, 0.25, count) * np.arange(count) - rng.uniform(0, 0.4, count))
    return _modes(freqs, decays, gains, n, fs, rng, bend=max(0.0, rng.uniform(-0.5, 2.0)))


def _snare(rng: Rng, n: int, fs: float) -> np.ndarray:
    body = _drum(rng, n, fs)
    wires = _noise(rng, n, fs, _log_uniform(rng, 0.03, 0.25))
    return body / max(float(np.max(np.abs(body))), 1e-9) + np.float32(10 ** rng.uniform(-1.0, 0.5)) * wires


def _metal(rng: Rng, n: int, fs: float) -> np.ndarray:
    count = int(rng.integers(6, 16))
    freqs = _log_uniform(rng, 300, 14e3, count)
    decays = _log_uniform(rng, 0.03, 0.6) * rng.uniform(0.3, 1.0, count)
    x = _modes(freqs, decays, rng.uniform(0.1, 1.0, count), n, fs, rng, 0.0)
    return x + np.float32(rng.uniform(0, 2)) * _noise(rng, n, fs, _log_uniform(rng, 0.02, 0.4))


def _bell(rng: Rng, n: int, fs: float) -> np.ndarray:
    count = int(rng.integers(1, 6))
    freqs = _log_uniform(rng, 150, 3000) * np.cumprod(np.append(1.0, rng.uniform(1.2, 2.3, count - 1)))
    freqs = np.minimum(freqs, 0.45 * fs)
    decays = _log_uniform(rng, 0.02, 0.4) * rng.uniform(0.4, 1.0, count)
    return _modes(freqs, decays, rng.uniform(0.2, 1.0, count), n, fs, rng, 0.0)


def _string(rng: Rng, n: int, fs: float) -> np.ndarray:
    base = _log_uniform(rng, 40, 600)
    count = int(min(rng.integers(6, 20), 0.4 * fs / base))
    partials = np.arange(1, count + 1)
    decays = _log_uniform(rng, 0.1, 1.0) / (1 + rng.uniform(0.02, 0.3) * partials)
    gains = np.abs(np.sin(np.pi * partials * rng.uniform(0.05, 0.5))) * partials ** -rng.uniform(0.3, 1.5)
    return _modes(base * partials, decays, gains, n, fs, rng, 0.0)


HITS = (_drum, _snare, _metal, _bell, _string)
HIT_SHARES = (0.4, 0.2, 0.12, 0.16, 0.12)


# What happens on the way


def make_pair(rng: Rng, source: np.ndarray, fs: float, recipe: Recipe) -> SyntheticPair:
    """Send a source (n_samples,) two ways, as `recipe` has it."""
    import scipy

    n = len(source)
    n_fft = fast_length(2 * n)
    tangent = np.tan(np.minimum(np.arange(n_fft // 2 + 1) * (np.pi / n_fft), 1.5707)).astype(np.float32)
    spectrum = scipy.fft.rfft(np.asarray(source, np.float32), n_fft)
    polarity = -1 if rng.random() < recipe.inverted else 1
    if rng.random() < recipe.room:
        opposite = rng.random() < recipe.opposite
        responses, delay = room(rng, n, fs, opposite=opposite)
        polarity = -1 if opposite else polarity
        paths = [scipy.fft.rfft(each, n_fft) for each in responses]
    else:
        delay = rng.uniform(-1, 1) * 1e-3 * recipe.delay_ms * fs if rng.random() < recipe.delayed else 0.0
        early, late = (max(0.0, -delay), max(0.0, delay))
        omega = 2 * np.pi / n_fft * np.arange(n_fft // 2 + 1)
        paths = [delay_response(samples, omega).astype(np.complex64) for samples in (early, late)]
    if rng.random() < recipe.equalised:
        paths = [path * _equaliser(rng, tangent, fs, recipe.gain_db) for path in paths]
    count = rng.integers(recipe.sections[0], recipe.sections[1] + 1) if rng.random() < recipe.filtered else 0
    highest = min(recipe.cutoff_hz[1], HIGHEST * fs)
    cutoff_hz = np.sort(_log_uniform(rng, min(recipe.cutoff_hz[0], highest), highest, count))
    q = _log_uniform(rng, *recipe.q, count)
    s = tangent / np.tan(np.pi * cutoff_hz / fs).astype(np.float32)[:, None]
    sections = response(*numerators(s, (1 / q).astype(np.float32)[:, None], np.float32(1)))
    paths[1] = np.float32(polarity) * paths[1] * sections
    signals = [np.asarray(scipy.fft.irfft(spectrum * path, n_fft)[:n], np.float32) for path in paths]
    level = 10 ** (rng.uniform(-1, 1) * recipe.level_db / 20)
    dry, wet = (_with_noise(rng, x, recipe.noise_db) for x in signals)
    return SyntheticPair(dry, (level * wet).astype(np.float32), float(delay), polarity, cutoff_hz, q)


def _with_noise(rng: Rng, x: np.ndarray, below_db: tuple[float, float]) -> np.ndarray:
    """Return the signal at a peak of 0.5 with white noise, so many dB below the signal's energy."""
    x = x * np.float32(0.5 / max(float(np.max(np.abs(x))), 1e-9))
    rms = float(np.sqrt(np.mean(x * x)))
    return x + rng.standard_normal(len(x), np.float32) * np.float32(
        rms * 10 ** (-rng.uniform(*below_db) / 20)
    )


def _equaliser(rng: Rng, tangent: np.ndarray, fs: float, gain_db: float) -> np.ndarray:
    """Return the response of a microphone's high-pass, peak and high shelf (audio-EQ cookbook)."""

    def over(cutoff_hz: float) -> np.ndarray:
        return 1j * (tangent / np.float32(np.tan(np.pi * min(cutoff_hz, HIGHEST * fs) / fs)))

    s, damping = over(_log_uniform(rng, 15, 120)), 1 / rng.uniform(0.5, 1.0)
    response = s * s / (s * s + damping * s + 1)
    s, width = over(_log_uniform(rng, 200, 9000)), 1 / _log_uniform(rng, 0.4, 2.0)
    gain = 10 ** (rng.uniform(-1, 1) * gain_db / 40)
    response = response * (s * s + gain * width * s + 1) / (s * s + width / gain * s + 1)
    s, gain = over(_log_uniform(rng, 2000, 14e3)), 10 ** (rng.uniform(-1, 1) * gain_db / 20)
    return (response * (1 + gain * s) / (1 + s)).astype(np.complex64)


# Rooms


@lru_cache(maxsize=4)
def _images(order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return signs (k, 3), cells (k, 3) and numbers of reflections (k,) of the images in a shoe box.

    Along each axis an image lies at (1 - 2 u) x + 2 n L, after |n - u| + |n| reflections (Allen and Berkley
    1979, "Image method for efficiently simulating small-room acoustics").
    """
    cells = np.arange(-order, order + 1)
    axis = [(u, n, abs(n - u) + abs(n)) for u in (0, 1) for n in cells if abs(n - u) + abs(n) <= order]
    u, n, count = np.array(axis).T
    index = np.indices((len(u),) * 3).reshape(3, -1).T  # of the image along each axis
    index = index[count[index].sum(axis=1) <= order]
    return 1.0 - 2 * u[index], 2.0 * n[index], count[index].sum(axis=1)


def room(rng: Rng, n: int, fs: float, *, opposite: bool) -> tuple[list[np.ndarray], float]:
    """Return impulse responses (n,) from a source to two microphones in a room, and their delay in samples.

    `opposite`: both microphones close to the source, on either side; else one close and one farther away.
    """
    size = np.array([rng.uniform(2.5, 8), rng.uniform(2.2, 6), rng.uniform(2.1, 3.8)])
    wall = float(np.sqrt(1 - rng.uniform(0.15, 0.8)))
    source = np.array([*(rng.uniform(0.3, 0.7, 2) * size[:2]), rng.uniform(0.25, 1.0)])
    above = _direction(rng)
    near = source + above * _log_uniform(rng, 0.04, 0.4)
    if opposite:
        far = source - (above + 0.3 * rng.standard_normal(3)) * _log_uniform(rng, 0.04, 0.4)
    else:
        far = source + _direction(rng) * rng.uniform(0.3, 2.5)
    microphones = [np.clip(place, 0.1, size - 0.1) for place in (near, far)]
    distances = [max(float(np.linalg.norm(place - source)), 0.02) for place in microphones]
    # The common way costs samples without a warning.
    start = min(distances) / SPEED_OF_SOUND * fs - TAPS
    signs, cells, count = _images(IMAGE_ORDER)
    responses = []
    for place in microphones:
        away = np.linalg.norm(signs * source + cells * size - place, axis=1)
        gains = wall**count / np.maximum(away, 0.02)
        responses.append(_scattered(away / SPEED_OF_SOUND * fs - start, gains * min(distances), n))
    if rng.random() < 0.5:
        responses = [response + _tail(rng, n, fs) * np.max(np.abs(response)) for response in responses]
    return responses, (distances[1] - distances[0]) / SPEED_OF_SOUND * fs


def _direction(rng: Rng) -> np.ndarray:
    """Return a unit vector, more often to the side than straight up or down."""
    vector = rng.standard_normal(3) * np.array([1.0, 1.0, 0.7])
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def _scattered(times: np.ndarray, gains: np.ndarray, n: int) -> np.ndarray:
    """Return impulses at fractional times, each a short windowed sinc, (n,) float32."""
    offsets = np.arange(-(TAPS // 2) + 1, TAPS // 2 + 1)
    whole = np.floor(times).astype(int)
    distance = offsets[None] - (times - whole)[:, None]
    taps = np.sinc(distance) * np.cos(np.pi / TAPS * distance) ** 2
    places = whole[:, None] + offsets[None]
    inside = (places >= 0) & (places < n)
    return np.bincount(places[inside], (taps * gains[:, None])[inside], minlength=n).astype(np.float32)


def _tail(rng: Rng, n: int, fs: float) -> np.ndarray:
    """Return the decaying noise behind the images, different at each microphone."""
    decay = np.float32(_log_uniform(rng, 0.02, 0.12) * fs)
    gain = np.float32(10 ** rng.uniform(-3.0, -1.8))
    return gain * rng.standard_normal(n, np.float32) * np.exp(-np.arange(n, dtype=np.float32) / decay)
