"""What there is in a world, for people."""

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bundle_laptop.api.endpoints_api import Config
from bundle_laptop.api.state import StateFile, read_json
from bundle_laptop.results import duration
from bundle_laptop.world import tables_in

_LAST = 10


def show(folder: Path, console: Console) -> None:
    """Print the last runs, the endpoints and the tables."""
    runs = Table("Run", "Job", "State", "Started (UTC)", "Duration", title="Last runs", title_justify="left")
    for file in sorted((folder / "api" / "runs").glob("*.json"))[-_LAST:]:
        run = read_json(file)
        started = datetime.fromtimestamp(run["start_time"] / 1000, UTC)
        seconds = (run["end_time"] - run["start_time"]) / 1000
        name, state = run["run_name"], run["state"]["result_state"]
        runs.add_row(str(run["run_id"]), name, state, f"{started:%Y-%m-%d %H:%M:%S}", duration(seconds))
    columns = ("Endpoint", "Served entity", "Model", "Version", "Traffic %")
    endpoints = Table(*columns, title="Endpoints", title_justify="left")
    for name, endpoint in StateFile(folder / "api" / "endpoints.json", "serving endpoint").read().items():
        config = Config.model_validate(endpoint["config"]) if endpoint.get("config") else None
        for entity in config.served_entities if config else ():
            share = str(config.shares[entity.name]) if config else ""
            endpoints.add_row(name, entity.name, entity.entity_name, entity.entity_version, share)
    tables = Table("Table", "Commits", "Files", "MB", title="Tables", title_justify="left")
    for schema, table in tables_in(folder):
        files = [file.stat().st_size for file in table.rglob("*.parquet")]
        commits, size = len(list((table / "_delta_log").glob("*.json"))), sum(files) / 1e6
        tables.add_row(f"spark_catalog.{schema}.{table.name}", str(commits), str(len(files)), f"{size:,.1f}")
    console.print(runs, endpoints, tables)
