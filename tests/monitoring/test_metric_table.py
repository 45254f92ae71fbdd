"""Every metric that code records is declared, and every declared one is recorded."""

import re
from pathlib import Path

from monitoring.metric_table import METRICS, about, reward_names, sections
from monitoring.viewer.curves_view import _add_rate
from rewards.registry import BUILT_IN

ROOT = Path(__file__).resolve().parents[2]
RECORDED = re.compile(
    r"\"((?:checkpoint|rollout|policy|sync|timing|learner|data|staleness|reward)/[a-z_]+)\""
)


def recorded() -> set[str]:
    files = [path for room in ("cluster", "learner", "rollout") for path in (ROOT / room).rglob("*.py")]
    return {name for path in files for name in RECORDED.findall(path.read_text())}


def test_code_and_table_name_the_same_metrics() -> None:
    by_code = recorded()
    assert by_code <= set(METRICS), "declare it in monitoring/metric_table.py"
    rewards = {f"reward/{name}" for name in ("total", *(reward.name for reward in BUILT_IN))}
    assert set(METRICS) - by_code == rewards, "the table names a metric that no code records"


def test_a_users_reward_has_its_place_among_the_rewards() -> None:
    names = ["reward/total", "reward/ranking", "reward/mine", "timing/step_s", "eval/test/srcc"]
    shown = sections(names, {"ranking": "Order.", "mine": "Mine."})
    assert [(group, [m["name"] for m in metrics]) for group, metrics in shown] == [
        ("Rewards", ["reward/total", "reward/ranking", "reward/mine"]),
        ("Speed", ["timing/step_s"]),
    ]
    assert shown[0][1][2]["about"] == "Mean before weighting: Mine."
    assert reward_names([*names, "reward/group_std"]) == ["total", "ranking", "mine"]
    assert about("eval/test/srcc") == "eval/test/srcc"


def test_old_runs_get_their_sampling_rate() -> None:
    columns: dict[str, list[float | None]] = {"rollout/tokens": [300.0, None], "timing/step_s": [2.0, 1.0]}
    _add_rate(columns)
    assert columns["rollout/tokens_per_s"] == [150.0, None]
