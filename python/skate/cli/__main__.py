"""`python -m skate.cli`."""

from skate.cli import main

if __name__ == "__main__":
    main()
