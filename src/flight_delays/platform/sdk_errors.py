"""What databricks-sdk raises: what a retry does not fix, and in one line what it says."""

from textwrap import shorten

from databricks.sdk.errors import BadRequest, NotFound, PermissionDenied, Unauthenticated

REFUSED = (BadRequest, NotFound, PermissionDenied, Unauthenticated)
"""Errors that a retry does not fix. Every other one, and a connection that fails, may be gone the next time."""


def one_line(error: Exception) -> str:
    """What an error says. A time-out of the SDK says only how long; its cause says what was in the way."""
    return shorten(str(error.__cause__ or error) or type(error).__name__, 300)
