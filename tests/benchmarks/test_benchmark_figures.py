"""What benchmarks make of their measurements: the pure parts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import learner_packing, machine, versus_trl, where_time_goes
from benchmarks.cost_growth import PHASES, SWEEPS, Size, Step, sizes, sweep_rows
from benchmarks.learner_side import UpdateCost
from benchmarks.overhead.rollout import Size as RolloutSize
from benchmarks.overhead.rollout import Turn, row
from benchmarks.small_model import ANSWER_EVERY_TOKENS, SMALL, make_batch, make_small_model
from benchmarks.trl.job import Job, our_settings, peer_settings
from benchmarks.versus_trl import Side
from cluster.config import load_config
from data.prompt import sampleable_token_ids, unsampleable_token_ids
from monitoring.run_dir import RunDirectory
from rewards.parser import parse_score

JOB = Job("model", "/clips/manifest.csv", 6, 448, 4, 8, 200, 2560, 3)


def test_the_processor_is_named_with_its_numbers() -> None:
    cpuinfo = "cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nmodel name\t: other\n"
    assert machine.processor_name(cpuinfo) == "AMD EPYC (cpu family 25, model 17)"
    assert machine.processor_name("model name : Xeon") == "Xeon"


def test_the_machine_is_described_in_json() -> None:
    described = json.loads(json.dumps(machine.describe_machine()))
    assert described["cores"] >= 1
    assert {"torch", "transformers", "deepspeed", "ray"} <= set(described["versions"])


def test_a_table_has_a_line_for_each_row_and_no_needless_digits() -> None:
    lines = machine.table([{"side": "packed", "s": 1.23456}, {"side": "b", "s": 12345.6}]).splitlines()
    assert lines[0] == "| side   | s     |"
    assert lines[2:] == ["| packed | 1.23  |", "| b      | 12346 |"]


def test_figures_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine.write_figures({"cores": 2, "some_rows": [{"a": 1}]}, tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text()) == {"cores": 2, "some_rows": [{"a": 1}]}
    assert "some rows\n\n| a |" in capsys.readouterr().out


def test_packing_is_compared_with_the_faster_unpacked_side_turn_by_turn() -> None:
    costs = {
        "packed": [UpdateCost(1.0, 2.0), UpdateCost(10.0, 2.0), UpdateCost(1.0, 2.0)],
        "large": [UpdateCost(3.0, 9.0), UpdateCost(30.0, 9.0), UpdateCost(4.0, 9.0)],
        "small": [UpdateCost(4.0, 8.0), UpdateCost(40.0, 8.0), UpdateCost(5.0, 8.0)],
    }
    point = learner_packing.Point(6, 8, 1600, costs)
    assert point.baseline == "small"
    found = point.row(completion_tokens=200)
    assert found["ratio"] == 4.0, "the median of ratios, not the ratio of medians"
    assert found["processor ratio"] == 4.0
    assert found["token ratio"] == pytest.approx(8 * 1800 / (1600 + 8 * 200))


def test_rollout_ratios_are_of_tokens_a_second() -> None:
    size = RolloutSize(Path("m"), 2, 4, 8, 1, 96, 512)
    turns = [(Turn(100, 1.0, 1.0), Turn(110, 1.0, 1.1)), (Turn(100, 2.0, 1.0), Turn(90, 1.0, 1.0))]
    found = row(size, turns)
    assert found["ratio"] == pytest.approx((1.1 + 1.8) / 2)
    assert found["processor ratio"] == pytest.approx((1.0 + 0.9) / 2)


def test_every_size_of_the_sweeps_is_measured_once() -> None:
    found = sizes()
    assert len(found) == len(set(found)) == 1 + sum(len(values) - 1 for values in SWEEPS.values())
    assert Size() in found


def test_growth_is_against_the_smallest_size() -> None:
    def step(size: Size) -> Step:
        seconds = dict.fromkeys(PHASES, 0.0) | {"sampling": 1.0 * size.completions, "update": 2.0}
        return Step(seconds, 100 * size.completions, 10)

    steps = {size: [step(size)] for size in sizes()}
    last = sweep_rows(1, "completions", steps)[-1]
    assert last["to"] == 16
    assert last["sampling growth"] == 4.0
    assert last["update growth"] == 1.0
    assert last["learner work growth"] == 4.0
    assert last["step growth"] == pytest.approx(18 / 6)


def test_each_moment_of_a_step_belongs_to_one_part() -> None:
    busy = {"update": [(4.0, 7.0)], "sampling": [(0.5, 2.0), (1.5, 5.0)], "rewards": [(2.0, 2.5)]}
    assert where_time_goes.split_step((0.0, 8.0), busy) == {
        "update": 3.0,
        "sampling": 3.5,
        "rewards": 0.0,
        "alone": 1.5,
    }


def test_a_run_is_split_by_its_trace(tmp_path: Path) -> None:
    """Two updates of 10 s; the second counts. The learner's call takes 4 s, of which its ranks compute 3."""
    begins = {"rollout-0": ("clip", 0, 4e6), "rewards": ("cohort 0", 4e6, 1e6)}
    begins |= {"learner": ("update {}", 5e6, 4e6), "weights": ("version {}", 9e6, 0.5e6)}
    events = []
    for pid, (actor, (name, ts, dur)) in enumerate(begins.items()):
        events.append({"name": "process_name", "ph": "M", "pid": pid, "args": {"name": actor}})
        for update in range(2):
            number = update + (actor == "weights")
            start = ts + update * 10e6
            events.append({"name": name.format(number), "ph": "X", "pid": pid, "ts": start, "dur": dur})
    run = RunDirectory(tmp_path)
    run.create("{}", "")
    attempt = run.start_attempt(0)
    run.trace.write_text(json.dumps(events))
    step = {"attempt": attempt, "timing/step_s": 9.5, "learner/update_s": 3.0}
    run.append("metrics", *({"update": update} | step for update in range(2)))
    found = where_time_goes.where_time_goes(tmp_path)
    assert found["steps"] == 1
    seconds = {part["part"]: part["s a step"] for part in found["where_time_goes"]}
    assert seconds == pytest.approx(
        {
            "update": 3.0,
            "weights": 0.5,
            "sampling": 4.0,
            "rewards": 1.0,
            "decoding": 0.0,
            "handing over": 1.0,
            "alone": 0.0,
        }
    )
    assert found["controller_and_rewards_percent"] == pytest.approx(100 * 2 / 9.5, abs=0.01)


