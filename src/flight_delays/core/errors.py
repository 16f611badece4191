"""The one error that people are meant to read."""


class UserError(Exception):
    """What is wrong and how to fix it, in one line; the command line prints it alone and exits with 2."""
