"""What runs where: doors, versions, revisions, memory, processor time, certificates."""

from __future__ import annotations

from quorate.cluster.dashboards.board import Board, Choice, Panel, Query, Section

_JOB = 'job=~"$job"'
_RATE = "$__rate_interval"
_HERE = "{{ensemble}} {{instance}}"
# A process has no ensemble; the door that it is tells.
_NAMED = f"* on (job, instance) group_left (ensemble) quorate_ready{{{_JOB}}} ^ 0"

CLUSTER = Board(
    "quorate-cluster",
    "Quorate: cluster",
    (Choice("job", "quorate_build_info"),),
    (
        Section(
            "What runs",
            (
                Panel("Doors", "That Prometheus reaches.", "none",
                      (Query(f"sum (up{{{_JOB}}})", "reached"), Query(f"count (up{{{_JOB}}})", "of")), "stat"),
                Panel("Doors that cannot answer", "Too few members take their calls.", "none",
                      (Query(f"count (quorate_ready{{{_JOB}}}) - sum (quorate_ready{{{_JOB}}})", "doors"),), "stat"),
                Panel("Where doors stand", "Each by its address, as its page says it, and its process.", "none",
                      (Query(f"count by (ensemble, door, process) (quorate_door_info{{{_JOB}}})",
                             "{{ensemble}} {{door}} {{process}}"),)),
                Panel("Versions of Quorate", "More than one only during an upgrade.", "none",
                      (Query(f"count by (version) (quorate_build_info{{{_JOB}}})", "{{version}}"),)),
                Panel("Live revisions", "Of one ensemble more than one for seconds only.", "none",
                      (Query(f"count by (ensemble, revision) (quorate_revision_info{{{_JOB}}})",
                             "{{ensemble}} {{revision}}"),)),
                Panel("Records behind", "Changes that a door has not followed yet.", "none",
                      (Query(f"max by (ensemble) (quorate_record_number{{{_JOB}}}) - "
                             f"min by (ensemble) (quorate_record_number{{{_JOB}}})", "{{ensemble}}"),)),
                Panel("Starts", "Of doors' processes within the hour.", "none",
                      (Query(f"changes(process_start_time_seconds{{{_JOB}}}[1h])", "{{instance}}"),)),
                Panel("Requests by door", "Whether the load is spread.", "reqps",
                      (Query(f"sum by (ensemble, instance) (rate(quorate_requests_total{{{_JOB}}}[{_RATE}]))",
                             _HERE),)),
            ),
        ),
        Section(
            "What it takes",
            (
                Panel("Event loop", "Share of a core that the thread of the doors computes; it has one.", "percentunit",
                      (Query(f"rate(quorate_event_loop_cpu_seconds_total{{{_JOB}}}[{_RATE}])", _HERE),), most=1.0),
                Panel("Processor", "Of a door's process, in cores.", "none",
                      (Query(f"rate(process_cpu_seconds_total{{{_JOB}}}[{_RATE}]) {_NAMED}", _HERE),)),
                Panel("Memory", "Of a door's process, resident.", "bytes",
                      (Query(f"process_resident_memory_bytes{{{_JOB}}} {_NAMED}", _HERE),)),
                Panel("Memory for requests", "Share of what requests may hold together.", "percentunit",
                      (Query(f"quorate_request_memory_bytes{{{_JOB}}} / quorate_request_memory_limit_bytes{{{_JOB}}}",
                             _HERE),), most=1.0),
                Panel("Open files", "Share of what the process may have: connections, mostly.", "percentunit",
                      (Query(f"process_open_fds{{{_JOB}}} / process_max_fds{{{_JOB}}}", "{{instance}}"),), most=1.0),
                Panel("Certificates", "Time until the first ceases to be valid; empty without TLS.", "s",
                      (Query(f"quorate_certificate_expiry_timestamp_seconds{{{_JOB}}} - time()",
                             "{{ensemble}} {{instance}} {{file}}"),)),
            ),
        ),
    ),
)  # fmt: skip
