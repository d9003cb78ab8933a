"""Audio effects as pure functions, `(controls, state, x, fs) -> (y, state)`, one module each.

chain           effects by name, one after the other
compressor      feed-forward dynamic range compressor
distortion      tanh drive, oversampled
equalizer       low shelf, four peaks, high shelf
expander        downward expander, up to a gate
gain            a factor
panner          one channel to two at constant power
phaser          all-passes that an oscillator sweeps, in a feedback loop
reverb          noise in octave bands, each with its decay
synth           subtractive synthesiser with a low-pass that moves
width           more or less of what differs between left and right

Each streams; where it has a recursion it has two forms with the same controls: exact, and an approximation by
frequency sampling (`..._sampled`), as earlier libraries train with.
"""
