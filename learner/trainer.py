"""One rank's part of an update: forward and backward passes over its share, synchronised with the other
ranks.

Ranks must make the same collectives in the same order. So all run the same number of forward passes: the
largest number that any rank needs. The other ranks add passes with a single completion and a loss of zero.
Every pass runs every module once, and no decision depends on numbers that only one rank has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.frame_tokens import DEFAULT_FRAME_TOKENS, FrameTokens
from learner.batch_planning import Piece, filler, plan_batches
from learner.batches import Batches
from learner.checkpoint import load_checkpoint, save_checkpoint
from learner.config import LearnerConfig
from learner.grpo import LossSums, TokenBatch, grpo_loss, learning_rate, token_weights
from learner.inputs import EncodedGroup, GroupEncoder, MicroBatch, build_micro_batch
from learner.lora import base_model
from learner.policy import Policy, choose_layout, prepare_model
from learner.records import RankShard, ReferenceLogprobs
from learner.weights import count_parameters
from learner.zero import Device, OptimizerFactory, adamw, load_sharded, reference_engine, train_engine


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """Settings that are the same for all ranks. `temperature` is the engines' sampling temperature. With
    `send_adapters` the engines get adapters instead of the whole model's weights."""

    config: LearnerConfig
    model_path: str
    total_updates: int
    temperature: float
    device: Device
    trust_remote_code: bool = False
    frame_tokens: FrameTokens = DEFAULT_FRAME_TOKENS
    send_adapters: bool = False


