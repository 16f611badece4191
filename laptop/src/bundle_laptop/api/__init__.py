"""The workspace API on loopback, and faults to inject into it."""

from bundle_laptop.api.environment import environment
from bundle_laptop.api.faults import Fault, Faults, Served
from bundle_laptop.api.state import running_address
from bundle_laptop.api.synced_tables import SyncedTable
from bundle_laptop.api.workspace import serve_workspace

__all__ = ["Fault", "Faults", "Served", "SyncedTable", "environment", "running_address", "serve_workspace"]
