"""A vision-language model with random weights and a real one's proportions, for measuring speed.

It is an InternVL whose frames are 256 tokens each and whose text model does most of the work. Its answers are
random words of its vocabulary and always as long as they may be, so that two systems which sample from it do
the same work: its end-of-turn token is one that may not be sampled. A few of its words are whole answers,
`<answer>3.25</answer>`; about one in three texts of `ANSWER_EVERY_TOKENS` tokens holds exactly one, so that
rewards vary within groups.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.frame_tokens import DEFAULT_FRAME_TOKENS
from data.prompt import FORMAT, QUESTION, TASK, prompt_text, sampleable_token_ids
from data.records import Completion, Group, VideoRef
from tests.ranks import Batch

FRAME_PX = 448
PATCH_PX = 14
TOKENS_PER_FRAME = 256
ANSWER_EVERY_TOKENS = 200

_HEAD = 64
_END_OF_TURN = "<|video_end|>"
_PADDING = "<|endoftext|>"
_TURN = ("<|im_start|>", "<|im_end|>")
_VISION = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the model, by default those of InternVL3-8B at an eighth of their width, in fewer layers.

    Attention over 1024 patches shrinks with the width, matrices with its square: with one layer the vision
    tower takes a fifth of a prompt's multiplications, as in InternVL3-8B. Attention of the text model has no
    such remedy. It takes 8 % of them there, and over 40 % here, where a group is packed.
    """

    hidden: int = 448
    layers: int = 2
    mlp: int = 2368
    vision_hidden: int = 128
    vision_layers: int = 1
    vocabulary: int = 2048


SMALL = Shape()
"""9 M parameters."""
LARGE = Shape(hidden=896, layers=4, mlp=4736, vocabulary=4096)
"""66 M parameters, for moving weights."""


def make_small_model(out: Path, shape: Shape = SMALL, seed: int = 0) -> Path:
    """Write the model with tokenizer, processor and chat template to `out`, and return it."""
    import torch
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    tokenizer = _tokenizer(shape.vocabulary)
    config = InternVLConfig(
        vision_config={
            "hidden_size": shape.vision_hidden,
            "num_hidden_layers": shape.vision_layers,
            "num_attention_heads": shape.vision_hidden // _HEAD,
            "intermediate_size": 4 * shape.vision_hidden,
            "image_size": [FRAME_PX, FRAME_PX],
            "patch_size": [PATCH_PX, PATCH_PX],
            "attention_bias": True,
            "norm_type": "layer_norm",
            "use_mean_pooling": True,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.hidden // _HEAD,
            "num_key_value_heads": shape.hidden // _HEAD // 7,
            "intermediate_size": shape.mlp,
            "max_position_embeddings": 8192,
            # Tied, the model would repeat its last word for ever.
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=TOKENS_PER_FRAME,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = InternVLForConditionalGeneration(config).float().eval()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    _processor(tokenizer).save_pretrained(out)
    return out


def make_batch(
    model: Path, n_videos: int, n_frames: int, completions: int, completion_tokens: int, seed: int = 0
) -> Batch:
    """An update's worth of random answers to random frames, under made-up engine log-probs.

    Args:
        completions: of each video (G).
        completion_tokens: length of each.
    """
    from PIL import Image
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(model)
    rng = np.random.default_rng(seed)
    frames = [random_frames(n_frames, rng) for _ in range(n_videos)]
    made = processor(
        text=[prompt_text(processor, n_frames)],
        images=[Image.fromarray(frame) for frame in frames[0]],
        **DEFAULT_FRAME_TOKENS.image_options(processor),
    )
    prompt = [int(id_) for id_ in made["input_ids"][0]]
    words = sampleable_token_ids(processor)
    groups = [
        Group(
            VideoRef(f"v{number}", f"/v{number}.mp4", n_frames),
            prompt,
            [_answer(rng.choice(words, completion_tokens).tolist(), len(words)) for _ in range(completions)],
        )
        for number in range(n_videos)
    ]
    return Batch(groups, frames, [rng.standard_normal(completions).tolist() for _ in groups])


def random_frames(n_frames: int, rng: np.random.Generator, px: int = FRAME_PX) -> np.ndarray:
    """uint8 [n_frames, px, px, 3]; blocks of colour, so that a codec has something to do."""
    coarse = rng.integers(0, 256, (n_frames, px // 32, px // 32, 3), dtype=np.uint8)
    return coarse.repeat(32, axis=1).repeat(32, axis=2)


def _answer(token_ids: list[int], n_words: int) -> Completion:
    logprob = -math.log(n_words)
    return Completion(token_ids, [logprob] * len(token_ids), "", "length", [0] * len(token_ids))


def _tokenizer(vocabulary: int) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    backend.train_from_iterator([f"user assistant Frame1: {TASK} {QUESTION} {FORMAT}"], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=_END_OF_TURN,
        pad_token=_PADDING,
        extra_special_tokens=_VISION,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [*_TURN, *_VISION.values()]})
    answers = [
        f"<answer>{score:.2f}</answer>" for score in np.linspace(1, 5, vocabulary // ANSWER_EVERY_TOKENS)
    ]
    missing = vocabulary - len(tokenizer) - len(answers)
    words = [*answers, *(f" word{number}" for number in range(missing))]
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in words])
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def _processor(tokenizer: Any) -> Any:
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    size = {"height": FRAME_PX, "width": FRAME_PX}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(
            size=size, crop_to_patches=False, min_patches=1, max_patches=12
        ),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size, do_sample_frames=False),
        image_seq_length=TOKENS_PER_FRAME,
        chat_template=_CHAT_TEMPLATE,
    )
