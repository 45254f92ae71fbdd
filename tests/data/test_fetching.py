"""Files by URL: what servers do wrong, the cache's bound and locks, and processes that are killed."""

import fcntl
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from data.fetch import FetchError, check_driver, download, list_files
from data.fetch_settings import Fetching
from data.file_cache import FileCache, local_file
from data.frames import decode_video, duration_s
from data.manifest import ManifestError, read_manifest
from data.paths import FilesBelow
from data.urls import UrlError, check_url, is_url, location, redacted
from data.video_file import VideoError
from evaluation.inputs import InputError, find_videos
from tests.data.file_servers import BUCKET, FlakyServer, http_server, s3_server, upload

CONTENT = bytes(range(256)) * 400
PROCESSES = multiprocessing.get_context("spawn")
CLIP = Path("demo/built")


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    with http_server(FlakyServer({"/a.mp4": CONTENT})) as served:
        yield served


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    pytest.importorskip("moto")
    with s3_server() as address:
        yield address


@pytest.fixture
def fetching(tmp_path: Path) -> Fetching:
    return Fetching(str(tmp_path / "cache"), cache_gb=0.001, timeout_s=2.0, tries=3)


def fetched(url: str, fetching: Fetching) -> bytes:
    with local_file(url, fetching) as file:
        return Path(file).read_bytes()


def left_in(fetching: Fetching) -> list[str]:
    """Kinds of the files in the cache's folder, locks excluded."""
    names = [path.name.split(".")[1] for path in fetching.folder.iterdir()]
    return sorted(name for name in names if name not in ("lock", "bound"))


@pytest.mark.parametrize("faults", [[503], ["break"], ["stall"], [429, "break"]])
def test_a_fault_of_the_server_is_tried_again(
    server: FlakyServer, fetching: Fetching, faults: list[int | str]
) -> None:
    server.faults += faults
    assert fetched(f"{server.url}/a.mp4", fetching) == CONTENT
    assert len(server.requests) == len(faults) + 1
    assert left_in(fetching) == ["video"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(503, "HTTP 503"), ("break", "payload"), ("stall", "not fetched within 0.5 s")],
)
def test_a_file_that_cannot_be_had_costs_its_video_within_its_deadline(
    server: FlakyServer, fetching: Fetching, fault: int | str, reason: str
) -> None:
    server.faults += [fault] * 9
    short = replace(fetching, timeout_s=0.5)
    started = time.monotonic()
    with pytest.raises(VideoError, match=r"\(3 tries\)") as error:
        fetched(f"{server.url}/a.mp4", short)
    assert time.monotonic() - started < short.budget_s + 3
    assert error.value.kind == "not_fetched"
    assert reason in error.value.reason
    assert len(server.requests) == 3
    assert left_in(fetching) == []


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_must_fail_again_is_not_retried(server: FlakyServer, fetching: Fetching, status: int) -> None:
    server.faults.append(status)
    with pytest.raises(VideoError, match=f"HTTP {status}"):
        fetched(f"{server.url}/a.mp4", fetching)
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_fails_the_video(fetching: Fetching) -> None:
    with pytest.raises(VideoError) as error:
        fetched("http://127.0.0.1:9/a.mp4", replace(fetching, tries=2))
    assert error.value.kind == "not_fetched"
    assert pickle.loads(pickle.dumps(error.value)).kind == "not_fetched"


def test_a_file_of_unstated_length_is_fetched_and_bounded(server: FlakyServer, fetching: Fetching) -> None:
    server.states_length = False
    assert fetched(f"{server.url}/a.mp4", fetching) == CONTENT
    server.files["/big.mp4"] = bytes(2_000_000)
    with pytest.raises(VideoError, match="data.cache_gb"):
        fetched(f"{server.url}/big.mp4", fetching)


def test_a_file_larger_than_the_cache_is_refused(server: FlakyServer, fetching: Fetching) -> None:
    server.files["/big.mp4"] = bytes(2_000_000)
    with pytest.raises(VideoError, match="more than data.cache_gb"):
        fetched(f"{server.url}/big.mp4", fetching)
    assert len(server.requests) == 1


