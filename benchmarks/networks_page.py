"""Write docs/networks.md and tllboost/vectorizers/networks.json: no figure is typed in.

Run it as ``python benchmarks/networks_page.py``. Widths and sizes are those of networks
that are built without weights; speeds come from the records of results/bench.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "networks.md"
TABLE = ROOT / "tllboost" / "vectorizers" / "networks.json"

ALIKE, SAME = "look-alikes, art", "the same object or place"
KIND = "things of one class"
NETWORKS = {
    "timm:mobilenetv4_conv_small": "MobileNetV4: small and quick",
    "timm:mobilenetv2_100": "MobileNetV2: small and quick",
    "timm:efficientnet_b0": "EfficientNet-B0: small",
    "timm:resnet18": "ResNet-18: small",
    "timm:resnet50": "ResNet-50: the usual baseline",
    "timm:convnext_nano.in12k": f"ConvNeXt, 12,000 classes: {KIND}",
    "timm:convnext_tiny.fb_in22k": f"ConvNeXt, 22,000 classes: {KIND}",
    "timm:convnext_base.fb_in22k": f"ConvNeXt, larger: {KIND}",
    "timm:vit_small_patch14_dinov2": f"DINOv2, small: {SAME}",
    "timm:vit_base_patch14_dinov2": f"DINOv2: {SAME}",
    "timm:convnext_tiny.dinov3_lvd1689m": f"DINOv3, a ConvNeXt: {SAME}",
    "timm:vit_small_patch16_dinov3": f"DINOv3, small: {SAME}",
    "timm:vit_base_patch16_dinov3": f"DINOv3: {SAME}",
    "timm:vit_base_patch16_siglip_224": f"SigLIP 2, its image half: {ALIKE}",
    "clip:MobileCLIP2-S0:dfndr2b": f"MobileCLIP2, small and quick: {ALIKE}",
    "clip:RN50:openai": f"CLIP, a ResNet-50: {ALIKE}",
    "clip:RN101:openai": f"CLIP, a ResNet-101: {ALIKE}",
    "clip:RN50x4:openai": f"CLIP, a wider ResNet-50: {ALIKE}",
    "clip:ViT-B-32:openai": f"CLIP, quick for its size: {ALIKE}",
    "clip:ViT-B-32:laion2b_s34b_b79k": f"CLIP on LAION-2B: {ALIKE}",
    "clip:ViT-B-16:datacomp_xl_s13b_b90k": f"CLIP on DataComp: {ALIKE}",
    "clip:ViT-L-14:openai": f"CLIP, large: {ALIKE}",
    "clip:ViT-B-32-SigLIP2-256:webli": f"SigLIP 2, quick for its size: {ALIKE}, {KIND}",
    "clip:ViT-B-16-SigLIP2:webli": f"SigLIP 2: {ALIKE}, {KIND}",
    "clip:ViT-L-16-SigLIP2-256:webli": f"SigLIP 2, large: {ALIKE}, {KIND}",
}
"""What each is, and what to take it for: as the page says, by how it was trained."""

LICENCES = {"MobileCLIP2": "apple-amlr (research)", "SigLIP2": "apache-2.0", "": "mit"}
"""Of the pages of open_clip's networks, by a part of their names: it records none."""

SPEEDS = {
    "pocket_vectorize": "`pocket`, JPEGs of 160 pixels",
    "vectorize-mobilenetv2-loop": "MobileNetV2",
    "vectorize-vit-b32-loop": "ViT-B/32",
    "vectorize-clip-rn50-loop": "CLIP's ResNet-50",
}


def measured() -> dict[str, dict[str, Any]]:
    """Return the package's table of networks, each built without memory for weights.

    Whatever can be asked is asked of timm and open_clip.
    """
    import open_clip
    import timm
    import torch
    from open_clip.model import _build_vision_tower

    table = {}
    for name, description in NETWORKS.items():
        kind, arch, *tag = name.split(":")
        with torch.device("meta"):
            if kind == "timm":
                network = timm.create_model(arch, pretrained=False, num_classes=0)
                known = timm.get_pretrained_cfg(arch)
                side = known.input_size[-1]
                licence, repository = known.license, known.hf_hub_id
            else:
                config = open_clip.get_model_config(arch)
                vision = open_clip.CLIPVisionCfg(**config["vision_cfg"])
                network = _build_vision_tower(config["embed_dim"], vision)
                side = vision.image_size
                licence = next(LICENCES[part] for part in LICENCES if part in arch)
                repository = open_clip.get_pretrained_cfg(arch, tag[0])["hf_hub"]
            n_dims = network.eval()(torch.empty(2, 3, side, side)).shape[1]
        size = sum(one.numel() for one in network.parameters())
        table[name] = {
            "description": description,
            "n_dims": n_dims,
            "millions": round(size / 1e6, 1),
            "side": side,
            "licence": licence,
            "repository": repository.strip("/"),
        }
    return table


def networks() -> list[str]:
    """Return the page's table of names, from the package's."""
    head = ["| name | what, and what for | dims | millions | side | licence |"]
    lines = [*head, "|---|---|--:|--:|--:|---|"]
    for name, one in json.loads(TABLE.read_text("utf-8")).items():
        keys = "description", "n_dims", "millions", "side", "licence"
        lines.append(f"| `{name}` | {' | '.join(str(one[key]) for key in keys)} |")
    return lines


def speed() -> list[str]:
    """Return the table of speeds, from the records of results/bench."""
    rows = ["| vectorizer | images a second |", "|---|--:|"]
    for name, what in SPEEDS.items():
        record = json.loads((ROOT / f"results/bench/{name}.json").read_text("utf-8"))
        runs = record.get("runs") or [one["ours"] for one in record["pairs"]]
        (count,) = re.findall(r"(\d+) (?:images|JPEGs)", record["what"])
        rate = int(count) / statistics.median(one["wall"] for one in runs)
        rows.append(f"| {what} | {rate:.0f} |")
    curve = json.loads((ROOT / "results/bench/costs-vectorize.json").read_text("utf-8"))
    count, seconds, *_ = curve["rows"][-1]
    return [*rows, f"| `classic` | {count / seconds:.0f} |"]


def main() -> int:
    """Write the package's table, and the page's two."""
    TABLE.write_text(json.dumps(measured(), indent=1) + "\n", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    for name, rows in (("networks", networks()), ("speed", speed())):
        block = "\n".join([f"<!-- {name} -->", "", *rows, "", "<!-- end -->"])
        pattern = rf"<!-- {name} -->.*?<!-- end -->"
        text = re.sub(pattern, lambda _, block=block: block, text, flags=re.DOTALL)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
