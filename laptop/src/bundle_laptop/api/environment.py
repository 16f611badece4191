"""The environment of processes that talk to the laptop's workspace API as if to a workspace."""

import os

from bundle_laptop.world import without_proxy

_UNSET = (
    "ARM_CLIENT_ID",
    "ARM_CLIENT_SECRET",
    "ARM_ENVIRONMENT",
    "ARM_TENANT_ID",
    "ARM_USE_MSI",
    "DATABRICKS_ACCOUNT_ID",
    "DATABRICKS_AZURE_RESOURCE_ID",
    "DATABRICKS_CLIENT_ID",
    "DATABRICKS_CLIENT_SECRET",
    "DATABRICKS_CLOUD",
    "DATABRICKS_CLUSTER_ID",
    "DATABRICKS_CONFIG_PROFILE",
    "DATABRICKS_DISCOVERY_URL",
    "DATABRICKS_GOOGLE_SERVICE_ACCOUNT",
    "DATABRICKS_GROUP_ID",
    "DATABRICKS_METADATA_SERVICE_URL",
    "DATABRICKS_OIDC_TOKEN_ENV",
    "DATABRICKS_OIDC_TOKEN_FILE",
    "DATABRICKS_OIDC_TOKEN_FILEPATH",
    "DATABRICKS_PASSWORD",
    "DATABRICKS_SERVERLESS_COMPUTE_ID",
    "DATABRICKS_TOKEN_AUDIENCE",
    "DATABRICKS_USERNAME",
    "DATABRICKS_WAREHOUSE_ID",
    "DATABRICKS_WORKSPACE_ID",
    "GOOGLE_CREDENTIALS",
)


def environment(address: str) -> dict[str, str | None]:
    """Variables that make `WorkspaceClient()` talk to `address` and to nothing else; None: unset it.

    A person's own sign-in, profile and cluster stay out of it: the configuration file is an empty one, and the kind of
    sign-in is given. Loopback never goes through a proxy: NO_PROXY and no_proxy keep what they have and gain loopback.
    """
    none: dict[str, str | None] = dict.fromkeys(_UNSET)
    return none | {
        "DATABRICKS_HOST": address,
        "DATABRICKS_TOKEN": "local",
        "DATABRICKS_AUTH_TYPE": "pat",
        "DATABRICKS_CONFIG_FILE": os.devnull,
        **without_proxy(),
    }
