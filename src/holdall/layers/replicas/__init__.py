"""Replicas: a store kept in several stores, in the file `fanout`; what else is here helps it."""

from holdall.layers.replicas.copying import replace, state
from holdall.layers.replicas.mending import Repair, ReplicaDifference, Rule, leader

__all__ = ["Repair", "ReplicaDifference", "Rule", "leader", "replace", "state"]
