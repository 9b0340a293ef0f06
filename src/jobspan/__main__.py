"""``python -m jobspan``: the command where no script of that name is on the path."""

from jobspan.cli.start import main

if __name__ == "__main__":
    main()
