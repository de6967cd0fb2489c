"""Strong, honest baselines for image-pair similarity."""

__version__ = "0.1.0"
