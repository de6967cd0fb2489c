"""``python -m tllboost``: the same as the command ``tllboost``."""

from tllboost.cli import main

if __name__ == "__main__":
    main()
