"""The viewer: the data of each view, damaged run directories, and who may ask."""

import json
from collections.abc import Iterator
from contextlib import closing
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from data.frames import decode_video
from data.perturb import perturb
from data.records import Perturbation
from data.video_file import VideoError
from monitoring.frame_sheets import FrameReader, FrameRequest
from monitoring.run_dir import RunDirectory
from monitoring.viewer.app import create_app
from monitoring.viewer.catalogue import Catalogue
from monitoring.viewer.guard import is_loopback
from runtime.errors import RunDirectoryError
from tests.viewer_run import (
    HOSTILE,
    PERTURBATION,
    UPDATES,
    group_record,
    make_run,
    metrics_record,
)


@pytest.fixture
def run(tmp_path: Path, videos: list[Path]) -> RunDirectory:
    return make_run(tmp_path / "runs" / "first", videos)


@pytest.fixture
def client(run: RunDirectory) -> Iterator[TestClient]:
    with serving(Catalogue([], run.path.parent)) as client:
        yield client


def serving(catalogue: Catalogue, **options: Any) -> TestClient:
    """A client that talks to the app as a browser on this machine would."""
    return TestClient(create_app(catalogue, **options), base_url="http://localhost:8420")


def get(client: TestClient, path: str, **parameters: Any) -> Any:
    answer = client.get(f"/api/{path}", params={"run": "first"} | parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_page_and_what_it_loads_come_from_the_viewer_itself(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    assert "script-src 'self';" in page.headers["content-security-policy"]
    for name in ("app.js", "curves.js", "videos.js", "ranking.js", "fleet.js", "style.css"):
        assert client.get(f"/static/{name}").status_code == 200
    assert len(client.get("/plotly.min.js").content) > 1_000_000


def test_the_list_of_runs(client: TestClient) -> None:
    (first,) = client.get("/api/runs").json()
    assert (first["name"], first["updates"], first["finished"]) == ("first", UPDATES, False)
    assert (first["reward"], first["srcc"], first["broken_lines"]) == (1.3, 0.5, 0)


def test_curves_hold_every_metric_and_the_spread_over_groups(client: TestClient) -> None:
    data = get(client, "curves")
    assert data["version"] == [1, 2, 3, 4]
    assert data["series"]["reward/total"] == [1.0, 1.1, 1.2, 1.3]
    assert data["evaluations"]["test"]["srcc"] == [0.5, 0.5]
    assert "plcc" not in data["evaluations"]["test"]
    spread = get(client, "spread")
    assert spread["version"] == [1, 2, 3, 4]
    assert spread["low"]["total"] == spread["high"]["total"] == [1.0] * 4


def test_the_groups_of_an_update_and_one_in_full(client: TestClient, videos: list[Path]) -> None:
    assert get(client, "updates")["updates"] == [0, 1, 2, 3]
    groups = get(client, "groups", update=2)
    assert groups["video_id"] == [videos[0].stem, videos[1].stem]
    assert groups["score"] == pytest.approx([(2.2 + 3) / 2, (3.2 + 3) / 2])
    assert groups["unparsed"] == [1, 1]
    group = get(client, "group", offset=groups["offset"][1])
    assert (group["video_id"], group["mos"], group["worker"]) == (videos[1].stem, 3.0, "rollout-1")
    first, second, _ = group["clean"]["completions"]
    assert first["score"] is None
    assert first["text"] == HOSTILE
    assert (second["score"], second["total"], second["versions"]) == (3.2, 1.0, [2])
    assert group["perturbed"]["ref"]["perturbation"] == PERTURBATION
    assert "total" not in group["perturbed"]["completions"][0]


def test_a_run_that_is_older_than_a_reward_is_shown(client: TestClient, run: RunDirectory) -> None:
    """Its run.json names no rewards, and its groups have no values of a reward added since."""
    path = run.path / "groups.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        del record["clean"]["temporal"]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    spread = get(client, "spread")
    assert spread["low"]["ranking"] == [1.0] * UPDATES
    assert spread["low"]["temporal"] == [None] * UPDATES
    groups = get(client, "groups", update=0)
    assert "temporal" not in get(client, "group", offset=groups["offset"][0])["clean"]["completions"][0]
    assert client.get("/api/runs").json()[0]["broken_lines"] == 0


def test_the_history_of_a_video(client: TestClient, videos: list[Path]) -> None:
    visits = get(client, "history", video=videos[1].stem)["visits"]
    assert [visit["update"] for visit in visits] == [0, 1, 2, 3]
    assert visits[3]["scores"] == [None, 3.3, 3.0]
    assert visits[0]["total"] == 1.0
    assert visits[0]["score"] == 3.0, "the answer that earned most"


def test_an_evaluation_against_mos_with_its_curve(client: TestClient, videos: list[Path]) -> None:
    assert [e["version"] for e in get(client, "evaluations")["evaluations"]] == [0, UPDATES]
    data = get(client, "ranking", version=UPDATES, split="test")
    assert data["videos"]["greedy"] == [1.3, 1.8, 2.3, 2.8, 3.3, None]
    assert data["videos"]["sample_mean"][0] == 2.5
    fit = data["fit"]
    assert fit["score"][0] == 1.3
    assert fit["plcc"] == pytest.approx(1.0, abs=0.01)
    assert fit["mos"] == sorted(fit["mos"])
    answers = get(client, "clip", split="test", video=videos[2].stem)["answers"]
    assert [(a["version"], a["greedy"]) for a in answers] == [(0, 2.0), (UPDATES, 2.3)]


def test_the_fleet(client: TestClient) -> None:
    data = get(client, "fleet")
    assert [(w["worker"], w["groups"], w["last_update"]) for w in data["workers"]] == [
        ("rollout-0", UPDATES, 3),
        ("rollout-1", UPDATES, 3),
    ]
    assert data["shares"]["groups"] == [[1] * UPDATES, [1] * UPDATES]
    seconds = data["phases"]["seconds"]
    assert seconds["waiting for answers"] == [1.0] * UPDATES
    assert seconds["rest of the step"] == [0.5] * UPDATES
    assert seconds["between updates"] == [0.0, 6.0, 6.0, 6.0], (
        "10 s from record to record, of them 4 s a step"
    )
    assert data["staleness"]["largest"] == [0.0] * UPDATES
    assert data["failures"][0]["reason"] == "it is empty"
    assert data["faults"][0]["actor"] == "rollout-1"


def test_frames_are_those_that_the_model_saw(client: TestClient, videos: list[Path]) -> None:
    import io

    from PIL import Image

    offset = get(client, "groups", update=0)["offset"][1]
    clean, _ = decode_video(videos[1], 4, 48)
    for copy, expected in (("clean", clean), ("perturbed", perturb(clean, Perturbation("reverse", 1)))):
        answer = client.get("/frames/group", params={"run": "first", "offset": offset, "copy": copy})
        assert answer.headers["content-type"] == "image/png"
        sheet = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert np.array_equal(sheet, np.concatenate(list(expected), axis=1))
        assert json.loads(answer.headers["x-frames"])["px"] == [48, 48]
    of_clip: dict[str, Any] = {"run": "first", "version": 0, "split": "test", "video": videos[2].stem}
    assert client.get("/frames/clip", params=of_clip).status_code == 200


def test_superseded_attempts_are_not_shown(client: TestClient, run: RunDirectory, videos: list[Path]) -> None:
    assert len(get(client, "curves")["version"]) == UPDATES
    run.start_attempt(2)
    assert get(client, "updates")["updates"] == [0, 1]
    assert get(client, "curves")["version"] == [1, 2]
    assert [e["version"] for e in get(client, "evaluations")["evaluations"]] == [0]
    gone = client.get("/api/ranking", params={"run": "first", "version": UPDATES, "split": "test"})
    assert gone.status_code == 404
    run.append("groups", group_record(videos, 2, 0, attempt=1))
    run.append("metrics", metrics_record(2, attempt=1))
    assert get(client, "curves")["series"]["reward/total"] == [1.0, 1.1, 2.2]
    assert get(client, "groups", update=2)["video_id"] == [videos[0].stem]
    assert [v["update"] for v in get(client, "history", video=videos[1].stem)["visits"]] == [0, 1]
    assert len(get(client, "fleet")["faults"]) == 1, "faults are never superseded"


def test_new_lines_are_seen_and_half_written_ones_wait(
    client: TestClient, run: RunDirectory, videos: list[Path]
) -> None:
    assert get(client, "updates")["updates"][-1] == 3
    before = client.get("/api/runs").json()[0]["revision"]
    text = json.dumps(group_record(videos, 4, 0)) + "\n"
    with (run.path / "groups.jsonl").open("a") as file:
        file.write(text[:100])
        file.flush()
        assert get(client, "updates")["updates"][-1] == 3
        file.write(text[100:])
    assert get(client, "updates")["updates"][-1] == 4
    assert get(client, "groups", update=4)["video_id"] == [videos[0].stem]
    assert client.get("/api/runs").json()[0]["revision"] != before


def test_lines_that_are_no_records_are_left_out_and_counted(client: TestClient, run: RunDirectory) -> None:
    for name in ("groups", "metrics", "evaluations"):
        with (run.path / f"{name}.jsonl").open("ab") as file:
            file.write(b'{"attempt": 0, "upd{"attempt": 0, "update": 4}\n\n')
            file.write(b'{"attempt": 0, "update": 4, "reward/total": NaN}\n"text"\n\xff\xfe\n')
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(metrics_record(5)) + "\n")
    assert get(client, "curves")["version"] == [1, 2, 3, 4, 6]
    assert get(client, "updates")["updates"] == [0, 1, 2, 3]
    assert len(get(client, "evaluations")["evaluations"]) == 2
    assert client.get("/api/runs").json()[0]["broken_lines"] == 15


@pytest.mark.parametrize("content", [{}, {"run.json": "{"}, {"config.json": "[]", "metrics.jsonl": '{"a'}])
def test_a_run_that_has_hardly_begun_shows_empty_views(tmp_path: Path, content: dict[str, str]) -> None:
    path = tmp_path / "runs" / "first"
    path.mkdir(parents=True)
    for name, text in ({"metrics.jsonl": ""} | content).items():
        (path / name).write_text(text)
    with serving(Catalogue([], tmp_path / "runs")) as client:
        assert client.get("/api/runs").json()[0]["updates"] == 0
        curves = get(client, "curves")
        empty = ("sections", "version", "time", "series", "evaluations")
        assert [curves[name] for name in empty] == [[], [], [], {}, {}]
        assert get(client, "spread")["version"] == []
        assert get(client, "updates")["updates"] == []
        assert get(client, "evaluations")["evaluations"] == []
        assert get(client, "fleet")["workers"] == []
        assert client.get("/api/groups", params={"run": "first", "update": 0}).status_code == 404


def test_missing_and_foreign_videos_are_named_and_not_opened(
    client: TestClient, run: RunDirectory, videos: list[Path], tmp_path: Path
) -> None:
    missing, outside = group_record(videos, 4, 0), group_record(videos, 4, 1)
    missing["clean"]["ref"]["path"] = str(videos[0].with_name("gone.mp4"))
    outside["clean"]["ref"]["path"] = str(videos[0].parent / ".." / "secret.mp4")
    run.append("groups", missing, outside)
    answers = [
        client.get("/frames/group", params={"run": "first", "offset": offset})
        for offset in get(client, "groups", update=4)["offset"]
    ]
    assert [a.status_code for a in answers] == [404, 404]
    assert "gone.mp4: No such file" in answers[0].json()["error"]
    assert "outside of the run's data root" in answers[1].json()["error"]


def test_a_decoder_that_passes_its_deadline_or_dies_is_replaced(videos: list[Path]) -> None:
    first, second = (FrameRequest(str(path), 2, 48, "auto", True) for path in videos[:2])
    hurried = FrameReader(timeout_s=0.001)  # shorter than any process takes to start
    with closing(hurried), pytest.raises(VideoError, match="not decoded within 0.001 s"):
        hurried.sheet(first)
    with closing(FrameReader()) as reader:
        assert reader.sheet(first).info.px == (48, 48)
        (child,) = active_children()
        child.kill()
        child.join()
        with pytest.raises(VideoError, match="the decoder crashed"):
            reader.sheet(second)
        assert reader.sheet(second).png.startswith(b"\x89PNG")


def test_nothing_but_the_shown_runs_can_be_asked_for(client: TestClient) -> None:
    for name in ("../first", "/etc", "second", ""):
        assert client.get("/api/curves", params={"run": name}).status_code == 404
    for split in ("../../config", "../v000000-test", "*"):
        query: dict[str, Any] = {"run": "first", "version": 0, "split": split}
        assert client.get("/api/ranking", params=query).status_code == 404
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2frun_dir.py", "/api/none"):
        assert client.get(path, params={"run": "first"}).status_code == 404
    assert client.get("/api/group", params={"run": "first", "offset": 1}).status_code == 404
    assert client.get("/api/group", params={"run": "first", "offset": "x"}).status_code == 422


def test_it_only_reads(client: TestClient, run: RunDirectory) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/api/runs").status_code == 405
    get(client, "spread")
    get(client, "fleet")
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_on_loopback_only_its_own_names_are_answered(client: TestClient) -> None:
    """A site whose name is made to point at 127.0.0.1 sends its own name in the Host header."""
    for host in ("localhost:8420", "127.0.0.1:1", "127.0.0.2:8420", "[::1]:8420", "LOCALHOST"):
        assert client.get("/api/runs", headers={"host": host}).status_code == 200
    for host in (
        "evil.example",
        "localhost.evil.example:8420",
        "127.0.0.1.evil.example",
        "127.evil.example",
        "",
    ):
        assert client.get("/api/runs", headers={"host": host}).status_code == 421
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "node-1", "127.evil.example", ""))


