"""The Files API on volumes, as the unmodified WorkspaceClient uses it."""

import io
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk.errors import AlreadyExists, BadRequest, InvalidParameterValue, NotFound

VOLUME = "/Volumes/main/flights/raw"


@pytest.fixture
def files(workspace: Any) -> Any:
    return workspace.client.files


def put(files: Any, path: str, text: bytes = b"x", **options: Any) -> None:
    files.upload(path, io.BytesIO(text), **options)


@pytest.mark.parametrize("name", ["a.txt", "deep/er/a.txt", "with space+%25 ü?#.txt"])
def test_what_is_uploaded_is_downloaded_and_lies_in_the_worlds_folder(files: Any, workspace: Any, name: str) -> None:
    text = bytes(range(256)) * 1000
    put(files, f"{VOLUME}/{name}", text)
    found = files.download(f"{VOLUME}/{name}")
    assert (found.contents.read(), found.content_length) == (text, len(text))
    assert (workspace.folder / "volumes/main/flights/raw" / name).read_bytes() == text


def test_what_a_task_writes_into_the_folder_is_there(files: Any, workspace: Any) -> None:
    folder = workspace.folder / "volumes/main/flights/raw"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("written")
    assert files.download(f"{VOLUME}/a.txt").contents.read() == b"written"


def test_a_file_is_replaced_unless_that_is_refused(files: Any) -> None:
    put(files, f"{VOLUME}/a", b"1")
    put(files, f"{VOLUME}/a", b"2")
    put(files, f"{VOLUME}/a", b"3", overwrite=True)
    with pytest.raises(AlreadyExists, match=rf"^The file already exists: {VOLUME}/a$"):
        put(files, f"{VOLUME}/a", b"4", overwrite=False)
    assert files.download(f"{VOLUME}/a").contents.read() == b"3"
    assert [entry.name for entry in files.list_directory_contents(VOLUME)] == ["a"]


def test_a_large_upload_goes_in_one_piece(workspace: Any) -> None:
    files = workspace.new_client().files
    files._config.files_ext_multipart_upload_min_stream_size = 1000
    text = b"0123456789" * 1000
    for name, content in (("seekable", io.BytesIO(text)), ("stream", Unseekable(text))):
        files.upload(f"{VOLUME}/{name}", content)
        assert files.download(f"{VOLUME}/{name}").contents.read() == text


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False


def test_a_download_to_a_file_and_in_parts(workspace: Any, tmp_path: Path) -> None:
    files = workspace.new_client().files
    text = bytes(range(256)) * 100
    put(files, f"{VOLUME}/a", text)
    files.download_to(f"{VOLUME}/a", str(tmp_path / "whole"))
    files._config.files_ext_parallel_download_min_file_size = 1
    files._config.files_ext_parallel_download_default_part_size = 1000
    files.download_to(f"{VOLUME}/a", str(tmp_path / "parts"), use_parallel=True)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes() == text


@pytest.mark.parametrize(
    ("asked", "status", "text"),
    [
        ("bytes=0-0", 206, b"0"),
        ("bytes=2-4", 206, b"234"),
        ("bytes=8-", 206, b"89"),
        ("bytes=9-99", 206, b"9"),
        ("bytes=10-", 416, None),
        ("bytes=-3", 200, b"0123456789"),
        ("lines=1", 200, b"0123456789"),
    ],
)
def test_a_range_of_bytes(workspace: Any, files: Any, asked: str, status: int, text: bytes | None) -> None:
    put(files, f"{VOLUME}/a", b"0123456789")
    answer = workspace.send("GET", f"/api/2.0/fs/files{VOLUME}/a", headers={"Range": asked})
    assert answer.status_code == status
    assert text is None or answer.content == text


def test_metadata_tell_size_and_time(files: Any) -> None:
    put(files, f"{VOLUME}/folder/a", b"12345")
    found = files.get_metadata(f"{VOLUME}/folder/a")
    assert (found.content_length, found.content_type) == (5, "application/octet-stream")
    assert found.last_modified.endswith(" GMT")
    files.get_directory_metadata(f"{VOLUME}/folder")


