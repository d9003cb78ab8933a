"""Encoders of log-mel spectrograms: of a note, to synthesiser controls, and of any sound, to its style."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxapf._internal.arrays import Values, with_rank
from jaxapf.audio.mel import mel_filterbank
from jaxapf.frequency import Resolution, stft

__all__ = [
    "FLOOR",
    "CurveReader",
    "Encoder",
    "StyleController",
    "StyleEncoder",
    "log_mel",
    "mel_filterbank",
]

FLOOR = 1e-7  # of power: bands below -70 dB count as silent
_SMALL = nn.initializers.normal(0.01)  # initial controls are in the middle of their ranges


class Encoder(nn.Module):
    """Convolutions over bands and frames, pooled over bands: outputs for each frame and for the whole note.

    A block is convolution, maximum over neighbouring bands, and PReLU; the time axis keeps its length. Before
    every convolution but the first the channels are normalised to mean 0 and variance 1 over bands and frames
    (not before the first, so that the level can be estimated). The mean over the remaining bands goes through
    one dense layer to the `modulations` of each frame; its mean over time goes through a small network for
    each of the `controls` of the whole note. The `kernel` has taps over bands and frames; `dilations` (over
    frames) and `pools` (bands of a maximum) have one entry a block.

    Source: Yu et al. 2024, section 4.2, and the authors' released configuration, without its dropout before
    the global controls, so that a training step has no randomness.

    Example:
        >>> net = Encoder(modulations=5, controls=4)
        >>> forward = net.init_with_output  # shapes alone: nothing is computed
        >>> outputs, weights = jax.eval_shape(forward, jax.random.key(0), jnp.zeros((2, 128, 9)))
        >>> outputs[0].shape, outputs[1].shape, sum(leaf.size for leaf in jax.tree.leaves(weights))
        ((2, 9, 5), (2, 4), 728713)
    """

    modulations: int
    controls: int
    channels: int = 64
    kernel: tuple[int, int] = (5, 7)
    dilations: Sequence[int] = (1, 1, 2, 4, 8, 16)
    pools: Sequence[int] = (2, 2, 2, 2, 2, 2)

    @nn.compact
    def __call__(self, spectrogram: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the modulation (..., n_frames, modulations), real, and controls (..., controls) in (0, 1).

        The spectrogram is (..., n_mels, n_frames), its values of order one: see `log_mel`.
        """
        _require_spectrogram(spectrogram)
        if len(self.dilations) != len(self.pools):
            raise ValueError(f"dilations has {len(self.dilations)} entries and pools {len(self.pools)}.")
        x = spectrogram[..., None]
        for block, (dilation, pool) in enumerate(zip(self.dilations, self.pools, strict=True)):
            x = x if block == 0 else _normalised(x)
            x = nn.Conv(self.channels, self.kernel, kernel_dilation=(1, dilation))(x)
            x = self._prelu(_pooled(x, pool), f"slope_{block}")
        latent = jnp.mean(x, axis=-3)
        modulation = nn.Dense(self.modulations)(latent)
        mean = jnp.mean(latent, axis=-2)
        heads = [self._head(mean, index) for index in range(self.controls)]
        return modulation, jnp.concatenate(heads, axis=-1) if heads else mean[..., :0]

    def _head(self, mean: jax.Array, index: int) -> jax.Array:
        x = self._prelu(nn.Dense(self.channels // 2)(mean), f"slope_of_control_{index}")
        return nn.sigmoid(nn.Dense(1)(x))

    def _prelu(self, x: jax.Array, name: str) -> jax.Array:
        slope = self.param(name, nn.initializers.constant(0.25), (x.shape[-1],), jnp.float32)
        return jnp.where(x >= 0, x, x * with_rank(slope, x.ndim))


class StyleEncoder(nn.Module):
    """Embedding of the style of a sound of any length.

    Bands are channels. One dense layer and residual convolutions over time, dilated layer by layer, with
    layer normalisation before each; then mean and standard deviation over time, of the output and of the
    bands themselves, and the mean power of the bands.

    Source: after Steinmetz et al. 2022, arXiv 2207.08759, section 4.1, with far fewer parameters and with
    statistics in place of the mean alone: equaliser and compressor change levels and their spread.

    Example:
        >>> forward = StyleEncoder(channels=8).init_with_output  # shapes alone: nothing is computed
        >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros((2, 80, 9)))[0].shape  # 3 x 80 + 2 x 8
        (2, 256)
    """

    channels: int = 128
    dilations: Sequence[int] = (1, 2, 4)
    kernel: int = 5

    @nn.compact
    def __call__(self, spectrogram: jax.Array) -> jax.Array:
        """Return the embedding (..., n) of a spectrogram (..., n_mels, n_frames) of `log_mel`."""
        _require_spectrogram(spectrogram)
        bands = jnp.swapaxes(spectrogram + 5, -1, -2) / 2  # of order one
        x = nn.Dense(self.channels)(bands)
        for dilation in self.dilations:
            change = nn.gelu(nn.LayerNorm()(x))
            x = x + nn.Conv(self.channels, (self.kernel,), kernel_dilation=(dilation,))(change)
        power = jnp.log10(jnp.mean(10 ** (2 * bands), axis=-2)) / 2
        return jnp.concatenate([power, _statistics(bands), _statistics(nn.gelu(nn.LayerNorm()(x)))], axis=-1)


class CurveReader(nn.Module):
    """Raw controls of an equaliser, from its target curve, by a perceptron of these hidden widths.

    Example:
        >>> forward = CurveReader(controls=18, hidden=(8,)).init_with_output
        >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros((2, 80)))[0].shape
        (2, 18)
    """

    controls: int
    hidden: Sequence[int] = (512, 512, 256)

    @nn.compact
    def __call__(self, curve_db: jax.Array) -> jax.Array:
        """Return raw controls (..., controls) in (-1, 1) for a curve (..., n_mels) of any level."""
        x = (curve_db - jnp.mean(curve_db, axis=-1, keepdims=True)) / 10
        for width in self.hidden:
            x = nn.gelu(nn.Dense(width)(x))
        return 2 * nn.sigmoid(nn.Dense(self.controls, kernel_init=_SMALL)(x)) - 1


class StyleController(nn.Module):
    """Controls for the style of a reference: one encoder of all sounds, perceptrons on its embeddings.

    The controls of the `equalizer` follow from a curve: the difference of the average spectra, the
    equaliser's present curve, and a learnt correction. Those of the `dynamics` are a perceptron's own. Given
    its previous controls and their result, the network refines them. `hidden` are widths of the perceptron,
    the others belong to the `StyleEncoder`.

    Source: Steinmetz et al. 2022, sections 4.1 and 4.2 (shared encoder, controller with a sigmoid); the curve
    and the refinement are ours.

    Example:
        >>> net = StyleController(equalizer=18, dynamics=6, channels=8)
        >>> x, curve, controls = jnp.zeros((2, 80, 9)), jnp.zeros((2, 80)), jnp.zeros((2, 24))
        >>> forward = net.init_with_output  # shapes alone: nothing is computed
        >>> jax.eval_shape(forward, jax.random.key(0), x, x, x, curve, controls)[0].shape
        (2, 24)
    """

    equalizer: int
    dynamics: int
    channels: int = 64
    dilations: Sequence[int] = (1, 2, 4)
    kernel: int = 3
    hidden: Sequence[int] = (512, 256)

    @nn.compact
    def __call__(
        self,
        source: jax.Array,
        reference: jax.Array,
        result: jax.Array,
        curve_db: jax.Array,
        controls: jax.Array,
    ) -> jax.Array:
        """Return raw controls (..., equalizer + dynamics) in (-1, 1), those of the equaliser first.

        Spectrograms (..., n_mels, n_frames) of the source, the reference, and the source processed with the
        previous ``controls`` (..., n_controls), whose equaliser has the curve ``curve_db`` (..., n_mels); at
        first the source again, and zeros.
        """
        encoder = StyleEncoder(self.channels, self.dilations, self.kernel)
        before, target, now = encoder(source), encoder(reference), encoder(result)
        target_db = curve_db + _level_db(reference) - _level_db(result)
        embeddings = [before, target, target - now, now - before]
        x = jnp.concatenate([*embeddings, controls, target_db / 10], axis=-1)
        for width in self.hidden:
            x = nn.gelu(nn.Dense(width)(x))
        target_db = target_db + 10 * nn.Dense(target_db.shape[-1], kernel_init=_SMALL)(x)
        equalizer = CurveReader(self.equalizer, name="reader")(target_db)
        dynamics = 2 * nn.sigmoid(nn.Dense(self.dynamics, kernel_init=_SMALL)(x)) - 1
        return jnp.concatenate([equalizer, dynamics], axis=-1)


def _require_spectrogram(x: jax.Array) -> None:
    if jnp.ndim(x) < 2:
        raise ValueError(f"spectrogram has shape {jnp.shape(x)}; expected (..., n_mels, n_frames).")


def _level_db(spectrogram: jax.Array) -> jax.Array:
    """Return the level in dB of each band by the mean sixth root of power, robust to pauses and peaks."""
    return 60 * jnp.log10(jnp.mean(10 ** (spectrogram / 6), axis=-1))


def _statistics(x: jax.Array) -> jax.Array:
    """Return mean and standard deviation over frames, (..., n_frames, n) -> (..., 2 n)."""
    mean = jnp.mean(x, axis=-2)
    variance = jnp.mean((x - mean[..., None, :]) ** 2, axis=-2)
    return jnp.concatenate([mean, jnp.sqrt(variance + 1e-4)], axis=-1)


def _normalised(x: jax.Array) -> jax.Array:
    """Normalise each channel of each example by its mean and variance over bands and frames."""
    mean = jnp.mean(x, axis=(-3, -2), keepdims=True)
    variance = jnp.mean((x - mean) ** 2, axis=(-3, -2), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5)


def _pooled(x: jax.Array, pool: int) -> jax.Array:
    """Return the maximum over groups of neighbouring bands, without an incomplete last group."""
    if x.shape[-3] < pool:
        raise ValueError(
            f"pools has a maximum over {pool} bands where {x.shape[-3]} of the spectrogram remain."
        )
    n_bands = x.shape[-3] // pool
    x = x[..., : n_bands * pool, :, :]
    return jnp.max(x.reshape(*x.shape[:-3], n_bands, pool, *x.shape[-2:]), axis=-3)


def log_mel(
    x: Values, fs: float, *, hop: int, n_fft: int = 1024, n_mels: int = 128, floor: float = FLOOR
) -> jax.Array:
    """Return a log-mel spectrogram, the decimal logarithm of the power in each band.

    It is (..., n_mels, 1 + n_samples // hop), frame k centred on sample `k * hop`: 0 for a sine of amplitude
    one on the band's peak, whose power is shared by the Hann window's neighbouring bins, and -7 for silence,
    as `floor` is the least power. `n_fft` is the length of transform and window; shorter signals than half of
    it raise ValueError.

    Example:
        >>> log_mel(jnp.zeros(2048), 48000.0, hop=512).shape
        (128, 5)
    """
    spectrum = stft(x, Resolution(n_fft, hop, n_fft)) * (4 / n_fft)
    power = jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2
    bands = jnp.asarray(mel_filterbank(n_mels, n_fft, fs), power.dtype)
    return jnp.log10(jnp.maximum(jnp.einsum("mk,...tk->...mt", bands, power), floor))
