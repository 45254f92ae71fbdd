"""The packages of setup/gpu.lock, examined on a machine without a GPU: `make test-gpu-wheels`.

No kernel runs. But what is decided before the first one does: configurations, the choice of the model runner,
loading of the logits processor, and the name and arguments of every call into vLLM.
"""
