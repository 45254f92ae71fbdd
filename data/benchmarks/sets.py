"""The known benchmarks, with the layouts and scales of their labels.

The scales agree with the ranges of the published labels. CGVDS has labels from 1.71 to 6.06; its scale is the
seven-point continuous scale of ITU-T P.809 (extremely bad to ideal). A label outside its scale is an error.
`--scale` overrides a scale.
"""

from dataclasses import dataclass

from data.benchmarks.labels import Columns, Layout

Scale = tuple[float, float]
"""The labels that correspond to MOS 1 (worst) and MOS 5 (best). The first is larger if smaller labels are
better."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark that `launch.py prepare NAME` supports.

    scale: scale of its labels; None if unknown. `table_scale`: scale of its table, if that differs from the
        scale of its list or conversations.
    columns: columns of its table; None if it has no table.
    ending: regular expression of an ending that the names of videos have in only some of its downloads and
        tables; suffixes may differ too. None: names are the same in all of them.
    source: regular expression whose group is the content in a video's name, for benchmarks that repeat
        contents.
    """

    name: str
    title: str
    split: str
    scale: Scale | None
    table_scale: Scale | None = None
    columns: Columns | None = None
    ending: str | None = None
    source: str = ""

    def scale_of(self, layout: Layout) -> Scale | None:
        """Return the scale of the labels in a file with this layout."""
        return self.table_scale if layout == "table" and self.table_scale else self.scale


_LSVQ_COLUMNS = ("name",), ("mos",)

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "lsvq-train",
            "LSVQ, training part: conversations, or labels_train_test.csv",
            "train",
            (1, 5),
            table_scale=(0, 100),
            columns=Columns(*_LSVQ_COLUMNS, only=("is_test", "false")),
        ),
        Benchmark(
            "lsvq-test",
            "LSVQ, test part: annotation list, or labels_train_test.csv",
            "test",
            (0, 100),
            columns=Columns(*_LSVQ_COLUMNS, only=("is_test", "true")),
        ),
        Benchmark(
            "lsvq-1080p",
            "LSVQ, 1080p part: annotation list, or labels_test_1080p.csv",
            "test",
            (0, 100),
            columns=Columns(*_LSVQ_COLUMNS),
        ),
        Benchmark(
            "konvid-1k",
            "KoNViD-1k: annotation list (labels times 20), or KoNViD_1k_attributes.csv or _mos.csv",
            "test",
            (20, 100),
            table_scale=(1, 5),
            columns=Columns(("flickr_id", "file_name"), ("mos",)),
            ending="_[a-z]+_centercrop_960x540_8s",
        ),
        Benchmark(
            "live-vqc",
            "LIVE-VQC: annotation list, data.mat, or a CSV made of it",
            "test",
            (0, 100),
            columns=Columns(("video_list", "file", "video_name"), ("mos",)),
            ending="NEW",
        ),
        Benchmark(
            "youtube-ugc",
            "YouTube-UGC: annotation list, or its sheet of MOS saved as CSV",
            "test",
            (1, 5),
            columns=Columns(("vid",), ("MOS full", "mos")),
            ending=r"_crf_\d+_ss_\d+_t_[\d.]+",
        ),
        Benchmark("live-yt-gaming", "LIVE-YT-Gaming: annotation list", "test", (0, 100), source=r"^(.+)-\d+"),
        Benchmark("cgvds", "CGVDS: annotation list", "test", (1, 7), source=r"^([^_]+)_"),
        Benchmark(
            "waterloo-ivc-4k",
            "Waterloo-IVC-4K: annotation list",
            "test",
            (0, 100),
            source=r"^[^_]+_(\d+)_",
        ),
        Benchmark(
            "live-yt-hfr",
            "LIVE-YT-HFR: annotation list",
            "test",
            (0, 100),
            ending="",  # the list names .mp4 files, but the files are .webm
            source=r"^(.+)_crf_\d+_\d+fps",
        ),
        Benchmark("vdpve", "VDPVE: annotation list", "test", (0, 100), source=r"^([A-Z]\d+)_"),
    )
}
