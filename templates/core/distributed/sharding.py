"""Weights and optimizer states of which each process holds a part, and how they are saved and loaded whole.

A `state_dict` looks as if nothing were sharded: names and shapes are the same for any number of processes.
They all take part in making one; the first, which writes it, gets the tensors, the others get none. Weights are
loaded before they are sharded; of an optimizer's state that is loaded, each process keeps its own part.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from .processes import rank


def shard(module: nn.Module, tally: nn.Parameter, blocks: list[nn.Module], mesh: DeviceMesh) -> None:
    """Leave each process a part of every weight; one block at a time is whole, while it computes.

    `tally` stays whole everywhere; its gradient is averaged like all others.
    """
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh, ignored_params={tally})
    tally.register_hook(_average)
    for part in (module, *module.children()):  # whose weights are saved
        part.register_state_dict_post_hook(_gather_weights)


def _average(gradient: Tensor) -> Tensor:
    gradient = gradient / dist.get_world_size()
    dist.all_reduce(gradient)
    return gradient


def shard_states(optimizer: Optimizer) -> None:
    """Save and load the states of an optimizer, which has the weights of a sharded network, whole."""
    optimizer.register_state_dict_post_hook(_gather_states)
    optimizer.register_load_state_dict_pre_hook(_shard_states)


def _gather_weights(net: nn.Module, state: dict[str, Any], prefix: str, *args: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        _gather(state, name)


def _gather_states(optimizer: Optimizer, state: dict[str, Any]) -> None:
    state["state"] = {number: dict(values) for number, values in state["state"].items()}
    for values in state["state"].values():
        for name in list(values):
            _gather(values, name)


def _shard_states(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    parts = {
        number: {name: _part(value, weights[number]) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": parts}


def _gather(state: dict[str, Any], name: str) -> None:
    if isinstance(value := state[name], DTensor):
        if parts := _gather_parts(value):
            state[name] = torch.cat(parts)[: len(value)].clone()  # without what made all parts alike
        else:
            del state[name]  # so that memory holds one whole model a run, not one a process


def _gather_parts(value: DTensor) -> list[Tensor]:
    """The rows of all processes, on the CPU of the first, filled up to the same number; the others get none.

    `DTensor.full_tensor` would give everything to everyone, and can crash them on gloo (torch 2.13): two threads note
    the name of the last exchange without a lock, and free one that is as long as that of `full_tensor` twice.
    """
    own = value.to_local()
    rows = own.new_zeros(math.ceil(len(value) / dist.get_world_size()), *value.shape[1:])
    rows[: len(own)] = own
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())] if rank() == 0 else []
    dist.gather(rows, parts)
    return [part.cpu() for part in parts]


def _part(value: Tensor, weight: Tensor) -> Tensor:
    """This process's part of a whole weight, or of what the optimizer knows of one."""
    if isinstance(weight, DTensor) and value.shape == weight.shape:
        return distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)
    return value