class Trainer:
    """The policy, its optimizer and, with a KL term, the frozen reference, all sharded by ZeRO-3.

    With LoRA the reference is the policy with its adapters disabled, and no second model is loaded.

    The process must have joined the learner's process group. All ranks must call each method together.
    """

    def __init__(self, spec: LearnerSpec, make_optimizer: OptimizerFactory = adamw) -> None:
        from transformers import AutoProcessor

        self._spec = spec
        self._config = spec.config
        self._device = torch.device(spec.device)
        processor = AutoProcessor.from_pretrained(spec.model_path, trust_remote_code=spec.trust_remote_code)
        self.processor = processor
        self._encoder = GroupEncoder(processor, spec.frame_tokens)
        policy = self._build_policy()
        self.layout = policy.layout
        self.engine = train_engine(policy, spec.config, spec.device, make_optimizer)
        self._reference = None
        if spec.config.kl_coefficient > 0 and spec.config.lora is None:
            self._reference = reference_engine(self._build_policy(), spec.config, spec.device)

    def _build_policy(self) -> Policy:
        spec = self._spec
        model = load_sharded(spec.model_path, spec.config, spec.device, spec.trust_remote_code)
        prepare_model(model, spec.config)
        return Policy(
            model,
            choose_layout(model, spec.config),
            self._encoder.sampleable,
            spec.temperature,
            spec.config.logprob_chunk_tokens,
        )

    def parameter_counts(self) -> tuple[int, int]:
        """Return the numbers of (trainable, frozen) parameters of the whole model."""
        return count_parameters(self.engine.module)

    def update(self, shard: RankShard, frames: Sequence[np.ndarray], version: int) -> dict[str, float]:
        """Train on this rank's share of one update.

        Args:
            shard: groups, advantages and the counts of the whole update.
            frames: clean frames of each group, uint8 [T, H, W, 3].
            version: number of updates before this one; determines the learning rate.

        Returns:
            metrics of the whole update, the same on every rank. A non-finite loss or gradient ends the update
            before its optimizer step. `learner/skipped` is 1 if no optimizer step was made before.
        """
        started_s = time.monotonic()
        # Make dropout reproducible when a run is resumed.
        torch.manual_seed(version * torch.distributed.get_world_size() + torch.distributed.get_rank())
        with self._batches(shard, frames) as batches:
            return self._train(shard, batches, version, started_s)

    def _train(self, shard: RankShard, batches: Batches, version: int, started_s: float) -> dict[str, float]:
        if shard.reference is None:
            reference = [self._reference_logprobs(batch) for batch, _ in batches]
        else:
            reference = [self._known_reference(shard.reference, batch) for batch, _ in batches]
        reference_s = time.monotonic() - started_s - batches.waited_s
        lr = learning_rate(version, self._config, self._spec.total_updates)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        old: list[Tensor] = []
        sums: list[LossSums] = []
        entropy = forward_s = backward_s = step_s = 0.0
        applied = 0
        world = torch.distributed.get_world_size()
        for step in range(self._config.optimizer_steps_per_update):
            sums, entropy = [], 0.0
            for i, (batch, real) in enumerate(batches):
                forward_from_s = time.monotonic()
                logprobs, entropies = self.engine(batch)
                if step == 0:
                    old.append(logprobs.detach())
                engine_logprobs, advantages, weights = self._token_data(shard, batch, real)
                loss, part = grpo_loss(
                    TokenBatch(logprobs, old[i], engine_logprobs, reference[i], advantages, weights),
                    self._config,
                )
                entropy += float(entropies.sum()) if real else 0.0
                backward_from_s = time.monotonic()
                # DeepSpeed averages gradients over ranks, but the loss is already a share of the global mean.
                self.engine.backward(loss * world if real else loss * 0.0, scale_wrt_gas=False)
                forward_s += backward_from_s - forward_from_s
                backward_s += time.monotonic() - backward_from_s
                if real:
                    sums.append(part)
            stepping_s = time.monotonic()
            self.engine.step()
            step_s += time.monotonic() - stepping_s
            if not self.engine.was_step_applied():
                break
            applied += 1
        metrics = self._reduce(sums, entropy, shard.tokens, batches)
        seconds = time.monotonic() - started_s
        metrics |= {
            "learner/grad_norm": float(self.engine.get_global_grad_norm()),
            "learner/lr": lr,
            "learner/skipped": float(applied == 0),
            "learner/tokens": float(shard.tokens),
            "learner/micro_batches": float(len(batches)),
            "learner/inputs_wait_s": batches.waited_s,
            "learner/reference_s": reference_s,
            "learner/forward_s": forward_s,
            "learner/backward_s": backward_s,
            "learner/optimizer_s": step_s,
            "learner/update_s": seconds,
            "learner/tokens_per_s": shard.tokens / seconds,
        }
        return metrics

    def logprobs(self, shard: RankShard, frames: Sequence[np.ndarray]) -> list[list[list[float]]]:
        """Return log-probs under the current policy: one list per group and completion."""
        found = self._by_completion(shard, frames, self._policy_logprobs)
        return [[part.tolist() for part in group] for group in found]

    def reference(self, shard: RankShard, frames: Sequence[np.ndarray]) -> list[ReferenceLogprobs]:
        """Return log-probs under the frozen reference, by group."""
        return self._by_completion(shard, frames, self._reference_logprobs)

    def _by_completion(
        self, shard: RankShard, frames: Sequence[np.ndarray], compute: Callable[[MicroBatch], Tensor | None]
    ) -> list[list[np.ndarray]]:
        """Return the results of `compute` for the tokens, as float32 [tokens] per group and completion."""
        found = [[np.empty(0, np.float32)] * len(g.completions) for g in shard.groups]
        with self._batches(shard, frames) as batches:
            for batch, real in batches:
                values = compute(batch)
                if real and values is not None:
                    parts = values.float().cpu().split(batch.lengths)
                    for (group, completion), part in zip(batch.owners, parts, strict=True):
                        found[group][completion] = part.numpy().copy()
        return found

    def save(self, folder: Path, extra: dict[str, Any]) -> None:
        save_checkpoint(self.engine, folder, extra)

    def load(self, folder: Path) -> dict[str, Any]:
        return load_checkpoint(self.engine, folder)

    def _batches(self, shard: RankShard, frames: Sequence[np.ndarray]) -> Batches:
        """Return this rank's forward passes, including fillers up to the largest number on any rank."""
        packed = self.layout == "packed"
        plan = shard.passes
        if plan is None:
            plan = plan_batches(shard.groups, self._config.micro_batch_tokens, packed)
        if shard.filler:
            plan = []
        most = torch.tensor([len(plan)], device=self._device)
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
        encoded: dict[int, EncodedGroup] = {}

        def lay_out(pieces: list[Piece]) -> MicroBatch:
            for index in {p.group for p in pieces} - encoded.keys():
                encoded[index] = self._encoder.encode(shard.groups[index], frames[index])
            batch = build_micro_batch(pieces, encoded, self.layout, self._encoder.pad_id)
            return batch.to(self._device)

        return Batches(
            [partial(lay_out, pieces) for pieces in plan],
            filler=partial(lay_out, [filler(shard.groups, packed)]),
            fillers=int(most) - len(plan),
            timeout_s=self._config.update_timeout_s,
        )

    def _token_data(self, shard: RankShard, batch: MicroBatch, real: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return the engine's log-probs, the advantages and the weights of the batch's tokens, float32 [N]
        each."""
        engine: list[float] = []
        advantages: list[float] = []
        for (group, completion), length in zip(batch.owners, batch.lengths, strict=True):
            engine += shard.groups[group].completions[completion].logprobs
            advantages += [shard.advantages[group][completion]] * length
        weights = token_weights(
            batch.lengths, self._config.loss_mean, shard.completions, shard.tokens, self._device
        )
        return (
            torch.tensor(engine, dtype=torch.float32, device=self._device),
            torch.tensor(advantages, dtype=torch.float32, device=self._device),
            weights if real else weights * 0,
        )

    def _policy_logprobs(self, batch: MicroBatch) -> Tensor:
        with torch.no_grad():
            logprobs, _ = self.engine(batch)
        return logprobs

    def _known_reference(self, known: Sequence[ReferenceLogprobs], batch: MicroBatch) -> Tensor:
        parts = [known[group][completion] for group, completion in batch.owners]
        return torch.from_numpy(np.concatenate(parts)).to(self._device)

    def _reference_logprobs(self, batch: MicroBatch) -> Tensor | None:
        if self._config.kl_coefficient == 0:
            return None
        if self._reference is None:
            with base_model(self.engine.module):
                logprobs, _ = self.engine(batch)
            return logprobs
        with torch.no_grad():
            logprobs, _ = self._reference(batch)
        return logprobs

    def _reduce(
        self, parts: list[LossSums], entropy: float, tokens: int, batches: Iterable[tuple[MicroBatch, bool]]
    ) -> dict[str, float]:
        """Compute global metrics from all ranks' sums. Means are over the update's tokens.

        Args:
            batches: (micro-batch, whether it counts); one that does not count only synchronises ranks.
        """
        positions = repeated = used = 0
        for batch, real in batches:
            size = batch.rows.input_ids.numel()
            positions += size if real else 0
            repeated += 0 if real else size
            used += batch.rows.tokens if real else 0
        columns = [asdict(p) for p in parts]
        names = ["loss", "kl_to_base", "mismatch_kl", "clipped", "importance"]
        total = torch.tensor(
            [math.fsum(c[n] for c in columns) for n in names] + [entropy, positions, repeated, used],
            dtype=torch.float64,
            device=self._device,
        )
        largest = torch.tensor(
            [max((c["importance_max"] for c in columns), default=0.0)],
            dtype=torch.float64,
            device=self._device,
        )
        torch.distributed.all_reduce(total)
        torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
        loss, kl, mismatch, clipped, importance, entropy_sum, positions, repeated, used = total.tolist()
        metrics = {
            "learner/loss": loss,
            "policy/mismatch_kl": mismatch / tokens,
            "policy/clip_fraction": clipped / tokens,
            "policy/importance_mean": importance / tokens,
            "policy/importance_max": float(largest),
            "policy/entropy": entropy_sum / tokens,
            "learner/padding_share": 1 - used / positions,
            "learner/repeated_share": repeated / (positions + repeated),
        }
        if self._config.kl_coefficient > 0:
            metrics["policy/kl_to_base"] = kl / tokens
        return metrics
