"""`launch.py score` of a bucket's folder and of a web server's file, by the real engine."""

import json
from pathlib import Path

import pytest

from tests.cli.test_command_line import launch
from tests.data.file_servers import FlakyServer, http_server, s3_server, upload

CLIPS = sorted(Path("demo/built/test").glob("*.mp4"))[:3]


@pytest.mark.slow
@pytest.mark.engine
def test_videos_are_scored_where_they_are(tmp_path: Path) -> None:
    pytest.importorskip("moto")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    out, cache = tmp_path / "scores.jsonl", tmp_path / "cache"
    served = FlakyServer({"/clip.mp4": CLIPS[0].read_bytes()})
    with s3_server(), http_server(served):
        urls = [upload(clip, f"folder/{clip.name}") for clip in CLIPS]
        upload(broken, "folder/zz.mp4")
        places = ("s3://videos/folder", f"{served.url}/clip.mp4")
        code, output, _ = launch("score", *places, "--out", str(out), "--cache-dir", str(cache))
    rows = {row["path"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert code == 1, output  # one of them is no video
    assert rows.keys() == {*urls, "s3://videos/folder/zz.mp4", f"{served.url}/clip.mp4"}
    assert "not a readable video" in rows["s3://videos/folder/zz.mp4"]["failure"]
    assert all(rows[url]["score"] is not None for url in urls)
    # The same file has the same score, wherever it lies.
    assert rows[f"{served.url}/clip.mp4"]["score"] == rows[urls[0]]["score"]
    assert len([*cache.glob("*.video.mp4")]) == 5
    for text in (output, *(file.read_text() for file in tmp_path.glob("scores*"))):
        assert "not-a-secret" not in text
        assert "loopback" not in text
