"""Write the tables of docs/networks.md: sizes, licences and speed, none typed in.

Run it as ``python benchmarks/networks_page.py``. Widths and sizes are those of networks
that are built without weights; speeds come from the records of results/bench.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "networks.md"

TIMM = {
    "mobilenetv4_conv_small.e2400_r224_in1k": "small and quick",
    "mobilenetv2_100.ra_in1k": "small and quick",
    "efficientnet_b0.ra_in1k": "small",
    "resnet50.a1_in1k": "the usual baseline",
    "convnext_nano.in12k": "ConvNeXt, 12,000 classes",
    "convnext_tiny.fb_in22k": "ConvNeXt, 22,000 classes",
    "convnext_base.fb_in22k": "ConvNeXt, larger",
    "vit_small_patch14_dinov2.lvd142m": "DINOv2, small",
    "vit_base_patch14_dinov2.lvd142m": "DINOv2",
    "convnext_tiny.dinov3_lvd1689m": "DINOv3, a ConvNeXt",
    "vit_small_patch16_dinov3.lvd1689m": "DINOv3, small",
    "vit_base_patch16_dinov3.lvd1689m": "DINOv3",
    "vit_base_patch16_siglip_224.v2_webli": "SigLIP 2, its image half",
}
CLIP = {
    "MobileCLIP2-S0:dfndr2b": ("small and quick", "apple-amlr (research)"),
    "RN50:openai": ("CLIP, a ResNet-50", "mit"),
    "RN50x4:openai": ("CLIP, a wider ResNet-50", "mit"),
    "ViT-B-32:openai": ("CLIP, quick for its size", "mit"),
    "ViT-B-32:laion2b_s34b_b79k": ("CLIP on LAION-2B", "mit"),
    "ViT-B-16:datacomp_xl_s13b_b90k": ("CLIP on DataComp", "mit"),
    "ViT-L-14:openai": ("CLIP, large", "mit"),
    "ViT-B-32-SigLIP2-256:webli": ("SigLIP 2, quick for its size", "apache-2.0"),
    "ViT-B-16-SigLIP2:webli": ("SigLIP 2", "apache-2.0"),
    "ViT-L-16-SigLIP2-256:webli": ("SigLIP 2, large", "apache-2.0"),
}
"""What each is, and for open_clip, which records none, the licence of its page."""

SPEEDS = {
    "pocket_vectorize": ("`pocket`, JPEGs of 160 pixels", 600),
    "vectorize-mobilenetv2-loop": ("MobileNetV2", 200),
    "vectorize-vit-b32-loop": ("ViT-B/32", 32),
    "vectorize-clip-rn50-loop": ("CLIP's ResNet-50", 32),
}


def networks() -> list[str]:
    """Return the table of names; networks are built without memory for weights."""
    import open_clip
    import timm
    import torch
    from open_clip.model import _build_vision_tower

    rows = [
        "| name | what | dims | millions | side | licence |",
        "|---|---|--:|--:|--:|---|",
    ]
    with torch.device("meta"):
        for name, what in TIMM.items():
            network = timm.create_model(name, pretrained=False, num_classes=0)
            known = timm.get_pretrained_cfg(name)
            side, wide = known.input_size[-1], network.num_features
            size = _millions(network)
            named = f"`timm:{name}`"
            rows.append(
                f"| {named} | {what} | {wide} | {size} | {side} | {known.license} |"
            )
        for name, (what, licence) in CLIP.items():
            known = open_clip.get_model_config(name.partition(":")[0])
            vision = open_clip.CLIPVisionCfg(**known["vision_cfg"])
            size = _millions(_build_vision_tower(known["embed_dim"], vision))
            side, wide = known["vision_cfg"]["image_size"], known["embed_dim"]
            named = f"`clip:{name}`"
            rows.append(f"| {named} | {what} | {wide} | {size} | {side} | {licence} |")
    return rows


def speed() -> list[str]:
    """Return the table of speeds, from the records of results/bench."""
    rows = ["| vectorizer | images a second |", "|---|--:|"]
    for name, (what, count) in SPEEDS.items():
        record = json.loads((ROOT / f"results/bench/{name}.json").read_text("utf-8"))
        runs = record.get("runs") or [one["ours"] for one in record["pairs"]]
        rate = count / statistics.median(one["wall"] for one in runs)
        rows.append(f"| {what} | {rate:.0f} |")
    curve = json.loads((ROOT / "results/bench/costs-vectorize.json").read_text("utf-8"))
    count, seconds, *_ = curve["rows"][-1]
    return [*rows, f"| `classic` | {count / seconds:.0f} |"]


def _millions(network: object) -> str:
    return f"{sum(one.numel() for one in network.parameters()) / 1e6:.1f}"


def main() -> int:
    """Write both tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, rows in (("networks", networks()), ("speed", speed())):
        block = "\n".join([f"<!-- {name} -->", "", *rows, "", "<!-- end -->"])
        pattern = rf"<!-- {name} -->.*?<!-- end -->"
        text = re.sub(pattern, lambda _, block=block: block, text, flags=re.DOTALL)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
