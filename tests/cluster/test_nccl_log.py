"""The transports read from NCCL's logs, in the format of NCCL 2.29."""

from pathlib import Path

import pytest

from cluster.nccl_log import describe, nccl_log_environment, read_nccl_logs, tcp_warning
from runtime.errors import ConfigError

_START = "node-1:41:41 [0] NCCL INFO "


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("".join(f"{_START}{line}\n" for line in lines))


def test_connections_are_counted_by_kind(tmp_path: Path) -> None:
    write(
        tmp_path,
        "node-1-41.log",
        "NET/IB : Using [0]mlx5_0:1/IB [RO]; OOB eth0:10.0.0.1<0>",
        "Using network IB",
        "Channel 00/02 : 0 1 2 3",
        "Channel 00/0 : 3[3] -> 0[0] [receive] via NET/IB/0/GDRDMA",
        "Channel 00/0 : 0[0] -> 4[0] [send] via NET/IB/0(1)/GDRDMA",
        "Channel 00/0 : 0[0] -> 1[1] via P2P/IPC/read",
        "Channel 01 : 0[0] -> 1[1] via SHM/direct/direct",
    )
    (found,) = read_nccl_logs(tmp_path)
    assert found.process == "node-1-41"
    assert found.networks == ("IB",)
    assert found.connections == {"NET/IB": 2, "P2P": 1, "SHM": 1}
    assert not found.uses_tcp
    assert tcp_warning([found]) is None
    assert "NET/IB" in describe([found])


def test_tcp_between_nodes_is_warned_of_and_a_local_socket_is_not(tmp_path: Path) -> None:
    write(
        tmp_path,
        "node-1-41.log",
        "NET/IB : No device found.",
        "Using network Socket",
        "Channel 00/0 : 0[0] -> 1[0] [send] via NET/Socket/0",
    )
    # The only network of a machine without adapters is TCP: nothing is sent over it on one node.
    write(tmp_path, "node-2-7.log", "Using network Socket", "Channel 00/0 : 0[0] -> 1[1] via P2P/IPC")
    found = read_nccl_logs(tmp_path)
    assert [transport.uses_tcp for transport in found] == [True, False]
    warning = tcp_warning(found)
    assert warning is not None
    assert "1 of 2 processes (node-1-41)" in warning


def test_a_process_without_a_communicator_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "node-1-9.log", "NCCL version 2.29.7+cuda13.2")
    assert read_nccl_logs(tmp_path) == []


def test_names_that_nccl_would_replace_are_refused(tmp_path: Path) -> None:
    assert nccl_log_environment(tmp_path)["NCCL_DEBUG_FILE"] == f"{tmp_path}/%h-%p.log"
    with pytest.raises(ConfigError, match="without it"):
        nccl_log_environment(tmp_path / "100%p")
