"""Members ``torchvision:NAME``: its networks with weights of one's own, pictures made ready as for its own weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.deployments.sources.model import Model
from quorate.deployments.sources.pytorch.weights import load_weights
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.sources.vision.picture_network import PictureNetwork, built, check_config

# Which of a network's published weights say how pictures are made ready; the default's when left out.
_RECIPE = "recipe"


def load(request: LoadRequest) -> Model:
    """Build the network and give it its weights; nothing is fetched."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # one that was built for another torch raises the latter
        raise request.error(f"torchvision cannot be imported: {error}", "install the one of this torch") from None
    config = check_config(request, ("weights", "weights_backbone", "pretrained"))
    recipe = config.pop(_RECIPE, "DEFAULT")
    config |= {"weights": None}
    network = built(request, models.list_models(), models.get_model, config)
    load_weights(request, network, request.folder / str(request.spec.weights))
    transform = _transform(request, recipe)
    return request.model(PictureNetwork(network.to(request.device).eval(), transform, channels=3), tensors=False)


def _transform(request: LoadRequest, recipe: str) -> Callable[[Any], Any]:
    from torchvision.models import get_model_weights

    known = get_model_weights(request.spec.model.partition(":")[2])
    if recipe not in known.__members__:
        fix = f"choose from {', '.join(known.__members__)}"
        raise request.error(f"config asks for {_RECIPE}: {recipe}", fix)
    transform: Callable[[Any], Any] = known[recipe].transforms()
    return transform
