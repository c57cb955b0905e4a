"""``python -m featstore.cli``: the same as the command ``featstore``."""

from featstore.cli.entry import main

if __name__ == "__main__":
    main()
