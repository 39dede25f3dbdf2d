"""Networks of torch's own layers alone, the same for the same seed everywhere."""

import torch
from torch import nn


def perceptron(seed, outputs=3, hidden=16):
    """Of whole numbers it gives the same bits in whatever order it adds up."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, outputs)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_((parameter * 64).round() / 64)
    return network


def deep(seed, outputs=3):
    torch.manual_seed(seed)
    inner = nn.Sequential(nn.Linear(4, 8, bias=False), nn.LayerNorm(8), nn.GELU())
    return nn.Sequential(inner, nn.Dropout(0.5), nn.Identity(), nn.Linear(8, outputs), nn.Tanh()).eval()
