"""The one kind of error that a person can fix."""


class LaptopError(Exception):
    """One line: what is wrong and how to fix it. The command line prints it and exits with 2."""
