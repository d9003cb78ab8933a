"""Audio effects as pure functions: `(controls, state, x, fs) -> (y, state)`, one module each.

compressor      feed-forward dynamic range compressor
"""
