"""Audio effects as pure functions, `(controls, state, x, fs) -> (y, state)`, one module each.

compressor      feed-forward dynamic range compressor
phaser          all-passes that an oscillator sweeps, in a feedback loop
synth           subtractive synthesiser with a low-pass that moves

Each has two forms with the same controls: exact recursion, which streams, and an approximation by frequency
sampling (`..._sampled`), as earlier libraries train with.
"""
