"""Learn an effect from a dry and a wet recording: the controls of a phaser or a compressor, stored as one model."""
