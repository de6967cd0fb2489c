"""Networks to start with: how wide their vectors are, whether their weights are here.

timm and open_clip know hundreds more; asking them takes seconds, and this takes none.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["NETWORKS", "is_at_hand"]

_FILES = (
    *("model.safetensors", "pytorch_model.bin"),
    *("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
)


class KnownNetwork(NamedTuple):
    """A published network.

    Parameters
    ----------
    n_dims : int
        Width of its vectors.
    repository : str
        Where the hub keeps its weights.
    description : str
        What it is, in one line.
    """

    n_dims: int
    repository: str
    description: str


NETWORKS = {
    "timm:mobilenetv2_100": KnownNetwork(
        1280, "timm/mobilenetv2_100.ra_in1k", "MobileNetV2: small and quick"
    ),
    "timm:efficientnet_b0": KnownNetwork(
        1280, "timm/efficientnet_b0.ra_in1k", "EfficientNet-B0: small"
    ),
    "timm:resnet18": KnownNetwork(512, "timm/resnet18.a1_in1k", "ResNet-18"),
    "timm:resnet50": KnownNetwork(2048, "timm/resnet50.a1_in1k", "ResNet-50"),
    "timm:convnext_tiny": KnownNetwork(
        768, "timm/convnext_tiny.in12k_ft_in1k", "ConvNeXt, the smallest"
    ),
    "timm:inception_v3.tv_in1k": KnownNetwork(
        2048, "timm/inception_v3.tv_in1k", "Inception v3"
    ),
    "timm:vgg16.tv_in1k": KnownNetwork(4096, "timm/vgg16.tv_in1k", "VGG-16: large"),
    "clip:RN50:openai": KnownNetwork(
        1024, "timm/resnet50_clip.openai", "CLIP, a ResNet-50"
    ),
    "clip:RN101:openai": KnownNetwork(
        512, "timm/resnet101_clip.openai", "CLIP, a ResNet-101"
    ),
    "clip:RN50x4:openai": KnownNetwork(
        640, "timm/resnet50x4_clip.openai", "CLIP, a wider ResNet-50"
    ),
    "clip:ViT-B-32:openai": KnownNetwork(
        512, "timm/vit_base_patch32_clip_224.openai", "CLIP, a transformer, quick"
    ),
    "clip:ViT-L-14:openai": KnownNetwork(
        768, "timm/vit_large_patch14_clip_224.openai", "CLIP, a transformer, large"
    ),
}


def is_at_hand(network: KnownNetwork) -> bool:
    """Tell whether the hub's local cache holds a network's weights."""
    from huggingface_hub import constants  # without the rest, which is slow to import

    folder = f"models--{network.repository.replace('/', '--')}"
    snapshots = Path(constants.HF_HUB_CACHE, folder, "snapshots")
    return any(path.name in _FILES for path in snapshots.glob("*/*"))
