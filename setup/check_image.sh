#!/usr/bin/env bash
# Build the Dockerfile without Docker or a registry, and check the image: `sudo make check-image`.
#
# buildah executes the Dockerfile. The base image is not the python image but Debian 12, made by debootstrap, with
# Debian's Python 3.11. setup/check_container.py then checks the image in separate network and process namespaces,
# so that it does not find another Ray on this machine. Needs root, the Debian packages buildah and debootstrap,
# network access, 40 GB of disk, and half an hour or more.
#
#   CHECK_IMAGE_DIR   working folder (default /var/tmp); the files created there are removed at the end
#   CA_BUNDLE         certificates for pip in the image to trust, for networks with their own certificate authority
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "${1:-}" != --inside ]; then
  [ "$(id -u)" = 0 ] || { echo "check_image: needs root" >&2; exit 1; }
  for program in buildah debootstrap unshare; do
    command -v "$program" > /dev/null || { echo "check_image: install $program" >&2; exit 1; }
  done
  WORK=$(mktemp -d "${CHECK_IMAGE_DIR:-/var/tmp}/check-image.XXXXXX")
  mkdir "$WORK/tmp"
  export WORK TMPDIR=$WORK/tmp
fi

step() { echo "== $(date -u +%T) $*"; }
in_store() { buildah --root "$WORK/storage" --runroot "$WORK/run" --storage-driver overlay "$@"; }

# Run a command in the image as its user, in separate network and process namespaces.
in_image() {
  unshare --net --pid --fork --mount-proc "$PWD/setup/check_image.sh" --inside "$CONTAINER" "$@"
}
if [ "${1:-}" = --inside ]; then
  shift
  ip link set lo up
  CONTAINER=$1
  shift
  in_store run --isolation chroot --volume "$PWD/setup/check_container.py:/check_container.py:ro" "$CONTAINER" -- "$@"
  exit
fi

clean_up() {
  in_store rm --all > /dev/null 2>&1 || true
  umount "$WORK/storage/overlay" 2> /dev/null || true
  rm -rf --one-file-system "$WORK"
}
trap clean_up EXIT

make_base() {
  local container root
  container=$(in_store from scratch)
  root=$(in_store mount "$container")
  debootstrap --variant=minbase --include=ca-certificates,netbase,tzdata bookworm "$root" http://deb.debian.org/debian \
    > "$WORK/debootstrap.log"
  # Write the package sources in the format of Debian's images, because the Dockerfile edits that file.
  rm -f "$root/etc/apt/sources.list"
  cat > "$root/etc/apt/sources.list.d/debian.sources" << 'SOURCES'
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  chroot "$root" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends \
    python3.11 python3.11-dev python3.11-venv > "$WORK/python.log"
  ln -s /usr/bin/python3.11 "$root/usr/local/bin/python"
  rm -rf "$root"/var/lib/apt/lists/*
  in_store umount "$container" > /dev/null
  in_store commit --quiet --rm "$container" check-image-base > /dev/null
}

# Use the Dockerfile's Debian snapshot if it can be reached, else the current archive.
snapshot_argument() {
  local time
  time=$(sed -n 's/^ARG DEBIAN_SNAPSHOT=//p' Dockerfile)
  if wget -q -T 20 -t 1 -O /dev/null "http://snapshot.debian.org/archive/debian/$time/dists/bookworm/InRelease"; then
    echo "DEBIAN_SNAPSHOT=$time"
  else
    echo "DEBIAN_SNAPSHOT=latest"
  fi
}

step "base: Debian 12 and its Python 3.11"
make_base

step "build"
SNAPSHOT=$(snapshot_argument)
echo "$SNAPSHOT (the Dockerfile has $(sed -n 's/^ARG DEBIAN_SNAPSHOT=//p' Dockerfile))"
options=(--isolation chroot --format docker --layers=false --build-arg BASE=localhost/check-image-base
  --build-arg "$SNAPSHOT" --tag check-image)
if [ -n "${CA_BUNDLE:-}" ]; then
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > "$WORK/pip.conf"
  options+=(--volume "$CA_BUNDLE:/etc/ssl/certs/ca-certificates.crt:ro" --volume "$WORK/pip.conf:/etc/pip.conf:ro")
fi
in_store build "${options[@]}" .

step "what the image runs by default"
CONTAINER=$(in_store from localhost/check-image)
mapfile -t default < <(in_store inspect --type image --format \
  '{{range .Docker.Config.Entrypoint}}{{println .}}{{end}}{{range .Docker.Config.Cmd}}{{println .}}{{end}}' \
  localhost/check-image | sed '/^$/d')
echo "${default[*]}"
in_image "${default[@]}"

step "checks inside, with the image's own health check"
mapfile -t health < <(in_store inspect --type image --format \
  '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' localhost/check-image | sed '/^$/d')
[ "${health[0]}" = CMD ] || { echo "check_image: the image has no health check of the form CMD" >&2; exit 1; }
in_image python /check_container.py "${health[@]:1}"
step "done"
