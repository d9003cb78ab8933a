"""`python -m jaxapf` and the console script."""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `jaxapf` with the arguments after its name, by default those of the process.

    Returns 0 done; 1 an error inside jaxapf; 2 wrong use or unusable files; 130 interrupted, 143 terminated.

    Example:
        >>> main(["info", "missing.wav"])
        2
    """
    try:
        # Inside, so that Ctrl-C during these imports is answered in one line as well.
        from jaxapf import cli
    except (KeyboardInterrupt, ImportError) as error:
        # NumPy reports an interrupt of its imports as a failed import.
        causes = [error, error.__cause__, error.__context__]
        if not any(isinstance(cause, KeyboardInterrupt) for cause in causes):
            raise
        print("jaxapf: interrupted", file=sys.stderr)
        return 130
    return cli.main(argv)


if __name__ == "__main__":
    sys.exit(main())
