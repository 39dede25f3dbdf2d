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


def _of_shadow(what: str) -> Query:
    """Of a row that a shadow was compared on, in the mean."""
    by = "sum by (shadow, output)"
    part = f"{by} (rate(quorate_shadow_{what}_total{{{_OF}}}[{_RATE}]))"
    return Query(f"{part} / {by} (rate(quorate_shadow_rows_total{{{_OF}}}[{_RATE}]))", "{{shadow}} {{output}}")


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
                Panel("Alarms of drift", "Members, or the answers, that began to be others than in the reference.",
                      "none",
                      (Query(f"sum by (member, statistic) (increase(quorate_drift_alarms_total{{{_OF}}}[{_RATE}]))",
                             "{{member}} {{statistic}}"),)),
                Panel("Answers watched for drift", "Those that were dropped came faster than they were looked at.",
                      "ops", (Query(f"sum by (outcome) (rate(quorate_drift_answers_total{{{_OF}}}[{_RATE}]))",
                             "{{outcome}}"),)),
                Panel("Webhook", "Calls that told of drift, and those that nobody took.", "ops",
                      (Query(f"sum by (outcome) (rate(quorate_drift_webhooks_total{{{_OF}}}[{_RATE}]))",
                             "{{outcome}}"),)),
            ),
        ),
        # What learns from what comes back has its panels behind these.
        Section(
            "What comes back",
            (
                Panel("Recorded answers", "Those that were dropped found a store that was too slow, or took none.",
                      "ops", (Query(f"sum by (outcome) (rate(quorate_recorded_answers_total{{{_OF}}}[{_RATE}]))",
                                    "{{outcome}}"),)),
                Panel("Labels", "By what became of them; contradicting ones change nothing.", "ops",
                      (Query(f"sum by (verdict) (rate(quorate_labels_total{{{_OF}}}[{_RATE}]))", "{{verdict}}"),)),
                Panel("Size of the record", "As each door sees it: of its node's disk, or of the store.", "bytes",
                      (Query(f"max by (ensemble, instance) (quorate_record_bytes{{{_OF}}})",
                             "{{ensemble}} {{instance}}"),)),
                Panel("Age of the record", "Since its oldest file was last written.", "s",
                      (Query("max by (ensemble, instance) "
                             f"(time() - quorate_record_oldest_timestamp_seconds{{{_OF}}})",
                             "{{ensemble}} {{instance}}"),)),
                Panel("Members left out for load", "With overload: thin; for how long.", "s",
                      (Query(f"max by (member) (quorate_member_thinned_seconds{{{_OF}}})", "{{member}}"),)),
            ),
        ),
        Section(
            "Shadows",
            (
                Panel("Rows of shadows", "Compared, failed, or left out: busy had no time, loaded no moment to ask.",
                      "ops",
                      (Query(f"sum by (shadow) (rate(quorate_shadow_rows_total{{{_OF}}}[{_RATE}]))", "{{shadow}}"),
                       Query(f"sum by (shadow) (rate(quorate_shadow_failed_rows_total{{{_OF}}}[{_RATE}]))",
                             "{{shadow}} failed"),
                       Query(f"sum by (reason) (rate(quorate_shadow_left_out_rows_total{{{_OF}}}[{_RATE}]))",
                             "left out: {{reason}}"))),
                Panel("Disagreement of shadows", "Share of the rows of which they say something else.", "percentunit",
                      (_of_shadow("changed_rows"),), most=1.0),
                Panel("Distance of shadows", "From the answer, in the mean.", "none", (_of_shadow("distance"),)),
                Panel("Shadows better by", "On labels that have come, as each door knows them; all looks hold at once.",
                      "none", (Query(f"max by (shadow, output, metric, bound) (quorate_shadow_gain{{{_OF}}})",
                                     "{{shadow}} {{output}} {{metric}} {{bound}}"),)),
                Panel("Labelled rows of shadows", "By which they are judged at doors.", "none",
                      (Query(f"sum by (shadow, output) (quorate_shadow_judged_rows_total{{{_OF}}})",
                             "{{shadow}} {{output}}"),)),
                Panel("Fusing a row in a shadow", "In the thread that answers, between other work.", "s",
                      (_of_shadow("fuse_seconds"),)),
                Panel("Members asked for shadows alone", "Rows, by what became of them.", "ops",
                      (Query(f"sum by (member, outcome) (rate(quorate_shadow_member_rows_total{{{_OF}}}[{_RATE}]))",
                             "{{member}} {{outcome}}"),)),
                Panel("Their replies", "From the question to the reply, in the mean.", "s",
                      (Query("sum by (member) "
                             f"(rate(quorate_shadow_member_reply_seconds_sum{{{_OF}}}[{_RATE}])) / sum by (member) "
                             f"(rate(quorate_shadow_member_reply_seconds_count{{{_OF}}}[{_RATE}]))", "{{member}}"),)),
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
                Panel("Members a bandit asks", "Of a row, live, and by what was learned.", "none",
                      (Query(f"max by (output, by) (quorate_online_members_asked{{{_OF}}})", "{{output}} {{by}}"),)),
                Panel("A bandit's accuracy", "Over the latest labels, beside everybody's and the floor.", "percentunit",
                      (Query(f"max by (output, of) (quorate_online_accuracy{{{_OF}}})", "{{output}} {{of}}"),)),
                Panel("What a bandit has learned", "What it would gain over the live one, in being right less the "
                      "price of what is asked: the mean, least and most.", "none",
                      (Query(f"max by (output, bound) (quorate_online_gain{{{_OF}}})", "{{output}} {{bound}}"),)),
                Panel("What went live", "By itself, weights or a bandit, and was taken back.", "none",
                      (Query(f"max by (what) (quorate_online_changes_total{{{_OF}}})", "{{what}}"),)),
                Panel("Classes answered as others", "The shares of those that labels call otherwise than members do.",
                      "none",
                      (Query(f"max by (output, class, answered_as) (quorate_online_relabelled{{{_OF}}})",
                             "{{output}} {{class}} as {{answered_as}}"),)),
                Panel("Since something went live", "How long ago the last did, and the last was taken back.", "s",
                      (Query(f"time() - max by (what) (quorate_online_change_timestamp_seconds{{{_OF}}})",
                             "{{what}}"),)),
            ),
        ),
    ),
)  # fmt: skip
