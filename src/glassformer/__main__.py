"""``python -m glassformer`` is the same as ``glassformer``."""

from glassformer.cli import main

if __name__ == "__main__":
    main()