def test_a_directory_is_listed_with_sizes_and_times(files: Any) -> None:
    put(files, f"{VOLUME}/b", b"12345")
    put(files, f"{VOLUME}/a/c")
    folder, file = files.list_directory_contents(VOLUME)
    assert (folder.name, folder.path, folder.is_directory, folder.file_size) == ("a", f"{VOLUME}/a", True, None)
    assert (file.name, file.path, file.is_directory, file.file_size) == ("b", f"{VOLUME}/b", False, 5)
    assert abs(file.last_modified / 1000 - time.time()) < 60


@pytest.mark.parametrize("size", [None, 1, 5])
def test_a_listing_is_whole_whatever_page_is_asked_for(files: Any, size: int | None) -> None:
    names = [f"{number} +%&ü" for number in range(5)]
    for name in names:
        put(files, f"{VOLUME}/{name}")
    assert [entry.name for entry in files.list_directory_contents(VOLUME, page_size=size)] == names


def test_a_directory_is_made_as_often_as_one_likes_and_deleted_when_it_is_empty(files: Any) -> None:
    for _ in range(2):
        files.create_directory(f"{VOLUME}/a/b")
    assert [entry.name for entry in files.list_directory_contents(f"{VOLUME}/a")] == ["b"]
    with pytest.raises(BadRequest, match=r"^The directory being deleted is not empty: ") as error:
        files.delete_directory(f"{VOLUME}/a")
    assert error.value.get_error_info()[0].reason == "FILES_API_DIRECTORY_IS_NOT_EMPTY"
    files.delete_directory(f"{VOLUME}/a/b")
    files.delete_directory(f"{VOLUME}/a")
    with pytest.raises(NotFound):
        files.delete_directory(f"{VOLUME}/a")


def test_a_deleted_file_is_gone(files: Any) -> None:
    put(files, f"{VOLUME}/a")
    files.delete(f"{VOLUME}/a")
    with pytest.raises(NotFound, match=rf"^The file being accessed is not found: {VOLUME}/a$"):
        files.delete(f"{VOLUME}/a")


@pytest.mark.parametrize(
    "call",
    [
        lambda files: files.download(f"{VOLUME}/none"),
        lambda files: files.get_metadata(f"{VOLUME}/none"),
        lambda files: files.get_directory_metadata(f"{VOLUME}/none"),
        lambda files: list(files.list_directory_contents(f"{VOLUME}/none")),
        lambda files: files.download(f"{VOLUME}/folder"),
        lambda files: list(files.list_directory_contents(f"{VOLUME}/folder/file")),
    ],
)
def test_what_is_not_there_is_not_found(files: Any, call: Any) -> None:
    put(files, f"{VOLUME}/folder/file")
    with pytest.raises(NotFound):
        call(files)


@pytest.mark.parametrize("path", [f"{VOLUME}/folder", f"{VOLUME}/folder/file/below"])
def test_a_file_does_not_take_the_place_of_a_directory_nor_the_other_way_round(files: Any, path: str) -> None:
    put(files, f"{VOLUME}/folder/file")
    with pytest.raises(InvalidParameterValue):
        put(files, path)
    with suppress(InvalidParameterValue):
        files.create_directory(path)
    assert [entry.name for entry in files.list_directory_contents(f"{VOLUME}/folder")] == ["file"]


@pytest.mark.parametrize(
    "path",
    [
        "/Volumes/main/flights",
        "/Workspace/main/flights/raw/a",
        f"{VOLUME}/../../../../a",
        f"{VOLUME}/%2e%2e/%2E%2E/a",
        f"{VOLUME}/..%2f..%2fa",
        f"{VOLUME}/./a",
        f"{VOLUME}//a",
        f"{VOLUME}/a%00",
        f"{VOLUME}/..%5ca",
        "/Volumes/../../../etc/passwd",
        "//etc/passwd",
    ],
)
@pytest.mark.parametrize("kind", ["files", "directories"])
def test_nobody_leaves_the_volume(workspace: Any, path: str, kind: str) -> None:
    for method in ("PUT", "GET", "DELETE"):
        sent = f"{method} /api/2.0/fs/{kind}{path} HTTP/1.1\r\nAuthorization: Bearer any\r\nContent-Length: 1\r\n\r\nx"
        assert workspace.raw(sent.encode()).startswith(b"HTTP/1.1 400 "), method
    assert sorted(each.name for each in workspace.folder.rglob("*")) == ["address", "api"]
