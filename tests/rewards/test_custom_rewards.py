"""A user's own reward: from its file to the table of a cohort, and what is wrong with others."""

import re
from pathlib import Path

import numpy as np
import pytest

from rewards.cohort import CohortTexts, score_cohort
from rewards.config import RewardConfig
from rewards.registry import (
    BUILT_IN,
    check_custom,
    describe_rewards,
    rewards_of,
    samples_perturbed,
    weight_of,
)
from rewards.reward import RewardError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "method.md"
HEAD = 'NAME = "mine"\nWEIGHT = 0.5\nDESCRIPTION = "Mine."\n'


def config_of(tmp_path: Path, text: str, name: str = "mine.py") -> RewardConfig:
    path = tmp_path / name
    path.write_text(text)
    return RewardConfig(custom=[str(path)]).with_custom_texts()


def documented() -> str:
    """The example of docs/method.md."""
    (block,) = re.findall(r"```python\n(\"\"\"[^`]*?def reward\([^`]*?)```", DOCS.read_text(), re.DOTALL)
    return block


def cohort(*texts: str) -> CohortTexts:
    return CohortTexts([3.0], ["a"], [False], [list(texts)], [None])


def test_the_documented_example_pays_what_it_says(tmp_path: Path) -> None:
    config = config_of(tmp_path, documented(), "names_it.py")
    check_custom(config)
    named = "<think>The noise is strong.</think><answer>3.00</answer>"
    plain = "<think>It looks bad.</think><answer>3.00</answer>"
    unparsed = "<think>The noise is strong.</think>"
    table = score_cohort(cohort(named, plain, unparsed), config)
    assert table.rewards["names_it"][0].tolist() == [1.0, 0.0, 0.0]
    weight = rewards_of(config)[-1].weight
    assert table.total[0][0] - table.total[0][1] == pytest.approx(weight)
    assert table.total[0][2] == 0


def test_an_answer_that_does_not_parse_is_never_paid(tmp_path: Path) -> None:
    text = HEAD + "import numpy as np\ndef reward(answers, settings):\n"
    text += "    return [np.where(np.isnan(s), np.inf, 7.0) for s in answers.scores]\n"
    config = config_of(tmp_path, text)
    check_custom(config)
    table = score_cohort(cohort("<answer>3.00</answer>", "none"), config)
    assert table.rewards["mine"][0].tolist() == [7.0, 0.0]


def test_a_reward_reads_the_ones_that_it_needs_for_both_copies(tmp_path: Path) -> None:
    text = HEAD + 'NEEDS = ("regression",)\nNEEDS_PERTURBED = True\ndef reward(answers, settings):\n'
    text += "    clean, other = (copy.rewards['regression'] for copy in (answers, answers.perturbed))\n"
    text += "    return [c - (o.mean() if len(o) else 0) for c, o in zip(clean, other, strict=True)]\n"
    config = config_of(tmp_path, text).model_copy(update={"temporal_weight": 0.0})
    check_custom(config)
    assert samples_perturbed(config)
    assert not samples_perturbed(RewardConfig.model_validate({"temporal_weight": 0.0}))
    right, wrong = "<answer>3.00</answer>", "<answer>1.00</answer>"
    table = score_cohort(CohortTexts([3.0], ["a"], [False], [[right]], [[wrong]]), config)
    assert table.rewards["mine"][0][0] == pytest.approx(1.0, abs=0.001)


def test_the_record_of_a_run_names_every_reward(tmp_path: Path) -> None:
    config = config_of(tmp_path, documented(), "names_it.py")
    records = {record["name"]: record for record in describe_rewards(config)}
    assert list(records) == [*(reward.name for reward in BUILT_IN), "names_it"]
    assert len(records["names_it"]["sha256"]) == 64
    assert records["ranking"]["sha256"] is None
    assert records["ranking"]["weight"] == weight_of(BUILT_IN[1], config) == 1.0


def test_the_text_travels_with_the_settings(tmp_path: Path) -> None:
    config = config_of(tmp_path, documented(), "names_it.py")
    copied = RewardConfig.model_validate_json(config.model_dump_json())
    (tmp_path / "names_it.py").unlink()
    assert rewards_of(copied.with_custom_texts())[-1].name == "names_it"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("NAME = 'x'\n", r"mine\.py: defines no WEIGHT, DESCRIPTION, reward; a reward file needs"),
        (HEAD + "def reward(:\n", r"mine\.py, line 4: does not load: SyntaxError"),
        (HEAD + "import no_such_module\n", r"mine\.py, line 4: does not load: ModuleNotFoundError"),
        (HEAD + "reward = 3\n", r"mine\.py: reward is not a function"),
        (HEAD.replace("mine", "total") + "def reward(a, s): ...\n", r"NAME is 'total'; use lower-case"),
        (HEAD.replace("mine", "ranking") + "def reward(a, s): ...\n", r"its NAME 'ranking' is taken"),
        (HEAD.replace("0.5", "-1") + "def reward(a, s): ...\n", r"WEIGHT is -1; give a finite number"),
        (HEAD + "NEEDS = ('beauty',)\ndef reward(a, s): ...\n", r"NEEDS names beauty; the rewards before"),
        (HEAD + "def reward(a, s):\n    return a.nothing\n", r"mine\.py, line 5: reward\(.*\) failed"),
        (HEAD + "def reward(a, s):\n    return [[1.0]] * 3\n", r"returned groups of shape"),
        (HEAD + "def reward(a, s):\n    return [['x'] * len(g) for g in a.scores]\n", r"lists of numbers: "),
        (HEAD + "def reward(a, s):\n    return [s * float('nan') for s in a.scores]\n", r"is not finite"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(RewardError, match=complaint):
        check_custom(config_of(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.py"):
        RewardConfig(custom=[str(tmp_path / "absent.py")]).with_custom_texts()


def test_a_reward_that_fails_later_says_which_it_is(tmp_path: Path) -> None:
    text = (
        HEAD + "def reward(a, s):\n    return [g * (float('nan') if len(g) > 3 else 1) for g in a.scores]\n"
    )
    config = config_of(tmp_path, text)
    check_custom(config)
    with pytest.raises(RewardError, match="reward 'mine' returned a value that is not finite"):
        score_cohort(cohort(*["<answer>3.00</answer>"] * 4), config)
    assert np.isfinite(score_cohort(cohort("<answer>3.00</answer>"), config).total[0]).all()
