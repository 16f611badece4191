"""A folder of a volume: the same by its path and by the Files API."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.files_api import TOKEN, FilesApi, client, connect, served

from flight_delays.core.errors import UserError
from flight_delays.platform.volumes import Folder, MountedFolder, WorkspaceFolder, folder

VOLUME = "/Volumes/main/flights/checkpoints"
CHECKPOINT = f"{VOLUME}/score_stream"
# As many as take three pages of a listing.
OFFSETS = [f"offsets/{number}" for number in range(5)]
REACHED = {
    "mounted": None,
    "workspace": {},
    "workspace that signs no URLs": {"signs_urls": False},
    "workspace on a cloud without empty folders": {"has_empty_folders": False},
}
Reach = Callable[..., Folder]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What stands for `/`, with two checkpoints in a volume."""
    for name in ("metadata", *OFFSETS, "sources/0/1"):
        for checkpoint in ("score_stream", "other"):
            file = tmp_path / VOLUME.lstrip("/") / checkpoint / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{checkpoint} {name} é")
    return tmp_path


def files(root: Path) -> list[str]:
    there = root / VOLUME.lstrip("/")
    return sorted(str(path.relative_to(there)) for path in there.rglob("*"))


@pytest.fixture(params=REACHED)
def reach(root: Path, request: pytest.FixtureRequest) -> Iterator[Reach]:
    """Makes a folder of a path, reached in one of the ways."""
    with ExitStack() as stack:
        if (how := REACHED[request.param]) is None:
            yield lambda path=CHECKPOINT: MountedFolder(path=str(root / path.lstrip("/")))
        else:
            workspace = client(stack.enter_context(served(FilesApi(root=root, **how))))
            yield lambda path=CHECKPOINT: WorkspaceFolder(path=path, client=workspace)


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


def test_a_folder_is_removed_with_all_that_is_in_it_and_nothing_else(reach: Reach, root: Path) -> None:
    kept = [path for path in files(root) if not path.startswith("score_stream")]
    reach().remove_tree()
    assert files(root) == kept
    assert len(kept) > len(OFFSETS)


def test_a_folders_own_files_go_first_so_that_half_a_checkpoint_is_a_new_query(root: Path) -> None:
    api = FilesApi(root=root)
    with served(api) as address:
        WorkspaceFolder(path=CHECKPOINT, client=client(address)).remove_tree()
    deleted = [request.rpartition("/")[2] for request in api.asked if request.startswith("DELETE")]
    assert deleted[0] == "metadata"
    assert deleted[-1] == "score_stream"


@pytest.mark.parametrize(
    ("token", "forbidden", "says"),
    [
        ("another", (), "Credential was not sent or was not understood."),
        (TOKEN, (VOLUME,), "User does not have WRITE VOLUME on Volume '/Volumes/main/flights/checkpoints/"),
    ],
)
@pytest.mark.parametrize(
    ("do", "says_why"),
    [
        (lambda folder: folder.read_text("metadata"), True),
        (lambda folder: folder.write("metadata", ""), True),
        (lambda folder: folder.remove_tree(), True),
        (lambda folder: folder.exists(), False),  # an answer to HEAD has no body
    ],
)
def test_what_a_workspace_refuses_is_one_line_and_leaves_all_as_it_was(
    root: Path, token: str, forbidden: tuple[str, ...], says: str, do: Callable[[Folder], object], *, says_why: bool
) -> None:
    before = files(root)
    with served(FilesApi(root=root, forbidden=forbidden)) as address, pytest.raises(UserError) as error:
        do(WorkspaceFolder(path=CHECKPOINT, client=client(address, token)))
    assert str(error.value).startswith(f"{CHECKPOINT} cannot be reached: {says if says_why else ''}")
    assert "; sign in with `databricks auth login`" in str(error.value)
    assert "\n" not in str(error.value)
    assert files(root) == before


def test_a_workspace_that_is_not_there_is_one_line() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        unreachable = client(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(UserError, match=r"^/Volumes/.*/score_stream cannot be reached: [^\n]+$"):
            WorkspaceFolder(path=CHECKPOINT, client=unreachable).exists()


def test_with_databricks_connect_a_folder_is_the_workspaces(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(FilesApi(root=root)) as address:
        connect(monkeypatch, tmp_path, address)
        found = folder(CHECKPOINT)
        assert isinstance(found, WorkspaceFolder)
        assert found.read_text("metadata") == "score_stream metadata é"


def test_without_a_workspace_to_sign_in_to_one_line_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, tmp_path, None)
    with pytest.raises(UserError, match=r"^/Volumes/[^\n]+; sign in with `databricks auth login`"):
        folder(CHECKPOINT)


def test_on_a_runtime_and_on_a_laptop_of_its_own_a_folder_is_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder(CHECKPOINT) == MountedFolder(path=CHECKPOINT)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "18.0")
    assert folder(CHECKPOINT) == MountedFolder(path=CHECKPOINT)
