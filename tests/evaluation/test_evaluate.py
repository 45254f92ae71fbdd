"""`launch.py evaluate`: which rows are evaluated, predictions of any method, and what is written."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from cli.report_tables import print_report
from data.manifest import ManifestError
from data.records import Video
from evaluation.comparison import Answer, report
from evaluation.predictions import PredictionsError, read_predictions
from evaluation.report_files import write_report
from evaluation.report_plots import plot_report
from evaluation.test_sets import LabelledSet, read_sets

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ROOT / "demo" / "built"
rng = np.random.default_rng(0)


def labelled_set(name: str, n: int, base: Path = Path("/videos")) -> LabelledSet:
    """Videos of two of a source, on a scale of 0 to 100."""
    mos = rng.uniform(1, 5, n)
    return LabelledSet(
        name,
        base,
        tuple(
            Video(
                f"{i}.mp4", str(base / f"{i}.mp4"), m, "test", source=f"s{i // 2}",
                original_mos=25 * (m - 1), scale_low=0, scale_high=100,
            )
            for i, m in enumerate(mos)
        ),
    )  # fmt: skip


def answers(of: LabelledSet, noise: float) -> dict[str, Answer]:
    return {
        v.video_id: Answer(float(np.clip(v.mos + rng.normal(0, noise), 1, 5).round(2))) for v in of.videos
    }


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_which_rows_are_evaluated(tmp_path: Path) -> None:
    rows = ["path,mos,split,label_set,headline"]
    rows += [f"{i}.mp4,3,{'test' if i < 4 else 'ood'},default,{i % 2}" for i in range(8)]
    rows += ["a.mp4,3,test,lsvq/1080p,true", "b.mp4,3,train,default,true"]
    manifest = write(tmp_path / "mine.csv", "\n".join(rows) + "\n")

    def found(*splits: str, headline_only: bool = False) -> dict[str, int]:
        sets = read_sets([manifest], splits, headline_only, check_files=False)
        return {of.name: len(of.videos) for of in sets}

    assert found() == {"mine-test": 4, "lsvq-1080p-test": 1}
    assert found(headline_only=True) == {"mine-test": 2, "lsvq-1080p-test": 1}
    assert found("ood", "train") == {"mine-ood": 4, "mine-train": 1}
    with pytest.raises(ManifestError, match=r"no row has split 'val' \(--split\); it has test, ood, train"):
        found("val")
    with pytest.raises(ManifestError, match="a second set is called 'mine-test'"):
        read_sets([manifest, manifest], check_files=False)
    with pytest.raises(ManifestError, match="does not exist: correct the path, or set --root"):
        read_sets([manifest])


def test_all_rows_are_evaluated_where_none_is_called_test(tmp_path: Path) -> None:
    folder = tmp_path / "konvid"
    folder.mkdir()
    manifest = write(folder / "manifest.csv", "path,mos\na.mp4,2\nb.mp4,3\n")
    (found,) = read_sets([manifest], check_files=False)
    assert (found.name, len(found.videos)) == ("konvid", 2)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predictions_of_any_method(tmp_path: Path, suffix: str) -> None:
    of = labelled_set("k", 5, tmp_path)
    table = pd.DataFrame(
        {
            "path": ["0.mp4", str(tmp_path / "1.mp4"), "./2.mp4", "3.mp4", "elsewhere.mp4"],
            "score": [60.0, 0.0, None, None, 1.0],
            "failure": ["", "", "", "cannot be decoded", ""],
        }
    )
    path = tmp_path / f"p{suffix}"
    if suffix == ".csv":
        table.to_csv(path, index=False)
    elif suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    assert read_predictions(path, [of], score_scale=(0, 100)) == {
        "k": {
            "0.mp4": Answer(3.4),
            "1.mp4": Answer(1.0),
            "2.mp4": Answer(None),
            "3.mp4": Answer(None, "cannot be decoded"),
        }
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,mos\n0.mp4,3\n", "needs the columns score and path"),
        ("path,score\n0.mp4,good\n", "row 2: score 'good' is not a number"),
        ("path,score\n0.mp4,nan\n", "row 2: score 'nan' is not a number"),
        ("path,score\n0.mp4,3\n./0.mp4,3\n", "row 3: '0.mp4' appears twice"),
        ("path,score\nother.mp4,3\n", "none of its 1 rows names a video of the sets, such as '0.mp4'"),
    ],
)
def test_bad_predictions_are_named_with_their_fix(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PredictionsError, match=re.escape(message)):
        read_predictions(write(tmp_path / "p.csv", text), [labelled_set("k", 5, tmp_path)])


def test_a_prediction_that_may_be_of_two_sets_is_refused(tmp_path: Path) -> None:
    sets = [labelled_set("a", 3, tmp_path / "a"), labelled_set("b", 3, tmp_path / "b")]
    with pytest.raises(PredictionsError, match="matches 2 videos"):
        read_predictions(write(tmp_path / "p.csv", "path,score\n0.mp4,3\n"), sets)
    found = read_predictions(write(tmp_path / "p.csv", f"path,score\n{tmp_path}/b/0.mp4,3\n"), sets)
    assert found == {"a": {}, "b": {"0.mp4": Answer(3.0)}}


def test_a_path_tells_apart_what_bears_the_same_id(tmp_path: Path) -> None:
    """`launch.py score` writes both; a path that is not of this machine leaves the id to tell."""
    sets = [labelled_set("a", 3, tmp_path / "a"), labelled_set("b", 3, tmp_path / "b")]
    rows = f"video_id,path,score\n0.mp4,{tmp_path}/a/0.mp4,2\n0.mp4,{tmp_path}/b/0.mp4,3\n"
    found = read_predictions(write(tmp_path / "p.csv", rows), sets)
    assert found == {"a": {"0.mp4": Answer(2.0)}, "b": {"0.mp4": Answer(3.0)}}
    found = read_predictions(
        write(tmp_path / "p.csv", "video_id,path,score\n1.mp4,/other/1.mp4,4\n"), sets[:1]
    )
    assert found == {"a": {"1.mp4": Answer(4.0)}}


def test_a_prediction_may_name_its_video_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    of = labelled_set("k", 2, tmp_path / "disk")
    found = read_predictions(write(tmp_path / "p.csv", f"path,score\n{tmp_path}/link/1.mp4,3\n"), [of])
    assert found == {"k": {"1.mp4": Answer(3.0)}}


def test_what_has_no_score_is_counted_and_left_out() -> None:
    of = labelled_set("k", 30)
    given = answers(of, 0.3) | {"3.mp4": Answer(None), "4.mp4": Answer(None, "broken file")}
    del given["5.mp4"]
    (result,) = report([of], {"m": {"k": given}}, 100, 0).results["k"].values()
    assert (result.videos, result.figures.n, result.unparsed) == (30, 27, 1)
    assert result.failures == {"4.mp4": "broken file", "5.mp4": "no prediction"}
    assert result.unparsed_share == pytest.approx(1 / 28)
    nothing = report([of], {"m": {"k": {}}}, 100, 0).results["k"]["m"]
    assert math.isnan(nothing.unparsed_share)
    assert nothing.figures.notes == {"correlations": "no video has a score"}


def test_models_are_compared_on_the_videos_that_both_score(tmp_path: Path) -> None:
    sets = [labelled_set("k", 60), labelled_set("two", 2)]
    good, poor = ({of.name: answers(of, noise) for of in sets} for noise in (0.2, 3.0))
    good["k"]["0.mp4"] = Answer(None)
    poor["k"]["1.mp4"] = Answer(None, "broken [file]")
    found = report(sets, {"good": good, "poor": poor}, 100, 0)
    assert [result.figures.n for result in found.results["k"].values()] == [58, 58]
    gain = found.differences["k"]["srcc"]
    values = [found.results["k"][model].figures.values["srcc"] for model in ("good", "poor")]
    assert gain.value == pytest.approx(values[0] - values[1])
    assert gain.excludes_zero

    console = Console(record=True, width=160)
    print_report(console, found)
    text = console.export_text()
    for expected in ("good minus poor", "PLCC 4-param logistic", "0–100", "broken [file]", "2 videos have"):
        assert expected in text

    write_report(found, {"seed": 0}, tmp_path)
    document = json.loads((tmp_path / "results.json").read_text())
    listed = [(s["set"], s["model"]) for s in document["sets"]]
    assert listed == [("k", "good"), ("k", "poor"), ("two", "good"), ("two", "poor")]
    assert document["sets"][0]["figures"]["srcc"] == pytest.approx(values[0])
    table = pd.read_csv(tmp_path / "table.csv").set_index(["model", "set"])
    assert table.loc[("good", "k"), "srcc"] == pytest.approx(values[0])
    assert table.loc[("good", "weighted mean"), "srcc"] == pytest.approx(values[0]), "`two` has no SRCC"
    assert table["plcc_fitted"].isna().loc[("good", "two")]
    of_k, of_mean = (table.loc[("good", name), "srcc_low"] for name in ("k", "plain mean"))
    assert of_mean == pytest.approx(of_k)
    differences = {(d["set"], d["figure"]): d["value"] for d in document["differences"]}
    assert differences["weighted mean", "krcc"] == pytest.approx(differences["k", "krcc"])
    assert differences["k", "rmse_raw"] < 0
    for path in plot_report(found, tmp_path):
        assert path.read_bytes().startswith(b"\x89PNG")


def evaluate(*arguments: str) -> str:
    """Output of the command, white space squeezed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), "evaluate", *arguments],
        capture_output=True, text=True, timeout=280, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr
    return re.sub(r"\s+", " ", done.stdout)


