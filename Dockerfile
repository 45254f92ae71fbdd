# GPU image for every node of a cluster and for a single machine. PyPI's torch and vLLM wheels carry the CUDA 13
# libraries, so the base needs none: the host gives the driver (580 or later) and nvidia-container-toolkit.
#
#   docker build -t vqathinker-ray .
#   docker run --gpus all --shm-size 64g -v /storage:/storage vqathinker-ray python launch.py train ...
#
# `make check-image` builds this file and tries the result (docs/cluster.md).

# The digest decides which image the tag means. A base of your own needs Debian 12, `python` 3.11 with pip, venv and
# its C headers.
ARG BASE=python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3
FROM ${BASE}

# Debian's archive as it was at this time: the same packages today and in a year. A later time brings security
# updates; `--build-arg DEBIAN_SNAPSHOT=latest` takes what the base's own sources have now.
ARG DEBIAN_SNAPSHOT=20261120T000000Z
RUN if [ "$DEBIAN_SNAPSHOT" != latest ]; then \
        sed -i -E "s#https?://(deb|security).debian.org/([a-z-]+)#http://snapshot.debian.org/archive/\2/$DEBIAN_SNAPSHOT#" \
            /etc/apt/sources.list.d/debian.sources \
        && echo 'Acquire::Check-Valid-Until "false"; Acquire::Retries "5";' > /etc/apt/apt.conf.d/80snapshot; \
    fi

# g++: Triton compiles a small host-side file for each kernel at run time, against Python.h.
# libibverbs1, ibverbs-providers: NCCL opens them to use InfiniBand or RoCE, and takes TCP without them.
# ibverbs-utils: `ibv_devinfo` says whether a container sees the adapters.
# libnuma1: vLLM and NCCL place memory with it. wget: KubeRay's probes call it.
# openssh-client, rsync: `ray up` and its autoscaler on the head reach other nodes with them.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        g++ \
        ibverbs-providers \
        ibverbs-utils \
        libibverbs1 \
        libnuma1 \
        openssh-client \
        rsync \
        tini \
        wget \
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
