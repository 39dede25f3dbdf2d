"""Members ``timm:NAME``: networks of timm with weights of one's own, pictures made ready as timm's evaluation does."""

from __future__ import annotations

from quorate.deployments.sources.model import Model
from quorate.deployments.sources.pytorch.weights import load_weights
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.sources.vision.picture_network import PictureNetwork, built, check_config


def load(request: LoadRequest) -> Model:
    """Build the network and give it its weights; nothing is fetched."""
    try:
        import timm
        from timm.data import create_transform, resolve_data_config
    except (ImportError, RuntimeError) as error:  # a torchvision for another torch raises the latter
        raise request.error(f"timm cannot be imported: {error}", "pip install 'quorate[images]'") from None
    config = check_config(request, ("pretrained", "checkpoint_path"))
    network = built(request, timm.list_models(), timm.create_model, config)
    load_weights(request, network, request.folder / str(request.spec.weights))
    channels = int(config.get("in_chans", 3))
    data = resolve_data_config({"in_chans": channels}, model=network)
    transform = create_transform(**data, is_training=False)
    if len(data["mean"]) != channels:
        fix = "write them under config: pretrained_cfg_overlay: {mean: [0.5], std: [0.5]}"
        raise request.error(f"timm has mean and std of {len(data['mean'])} channels, and in_chans is {channels}", fix)
    return request.model(PictureNetwork(network.to(request.device).eval(), transform, channels), tensors=False)
