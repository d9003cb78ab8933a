"""What `align` accepts, and when its result is doubtful; imports nothing: it is used before JAX starts."""

__all__ = ["MAX_ORDER", "METHODS", "MIN_CORRELATION", "doubt"]

METHODS = ("auto", "spectral", "direct", "biasnet-sequential", "biasnet-connected", "tcn")
MAX_ORDER = 32
MIN_CORRELATION = 0.2  # of recordings of one performance, once they are aligned


def doubt(correlation: float | None) -> str:
    """Return a doubt about recordings that have this correlation after aligning, "" where there is none."""
    if correlation is None or correlation >= MIN_CORRELATION:
        return ""
    return (
        f"after aligning the files still hardly agree (correlation {correlation:.3f}); "
        "are they the same performance?"
    )
