"""What a run writes about itself, and reading it: manifests, events, who watches, how fast engines were.

``recorder`` is the driver's alone; everybody may use ``reader``.
"""

from schemas.moved import names

__getattr__ = names(
    "cluster.records",
    {
        "alive": "cluster.records.reader",
        "find_run": "cluster.records.reader",
        "find_runs": "cluster.records.reader",
        "last_stage": "cluster.records.reader",
        "manifests": "cluster.records.reader",
        "open_stage": "cluster.records.reader",
        "HEARTBEAT": "cluster.records.reader",
        "RunRecorder": "cluster.records.recorder",
        "write_manifest": "cluster.records.recorder",
        "QUARANTINE": "cluster.records.recorder",
    },
)
