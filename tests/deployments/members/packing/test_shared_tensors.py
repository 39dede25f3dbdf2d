"""Parameters that several networks have alike are held once."""

import copy

import torch
from torch import nn

from quorate.deployments.members.packing.shared_tensors import share_tensors


def held_bytes(networks):
    storages = (tensor.untyped_storage() for n in networks for tensor in (*n.parameters(), *n.buffers()))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def network(seed, body=None):
    torch.manual_seed(seed)
    return nn.Sequential(body or nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 3))


def test_networks_of_one_checkpoint_hold_it_once():
    one = network(0)
    other = copy.deepcopy(one)
    alone = held_bytes([one])
    assert held_bytes([one, other]) == 2 * alone
    freed = share_tensors([one, other])
    parameters = sum(parameter.nbytes for parameter in one.parameters())
    assert freed == parameters
    assert held_bytes([one, other]) == 2 * alone - parameters


def test_heads_over_one_frozen_body_hold_that_once_and_their_own_apart():
    body = nn.Linear(64, 64)
    one, other = network(0, body), network(1, copy.deepcopy(body))
    x = torch.randn(5, 64)
    before = [net.eval()(x) for net in (one, other)]
    share_tensors([one, other])
    assert one[0].weight.data_ptr() == other[0].weight.data_ptr()
    assert one[2].weight.data_ptr() != other[2].weight.data_ptr()
    assert all(torch.equal(net(x), was) for net, was in zip((one, other), before, strict=True))


def test_buffers_stay_each_networks_own():
    one = network(0).train()
    other = copy.deepcopy(one)
    share_tensors([one, other])
    one(torch.randn(8, 64) + 5)
    assert not torch.equal(one[1].running_mean, other[1].running_mean)


def test_zeros_of_either_sign_are_not_alike():
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    with torch.no_grad():
        one.weight.fill_(0.0)
        other.weight.fill_(-0.0)
    share_tensors([one, other])
    assert torch.signbit(other.weight).all()
    assert not torch.signbit(one.weight).any()
