"""The `moola` command, also as `python -m moola`."""

import sys

__all__ = ["main"]


def main() -> None:
    """The console script. Imports only once it can answer Ctrl-C."""
    try:
        from moola.cli import run
    except KeyboardInterrupt:
        print("error: interrupted: nothing unfinished is left behind", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
