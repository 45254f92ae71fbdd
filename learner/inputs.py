"""Converts groups and decoded frames to the tensors of one forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.errors import PermanentError
from data.frame_tokens import DEFAULT_FRAME_TOKENS, FrameTokens
from data.prompt import prompt_text, sampleable_token_ids
from data.records import Group
from learner.batch_planning import Piece
from learner.packing import Rows, TokenGroup, pack_groups, unpack_groups
from learner.records import Layout


class PromptMismatch(PermanentError, ValueError):
    """The engine's prompt differs from the one that the learner's processor makes from the same frames."""


class InvalidCompletion(PermanentError, ValueError):
    """A completion cannot have been sampled by an engine with this model's settings."""


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """A group as tensors for the model.

    `images` is the image processor's output for the frames: tensors whose first dimension runs over images,
    or over the patches of all images. An image is a frame or one tile of a frame.
    """

    tokens: TokenGroup
    images: dict[str, Tensor]
    n_images: int


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The tensors of one forward pass.

    `images` holds the images in the order of the vision tower's input. `image_of_slot` [image slots of all
    rows], if given, is the index of the image that fills each slot. `owners` holds (group, completion) pairs
    in the order of the rows' targets.
    """

    rows: Rows
    images: dict[str, Tensor]
    image_of_slot: Tensor | None
    owners: list[tuple[int, int]]
    lengths: list[int]

    def to(self, device: torch.device) -> MicroBatch:
        return replace(
            self,
            rows=self.rows.to(device),
            images={name: t.to(device) for name, t in self.images.items()},
        )


class GroupEncoder:
    """Encodes groups with a model's processor, and checks that each prompt equals the engine's."""

    def __init__(self, processor: Any, frame_tokens: FrameTokens = DEFAULT_FRAME_TOKENS) -> None:
        self._processor = processor
        self._image_options = frame_tokens.image_options(processor)
        self._prompts: dict[tuple[int, ...], list[int]] = {}
        self._sampleable = sampleable_token_ids(processor)
        self._sampleable_set = frozenset(self._sampleable)

    @property
    def sampleable(self) -> list[int]:
        """Token ids that may occur in a completion, ascending."""
        return self._sampleable

    @property
    def pad_id(self) -> int:
        """Token id for padding: any id that is no vision placeholder, because masks hide it."""
        return self._sampleable[0]

    def encode(self, group: Group, clean_frames: np.ndarray) -> EncodedGroup:
        """Encode a group; its perturbation, if any, is applied to the frames.

        Args:
            clean_frames: uint8 [T, H, W, 3].

        Raises:
            PromptMismatch: if the engine's prompt ids differ from the processor's, image tokens included.
            InvalidCompletion: if a completion is empty or contains an id that the engine must not sample.
        """
        frames = clean_frames
        if group.ref.perturbation is not None:
            from data.perturb import perturb

            frames = perturb(clean_frames, group.ref.perturbation)
        pictures = [Image.fromarray(np.ascontiguousarray(f)) for f in frames]
        expected = self.prompt_ids(pictures)
        if expected != group.prompt_token_ids:
            raise PromptMismatch(_describe_mismatch(group, expected))
        for number, completion in enumerate(group.completions):
            barred = set(completion.token_ids) - self._sampleable_set
            if barred or not completion.token_ids:
                what = (
                    f"holds ids {sorted(barred)}, which the engine may not sample" if barred else "is empty"
                )
                raise InvalidCompletion(f"completion {number} of video {group.ref.video_id} {what}")
        made = self._processor.image_processor(images=pictures, return_tensors="pt", **self._image_options)
        images = {name: made[name] for name in ("pixel_values", "image_grid_thw") if name in made}
        tokens = TokenGroup(group.prompt_token_ids, [c.token_ids for c in group.completions])
        n_images = len(images.get("image_grid_thw", images["pixel_values"]))
        return EncodedGroup(tokens, images, n_images)

    def prompt_ids(self, pictures: list[Image.Image]) -> list[int]:
        """Return the prompt's ids with image placeholders expanded. They depend only on the number and size
        of the frames."""
        key = (len(pictures), *(edge for picture in pictures for edge in picture.size))
        if key not in self._prompts:
            text = prompt_text(self._processor, len(pictures))
            made = self._processor(text=[text], images=pictures, **self._image_options)
            ids = made["input_ids"][0]
            self._prompts[key] = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        return self._prompts[key]


def build_micro_batch(
    pieces: Sequence[Piece], groups: Mapping[int, EncodedGroup], layout: Layout, pad_id: int
) -> MicroBatch:
    """Build the tensors of one forward pass from pieces of groups. Targets are in the order of `pieces`.

    Args: groups: the encoded groups by the pieces' group numbers.
    """
    tokens = [
        TokenGroup(
            groups[p.group].tokens.prompt, [groups[p.group].tokens.completions[i] for i in p.completions]
        )
        for p in pieces
    ]
    owners = [(p.group, i) for p in pieces for i in p.completions]
    copies = [1 if layout != "unpacked" else len(p.completions) for p in pieces]
    shown = [groups[p.group].images for p, n in zip(pieces, copies, strict=True) for _ in range(n)]
    return MicroBatch(
        rows=pack_groups(tokens) if layout == "packed" else unpack_groups(tokens, pad_id),
        images={name: torch.cat([images[name] for images in shown]) for name in shown[0]},
        image_of_slot=_repeated_images(pieces, groups) if layout == "vision_once" else None,
        owners=owners,
        lengths=[len(c) for t in tokens for c in t.completions],
    )


def _repeated_images(pieces: Sequence[Piece], groups: Mapping[int, EncodedGroup]) -> Tensor:
    slots: list[Tensor] = []
    first = 0
    for piece in pieces:
        n_images = groups[piece.group].n_images
        slots.append(torch.arange(first, first + n_images).repeat(len(piece.completions)))
        first += n_images
    return torch.cat(slots)


def _describe_mismatch(group: Group, expected: list[int]) -> str:
    got = group.prompt_token_ids
    where = next(
        (i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b),
        min(len(got), len(expected)),
    )
    return (
        f"video {group.ref.video_id}: the engine's prompt has {len(got)} tokens, the learner's "
        f"{len(expected)}, and they part at position {where}; "
        "both sides need the same model folder, processor and frames"
    )
