"""What `databricks.sdk.runtime` looks for: in a workspace the runtime has it, on a laptop this folder of the world."""

from bundle_laptop.dbutils import namespace


class UserNamespaceInitializer:
    """Gives what a notebook finds in its namespace."""

    @classmethod
    def getOrCreate(cls) -> "UserNamespaceInitializer":  # noqa: N802
        """One of it."""
        return cls()

    def get_namespace_globals(self) -> dict[str, object]:
        """By name: dbutils, display, spark, sql, table."""
        return namespace()
