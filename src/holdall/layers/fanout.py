"""Where `FanoutStore` is imported from; it is in the package `replicas`."""

from holdall.layers.replicas.fanout import FanoutStore

__all__ = ["FanoutStore"]
