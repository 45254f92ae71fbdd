"""Which videos of a manifest would fail in a run, and which would be marked, found out by decoding them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from data.manifest import read_manifest
from data.tables import check_table_name, write_table
from runtime.killable import Outcome, run_isolated

Verdict = Literal["good", "marked", "fails"]


@dataclass(frozen=True, slots=True)
class View:
    """What a run would look at, as in its data section."""

    frames_per_video: int
    max_frame_px: int
    decoder: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What a run would make of one file: why it `fails`, or what about it is `marked`. `found` is what the
    decoder tells of a file that can be decoded."""

    verdict: Verdict
    kind: str = ""
    reason: str = ""
    found: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    """Findings by video_id, and the table that they were written to."""

    table: Path
    findings: dict[str, Finding]

    def of(self, verdict: Verdict) -> dict[str, str]:
        """Reasons by video_id."""
        return {name: found.reason for name, found in self.findings.items() if found.verdict == verdict}


def check_manifest(
    manifest: Path,
    view: View,
    *,
    root: Path | None = None,
    out: Path | None = None,
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Checked:
    """Decode what a run would look at of every video of a manifest, and write a table of what was found.

    Args:
        root: folder that the manifest's paths start from; default: its own.
        out: the table, .csv, .jsonl or .parquet; default: MANIFEST.check.csv beside the manifest.
        processes: how many files are decoded at once.
        progress: called with files done and files in all.
    Raises:
        TableError: for a manifest that cannot be used, or an unknown form of `out`.
    """
    table = out or manifest.with_name(f"{manifest.stem}.check.csv")
    check_table_name(table)
    videos = read_manifest(manifest, root, check_files=False, root_option="--root")
    by_path = look_over([video.path for video in videos], view, processes, progress)
    findings = {video.video_id: by_path[video.path] for video in videos}
    rows = [_row(video.video_id, video.path, findings[video.video_id]) for video in videos]
    write_table(pd.DataFrame(rows).astype({"frames_in_all": "Int64"}), table)
    return Checked(table, findings)


def look_over(
    paths: Sequence[str], view: View, processes: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, Finding]:
    """What a run would make of each file."""
    files = list(dict.fromkeys(paths))
    jobs = [
        {
            "path": path,
            "n_frames": view.frames_per_video,
            "max_px": view.max_frame_px,
            "decoder": view.decoder,
        }
        for path in files
    ]
    outcomes = run_isolated(
        "data.prepare.look",
        jobs,
        processes,
        view.timeout_s,
        None if progress is None else lambda done: progress(done, len(files)),
    )
    return {path: _finding(outcome) for path, outcome in zip(files, outcomes, strict=True)}


def _finding(outcome: Outcome) -> Finding:
    if outcome.failure:
        return Finding("fails", "not_decoded", outcome.failure)
    result = outcome.result
    if "kind" in result:
        return Finding("fails", result["kind"], result["reason"])
    return Finding("marked" if result["marks"] else "good", "", "; ".join(result["marks"]), result)


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
