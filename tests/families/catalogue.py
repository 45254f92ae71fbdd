"""The families under test, each with what its tiny checkpoint changes of the published one."""

from typing import Any

from tests.families.checkpoints import Family

_CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_QWEN_VISION = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
_QWEN_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


def _text(prefix: str = "", **more: Any) -> dict[str, Any]:
    """Sizes of a text model, with heads of 32 (which vLLM's attention takes on the CPU)."""
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    } | more
    return {prefix + name: value for name, value in sizes.items()}


def _vision(**sizes: Any) -> dict[str, Any]:
    return {f"vision_config.{name}": value for name, value in sizes.items()}


def _internvl(hub_name: str, **text: Any) -> Family:
    return Family(
        hub_name,
        template="internvl",
        sizes=_text("text_config.", **text)
        | _vision(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2),
        token_ids={
            "image_token_id": "<IMG_CONTEXT>",
            "text_config.bos_token_id": "<|endoftext|>",
            "text_config.eos_token_id": "<|im_end|>",
        },
        special_tokens=[*_CHAT, *_QWEN_VISION, "<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "<video>"],
        named_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )


FAMILIES: dict[str, Family] = {
    "internvl3": _internvl("OpenGVLab/InternVL3-8B-hf"),
    "internvl3_5": _internvl("OpenGVLab/InternVL3_5-8B-HF", head_dim=32),
    "qwen2_vl": Family(
        "Qwen/Qwen2-VL-7B-Instruct",
        template="qwen2_vl",
        sizes=_text()
        | {"rope_scaling.mrope_section": [4, 6, 6]}
        | _vision(depth=2, embed_dim=64, num_heads=2, hidden_size=64),
        token_ids=_QWEN_IDS | {"bos_token_id": "<|endoftext|>", "eos_token_id": "<|im_end|>"},
        special_tokens=[*_CHAT, *_QWEN_VISION],
    ),
    "qwen2_5_vl": Family(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        template="qwen2_vl",
        sizes=_text()
        | {"rope_scaling.mrope_section": [4, 6, 6]}
        # Layers with windows and layers without, in turn.
        | _vision(depth=4, fullatt_block_indexes=[1, 3], hidden_size=64, intermediate_size=128, num_heads=2)
        | _vision(out_hidden_size=64),
        token_ids=_QWEN_IDS | {"bos_token_id": "<|endoftext|>", "eos_token_id": "<|im_end|>"},
        special_tokens=[*_CHAT, *_QWEN_VISION],
    ),
    "qwen3_vl": Family(
        "Qwen/Qwen3-VL-8B-Instruct",
        template="qwen3_vl",
        # As many text layers as levels of deepstack, and one more.
        sizes=_text("text_config.", head_dim=32, num_hidden_layers=4)
        | {"text_config.rope_scaling.mrope_section": [6, 5, 5]}
        | _vision(depth=4, deepstack_visual_indexes=[0, 1, 2], hidden_size=64, intermediate_size=128)
        | _vision(num_heads=2, out_hidden_size=64),
        token_ids=_QWEN_IDS
        | {"text_config.bos_token_id": "<|endoftext|>", "text_config.eos_token_id": "<|im_end|>"},
        special_tokens=[*_CHAT, *_QWEN_VISION],
    ),
    "qwen3_5": Family(
        "Qwen/Qwen3.5-9B",
        template="qwen3_5",
        # One period of layers: three of linear attention, one of full attention.
        sizes=_text("text_config.", head_dim=128, num_hidden_layers=4)
        | {
            "text_config.layer_types": ["linear_attention"] * 3 + ["full_attention"],
            "text_config.rope_parameters.mrope_section": [6, 5, 5],
            "text_config.linear_num_key_heads": 2,
            "text_config.linear_num_value_heads": 4,
        }
        | _vision(depth=2, hidden_size=64, intermediate_size=128, num_heads=2, out_hidden_size=64),
        token_ids=_QWEN_IDS | {"text_config.eos_token_id": "<|im_end|>"},
        special_tokens=[*_CHAT, *_QWEN_VISION],
    ),
    "glm4v": Family(
        "zai-org/GLM-4.1V-9B-Thinking",
        template="glm4v",
        sizes=_text()
        | {"rope_scaling.mrope_section": [2, 3, 3]}
        | _vision(depth=2, hidden_size=64, intermediate_size=128, num_heads=2, out_hidden_size=64),
        token_ids={
            "image_token_id": "<|image|>",
            "video_token_id": "<|video|>",
            "image_start_token_id": "<|begin_of_image|>",
            "image_end_token_id": "<|end_of_image|>",
            "video_start_token_id": "<|begin_of_video|>",
            "video_end_token_id": "<|end_of_video|>",
            "pad_token_id": "<|endoftext|>",
            "eos_token_id": "<|user|>",
        },
        special_tokens=[
            *("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"),
            *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
            *("<|image|>", "<|video|>"),
        ],
        named_tokens={"image_token": "<|image|>", "video_token": "<|video|>"},
        eos_token="<|user|>",
    ),
}