def test_the_least_recently_used_files_are_removed(server: FlakyServer, fetching: Fetching) -> None:
    server.files = {f"/{number}.mp4": bytes([number]) * 300_000 for number in range(4)}
    urls = [f"{server.url}{name}" for name in server.files]
    for url in urls[:3]:
        fetched(url, fetching)
    fetched(urls[0], fetching)  # used again: 1 is the oldest
    fetched(urls[3], fetching)
    assert sum(file.stat().st_size for file in fetching.folder.glob("*.video.*")) <= 1_000_000
    server.requests.clear()
    for url in (urls[0], urls[3]):
        fetched(url, fetching)
    assert server.requests == []
    assert fetched(urls[1], fetching) == server.files["/1.mp4"]
    assert server.requests == ["/1.mp4"]


def test_a_file_in_use_is_not_removed(server: FlakyServer, fetching: Fetching) -> None:
    server.files = {f"/{number}.mp4": bytes([number]) * 600_000 for number in range(2)}
    short = replace(fetching, timeout_s=0.3, tries=1)
    with local_file(f"{server.url}/0.mp4", fetching) as held:
        with pytest.raises(VideoError, match="all files of the cache are in use"):
            fetched(f"{server.url}/1.mp4", replace(short, timeout_s=1.0))
        assert Path(held).read_bytes() == server.files["/0.mp4"]
    assert fetched(f"{server.url}/1.mp4", fetching) == server.files["/1.mp4"]
    assert not Path(held).exists()


def test_a_count_that_is_lost_is_made_again(server: FlakyServer, fetching: Fetching) -> None:
    server.files = {f"/{number}.mp4": bytes([number]) * 400_000 for number in range(4)}
    for name in server.files:
        (fetching.folder / ".bound").unlink(missing_ok=True)
        fetched(f"{server.url}{name}", fetching)
    assert sum(file.stat().st_size for file in fetching.folder.glob("*.video.*")) <= 1_000_000


def _fetch_in_process(url: str, fetching: Fetching, starting: object) -> None:
    starting.wait(60)  # type: ignore[attr-defined]
    assert fetched(url, fetching) == CONTENT


