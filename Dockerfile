# GPU image for every node of a cluster and for a single machine. PyPI's torch and vLLM wheels carry the CUDA 13
# libraries, so the base needs none: the host gives the driver (580 or later) and nvidia-container-toolkit.
#
#   docker build -t vqathinker-ray .
#   docker run --gpus all --shm-size 16g -v /storage:/storage vqathinker-ray python launch.py train ...
FROM python:3.11.14-slim-bookworm

# g++: Triton and DeepSpeed compile small host-side files at run time. wget: KubeRay's probes call it.
# openssh-client, rsync: `ray up` and its autoscaler on the head reach other nodes with them.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        g++=4:12.2.0-3 \
        libnuma1=2.0.16-1 \
        openssh-client=1:9.2p1-* \
        rsync=3.2.7-* \
        tini=0.19.0-1+b3 \
        wget=1.21.3-1+deb12u1 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 --shell /bin/bash vqa \
    && install -d -o vqa -g vqa /app /app/runs /opt/venv
# `ray up` runs its commands in login shells, whose /etc/profile sets PATH anew.
RUN echo 'PATH=/opt/venv/bin:$PATH' > /etc/profile.d/venv.sh
USER 1000:1000
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

# The large layer: made again only when the lock file changes.
COPY --chown=vqa:vqa setup/gpu.lock setup/gpu.lock
RUN python -m venv /opt/venv \
    && pip install --no-deps --only-binary=:all: --no-binary=deepspeed --requirement setup/gpu.lock \
    && pip check

COPY --chown=vqa:vqa . .

# Healthy while the node's Ray answers, whether `ray start` or launch.py started it.
HEALTHCHECK --interval=60s --timeout=30s --start-period=180s --retries=3 CMD ["ray", "status"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "launch.py", "--help"]
