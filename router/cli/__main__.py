"""`python -m router.cli` is `parsimony`."""

from router.cli.app import main

if __name__ == "__main__":
    main()
