"""What members do: whether they answer, how long they compute, and whether they still agree."""

from __future__ import annotations

from quorate.cluster.dashboards.board import Board, Choice, Panel, Query, Section

_OF = 'ensemble=~"$ensemble",member=~"$member"'
_RATE = "$__rate_interval"
_EACH = "sum by (ensemble, member)"


def _inference(q: float) -> Query:
    buckets = f"rate(quorate_member_inference_seconds_bucket{{{_OF}}}[{_RATE}])"
    return Query(f"histogram_quantile({q}, sum by (member, le) ({buckets}))", f"{{{{member}}}} p{round(q * 100)}")


def _mean(metric: str, window: str = _RATE) -> str:
    return f"{_EACH} (rate({metric}_sum{{{_OF}}}[{window}])) / {_EACH} (rate({metric}_count{{{_OF}}}[{window}]))"


_BUSY = f"{_EACH} (rate(quorate_member_inference_seconds_sum{{{_OF}}}[{_RATE}]))"
_CONNECTED = f'max by (ensemble, member) (quorate_member_replicas{{{_OF},state="connected"}})'

MEMBER = Board(
    "quorate-member",
    "Quorate: members",
    (Choice("ensemble", "quorate_ready"), Choice("member", "quorate_member_replicas")),
    (
        Section(
            "There",
            (
                Panel("Replicas", "That take calls, as the door sees it that sees most.", "none",
                      (Query(_CONNECTED, "{{member}}"),)),
                Panel("Left out", "Replicas that fail or are late, and are tried again by and by.", "none",
                      (Query(f'max by (ensemble, member) (quorate_member_replicas{{{_OF},state="left_out"}})',
                             "{{member}}"),)),
                Panel("Processes", "In whose each computes: its own, a shared one, or the doors'.", "none",
                      (Query(f"max by (member, process) (quorate_member_process_info{{{_OF}}})",
                             "{{member}} {{process}}"),)),
                Panel("Fewest replicas at a door", "0: some node does not reach the member.", "none",
                      (Query(f'min by (ensemble, member) (quorate_member_replicas{{{_OF},state="connected"}})',
                             "{{member}}"),)),
            ),
        ),
        Section(
            "Replies",
            (
                Panel("Batches", "Of each member.", "reqps",
                      (Query(f"{_EACH} (rate(quorate_member_replies_total{{{_OF}}}[{_RATE}]))", "{{member}}"),)),
                Panel("Failed batches", "Share of batches without a usable row.", "percentunit",
                      (Query(f'{_EACH} (rate(quorate_member_replies_total{{{_OF},outcome!~"ok|partial"}}[{_RATE}])) / '
                             f"{_EACH} (rate(quorate_member_replies_total{{{_OF}}}[{_RATE}]))", "{{member}}"),),
                      most=1.0),
                Panel("Outcomes", "ok, partial, or why nothing came.", "reqps",
                      (Query(f"sum by (member, outcome) (rate(quorate_member_replies_total{{{_OF}}}[{_RATE}]))",
                             "{{member}} {{outcome}}"),)),
                Panel("Late", "Batches that had no reply before the deadline.", "reqps",
                      (Query(f'{_EACH} (rate(quorate_member_replies_total{{{_OF},outcome="deadline"}}[{_RATE}]))',
                             "{{member}}"),)),
                Panel("Unusable rows", "Of batches that were answered.", "none",
                      (Query(f"sum by (member, reason) (rate(quorate_member_failed_rows_total{{{_OF}}}[{_RATE}]))",
                             "{{member}} {{reason}}"),)),
            ),
        ),
        Section(
            "Time and agreement",
            (
                Panel("Forward pass", "Median and 95th percentile.", "s", (_inference(0.5), _inference(0.95))),
                Panel("Mean forward pass", "Of a batch.", "s",
                      (Query(_mean("quorate_member_inference_seconds"), "{{member}}"),)),
                Panel("Busy replicas", "Seconds of forward passes a second: above the replicas there are, work waits.",
                      "none", (Query(_BUSY, "{{member}}"),)),
                Panel("Busy share", "Of the time of all replicas.", "percentunit",
                      (Query(f"{_BUSY} / {_CONNECTED}", "{{member}}"),)),
                Panel("Distance from the answer",
                      "Mean over the last hour and day: total variation of probabilities, else absolute difference.",
                      "none",
                      (Query(f"ensemble_member:quorate_member_deviation:mean1h{{{_OF}}}", "{{member}} 1h"),
                       Query(f"ensemble_member:quorate_member_deviation:mean1d{{{_OF}}}", "{{member}} 1d"))),
                Panel("Drifted from the reference", "Statistics that are others than they were.",
                      "none",
                      (Query(f"sum by (member, statistic) (quorate_drift{{{_OF}}})", "{{member}} {{statistic}}"),)),
                Panel("Drift of members", "The last hour's distance by the last day's: 1 when nothing changes.", "none",
                      (Query(f"ensemble_member:quorate_member_deviation:mean1h{{{_OF}}} / "
                             f"ensemble_member:quorate_member_deviation:mean1d{{{_OF}}}", "{{member}}"),)),
            ),
        ),
    ),
)  # fmt: skip
