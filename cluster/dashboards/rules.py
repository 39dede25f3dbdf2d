"""Prometheus rules: what is computed beforehand, and what somebody should be told of.

Names of records are level:metric:operation, as Prometheus' documentation has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

_REQUESTS = "sum by (ensemble) (rate(quorate_requests_total{}[5m]))"
_SAMPLED = "increase(quorate_sampled_rows_total[{}])"
_DEVIATION = "sum by (ensemble, member) (increase(quorate_member_deviation_{}[{}]))"
# What fewer rows than this show may be chance.
_ROWS = 200


def _ratio(which: str) -> str:
    return f"{_REQUESTS.format(which)} / {_REQUESTS.format('')}"


def _shares(window: str) -> str:
    rows = _SAMPLED.format(window)
    whole = f"sum by (ensemble, output) ({rows})"
    return f"sum by (ensemble, output, class) ({rows}) / ignoring (class) group_left {whole}"


def _deviation(window: str) -> str:
    return f"{_DEVIATION.format('sum', window)} / {_DEVIATION.format('count', window)}"


def _part_of(metric: str, which: str, window: str) -> str:
    """The share of a counter that is of some labels."""
    part, whole = (f"sum by (ensemble) (rate({metric}{labels}[{window}]))" for labels in (which, ""))
    return f"{part} / {whole}"


_LOST = '{verdict=~"unknown|expired|unrecorded"}'

RECORDS: Mapping[str, str] = {
    "ensemble:quorate_requests:rate5m": _REQUESTS.format(""),
    "ensemble:quorate_requests_degraded:ratio_rate5m": _ratio('{outcome="degraded"}'),
    "ensemble:quorate_requests_late:ratio_rate5m": _ratio('{outcome="error",reason="deadline"}'),
    "ensemble:quorate_requests_failed:ratio_rate5m": _ratio('{outcome="error",reason!~"invalid|cancelled"}'),
    "ensemble:quorate_requests_refused:ratio_rate5m": _ratio('{outcome="error",reason="overloaded"}'),
    "ensemble:quorate_request_seconds:p95_rate5m": (
        "histogram_quantile(0.95, sum by (ensemble, le) (rate(quorate_request_seconds_bucket[5m])))"
    ),
    "ensemble_output_class:quorate_sampled_rows:share1h": _shares("1h"),
    "ensemble_output_class:quorate_sampled_rows:share1d": _shares("1d"),
    "ensemble_output:quorate_sampled_rows:drift1h": (
        "sum by (ensemble, output) (abs(ensemble_output_class:quorate_sampled_rows:share1h - "
        "ensemble_output_class:quorate_sampled_rows:share1d)) / 2"
    ),
    "ensemble_member:quorate_member_deviation:mean1h": _deviation("1h"),
    "ensemble_member:quorate_member_deviation:mean1d": _deviation("1d"),
    "ensemble:quorate_recorded_answers_dropped:ratio_rate5m": _part_of(
        "quorate_recorded_answers_total", '{outcome!="kept"}', "5m"
    ),
    "ensemble:quorate_labels_lost:ratio_rate1h": _part_of("quorate_labels_total", _LOST, "1h"),
}


@dataclass(frozen=True)
class Alert:
    """Somebody should look.

    Attributes:
        when: in PromQL.
        for_: how long it has to be so.
        page: at once, at any hour; else when there is time.
        summary: what is the matter, with labels as Prometheus fills them in.
        do: what to look at.
    """

    name: str
    when: str
    for_: str
    page: bool
    summary: str
    do: str


_E, _M = "{{ $labels.ensemble }}", "{{ $labels.member }}"
_SHARE = "{{ $value | humanizePercentage }}"
# What fewer labels in an hour than this show may be chance; a member may be left out so long for a wave of load.
_LABELS, _THINNED_S = 50, 900

ALERTS: tuple[Alert, ...] = (
    Alert("QuorateDoorGone", "up == 0 and on (job) count by (job) (quorate_build_info)", "2m", True,
          "The door {{ $labels.instance }} is not reached", "quorate status; the node, its Ray, the door's port"),
    Alert("QuorateNotReady", "min by (ensemble, instance) (max_over_time(quorate_ready[1m])) == 0", "1m", True,
          f"{_E} cannot answer at {{{{ $labels.instance }}}}: too few members", f"quorate status; quorate logs {_E}"),
    Alert("QuorateDeadlineMisses", "ensemble:quorate_requests_late:ratio_rate5m > 0.01", "5m", True,
          f"{_SHARE} of the requests of {_E} miss their deadline", "forward passes and queue on the member board"),
    Alert("QuorateFailures", "ensemble:quorate_requests_failed:ratio_rate5m > 0.01", "5m", True,
          f"{_SHARE} of the requests of {_E} have no answer", "reasons on the ensemble board; quorate logs"),
    Alert("QuorateDegraded", "ensemble:quorate_requests_degraded:ratio_rate5m > 0.05", "10m", False,
          f"{_SHARE} of the answers of {_E} lack a member", "reasons on the ensemble board, then the member's log"),
    Alert("QuorateMemberLeftOut", 'max by (ensemble, member) (quorate_member_replicas{state="left_out"}) > 0', "5m",
          False, f"A replica of {_M} of {_E} is left out: it fails or is late", f"quorate logs {_E} {_M}"),
    Alert("QuorateMemberGone", 'max by (ensemble, member) (quorate_member_replicas{state="connected"}) == 0', "2m",
          True, f"No replica of {_M} of {_E} takes calls", f"quorate status; quorate logs {_E} {_M}"),
    Alert("QuorateQueueFull",
          "ensemble:quorate_requests_refused:ratio_rate5m > 0 or "
          "max by (ensemble) (quorate_queued_rows / quorate_queue_limit_rows) > 0.8", "2m", True,
          f"The queue of {_E} is full, or requests are refused", "busy share of members: more replicas, fewer clients"),
    Alert("QuorateDrift", "sum by (ensemble, output, member, statistic) (quorate_drift) > 0", "5m", False,
          f"{{{{ if $labels.member }}}}{_M}{{{{ else }}}}The answers{{{{ end }}}} of {_E}: "
          "{{ $labels.statistic }} is another than in the reference",
          f"quorate drift {_E}: who, since when; its version and inputs; tune on new rows"),
    Alert("QuorateClassDrift",
          "ensemble_output:quorate_sampled_rows:drift1h > 0.15 and on (ensemble, output) "
          f"sum by (ensemble, output) ({_SAMPLED.format('1h')}) > {_ROWS}", "30m", False,
          f"{_E} answers other classes than in the day before ({_SHARE} moved)", "what clients send; tune on new rows"),
    Alert("QuorateMemberDrift",
          "ensemble_member:quorate_member_deviation:mean1h > 1.5 * ensemble_member:quorate_member_deviation:mean1d "
          f"and on (ensemble, member) {_DEVIATION.format('count', '1h')} > {_ROWS}", "30m", False,
          f"{_M} of {_E} is further from the answers than in the day before", "its inputs and its version; tune again"),
    Alert("QuorateRecordDrops", "ensemble:quorate_recorded_answers_dropped:ratio_rate5m > 0.01", "10m", False,
          f"{_SHARE} of the answers of {_E} that were to be recorded are not", "the record's disk or store; the log"),
    Alert("QuorateLabelsLost",
          "ensemble:quorate_labels_lost:ratio_rate1h > 0.2 and on (ensemble) "
          f"sum by (ensemble) (increase(quorate_labels_total[1h])) > {_LABELS}", "30m", False,
          f"{_SHARE} of the labels for {_E} are for answers that are not there: unknown, expired, or never recorded",
          "record.keep_for and record.share; which ids are sent, and whether all doors see one record"),
    Alert("QuorateShadowBetter",
          'max by (ensemble, shadow, output) (quorate_shadow_gain{bound="least"}) > 0', "10m", False,
          f"Shadow {{{{ $labels.shadow }}}} of {_E} is better on labels, by {{{{ $value }}}} a row at least",
          f"quorate shadow {_E} --report; --promote makes it live"),
    Alert("QuorateThinned",
          f"max by (ensemble, member) (quorate_member_thinned_seconds) > {_THINNED_S}", "1m", False,
          f"{_M} of {_E} has not been asked for {{{{ $value | humanizeDuration }}}}: there is too much load",
          "replicas of the member, its forward passes, the rate of requests"),
    Alert("QuorateCertificateExpires",
          "quorate_certificate_expiry_timestamp_seconds - time() < 14 * 86400", "1h", False,
          f"The {{{{ $labels.file }}}} of {_E} expires in {{{{ $value | humanizeDuration }}}}",
          "new files at the same path, on every node: they are used from the next connection on"),
    Alert("QuorateCertificateExpired", "quorate_certificate_expiry_timestamp_seconds < time()", "1m", True,
          f"The {{{{ $labels.file }}}} of {_E} at {{{{ $labels.instance }}}} has expired",
          "new files at the same path, on every node"),
    Alert("QuorateRevisionsDiffer",
          "count by (ensemble) (count by (ensemble, revision) (quorate_revision_info)) > 1", "5m", False,
          f"Doors of {_E} answer by different revisions", "Records behind on the cluster board; the door's log"),
    Alert("QuorateDoorRestarts",
          "changes(process_start_time_seconds[15m]) > 2 and on (job, instance) quorate_build_info", "1m", False,
          "The door {{ $labels.instance }} starts again and again", "Ray's logs of that node: memory, health checks"),
)  # fmt: skip


def records_yaml() -> str:
    """The file of recording rules; within a group they are computed in order."""
    rules = [{"record": name, "expr": text} for name, text in RECORDS.items()]
    return _yaml("quorate-records", rules)


def alerts_yaml() -> str:
    """The file of alerts."""
    return _yaml("quorate-alerts", [_alert(alert) for alert in ALERTS])


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.when,
        "for": alert.for_,
        "labels": {"severity": "page" if alert.page else "ticket"},
        "annotations": {"summary": alert.summary, "description": f"Look at: {alert.do}."},
    }


def _yaml(group: str, rules: list[dict[str, Any]]) -> str:
    return yaml.safe_dump({"groups": [{"name": group, "rules": rules}]}, sort_keys=False, width=120)
