"""The words of the tiny base, as `benchmarks.trace_attribution` looks for them in its traces."""

from benchmarks.trace_attribution import Vocabulary
from demo.base_model.traces import PHRASES, STRENGTHS

VOCABULARY = Vocabulary(
    nouns={kind: phrase.noun for kind, phrase in PHRASES.items()},
    strengths=STRENGTHS,
    # The demo's kinds that no model was shown: what a person who knows only the others would call them.
    counts_as={
        "av1": frozenset({"h264", "hevc"}),  # block compression
        "motion_blur": frozenset({"blur"}),
        "impulse": frozenset({"noise"}),
        "judder": frozenset({"freeze"}),
    },
)
