"""`python -m moola` is the `moola` command."""

from moola.cli import main

if __name__ == "__main__":
    main()
