"""Audio effects as pure functions, `(controls, state, x, fs) -> (y, state)`, one module each.

chain           effects by name, in series
compressor      feed-forward dynamic range compressor
distortion      tanh drive, oversampled
equalizer       low shelf, four peaks, high shelf
expander        downward expander, up to a gate
gain            a factor
gradients       five strategies for gradients through effects, also those outside JAX
modelling       effects learnt from a dry and a wet recording
panner          one channel to two at constant power
phaser          all-passes that an oscillator sweeps, in a feedback loop
proxies         trained networks in place of effects
reverb          noise in octave bands, each with its decay
style           style transfer: a network that sets equaliser and compressor
synth           subtractive synthesiser with a low-pass that moves
width           more or less of the difference between left and right

Signals are (..., n_samples), any number of samples at `fs` Hz; controls are numbers or (...), broadcast
against the batch axes. A state is that of `initial_state(batch)`, silence, or what the chunk before returned:
whole = chunks. The output has the dtype of `x`. Where an effect has a recursion it has two forms with the
same controls: exact, with gradients by all controls, the state and the signal, and an approximation by
frequency sampling (`..._sampled`) from zero initial state, as earlier libraries train with. All raise
ValueError for a known control out of its range, an unknown option, and shapes that do not fit.
"""

# pyright: reportUnsupportedDunderAll=false

from __future__ import annotations

from jaxapf._internal.lazy import loader

__all__ = [
    "chain",
    "compressor",
    "distortion",
    "equalizer",
    "expander",
    "gain",
    "gradients",
    "modelling",
    "panner",
    "phaser",
    "proxies",
    "reverb",
    "style",
    "synth",
    "width",
]

# Loaded on first use: most programs need one or two of them.
__getattr__ = loader(__name__, {name: name for name in __all__})
