"""The shipper: sends what stands in a spool to the control plane, exactly once, however often either of them dies.

Runs beside the program, in its supervisor (or as `python shipper.py FOLDER URL RUN`, token in NARF_TOKEN). The server's offset is
the truth; what is remembered in `<spool>/shipped.json` only spares sending again what it has.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import ssl
import sys
import time
import urllib.parse
from typing import Any, NamedTuple

try:
    from narf.training.salvage import damage, passed_over, whole_length
    from narf.training.spool import RECORD_BYTES, read_events
except ImportError:  # run by its path, in an interpreter that knows nothing of Narf
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from narf.training.salvage import damage, passed_over, whole_length
    from narf.training.spool import RECORD_BYTES, read_events

BLOCK_BYTES = 1 << 20  # of one request; a multiple of the record size
_TOGETHER_BYTES = 256 << 10  # of what is sent in one request
_SMALL_ARTIFACT_BYTES = 64 << 10
_TIMEOUT_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 15.0
_MOST_REFUSALS = 5  # of one artifact by the server's own fault (5xx) before it is left for the end


class _Part(NamedTuple):
    """A piece of a shipment: what the server is told of it, and what is remembered once it has it."""

    described: dict[str, Any]
    data: bytes
    name: str  # in `shipped.json`, with `end` as its offset
    end: int
    file: str = ""  # to be deleted then


class ServerAway(Exception):
    """The server cannot be reached, or answers with its own error: try again later."""


class Shipper:
    """Ships the spool in `spool_dir` as run `run_id` to the control plane at `url`.

    Called by one thread or process at a time. Nothing here raises because of the network or the server; trouble that a person
    should hear of is in `problems`, each once.
    """

    def __init__(self, spool_dir: str, url: str, token: str, run_id: str) -> None:
        self.spool_dir, self.token, self.run_id = spool_dir, token, run_id
        parts = urllib.parse.urlsplit(url)
        self._is_tls = parts.scheme == "https"
        self._host, self._port, self._prefix = parts.hostname or "127.0.0.1", parts.port, parts.path.rstrip("/")
        # On this machine the network costs less than the compression.
        self._compresses = self._host not in ("127.0.0.1", "localhost", "::1")
        self.problems: list[str] = []
        self.is_complete = False  # nothing that was found at the last look is worth another try
        self.is_refused = False  # something was refused for good: it is on disk still, and must stay there
        self._connection: http.client.HTTPConnection | None = None
        self._state_path = os.path.join(spool_dir, "shipped.json")
        self._state: dict[str, Any] = _read_json(self._state_path)
        self._retry_at = 0.0
        self._wait = 0.25
        self._refusals: dict[str, int] = {}
        self._is_refused_together = False

    def ship_once(self) -> bool:
        """One look at the spool: send what is new. Whether anything was delivered. While the server is away, calls return at once
        until it is time to try again (0.25 s, doubling up to 15 s)."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            delivered = self._ship_all_files()
        except ServerAway as error:
            self.is_complete = False
            self._close()
            self._tell(f"the control plane cannot be reached ({error}); telemetry waits in {self.spool_dir}")
            self._retry_at = time.monotonic() + self._wait
            self._wait = min(self._wait * 2, _LONGEST_WAIT_SECONDS)
            return False
        self._wait, self._retry_at = 0.25, 0.0
        return delivered

    def ship_all(self, deadline: float) -> bool:
        """Send everything there is, trying again until `deadline` (of `time.monotonic()`). Whether all was delivered."""
        while True:
            self._retry_at = 0.0
            self.ship_once()
            if self.is_complete:
                self._close()
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, self._wait))

    # -- one pass ------------------------------------------------------------------------------------------------------------

    def _ship_all_files(self) -> bool:
        delivered, complete = self._ship_together(), True
        for spool_id in self._spool_ids():
            # The points' size is taken first: every key they use was written before, so it is among the events read now.
            points_end = self._size(spool_id, "points")
            sent, done = self._ship_events(spool_id)
            delivered, complete = delivered or sent, complete and done
            if done:
                sent, done = self._ship_file(spool_id, "points", points_end)
                delivered, complete = delivered or sent, complete and done
            sent, done = self._ship_artifacts(spool_id)
            delivered, complete = delivered or sent, complete and done
        self.is_complete = complete
        return delivered

    def _ship_together(self) -> bool:
        """Send what is new in one request, if it is little: to a short program, requests are most of what shipping costs.

        Whatever is out of the ordinary (much to send, damage, a refusal) is left to what sends the files one by one, right after this.
        """
        parts: list[_Part] = []
        for spool_id in self._spool_ids() if not self._is_refused_together else ():
            points_end = self._size(spool_id, "points")  # before the events, as below
            events = self._whole_part(spool_id, "events", self._size(spool_id, "events"))
            points = self._whole_part(spool_id, "points", points_end)
            if events is None or points is None:
                return False
            artifacts, offset = self._small_artifacts(spool_id)
            parts += [part for part in (events, points) if part.data] + artifacts
            if artifacts:
                parts.append(_Part({}, b"", f"{spool_id}.artifacts", offset))
        sent = [part for part in parts if part.described]
        if len(sent) < 2 or sum(len(part.data) for part in sent) > _TOGETHER_BYTES:
            return False
        head = json.dumps({"parts": [{**part.described, "size": len(part.data)} for part in sent]}, separators=(",", ":"))
        path = f"/api/v1/runs/{urllib.parse.quote(self.run_id, safe='')}/shipments"
        status, answer = self._request("POST", path, b"\n".join([head.encode(), b"".join(part.data for part in sent)]))
        if status != 200:
            self._is_refused_together = True  # it hears of each file why, and an older server knows no shipments
            return False
        offsets = iter((_parse(answer) or {}).get("offsets", ()))
        for part in parts:
            if part.described.get("kind") in ("events", "points"):
                stored = next(offsets, None)
                if not isinstance(stored, int) or stored != part.end:
                    continue  # more is stored than this shipper remembers: what sends one by one finds out
            if part.end:
                self._state[part.name] = part.end
            if part.file:
                with contextlib.suppress(OSError):
                    os.unlink(part.file)
        self._write_state()
        return True

    def _whole_part(self, spool_id: str, kind: str, end: int) -> _Part | None:
        """What is new in a file; None when there is too much, or more to say about it than its bytes."""
        name = f"{spool_id}.{kind}"
        offset = int(self._state.get(name, 0))
        if self._state.get(f"{name}.passed") or end - offset > _TOGETHER_BYTES:
            return None
        data = _read(self._path(spool_id, kind), offset, end - offset) if end > offset else b""
        whole = whole_length(data, kind)
        if data and (whole == 0 or damage(data[whole:], kind)):
            return None
        return _Part({"kind": kind, "spool": spool_id, "offset": offset}, data[:whole], name, offset + whole)

    def _small_artifacts(self, spool_id: str) -> tuple[list[_Part], int]:
        """The next artifacts that the events name, up to the first that is not small; up to which byte of the events they stand."""
        offset = int(self._state.get(f"{spool_id}.artifacts", 0))
        block = _read(self._path(spool_id, "events"), offset, _TOGETHER_BYTES)
        found: list[_Part] = []
        for line in block[: read_events(block)[1]].split(b"\n")[:-1] if b'"artifact"' in block else ():
            event = _parse(line) or {} if b'"artifact"' in line else {}
            if event.get("type") == "artifact":
                file = os.path.join(self.spool_dir, str(event.get("file", "")))
                try:
                    small = os.path.getsize(file) <= _SMALL_ARTIFACT_BYTES
                    data = _read(file, 0, _SMALL_ARTIFACT_BYTES) if small else b""
                except OSError:
                    break
                if not small:
                    break
                found.append(
                    _Part({"kind": "artifact", "path": str(event.get("path", ""))}, data, "", 0, file if event.get("delete") else "")
                )
            offset += len(line) + 1
        return found, offset

    def _spool_ids(self) -> list[str]:
        try:
            names = os.listdir(self.spool_dir)
        except OSError:
            return []
        return sorted(name[: -len(".events")] for name in names if name.endswith(".events"))

    def _size(self, spool_id: str, kind: str) -> int:
        try:
            return os.path.getsize(self._path(spool_id, kind))
        except OSError:
            return 0

    def _path(self, spool_id: str, kind: str) -> str:
        return os.path.join(self.spool_dir, f"{spool_id}.{kind}")

    def _ship_events(self, spool_id: str) -> tuple[bool, bool]:
        return self._ship_file(spool_id, "events", self._size(spool_id, "events"))

    def _ship_file(self, spool_id: str, kind: str, end: int) -> tuple[bool, bool]:
        """(whether anything was delivered, whether all up to `end` that is whole was)."""
        name = f"{spool_id}.{kind}"
        offset, passed = int(self._state.get(name, 0)), int(self._state.get(f"{name}.passed", 0))
        delivered, corrections, named_again = False, 0, False
        block_bytes = BLOCK_BYTES
        while offset + passed < end:
            block = _read(self._path(spool_id, kind), offset + passed, min(block_bytes, end - offset - passed))
            whole = whole_length(block, kind)
            if whole == 0:
                gap = damage(block, kind)
                if not gap and len(block) == block_bytes:
                    block_bytes *= 2  # one event that is longer than a block, or much damage
                    continue
                if gap or (len(block) >= RECORD_BYTES and kind == "points"):
                    self._tell(f"{name} is damaged at byte {offset + passed}: {gap or len(block)} bytes are no records")
                if not gap:
                    break  # nothing after it is whole, or it is still being written
                passed += gap
                self._remember(f"{name}.passed", passed)
                continue
            path = f"/api/v1/runs/{urllib.parse.quote(self.run_id, safe='')}/spools/{spool_id}/{kind}?offset={offset}"
            status, answer = self._request("POST", path, block[:whole])
            stored = _offset(answer)
            if status == 200 and stored is not None and stored > offset:
                if stored > offset + whole:  # this shipper has forgotten what was sent
                    passed = self._look_up_passed(spool_id, kind, stored)
                offset, delivered, corrections = stored, True, 0
            elif status == 409 and stored is not None and stored != offset and corrections < 3:
                passed = self._look_up_passed(spool_id, kind, stored)
                offset, corrections = stored, corrections + 1
            elif status == 409 and _code(answer) == "unknown_key" and not named_again:
                # The server was restored from a backup: it hears the names again.
                named_again = True
                self._state[f"{spool_id}.events"] = self._state[f"{spool_id}.events.passed"] = 0
                self._ship_events(spool_id)
                continue
            else:
                self._tell(f"the control plane refused {name} at offset {offset}: {status} {_sentence(answer)}")
                self.is_refused = True
                # No repetition will change its mind about these: they do not hold up the end. Nothing holds up other files.
                return delivered, status in (401, 403, 404, 410, 422) or named_again
            self._remember(name, offset)
        return delivered, True

    def _look_up_passed(self, spool_id: str, kind: str, offset: int) -> int:
        passed = passed_over(self._path(spool_id, kind), kind, offset)
        self._remember(f"{spool_id}.{kind}.passed", passed)
        return passed

    def _ship_artifacts(self, spool_id: str) -> tuple[bool, bool]:
        """Upload, in order, the artifacts that the events name. One that fails does not hold up those after it for ever."""
        name = f"{spool_id}.artifacts"
        offset = int(self._state.get(name, 0))
        end = self._size(spool_id, "events")
        delivered = False
        while offset < end:
            block = _read(self._path(spool_id, "events"), offset, end - offset)
            used = read_events(block)[1]
            if used == 0:
                gap = damage(block, "events")
                if gap == 0:
                    break
                offset += gap
                continue
            for line in block[:used].split(b"\n")[:-1] if b'"artifact"' in block else ():
                event = _parse(line) or {}
                if event.get("type") == "artifact":
                    sent, done = self._upload(event)
                    delivered = delivered or sent
                    if not done:
                        return delivered, False
                    self._remember(name, offset + len(line) + 1)
                offset += len(line) + 1
                used -= len(line) + 1
            offset += used
            self._remember(name, offset)
        return delivered, True

    def _upload(self, event: dict[str, Any]) -> tuple[bool, bool]:
        path = os.path.join(self.spool_dir, str(event.get("file", "")))
        target = str(event.get("path", ""))
        url = f"/api/v1/runs/{urllib.parse.quote(self.run_id, safe='')}/artifacts/{urllib.parse.quote(target)}"
        try:
            file = open(path, "rb")  # noqa: SIM115 - a missing file is answered here, trouble with the wire below
        except OSError as error:
            self._tell(f"the artifact {target!r} was not uploaded: {error}")
            return False, True
        with file:
            status, answer = self._request("PUT", url, file)
        if status // 100 != 2:
            self._refusals[path] = self._refusals.get(path, 0) + 1
            self._tell(f"the control plane refused the artifact {target!r}: {status} {_sentence(answer)}")
            self.is_refused = True
            if status >= 500 and self._refusals[path] < _MOST_REFUSALS:
                return False, False
            return False, True
        if event.get("delete"):
            with contextlib.suppress(OSError):  # uploaded once more at worst, under the same name
                os.unlink(path)
        return True, True

    # -- the wire --------------------------------------------------------------------------------------------------------------

    def _request(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/octet-stream"}
        if isinstance(body, bytes):
            if self._compresses and len(body) > 1024:
                body = gzip.compress(body, compresslevel=1)
                headers["Content-Encoding"] = "gzip"
            headers["Content-Length"] = str(len(body))
        else:
            headers["Content-Length"] = str(os.fstat(body.fileno()).st_size)
        for is_retry in (False, True):
            reused = self._connection is not None
            try:
                connection = self._connect()
                connection.request(method, self._prefix + path, body=body, headers=headers)
                response = connection.getresponse()
                answer = response.read()
                if method == "POST" and (response.status >= 500 or response.status == 429):
                    raise ServerAway(f"status {response.status} {_sentence(answer)}")
                return response.status, answer
            except (OSError, http.client.HTTPException) as error:
                self._close()
                if not reused or is_retry:
                    raise ServerAway(str(error) or type(error).__name__) from error
                if not isinstance(body, bytes):  # a kept connection that the server has closed meanwhile: once more, on a new one
                    body.seek(0)
        raise AssertionError("unreachable")

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._is_tls:
                context = ssl.create_default_context(cafile=os.environ.get("NARF_CA_FILE") or None)
                self._connection = http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS, context=context)
            else:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _remember(self, name: str, offset: int) -> None:
        if self._state.get(name) == offset:
            return
        self._state[name] = offset
        self._write_state()

    def _write_state(self) -> None:
        part = self._state_path + ".part"
        try:
            with open(part, "w") as file:
                json.dump(self._state, file)
            os.replace(part, self._state_path)
        except OSError:
            pass  # a full disk: after a restart some bytes are sent again, and the server skips them

    def _tell(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) < 100:
            self.problems.append(problem)