def test_a_run_without_a_trace_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trace.json is missing: train with --metrics.trace=true"):
        where_time_goes.where_time_goes(tmp_path)


def test_versus_counts_no_first_update() -> None:
    theirs, ours = Side([100.0, 8.0, 8.0], [100.0, 16.0, 16.0], 200.0), Side([50.0, 2.0, 2.0], [1, 4, 4], 100)
    trl, mine, ratio = versus_trl.rows(JOB, [(theirs, ours)])
    assert (trl["completions/s"], mine["completions/s"], ratio["completions/s"]) == (4.0, 16.0, 4.0)
    assert ratio["completions/processor s"] == 4.0
    assert ratio["completions/s, whole run"] == 2.0


def test_both_systems_are_given_the_same_job() -> None:
    ours = load_config(None, our_settings(JOB, Path("/run"), cores=2))
    theirs = peer_settings(JOB, Path("/out"), batch=8, bf16=False, suppressed=[3])
    assert ours.schedule.completions_per_video == theirs["num_generations"] == 8
    assert ours.rollout.max_completion_tokens == theirs["max_completion_length"] == 200
    assert ours.learner.kl_coefficient == theirs["beta"]
    assert ours.learner.lr == theirs["learning_rate"]
    assert ours.schedule.updates == theirs["max_steps"]
    per_update = theirs["per_device_train_batch_size"] * theirs["gradient_accumulation_steps"]
    assert per_update == ours.schedule.videos_per_cohort * 8 == 32
    assert ours.schedule.max_staleness == 0
    on_gpu = replace(JOB, device="cuda")
    assert load_config(None, our_settings(on_gpu, Path("/run"), cores=2)).shares_gpu
    assert not peer_settings(on_gpu, Path("/out"), batch=8, bf16=True, suppressed=[3])["use_cpu"]
    with pytest.raises(ValueError, match="32 completions an update are no multiple of 5"):
        peer_settings(JOB, Path("/out"), batch=5, bf16=False, suppressed=[])


def test_the_small_model_never_ends_an_answer_and_now_and_then_gives_a_score(tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    path = make_small_model(tmp_path)
    processor = AutoProcessor.from_pretrained(path)
    words = sampleable_token_ids(processor)
    assert processor.tokenizer.eos_token_id in unsampleable_token_ids(processor)
    scores = [word for word in words if parse_score(processor.tokenizer.decode([word]))]
    assert len(scores) == SMALL.vocabulary // ANSWER_EVERY_TOKENS
    model = AutoModelForImageTextToText.from_pretrained(path)
    assert 8e6 < sum(p.numel() for p in model.parameters()) < 10e6
    batch = make_batch(path, n_videos=1, n_frames=2, completions=3, completion_tokens=5)
    (group,) = batch.groups
    image = model.config.image_token_id
    assert group.prompt_token_ids.count(image) == 2 * 256
    assert [len(c.token_ids) for c in group.completions] == [5] * 3