def test_many_processes_at_once_fetch_once(server: FlakyServer, fetching: Fetching) -> None:
    server.slow_s = 0.5
    starting = PROCESSES.Barrier(6)
    patient = replace(fetching, timeout_s=30)
    processes = [
        PROCESSES.Process(target=_fetch_in_process, args=(f"{server.url}/a.mp4", patient, starting))
        for _ in range(6)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 6
    assert server.requests == ["/a.mp4"]


def test_many_threads_stay_below_the_bound(server: FlakyServer, fetching: Fetching) -> None:
    server.files = {f"/{number}.mp4": bytes([number]) * 150_000 for number in range(24)}
    server.slow_s = 0.02
    patient = replace(fetching, timeout_s=30)
    largest, ended = 0, threading.Event()

    def measure() -> None:
        nonlocal largest
        while not ended.wait(0.005):
            fetching.folder.mkdir(exist_ok=True)
            with (fetching.folder / ".bound").open("a") as bound:
                fcntl.flock(bound, fcntl.LOCK_EX)  # files change their names and leave under this lock
                files = [file for kind in ("video", "part") for file in fetching.folder.glob(f"*.{kind}.*")]
                largest = max(largest, sum(file.stat().st_size for file in files))

    wrong: list[str] = []

    def work(names: list[str]) -> None:
        for name in names:
            right = fetched(f"{server.url}{name}", patient) == server.files[name]
            wrong.extend([] if right else [name])

    names = list(server.files)
    threads = [threading.Thread(target=work, args=(names[at:] + names[:at],)) for at in range(0, 24, 4)]
    measuring = threading.Thread(target=measure)
    for thread in [measuring, *threads]:
        thread.start()
    for thread in threads:
        thread.join(120)
    ended.set()
    measuring.join(10)
    assert wrong == []
    assert 300_000 < largest <= 1_000_000


def _killed_while_it_fetches(url: str, fetching: Fetching) -> None:
    fetched(url, fetching)


def test_a_killed_fetch_leaves_nothing_in_the_way(server: FlakyServer, fetching: Fetching) -> None:
    server.slow_s = 60
    patient = replace(fetching, timeout_s=60)
    process: BaseProcess = PROCESSES.Process(
        target=_killed_while_it_fetches, args=(f"{server.url}/a.mp4", patient)
    )
    process.start()
    deadline = time.monotonic() + 60
    while "part" not in (left_in(fetching) if fetching.folder.exists() else []):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert left_in(fetching) == ["part", "room"]
    server.slow_s = 0
    server.files["/b.mp4"] = bytes(950_000)  # needs the room that the dead process reserved
    assert fetched(f"{server.url}/b.mp4", fetching) == server.files["/b.mp4"]
    assert left_in(fetching) == ["video"]
    assert fetched(f"{server.url}/a.mp4", fetching) == CONTENT


def test_a_lock_on_a_removed_file_does_not_count(server: FlakyServer, fetching: Fetching) -> None:
    with FileCache(fetching).hold(f"{server.url}/a.mp4") as file:
        lock = next(fetching.folder.glob("*.lock"))
        lock.unlink()
        lock.touch()
        with lock.open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert file.exists()


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@host/a.mp4", "https://secret@host/a.mp4", "s3://key:secret@bucket/a.mp4",
        "https://host/a.mp4?X-Amz-Signature=secret", "s3://bucket/a.mp4?versionId=secret",
        "https://host/a.mp4#secret", "https://host/x/../secret.mp4", "https://host/x/%2e%2e/secret.mp4",
        "https://host/x/%252e%252e/secret.mp4", "file:///etc/passwd", "zip://a.mp4::https://host/x.zip",
        "s3://", "https://host/a\n.mp4",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(UrlError) as error:
        check_url(url)
    assert "secret" not in str(error.value) or ".." in url or "%" in url


def test_text_that_is_a_url() -> None:
    assert location("s3://bucket/a/") == "s3://bucket/a"
    assert check_url("HTTPS://host/a b.mp4") == "https://host/a b.mp4"
    assert location("c:/a.mp4") == Path("c:/a.mp4")
    assert not is_url("a:b//c.mp4")
    text = "failed at 'https://u:p@host/a?sig=1', then s3://b/c"
    assert redacted(text) == "failed at 'https://***@host/a?***', then s3://b/c"


@pytest.mark.parametrize(
    "text",
    ["/etc/passwd", "../a.mp4", "x/../../a.mp4", "s3://bucket/other/a.mp4", "s3://bucket/roots/a.mp4",
     "https://host/a.mp4", "s3://bucket/root/../a.mp4", "s3://bucket/root"],
)  # fmt: skip
def test_no_path_leaves_a_root_that_is_a_url(text: str, tmp_path: Path) -> None:
    files = FilesBelow(tmp_path, "s3://bucket/root", check=False)
    with pytest.raises(LookupError, match=r"--data.root|without '.'"):
        files.locate(text)


def test_paths_below_a_root() -> None:
    files = FilesBelow(Path("/x"), "s3://bucket/root", check=False)
    assert files.locate("a/b.mp4") == "s3://bucket/root/a/b.mp4"
    assert files.locate("s3://bucket/root/b.mp4") == "s3://bucket/root/b.mp4"


def test_urls_beside_local_files_need_that_no_root_is_given(tmp_path: Path) -> None:
    assert FilesBelow(tmp_path, None, check=True).locate("s3://b/a.mp4") == "s3://b/a.mp4"
    with pytest.raises(LookupError, match="leaves the folder"):
        FilesBelow(tmp_path, tmp_path, check=False).locate("s3://b/a.mp4")
    with pytest.raises(LookupError) as error:
        FilesBelow(tmp_path, None, check=False).locate("https://host/a.mp4?token=secret")
    assert "secret" not in str(error.value)


def test_a_scheme_without_a_driver_names_the_fix() -> None:
    with pytest.raises(FetchError, match="no driver for nosuch://"):
        check_driver("nosuch://bucket/a.mp4")


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(scheme: str, **options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(FetchError, match=r"vqathinker-ray\[s3\]"):
        check_driver("s3://bucket/a.mp4")


def test_a_driver_without_coroutines_has_a_deadline_too(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/folder/a.mp4", CONTENT)
    download("memory://folder/a.mp4", tmp_path / "a.mp4", Fetching(timeout_s=5))
    assert (tmp_path / "a.mp4").read_bytes() == CONTENT
    assert list_files("memory://folder", Fetching(timeout_s=5)) == ["memory://folder/a.mp4"]


def manifest_of(folder: Path, *paths: str) -> Path:
    file = folder / "manifest.csv"
    file.write_text("path,mos\n" + "".join(f"{path},3\n" for path in paths))
    return file


def test_a_manifest_is_refused_if_no_video_can_be_reached(server: FlakyServer, tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, "a.mp4", "b.mp4")
    assert len(read_manifest(manifest, server.url)) == 2  # b is not there: it costs itself
    with pytest.raises(ManifestError, match="HTTP 404"):
        read_manifest(manifest, f"{server.url}/wrong")
    assert len(read_manifest(manifest, f"{server.url}/wrong", check_files=False)) == 2


def test_score_finds_videos_by_http(server: FlakyServer) -> None:
    server.files["/table.csv"] = b"path\na.mp4\n"
    assert find_videos([f"{server.url}/a.mp4"]).videos == [(f"{server.url}/a.mp4",) * 2]
    assert find_videos([f"{server.url}/table.csv"]).videos == [("a.mp4", f"{server.url}/a.mp4")]
    with pytest.raises(InputError, match="HTTP lists no folders"):
        find_videos([f"{server.url}/folder/"])
    with pytest.raises(InputError, match="HTTP 404"):
        find_videos([f"{server.url}/none.mp4"])
    server.files["/table.csv"] = b"path\n../a.mp4\n"
    with pytest.raises(InputError, match="leaves|without"):
        find_videos([f"{server.url}/table.csv"])


@pytest.fixture
def clip() -> Path:
    return next(iter(sorted(CLIP.rglob("*.mp4"))))


def test_frames_from_s3_are_those_of_the_file(s3: str, fetching: Fetching, clip: Path) -> None:
    roomy = replace(fetching, cache_gb=1, timeout_s=30)
    url = upload(clip, "clips/a clip.mp4")
    frames, info = decode_video(url, 4, fetching=roomy)
    expected, local = decode_video(clip, 4)
    assert (frames == expected).all()
    assert info == local
    assert duration_s(url, "auto", 60, fetching=roomy) > 0


def test_a_prefix_of_a_bucket_is_a_folder(s3: str, clip: Path) -> None:
    urls = [upload(clip, f"listed/{name}") for name in ("a.mp4", "sub/b.mp4", "readme.txt", "x/../c.mp4")]
    upload(clip, "listed-not/d.mp4")
    found = find_videos([f"s3://{BUCKET}/listed/"])
    assert [path for _, path in found.videos] == urls[:2]
    assert found.ignored == 2
    with pytest.raises(InputError, match="does not exist"):
        find_videos([f"s3://{BUCKET}/nothing"])


def test_a_missing_object_and_a_missing_bucket_fail_the_video(s3: str, fetching: Fetching) -> None:
    for url in (f"s3://{BUCKET}/none.mp4", "s3://no-such-bucket/a.mp4"):
        with pytest.raises(VideoError, match="does not exist") as error:
            fetched(url, replace(fetching, timeout_s=20))
        assert "not-a-secret" not in str(error.value)
