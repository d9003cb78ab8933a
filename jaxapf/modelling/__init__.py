"""Learn an effect from a dry and a wet recording: a phaser or a compressor, stored as one model."""
