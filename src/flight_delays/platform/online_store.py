"""The online store: tables that the workspace syncs."""

import time
from collections.abc import Callable

from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidState, NotFound, ResourceConflict
from databricks.sdk.service.pipelines import UpdateInfoState

from flight_delays.core.errors import UserError
from flight_delays.platform.sdk_errors import REFUSED, one_line

LIMIT_S, _WAIT_S = 1500, 5.0  # less than the task may take, so that it ends in one line


def refresh(
    client: WorkspaceClient,
    synced_table: str,
    *,
    progress: Callable[[str], None],
    limit_s: float = LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Start the pipeline of a synced table and wait until it is done.

    An update under way is waited for: it may have begun before the table's newest rows were written. Throttling, server
    errors and time-outs are tried again until `limit_s` has passed. Raises UserError for what remains.
    """
    deadline, pipeline, update, told = clock() + limit_s, "", "", ""

    def failed(why: str) -> UserError:
        return UserError(f"{synced_table} is not refreshed: {why}")

    while True:
        try:
            if not pipeline:
                status = client.postgres.get_synced_table(f"synced_tables/{synced_table}").status
                pipeline = (status.pipeline_id if status else None) or ""
            if not pipeline:
                state = "its pipeline is being made"
            elif not update:
                update, state = client.pipelines.start_update(pipeline).update_id or "", "the update was started"
            else:
                found = client.pipelines.get_update(pipeline, update).update
                match found.state if found else None:
                    case UpdateInfoState.COMPLETED:
                        return
                    case UpdateInfoState.FAILED | UpdateInfoState.CANCELED as end:
                        raise failed(
                            f"update {update} of pipeline {pipeline} {end.value}; see its page, then run it again"
                        )
                    case now:
                        state = f"the update is {now.value if now else 'not known yet'}"
        except (ResourceConflict, InvalidState):
            state = "another update is under way"
        except REFUSED as error:
            fix = (
                "deploy the bundle with online_database: ${var.lakebase}" if isinstance(error, NotFound) else "fix that"
            )
            raise failed(f"{one_line(error)}; {fix}, then run it again") from error
        except OSError as error:
            state = one_line(error)
        if state != told:
            progress(f"{synced_table}: {state}")
            told = state
        if clock() + _WAIT_S > deadline:
            raise failed(f"{state} (waited for {limit_s:g} s); run it again")
        sleep(_WAIT_S)
