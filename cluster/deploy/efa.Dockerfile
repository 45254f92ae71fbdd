# The image for AWS: with EFA's libfabric and its plug-in for NCCL. Needs the network of AWS's installer; not built yet.
#
#   docker build -f cluster/deploy/efa.Dockerfile --build-arg IMAGE=vqathinker-ray -t vqathinker-ray-efa .
ARG IMAGE=vqathinker-ray
FROM ${IMAGE}
USER root

# The host has the kernel's driver and its limits. The installer brings an rdma-core of its own, and
# /etc/ld.so.conf.d/100_ofinccl.conf, by which NCCL finds libnccl-net.so.
ARG EFA_INSTALLER=1.51.0
RUN apt-get update \
    && wget -qO- https://efa-installer.amazonaws.com/aws-efa-installer-$EFA_INSTALLER.tar.gz | tar -xz -C /tmp \
    && cd /tmp/aws-efa-installer \
    && ./efa_installer.sh --yes --skip-kmod --skip-limit-conf --no-verify \
    && ldconfig \
    && ldconfig -p | grep -q libnccl-net.so \
    && rm -rf /tmp/aws-efa-installer /var/lib/apt/lists/*
USER 1000:1000
