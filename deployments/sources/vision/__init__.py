"""Networks of timm and torchvision, behind the transforms of their pictures."""
