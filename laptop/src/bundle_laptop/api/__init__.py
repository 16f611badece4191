"""The workspace API on loopback, and faults to inject into it."""

from bundle_laptop.api.faults import Fault, Faults, Served
from bundle_laptop.api.workspace import running_address, serve_workspace
from bundle_laptop.world import environment

__all__ = ["Fault", "Faults", "Served", "environment", "running_address", "serve_workspace"]
