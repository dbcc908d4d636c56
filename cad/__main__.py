"""`python -m cad` is the `cad` command."""

from cad.cli.main import main

if __name__ == "__main__":
    main()
