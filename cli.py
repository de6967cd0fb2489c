"""Run ``tllboost`` from a checkout, as in ``python cli.py list``; not shipped."""

from tllboost.cli import main

if __name__ == "__main__":
    main()
