import pytest
import torch

from quorate.tuning import build
from quorate.tuning.errors import ArchitectureError

CONFIGS = [
    {"family": "cnn", "width": 8, "depth": 3},
    {"family": "rnn", "cell": "gru", "width": 8},
    {"family": "rnn", "cell": "lstm", "width": 8, "depth": 2},
    {"family": "transformer", "width": 8, "heads": 2, "patch": 2, "depth": 1},
    {"family": "mlp", "width": 8, "depth": 1, "dropout": 0.0},
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c['family']}-{c.get('cell', '')}")
@pytest.mark.parametrize("image", [[1, 8, 8], [3, 16, 12]])
def test_every_family_maps_a_batch_of_images_to_logits(config, image):
    network = build(**config, image=image, classes=7).eval()
    assert network(torch.rand(5, *image)).shape == (5, 7)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c['family']}-{c.get('cell', '')}")
def test_every_parameter_gets_a_gradient(config):
    network = build(**config, image=[1, 8, 8], classes=3)
    network(torch.rand(4, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c['family']}-{c.get('cell', '')}")
def test_a_rows_logits_do_not_depend_on_the_other_rows(config):
    network = build(**config, image=[1, 8, 8], classes=3).eval()
    images = torch.rand(6, 1, 8, 8)
    torch.testing.assert_close(network(images)[2:3], network(images[2:3]))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"family": "gan"}, "cnn, rnn, transformer, mlp"),
        ({"family": "cnn", "heads": 2}, "it has width, depth, dropout"),
        ({"family": "rnn", "cell": "elman"}, "give gru or lstm"),
        ({"family": "transformer", "width": 10, "heads": 4}, "4 does not divide width 10"),
        ({"family": "transformer", "patch": 5}, "5 does not divide the image 28x28"),
        ({"family": "cnn", "image": [1, 4, 4], "depth": 4}, "smaller depth"),
        ({"family": "mlp", "width": 0}, "at least 1"),
        ({"family": "mlp", "width": "64"}, "at least 1"),
        ({"family": "mlp", "dropout": 1.0}, "below 1"),
        ({"family": "mlp", "image": [28, 28]}, "channels, height, width"),
    ],
)
def test_an_impossible_config_is_refused_with_the_way_out(config, said):
    with pytest.raises(ArchitectureError, match=said):
        build(**config)
