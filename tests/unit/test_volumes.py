"""A folder of a volume: the same by its path and by the Files API."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contexts import Time, client_at, have_databricks_connect

from bundle_laptop.api import serve_workspace
from bundle_laptop.pytest_plugin import LaptopWorkspace
from flight_delays.core.errors import UserError
from flight_delays.platform.volumes import Folder, folder

VOLUME = "/Volumes/main/flights/checkpoints"
CHECKPOINT = f"{VOLUME}/score_stream"
NAMES = ("metadata", *(f"offsets/{number}" for number in range(5)), "sources/0/1")
Reach = Callable[..., Folder]


@pytest.fixture
def volume(laptop_workspace: LaptopWorkspace) -> Path:
    """With two checkpoints."""
    there = laptop_workspace.folder / "volumes/main/flights/checkpoints"
    for checkpoint in ("score_stream", "other"):
        for name in NAMES:
            file = there / checkpoint / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{checkpoint} {name} é")
    return there


def files(volume: Path) -> list[str]:
    return sorted(str(path.relative_to(volume)) for path in volume.rglob("*"))


@pytest.fixture(params=["mounted", "workspace"])
def reach(volume: Path, laptop_workspace: LaptopWorkspace, request: pytest.FixtureRequest) -> Reach:
    """Makes a folder of a path, reached in one of the ways."""
    if request.param == "mounted":
        return lambda path=CHECKPOINT: Folder(path=path.replace(VOLUME, str(volume)))
    return lambda path=CHECKPOINT: Folder(path=path, client=laptop_workspace.client)


def test_a_folder_exists_or_does_not(reach: Reach) -> None:
    exist = {name: reach(f"{VOLUME}/{name}").exists() for name in ("score_stream", "score_stream/offsets", "none")}
    assert exist == {"score_stream": True, "score_stream/offsets": True, "none": False}


def test_a_file_says_what_was_written_last(reach: Reach) -> None:
    assert reach().read_text("metadata") == "score_stream metadata é"
    reach().write("metadata", "ü")
    assert reach().read_text("metadata") == "ü"
    reach().parent.write("score_stream.stop", "stop")
    assert reach(VOLUME).read_text("score_stream.stop") == "stop"


def test_a_file_that_is_not_there_is_said_to_be_so_in_one_line(reach: Reach) -> None:
    with pytest.raises(UserError, match=r"/score_stream cannot be reached: .*; (see|sign in)") as error:
        reach().read_text("none")
    assert "\n" not in str(error.value)


def test_a_folder_is_removed_with_all_that_is_in_it_and_nothing_else(reach: Reach, volume: Path) -> None:
    kept = [path for path in files(volume) if not path.startswith("score_stream")]
    reach().remove_tree()
    assert files(volume) == kept
    assert len(kept) > len(NAMES)


@pytest.mark.usefixtures("volume")
def test_a_folders_own_files_go_first_so_that_half_a_checkpoint_is_a_new_query(
    laptop_workspace: LaptopWorkspace,
) -> None:
    Folder(path=CHECKPOINT, client=laptop_workspace.client).remove_tree()
    deleted = [one.path.rpartition("/")[2] for one in laptop_workspace.faults.requests if one.method == "DELETE"]
    assert (deleted[0], deleted[-1]) == ("metadata", "score_stream")


@pytest.mark.parametrize("gone", ["/fs/files/.*/offsets/3", "/fs/files/.*/metadata", "/fs/directories/.*/offsets"])
def test_what_is_gone_when_its_turn_comes_is_no_trouble(
    volume: Path, laptop_workspace: LaptopWorkspace, gone: str
) -> None:
    """Spark deletes what it needs no more, and some clouds have no empty folders."""
    laptop_workspace.faults.add(method="DELETE", path=gone, action="cut")  # the client asks again, and finds nothing
    Folder(path=CHECKPOINT, client=client_at(laptop_workspace.address, Time())).remove_tree()
    assert not (volume / "score_stream").exists()


@pytest.mark.parametrize(
    ("do", "says_why"),
    [
        (lambda folder: folder.read_text("metadata"), True),
        (lambda folder: folder.write("metadata", ""), True),
        (lambda folder: folder.remove_tree(), True),
        (lambda folder: folder.exists(), False),  # an answer to HEAD has no body
    ],
)
def test_what_a_workspace_fails_to_do_is_one_line_and_leaves_all_as_it_was(
    volume: Path, laptop_workspace: LaptopWorkspace, do: Callable[[Folder], object], *, says_why: bool
) -> None:
    before = files(volume)
    laptop_workspace.faults.add(action="fail", times=None)
    with pytest.raises(UserError) as error:
        do(Folder(path=CHECKPOINT, client=laptop_workspace.client))
    assert str(error.value).startswith(f"{CHECKPOINT} cannot be reached: {'fail, injected' if says_why else ''}")
    assert "; sign in with `databricks auth login`" in str(error.value)
    assert "\n" not in str(error.value)
    assert files(volume) == before


def test_a_workspace_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with serve_workspace(tmp_path / "another") as address:
        client = client_at(address, Time())
    with pytest.raises(UserError, match=r"^/Volumes/.*/score_stream cannot be reached: [^\n]+$"):
        Folder(path=CHECKPOINT, client=client).exists()


@pytest.mark.usefixtures("volume")
def test_with_databricks_connect_a_folder_is_the_workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have_databricks_connect(monkeypatch, tmp_path)
    found = folder(CHECKPOINT)
    assert found.client is not None
    assert found.read_text("metadata") == "score_stream metadata é"
    monkeypatch.delenv("DATABRICKS_TOKEN")
    with pytest.raises(UserError, match=r"^/Volumes/[^\n]+; sign in with `databricks auth login`"):
        folder(CHECKPOINT)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "18.0")
    assert folder(CHECKPOINT) == Folder(path=CHECKPOINT)


def test_elsewhere_a_folder_is_a_path() -> None:
    assert folder(CHECKPOINT) == Folder(path=CHECKPOINT)
