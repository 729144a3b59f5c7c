"""``python -m xclimb``: the command line."""

from xclimb.cli import main

if __name__ == "__main__":
    main()
