"""What there is in a world, for people."""

import json
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bundle_laptop.api.endpoints_api import Config
from bundle_laptop.results import duration

_LAST = 10


def show(folder: Path, console: Console) -> None:
    """Print the last runs, the endpoints and the tables."""
    runs = Table("Run", "Job", "State", "Started (UTC)", "Duration", title="Last runs", title_justify="left")
    for file in sorted((folder / "api" / "runs").glob("*.json"))[-_LAST:]:
        run = json.loads(file.read_text(encoding="utf-8"))
        started = datetime.fromtimestamp(run["start_time"] / 1000, UTC)
        seconds = (run["end_time"] - run["start_time"]) / 1000
        name, state = run["run_name"], run["state"]["result_state"]
        runs.add_row(str(run["run_id"]), name, state, f"{started:%Y-%m-%d %H:%M:%S}", duration(seconds))
    console.print(runs)
    columns = ("Endpoint", "Served entity", "Model", "Version", "Traffic %")
    endpoints = Table(*columns, title="Endpoints", title_justify="left")
    file = folder / "api" / "endpoints.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name, config in [(name, its["config"]) for name, its in known.items() if its.get("config")]:
        serving = Config.model_validate(config)
        for entity in serving.served_entities:
            share = str(serving.shares[entity.name])
            endpoints.add_row(name, entity.name, entity.entity_name, entity.entity_version, share)
    console.print(endpoints)
    tables = Table("Table", "Commits", "Files", "MB", title="Tables", title_justify="left")
    warehouse = folder / "warehouse"
    for log in sorted([*warehouse.glob("*.db/*/_delta_log"), *warehouse.glob("*/_delta_log")]):
        table = log.parent
        files = list(table.rglob("*.parquet"))
        size = sum(each.stat().st_size for each in files) / 1e6
        schema = table.parent.name.removesuffix(".db") if table.parent != warehouse else "default"
        name = f"spark_catalog.{schema}.{table.name}"
        tables.add_row(name, str(len(list(log.glob("*.json")))), str(len(files)), f"{size:,.1f}")
    console.print(tables)