def test_with_a_token_nothing_is_shown_without_it(run: RunDirectory) -> None:
    catalogue = Catalogue([str(run.path)])
    with serving(catalogue, token="söcret", loopback=False) as client:
        for path in ("/", "/api/runs", "/static/app.js", "/frames/group"):
            assert client.get(path).status_code == 401
            assert client.get(path, params={"token": "wrong"}).status_code == 401
        moved = client.get("/", params={"token": "söcret", "a": "b"}, follow_redirects=False)
        assert (moved.status_code, moved.headers["location"]) == (303, "/?a=b")
        assert "HttpOnly" in moved.headers["set-cookie"]
        assert "samesite=strict" in moved.headers["set-cookie"].lower()
        assert client.get("/api/runs").status_code == 200, "the cookie stands for the token"


def test_which_runs_are_shown(run: RunDirectory, tmp_path: Path) -> None:
    second = RunDirectory(run.path.parent / "second")
    second.create("{}", "")
    second.start_attempt(0)
    (run.path.parent / "notes").mkdir()
    assert list(Catalogue([], run.path.parent).runs()) == ["second", "first"], "the newest first"
    assert list(Catalogue(["first", str(second.path)], run.path.parent).runs()) == ["first", "second"]
    catalogue = Catalogue([], run.path.parent)
    RunDirectory(run.path.parent / "third").create("{}", "")
    assert "third" in catalogue.runs(), "runs that start later appear"
    with pytest.raises(RunDirectoryError, match=r"forst does not exist; runs in .*: first, second, third"):
        Catalogue(["forst"], run.path.parent)
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        Catalogue([str(run.path.parent / "notes")], run.path.parent)
    with pytest.raises(RunDirectoryError, match="holds no run yet"):
        Catalogue([], tmp_path / "none")
