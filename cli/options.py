"""Options shared by several commands."""

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[
    str | None,
    typer.Option(
        help="run directory, model folder or hub name; default: newest finished run, else the demo model",
        show_default=False,
    ),
]
Frames = Annotated[
    int | None, typer.Option("--frames", min=1, help="frames sampled per video; default: set by the model")
]
MaxPx = Annotated[
    int | None,
    typer.Option("--max-px", min=28, help="longer side of a frame in pixels; default: set by the model"),
]
MaxTokens = Annotated[
    int | None,
    typer.Option("--max-tokens", min=1, help="maximum tokens per answer; default: set by the model"),
]
DecoderName = Annotated[str, typer.Option(help="video decoder: auto, decord or pyav")]
Start = Annotated[float | None, typer.Option(metavar="SECONDS", help="use the video from this time on")]
End = Annotated[float | None, typer.Option(metavar="SECONDS", help="use the video up to this time")]
AsVideo = Annotated[bool, typer.Option("--as-video", help="treat a folder of numbered pictures as one video")]
FrameRate = Annotated[
    float | None, typer.Option(help="with --as-video: pictures per second", show_default="25")
]
CacheGb = Annotated[
    float | None,
    typer.Option(help="disk of each node's cache of videos fetched by URL, in GB", show_default="50"),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="folder of that cache; default: vqathinker-videos-UID in the temporary folder"),
]
FetchTimeout = Annotated[
    float | None,
    typer.Option(help="deadline of each of four tries to fetch a video, in seconds", show_default="120"),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="count truncated files as failed, instead of scoring what is left")
]
Replicas = Annotated[
    int | None, typer.Option(min=1, help="number of engines; default: 1; on a cluster, one per free GPU")
]
GpusPerReplica = Annotated[
    int | None, typer.Option(min=0, help="GPUs per engine; default: 1 if available, else 0")
]
Exact = Annotated[
    bool, typer.Option("--exact", help="make answers independent of batching, to the last bit; slower")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="run Python code that comes with the checkpoint")
]


def scoring_options(context: typer.Context) -> dict[str, object]:
    """The options of a command that are fields of ScoringSettings. `checkpoint` is left out, because it must
    first be resolved."""
    from evaluation.settings import ScoringSettings

    names = ScoringSettings.model_fields.keys() - {"checkpoint"}
    return {name: value for name, value in context.params.items() if name in names}
