"""Make states of a sharded network, each while another exchange is under way. A script, no test:

torchrun tests/support/sharded_saves.py PACKAGE TIMES
"""

import importlib
import sys

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

PACKAGE, TIMES = sys.argv[1], int(sys.argv[2])
processes, sharding = (
    importlib.import_module(f"{PACKAGE}.distributed.{name}") for name in ("processes", "sharding")
)


class Weight(nn.Module):
    """As small as can be, so that an exchange of it is done as soon as the one beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(3.0))
        self.tally = nn.Parameter(torch.zeros(1))  # which is whole in all processes


def main() -> None:
    torch.set_num_threads(1)
    net = Weight()
    sharding.shard(net, net.tally, [], init_device_mesh("cpu", (processes.world_size(),)))
    agreement = processes.Agreement()
    for _ in range(TIMES):
        agreement.reach(0, wait=False)
        state = net.state_dict()
        found = state["weight"].tolist() if processes.rank() == 0 else list(state)
        assert found == ([0, 1, 2] if processes.rank() == 0 else ["tally"])
    agreement.close()


if __name__ == "__main__":
    with processes.process_group(600):
        main()
