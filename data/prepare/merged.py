"""Merges several manifests into one, because a run reads only one manifest."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from data.manifest import manifest_name, read_manifest
from data.prepare.labelled import PrepareError
from data.records import Video
from data.tables import write_table
from data.urls import is_url


def merge(manifests: Sequence[Path], out: Path, check_files: bool = True) -> list[Video]:
    """Write the rows of all manifests to `out`, and return them. Paths are relative to its folder, or URLs.

    A row without a label set gets one named after its manifest, because labels of different manifests are not
    comparable by default. Columns that a run does not read are dropped.

    Raises:
        ManifestError: if a manifest cannot be used.
        PrepareError: if a local video is outside the folder of `out`, two videos have the same video_id, or
            two manifests' names would give their rows the same label set.
    """
    base = out.parent.resolve()
    rows = []
    named: dict[str, Path] = {}
    for manifest in manifests:
        for video in read_manifest(manifest, check_files=check_files):
            path = video.path
            if not is_url(path) and not Path(path).is_relative_to(base):
                raise PrepareError(
                    f"{manifest}: {path} is not below {base}: give an --out in a folder above all videos"
                )
            label_set = video.label_set
            if label_set == "default":
                label_set = manifest_name(manifest)
                if named.setdefault(label_set, manifest) != manifest:
                    raise PrepareError(
                        f"{named[label_set]} and {manifest}: rows of both have no label_set, and would be of "
                        f"one called '{label_set}': rename one of the files, or fill column label_set (with "
                        f"the same name in both if their labels are comparable)"
                    )
            if not is_url(path):
                path = Path(path).relative_to(base).as_posix()
            rows.append(asdict(video) | {"path": path, "label_set": label_set})
    twice = [name for name, count in Counter(row["video_id"] for row in rows).items() if count > 1]
    if twice:
        raise PrepareError(
            f"{out}: {len(twice)} video_ids are in more than one row, such as '{twice[0]}': give the videos "
            f"of different manifests different ones"
        )
    write_table(pd.DataFrame(rows), out)
    return read_manifest(out, check_files=False)
