"""``python -m respin``: the same as the ``respin`` command."""

from respin.cli import main

if __name__ == "__main__":
    main()