@pytest.mark.slow
@pytest.mark.engine
def test_a_checkpoint_is_asked_once_and_compared_with_predictions(tmp_path: Path) -> None:
    """24 of the demo's clips; the predictions are their labels."""
    clips = pd.read_csv(CLIPS / "manifest.csv")
    clips = clips[(clips.split == "test") & clips.headline].iloc[::7].head(24)
    manifest, perfect = tmp_path / "clips.csv", tmp_path / "perfect.csv"
    clips[["video_id", "path", "mos", "source"]].to_csv(manifest, index=False)
    clips.rename(columns={"mos": "score"})[["path", "score"]].to_csv(perfect, index=False)
    out = tmp_path / "out"
    command = (
        str(manifest), f"--root={CLIPS}", "--checkpoint=demo/tiny-internvl", f"--out={out}",
        "--bootstrap-samples=100",
    )  # fmt: skip
    assert "demo/tiny-internvl: agreement with MOS" in evaluate(*command)
    (record,) = json.loads((out / "results.json").read_text())["sets"]
    file = out / "demo-tiny-internvl" / "clips.jsonl"
    on_file = file.read_text()
    said = {row["video_id"]: row["score"] for row in map(json.loads, on_file.splitlines())}
    assert record["n"] + record["unparsed"] == len(clips) == len(said)
    assert record["failed"] == 0
    expected = pd.DataFrame({"said": clips.video_id.map(said), "mos": clips.mos}).corr("spearman")
    assert record["figures"]["srcc"] == pytest.approx(expected.loc["said", "mos"])

    again = evaluate(*command, f"--compare={perfect}")
    assert "24 of them have an answer" in again
    assert file.read_text() == on_file
    compared = json.loads((out / "results.json").read_text())
    assert compared["sets"][1]["figures"]["srcc"] == pytest.approx(1)
    assert compared["differences"][0]["value"] == pytest.approx(record["figures"]["srcc"] - 1)
    assert (out / "clips.png").exists()
