"""What an ensemble answers: how many, how well, how fast."""

from __future__ import annotations

from quorate.cluster.dashboards.board import Board, Choice, Panel, Query, Section

_OF = 'ensemble=~"$ensemble"'
_RATE = "$__rate_interval"


def _share(outcome: str) -> Query:
    part = f"sum by (ensemble) (rate(quorate_requests_total{{{_OF},{outcome}}}[{_RATE}]))"
    return Query(f"{part} / sum by (ensemble) (rate(quorate_requests_total{{{_OF}}}[{_RATE}]))", "{{ensemble}}")


def _quantile(q: float, metric: str, by: str = "le", of: str = _OF) -> str:
    return f"histogram_quantile({q}, sum by ({by}) (rate({metric}_bucket{{{of}}}[{_RATE}])))"


_LATENCY = tuple(Query(_quantile(q, "quorate_request_seconds"), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99))

ENSEMBLE = Board(
    "quorate-ensemble",
    "Quorate: ensemble",
    (Choice("ensemble", "quorate_ready"),),
    (
        Section(
            "Answers",
            (
                Panel("Ready doors", "Doors that can answer, of those that are scraped.", "none",
                      (Query(f"sum by (ensemble) (quorate_ready{{{_OF}}})", "{{ensemble}}"),), "stat"),
                Panel("Requests", "By what became of them.", "reqps",
                      (Query(f"sum by (outcome) (rate(quorate_requests_total{{{_OF}}}[{_RATE}]))", "{{outcome}}"),)),
                Panel("Degraded share", "Answers that some members are missing from.", "percentunit",
                      (_share('outcome="degraded"'),), most=1.0),
                Panel("Failed share", "Requests without an answer that were not the client's fault.", "percentunit",
                      (_share('outcome="error",reason!~"invalid|cancelled"'),), most=1.0),
                Panel("Why answers are degraded", "Each answer under the first reason of its missing members.", "reqps",
                      (Query(f'sum by (reason) (rate(quorate_requests_total{{{_OF},outcome="degraded"}}[{_RATE}]))',
                             "{{reason}}"),)),
                Panel("Why requests fail", "invalid and cancelled are the clients' doing.", "reqps",
                      (Query(f'sum by (reason) (rate(quorate_requests_total{{{_OF},outcome="error"}}[{_RATE}]))',
                             "{{reason}}"),)),
            ),
        ),
        Section(
            "Time",
            (
                Panel("Latency", "From the door to the answer; dots are traced requests.", "s", _LATENCY),
                Panel("Latencies", "How many requests took how long.", "s",
                      (Query(f"sum by (le) (increase(quorate_request_seconds_bucket{{{_OF}}}[{_RATE}]))", "{{le}}"),),
                      "heatmap"),
                Panel("Where the time goes", "Mean of each stage; member is a call, there and back.", "s",
                      (Query(f"sum by (stage) (rate(quorate_stage_seconds_sum{{{_OF}}}[{_RATE}])) / "
                             f"sum by (stage) (rate(quorate_stage_seconds_count{{{_OF}}}[{_RATE}]))", "{{stage}}"),)),
                Panel("Wait for a batch", "The 95th percentile.", "s",
                      (Query(_quantile(0.95, "quorate_stage_seconds", "le", f'{_OF},stage="queue"'), "p95"),)),
            ),
        ),
        Section(
            "Load and drift",
            (
                Panel("Rows in the queue", "Beyond the limit requests are refused.", "none",
                      (Query(f"sum by (ensemble) (quorate_queued_rows{{{_OF}}})", "waiting"),
                       Query(f"sum by (ensemble) (quorate_queue_limit_rows{{{_OF}}})", "limit"))),
                Panel("Rows per batch", "Larger under load.", "none",
                      (Query(_quantile(0.5, "quorate_batch_rows"), "p50"),
                       Query(_quantile(0.95, "quorate_batch_rows"), "p95"))),
                Panel("Classes that are answered", "Of the rows that are looked at.", "percentunit",
                      (Query(f"sum by (output, class) (rate(quorate_sampled_rows_total{{{_OF}}}[{_RATE}])) / "
                             "ignoring (class) group_left "
                             f"sum by (output) (rate(quorate_sampled_rows_total{{{_OF}}}[{_RATE}]))",
                             "{{output}} {{class}}"),), most=1.0),
                Panel("Drift of classes", "Half the sum of differences of shares: the last hour and the last day.",
                      "percentunit",
                      (Query(f"ensemble_output:quorate_sampled_rows:drift1h{{{_OF}}}", "{{ensemble}} {{output}}"),),
                      most=1.0),
            ),
        ),
        Section(
            "Record",
            (
                Panel("Recorded answers", "Those that were dropped found a store that was too slow, or took none.",
                      "ops", (Query(f"sum by (outcome) (rate(quorate_recorded_answers_total{{{_OF}}}[{_RATE}]))",
                                    "{{outcome}}"),)),
                Panel("Labels", "By what became of them; contradicting ones change nothing.", "ops",
                      (Query(f"sum by (verdict) (rate(quorate_labels_total{{{_OF}}}[{_RATE}]))", "{{verdict}}"),)),
            ),
        ),
        Section(
            "Online learning",
            (
                Panel("Learned weights", "What labels have made of the weights, live or in the shadow.", "none",
                      (Query(f"max by (output, member) (quorate_online_weight{{{_OF}}})", "{{output}} {{member}}"),)),
                Panel("Regret", "Nats that learned weights lost more than the best member, the best mixture, and the "
                      "first weights, beside what that can be at most.", "none",
                      (Query(f"max by (output, against) (quorate_online_regret{{{_OF}}})", "{{output}} {{against}}"),
                       Query(f"max by (output, against) (quorate_online_regret_bound{{{_OF}}})",
                             "{{output}} {{against}} at most"))),
                Panel("Labels learned from", "All so far.", "none",
                      (Query(f"max by (output) (quorate_online_labels{{{_OF}}})", "{{output}}"),)),
                Panel("Weights that went live", "By themselves, and those that were taken back.", "none",
                      (Query(f"max by (what) (quorate_online_changes_total{{{_OF}}})", "{{what}}"),)),
                Panel("Since weights went live", "How long ago the last did, and the last were taken back.", "s",
                      (Query(f"time() - max by (what) (quorate_online_change_timestamp_seconds{{{_OF}}})",
                             "{{what}}"),)),
            ),
        ),
    ),
)  # fmt: skip
