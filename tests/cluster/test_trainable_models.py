"""Models that cannot be trained are refused by what their config.json says, before anything starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.config import RunConfig
from cluster.preflight import read_job
from runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "gemma3"}, "type 'gemma3' cannot be trained: .* name the weights"),
        (
            {"model_type": "gemma4", "text_config": {"final_logit_softcapping": 30.0}},
            "type 'gemma4' cannot be trained: it caps its logits",
        ),
    ],
)
def test_families_that_cannot_be_trained_are_refused(
    config: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=reason):
        read_job(RunConfig.model_validate({"model": {"path": str(tmp_path)}}))
