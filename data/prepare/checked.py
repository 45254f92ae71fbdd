"""Decodes the videos of a manifest to find those that would fail in a run, or that have unusual facts
("marks").

Run as a program, it examines one file per line of input (runtime/killable.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from data.config import DataConfig
from data.fetch_settings import Fetching
from data.manifest import read_manifest
from data.records import VideoRef
from data.tables import check_table_name, write_table
from data.urls import Location, is_url
from data.video_file import DecoderName, VideoError
from runtime.killable import run_isolated, serve

Verdict = Literal["good", "marked", "fails"]

_WORDS = {
    "sar": "its pixels have the aspect ratio {}",
    "interlaced": "its fields are shown woven together",
    "transfer": "{} is not tone-mapped",
    "truncated": "{}",
    "damaged_frames": "frames {} are damaged",
}
"""The text that describes each mark of a video."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one file, with the reason if it `fails` or is `marked`. `found` is the FrameInfo of a
    file that can be decoded."""

    verdict: Verdict
    kind: str = ""
    reason: str = ""
    found: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    """Findings by video_id, and the path of the table that lists them."""

    table: Path
    findings: dict[str, Finding]

    def of(self, verdict: Verdict) -> dict[str, str]:
        """Return the reasons of the findings with this verdict, by video_id."""
        return {name: found.reason for name, found in self.findings.items() if found.verdict == verdict}


def check_manifest(
    manifest: Path,
    data: DataConfig,
    *,
    root: Location | None = None,
    out: Path | None = None,
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Checked:
    """Decode the frames of every video of a manifest as a run would, and write a table of the findings.

    Args:
        data: settings of the run.
        root: folder or URL that the manifest's paths are relative to; default: the manifest's folder.
        out: the table to write, .csv, .jsonl or .parquet; default: MANIFEST.check.csv in the manifest's
            folder.
        processes: number of files decoded at once.
        progress: called with the number of files done and the total number.
    Raises:
        TableError: if the manifest cannot be used, or the format of `out` is unknown.
    """
    table = out or manifest.with_name(f"{manifest.stem}.check.csv")
    check_table_name(table)
    videos = read_manifest(manifest, root, check_files=False, root_option="--root")
    by_path = examine([video.path for video in videos], data, processes, progress)
    findings = {video.video_id: by_path[video.path] for video in videos}
    rows = [_row(video.video_id, video.path, findings[video.video_id]) for video in videos]
    write_table(pd.DataFrame(rows).astype({"frames_in_all": "Int64"}), table)
    return Checked(table, findings)


def examine(
    paths: Sequence[str], data: DataConfig, processes: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, Finding]:
    """Decode each file as a run would."""
    files = list(dict.fromkeys(paths))
    outcomes = run_isolated(
        "data.prepare.checked",
        [
            [path, data.frames_per_video, data.max_frame_px, data.decoder, asdict(data.fetching)]
            for path in files
        ],
        processes,
        data.decode_timeout_s + data.fetching.budget_s * any(map(is_url, files)),
        None if progress is None else lambda done: progress(done, len(files)),
    )
    return {
        path: Finding("fails", "not_decoded", outcome.failure)
        if outcome.failure
        else Finding(**outcome.result)
        for path, outcome in zip(files, outcomes, strict=True)
    }


def _examine(job: tuple[str, int, int, DecoderName, dict[str, Any]]) -> dict[str, Any]:
    """Examine one file, and return its Finding as a dict."""
    from data.decode import Reading, decode_ref

    path, n_frames, max_px, decoder, fetching = job
    reading = Reading(max_px, decoder, fetching=Fetching(**fetching))
    info, _ = decode_ref(VideoRef(path, path, n_frames), reading)
    if isinstance(info, VideoError):
        return asdict(Finding("fails", info.kind, info.reason))
    marks = [
        _WORDS[name].format(", ".join(map(str, value)) if isinstance(value, tuple) else value)
        for name, value in info.facts.marks.items()
    ]
    if info.n_total < len(info.indices):
        marks.append(f"it has {info.n_total} frames, of which {len(info.indices)} are taken")
    return asdict(Finding("marked" if marks else "good", "", "; ".join(marks), asdict(info)))


def _row(video_id: str, path: str, finding: Finding) -> dict[str, Any]:
    found, facts = finding.found, finding.found.get("facts", {})
    return {
        "video_id": video_id,
        "path": path,
        "verdict": finding.verdict,
        "kind": finding.kind,
        "reason": finding.reason,
        "damaged_frames": " ".join(map(str, facts.get("damaged_frames", ()))),
        "truncated": facts.get("truncated", ""),
        "sar": facts.get("sar", ""),
        "interlaced": facts.get("interlaced"),
        "transfer": facts.get("transfer", ""),
        "frames_in_all": found.get("n_total"),
        "source_size": "{1}x{0}".format(*found["source_px"]) if found else "",
        "decoder": found.get("decoder", ""),
    }


if __name__ == "__main__":
    serve(_examine)