def _read(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def _read_json(path: str) -> dict[str, Any]:
    try:
        with open(path) as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _offset(answer: bytes) -> int | None:
    content = _parse(answer)
    offset = content.get("offset") if content else None
    return offset if isinstance(offset, int) and offset >= 0 else None


def _code(answer: bytes) -> str:
    return str((_parse(answer) or {}).get("code"))


def _sentence(answer: bytes) -> str:
    content = _parse(answer) or {}
    return str(content.get("detail") or content.get("title") or answer[:200].decode("utf-8", "replace"))


def main(arguments: list[str]) -> int:
    """Ship a folder while process PARENT lives, then what is left: `shipper.py FOLDER URL RUN [PARENT]`."""
    folder, url, run_id = arguments[:3]
    parent = int(arguments[3]) if len(arguments) > 3 else 0
    shipper = Shipper(folder, url, os.environ.get("NARF_TOKEN", ""), run_id)
    while parent and lives(parent):
        if not shipper.ship_once():
            time.sleep(0.5)
    delivered = shipper.ship_all(time.monotonic() + float(os.environ.get("NARF_SHIP_SECONDS", "60")))
    for problem in shipper.problems:
        sys.stderr.write(f"narf: {problem}\n")
    return 0 if delivered else 1


def lives(pid: int) -> bool:
    """Whether the process runs; one that has died and was not fetched yet does not."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or a system without /proc
        return True


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
