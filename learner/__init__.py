"""The GRPO update on DeepSpeed ZeRO-3 ranks."""
