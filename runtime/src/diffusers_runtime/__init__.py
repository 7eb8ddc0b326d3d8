"""A thin KServe server for diffusers text-to-image pipelines."""

__version__ = "0.1.0"
