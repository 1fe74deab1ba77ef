"""Faults: toxics for :meth:`harness.Harness.proxy`, and when they act."""

from __future__ import annotations

from .bandwidth import Bandwidth
from .blackhole import Blackhole
from .contract import Link, Toxic, Trigger
from .corrupt import Corrupt
from .drop import Drop
from .duplicate import Duplicate
from .freeze import Freeze
from .half_close import HalfClose
from .latency import Latency
from .limit_data import LimitData
from .proxy import ActiveToxic, Proxy, ProxyConnection
from .refuse import Refuse
from .reset_peer import ResetPeer
from .slicer import Slicer
from .slow_accept import SlowAccept
from .slow_close import SlowClose
from .timeout import Timeout
from .transform import Transform
from .triggers import AfterBytes, AfterPattern, During, FirstConnections, OnConnection

__all__ = [
    "ActiveToxic",
    "AfterBytes",
    "AfterPattern",
    "Bandwidth",
    "Blackhole",
    "Corrupt",
    "Drop",
    "Duplicate",
    "During",
    "FirstConnections",
    "Freeze",
    "HalfClose",
    "Latency",
    "LimitData",
    "Link",
    "OnConnection",
    "Proxy",
    "ProxyConnection",
    "Refuse",
    "ResetPeer",
    "Slicer",
    "SlowAccept",
    "SlowClose",
    "Timeout",
    "Toxic",
    "Transform",
    "Trigger",
]
