"""Python values as bytes, each in the format made for its type."""

from holdall.values.registry import Serializers, joined, register, serializers
from holdall.values.serializer import Buffer, Serializer

__all__ = ["Buffer", "Serializer", "Serializers", "joined", "register", "serializers"]
