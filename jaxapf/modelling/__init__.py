"""Fit models of effects to pairs of recordings, dry and wet, and run them on others."""
