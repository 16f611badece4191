"""The Files API on volumes: https://docs.databricks.com/api/workspace/files

/Volumes/<catalog>/<schema>/<volume>/... lies in the world's folder volumes/<catalog>/<schema>/<volume>/.... A volume
need not have been created: whoever writes to it makes it. There are no presigned URLs, as in a workspace that disables
them: the SDK then takes the plain way, for uploads and downloads of any size.
"""

import re
import shutil
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

from bundle_laptop.api.web import Answer, ApiError, Request, Route, Tree, invalid

_FILES, _DIRECTORIES = "/api/2.0/fs/files", "/api/2.0/fs/directories"
_PAGE, _UNFINISHED = 1000, ".laptop-upload-"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Volumes:
    """The volumes of one world."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "volumes"

    def routes(self) -> list[Route]:
        """What this answers."""
        file, directory = _FILES + "{path:path}", _DIRECTORIES + "{path:path}"
        return [
            ("PUT", file, self._upload),
            ("GET", file, self._download),
            ("HEAD", file, self._download),
            ("DELETE", file, self._delete),
            ("POST", file, self._begin_parts),
            ("PUT", directory, self._make_directory),
            ("GET", directory, self._list),
            ("HEAD", directory, self._find_directory),
            ("DELETE", directory, self._delete_directory),
            *(("POST", f"/api/2.0/fs/create-{kind}", _no_presigned_urls) for kind in _PRESIGNED),
        ]

    def _at(self, path: str) -> Path:
        """Where a path lies. Raises ApiError for one that is in no volume, or leads out of it."""
        first, *parts = path.strip("/").split("/")
        if first != "Volumes" or len(parts) < 3:
            raise invalid(f"{path}: not /Volumes/<catalog>/<schema>/<volume>/...")
        if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
            raise invalid(f"{path}: a part of the path is empty, or leads out of the volume")
        return self._root.joinpath(*parts)

    def _file(self, path: str) -> Path:
        if not (there := self._at(path)).is_file():
            raise ApiError(404, "NOT_FOUND", f"The file being accessed is not found: {path}")
        return there

    def _directory(self, path: str) -> Path:
        if not (there := self._at(path)).is_dir():
            raise ApiError(404, "NOT_FOUND", f"The directory being accessed is not found: {path}")
        return there

    def _upload(self, request: Request) -> Answer:
        path, there = request["path"], self._at(request["path"])
        if there.is_dir():
            raise invalid(f"The path is a directory: {path}")
        if there.exists() and request.query.get("overwrite") == "false":
            raise ApiError(409, "ALREADY_EXISTS", f"The file already exists: {path}")
        _make(there.parent, path)
        unfinished = there.with_name(f"{_UNFINISHED}{uuid4().hex}")
        try:
            with unfinished.open("wb") as file:
                shutil.copyfileobj(request.content, file)
            unfinished.replace(there)
        finally:
            unfinished.unlink(missing_ok=True)
        return Answer(status=HTTPStatus.NO_CONTENT)

    def _download(self, request: Request) -> Answer:
        there = self._file(request["path"])
        stat = there.stat()
        headers = {
            "Content-Type": "application/octet-stream",
            "Last-Modified": formatdate(int(stat.st_mtime), usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if _is_newer(int(stat.st_mtime), request.headers.get("if-unmodified-since")):
            raise ApiError(412, "FAILED_PRECONDITION", f"The file was modified: {request['path']}")
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        if not asked:
            return Answer(headers=headers, file=there, size=stat.st_size)
        start = int(asked[1])
        if start >= stat.st_size:
            raise ApiError(416, "INVALID_PARAMETER_VALUE", f"The file has {stat.st_size} bytes: {request['path']}")
        size = min(int(asked[2] or stat.st_size) + 1, stat.st_size) - start
        headers["Content-Range"] = f"bytes {start}-{start + size - 1}/{stat.st_size}"
        return Answer(status=HTTPStatus.PARTIAL_CONTENT, headers=headers, file=there, start=start, size=size)

    def _delete(self, request: Request) -> Answer:
        self._file(request["path"]).unlink()
        return Answer(status=HTTPStatus.NO_CONTENT)

    def _begin_parts(self, request: Request) -> Tree:
        """The SDK asks for this before a large upload; it then asks for presigned URLs, and goes without."""
        self._at(request["path"])
        return {"multipart_upload": {"session_token": uuid4().hex}}

    def _make_directory(self, request: Request) -> Answer:
        _make(self._at(request["path"]), request["path"])
        return Answer(status=HTTPStatus.NO_CONTENT)

    def _find_directory(self, request: Request) -> Answer:
        self._directory(request["path"])
        return Answer()

    def _list(self, request: Request) -> Tree:
        there, path = self._directory(request["path"]), request["path"].rstrip("/")
        names = sorted(entry.name for entry in there.iterdir() if not entry.name.startswith(_UNFINISHED))
        later = [name for name in names if name > request.query.get("page_token", "")]
        page = later[: min(request.number("page_size", _PAGE) or _PAGE, _PAGE)]
        more = {"next_page_token": page[-1]} if len(later) > len(page) else {}
        return {"contents": [_entry(there / name, f"{path}/{name}") for name in page], **more}

    def _delete_directory(self, request: Request) -> Answer:
        there = self._directory(request["path"])
        if any(there.iterdir()):
            message = f"The directory being deleted is not empty: {request['path']}"
            raise ApiError(400, "INVALID_PARAMETER_VALUE", message, reason="FILES_API_DIRECTORY_IS_NOT_EMPTY")
        there.rmdir()
        return Answer(status=HTTPStatus.NO_CONTENT)


_PRESIGNED = ("download-url", "upload-part-urls", "resumable-upload-url", "abort-upload-url")


def _no_presigned_urls(_: Request) -> Tree:
    raise ApiError(403, "PERMISSION_DENIED", "Presigned URLs are disabled.")


def _make(folder: Path, path: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise invalid(f"A part of the path is a file: {path}") from None


def _entry(there: Path, path: str) -> Tree:
    stat = there.stat()
    entry: Tree = {"name": there.name, "path": path, "is_directory": there.is_dir()}
    if not there.is_dir():
        entry["file_size"] = stat.st_size
    return {**entry, "last_modified": int(stat.st_mtime * 1000)}


def _is_newer(modified: int, than: str | None) -> bool:
    try:
        return than is not None and modified > parsedate_to_datetime(than).timestamp()
    except ValueError:
        return False
