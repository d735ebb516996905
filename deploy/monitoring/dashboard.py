#!/usr/bin/env python3
"""Writes grafana-dashboard.json beside it; with --check says whether that is up to date."""

import json
import pathlib
import sys

TARGET = pathlib.Path(__file__).with_name("grafana-dashboard.json")
SELECTOR = '{job=~"$job",instance=~"$instance"}'
WIDTH, HEIGHT = 24, 8


def expr(query):
    """`NAME{}` and `NAME{label="x"}` get the variables of the dashboard."""
    return query.replace("{}", SELECTOR).replace("{@", SELECTOR[:-1] + ",").replace("@}", "}")


def panel(title, unit, *queries, kind="timeseries", stack=False, width=8, description=""):
    targets = [
        {
            "datasource": {"type": "prometheus", "uid": "$datasource"},
            "expr": expr(query),
            "legendFormat": legend,
            "refId": chr(ord("A") + n),
        }
        for n, (query, legend) in enumerate(queries)
    ]
    field = {"unit": unit}
    if kind == "timeseries":
        field["custom"] = {"fillOpacity": 20 if stack else 0, "stacking": {"mode": "normal" if stack else "none"}}
        field["min"] = 0
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": {"type": "prometheus", "uid": "$datasource"},
        "fieldConfig": {"defaults": field, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if kind == "stat" else {},
        "targets": targets,
        "width": width,
    }


def stat(title, unit, query, legend="", description=""):
    mode = dict(kind="stat", width=3, description=description)
    made = panel(title, unit, (query, legend), **mode)
    if legend:
        made["options"]["textMode"] = "name"
    return made


def quantiles(metric, *quantiles, by="le"):
    return [
        (f"histogram_quantile({q}, sum by ({by}) (rate({metric}_bucket{{}}[$__rate_interval])))", f"p{round(q * 100)}")
        for q in quantiles
    ]


def rate(metric, by=None, where="{}"):
    if by is None:
        return f"sum(rate({metric}{where}[$__rate_interval]))"
    return f"sum by ({by}) (rate({metric}{where}[$__rate_interval]))"


ROWS = {
    "Overview": [
        stat("Events a second", "short", rate("relay_events_sequenced_total")),
        stat("Hosts connected", "short", "sum(relay_hosts_connected{})"),
        stat("Subscribers", "short", "sum(relay_subscribers{})"),
        stat("Window", "s", "min(relay_window_seconds{})"),
        stat("Delay, p99", "s", quantiles("relay_event_delay_seconds", 0.99)[0][0]),
        stat("Rejected", "percentunit", f"{rate('relay_events_rejected_total')} / ({rate('relay_events_rejected_total')} + {rate('relay_events_sequenced_total')})"),
        stat("Up since", "dateTimeAsIso", "1000 * max(process_start_time_seconds{})"),
        stat("Build", "short", "relay_build_info{}", "{{version}} {{commit}}"),
        panel("Events in and out", "short", (rate("relay_upstream_frames_total"), "from hosts"), (rate("relay_events_sequenced_total"), "published"), (rate("relay_events_rejected_total"), "rejected"), width=12),
        panel("From event to publishing", "s", *quantiles("relay_event_delay_seconds", 0.5, 0.9, 0.99), width=12),
    ],
    "Upstream": [
        panel("Hosts by status", "short", ("sum by (status) (relay_hosts{})", "{{status}}"), stack=True),
        panel("Frames by type", "short", (rate("relay_upstream_frames_total", "type"), "{{type}}"), stack=True),
        panel("Bytes from hosts", "Bps", (rate("relay_upstream_bytes_total"), "in")),
        panel("Attempts to connect", "short", (rate("relay_host_connects_total", "result"), "{{result}}"), stack=True),
        panel("Connections that ended", "short", (rate("relay_host_disconnects_total", "reason"), "{{reason}}"), stack=True),
        panel("Age of the last frame", "s", ("time() - max(relay_upstream_last_frame_timestamp_seconds{})", "age")),
        panel("Hosts that are not read", "short", ("sum by (for) (relay_hosts_waiting{})", "{{for}}"), stack=True),
        panel("Events over a limit", "short", (rate("relay_events_delayed_total", "limit"), "{{limit}}")),
        panel("Requests to crawl", "short", (rate("relay_crawl_requests_total", "result"), "{{result}}")),
    ],
    "Verification": [
        panel("Rejected by reason", "short", (rate("relay_events_rejected_total", "reason") + " > 0", "{{reason}}"), stack=True, width=12),
        panel("Integrity: expect zero", "short", (rate("relay_events_rejected_total", "reason", '{@reason=~"signature_invalid|block_hash|tree_invalid|tree_mismatch|tree_missing_block|commit_mismatch|internal"@}'), "{{reason}}"), ("sum(rate(relay_panics_total{}[$__rate_interval]))", "panics"), width=12, description="Events whose bytes do not prove what they say, and faults of the relay."),
        panel("Proof", "s", *quantiles("relay_verify_duration_seconds", 0.5, 0.99)),
        panel("Cores that verification takes", "short", (rate("relay_verify_duration_seconds_sum"), "cores")),
        panel("Discontinuous and lenient", "short", (rate("relay_events_discontinuous_total"), "discontinuous"), (rate("relay_events_lenient_total"), "lenient")),
    ],
    "Identity": [
        panel("Lookups", "short", (rate("relay_identity_lookups_total", "method, result"), "{{method}} {{result}}"), stack=True),
        panel("Time of a lookup", "s", *quantiles("relay_identity_lookup_duration_seconds", 0.5, 0.99)),
        panel("Waiting", "short", ("sum(relay_events_waiting{})", "events"), ("sum(relay_identity_queue_dids{})", "DIDs"), (rate("relay_events_deferred_total", "reason"), "deferred a second: {{reason}}")),
        panel("Cache", "short", ("sum(relay_identity_cache_entries{})", "entries")),
        panel("Refused, put off, stale", "short", (rate("relay_identity_refreshes_refused_total"), "refused"), (rate("relay_identity_purges_put_off_total"), "put off"), (rate("relay_identity_stale_used_total"), "stale used")),
        panel("Waiting, in bytes", "bytes", ("sum(relay_parked_bytes{})", "for identities"), ("sum(relay_held_bytes{})", "for the word of a host")),
    ],
    "Sequencer and store": [
        panel("Commit (write and fsync)", "s", *quantiles("relay_batch_commit_duration_seconds", 0.5, 0.99)),
        panel("Events in a batch", "short", *quantiles("relay_batch_events", 0.5, 0.99), (rate("relay_batches_total"), "batches a second")),
        panel("Inbox", "short", ("sum(relay_inbox_events{})", "events"), (rate("relay_inbox_full_total"), "full, a second")),
        panel("Window", "s", ("min(relay_window_seconds{})", "is"), ("max(relay_window_promised_seconds{})", "promised")),
        panel("Bytes in files", "bytes", ("sum by (kind) (relay_store_bytes{})", "{{kind}}"), stack=True),
        panel("Disk free", "percentunit", ("min(relay_disk_free_bytes{} / relay_disk_size_bytes{})", "free")),
        panel("Held up by a full disk", "short", ("max(relay_disk_full{})", "nothing is taken of hosts")),
        panel("Stalls", "short", ("max(relay_store_write_stopped{})", "stopped"), ("max(relay_store_delayed_write_bytes_per_second{})", "delayed to, bytes a second"), ("sum(increase(relay_store_background_errors_total{}[$__rate_interval]))", "errors")),
        panel("Compaction", "bytes", ("sum(relay_store_pending_compaction_bytes{})", "pending")),
        panel("Files at level 0, jobs", "short", ("max(relay_store_level0_files{})", "files"), ("sum(relay_store_background_jobs{})", "jobs")),
        panel("Accounts and collections", "short", ("max(relay_accounts{})", "accounts"), ("max(relay_collection_pairs{})", "pairs")),
        panel("Backfill", "short", ("max(relay_backfill_running{})", "runs"), (rate("relay_backfill_imported_total"), "new entries a second"), (rate("relay_backfill_page_failures_total"), "failed pages a second")),
        panel("Seq", "short", ("max(relay_seq{})", "last"), ("max(relay_oldest_seq{})", "oldest")),
    ],
    "Subscribers and egress": [
        panel("Subscribers", "short", ("sum(relay_subscribers{})", "now")),
        panel("Lag", "short", ("max by (stat) (relay_subscriber_lag_events{})", "{{stat}}"), description="Events. The median is the relay's affair, the maximum that of one subscriber."),
        panel("Subscribers that are behind", "short", ("sum by (over) (relay_subscribers_lagging{})", "more than {{over}} events")),
        panel("Bytes sent", "Bps", (rate("relay_subscriber_bytes_total"), "out")),
        panel("Frames sent", "short", (rate("relay_subscriber_frames_total"), "frames")),
        panel("Sent in 30 days, at the rate of the last hour", "bytes", ("sum(rate(relay_subscriber_bytes_total{}[1h])) * 30 * 86400", "projected")),
        panel("Ends", "short", (rate("relay_subscriber_disconnects_total", "reason"), "{{reason}}"), stack=True),
        panel("Reads by tier", "short", (rate("relay_replay_reads_total", "tier"), "{{tier}}"), stack=True),
    ],
    "HTTP and control store": [
        panel("Requests", "short", (rate("relay_http_requests_total", "route, code"), "{{route}} {{code}}"), stack=True),
        panel("Time of a request", "s", ("histogram_quantile(0.99, sum by (le, route) (rate(relay_http_request_duration_seconds_bucket{}[$__rate_interval])))", "p99 {{route}}")),
        panel("Connections", "short", ("sum(relay_http_connections{})", "now"), (rate("relay_http_refused_total"), "refused a second")),
        panel("Control store", "short", ("min(relay_control_up{})", "up"), ("relay_control_info{}", "{{backend}}")),
        panel("Operations", "short", (rate("relay_control_operations_total", "operation, result") + " > 0", "{{operation}} {{result}}")),
        panel("Time of an operation", "s", *quantiles("relay_control_operation_duration_seconds", 0.5, 0.99)),
    ],
    "Process and memory by kind": [
        panel("CPU", "short", (rate("relay_process_cpu_seconds_total", "mode"), "{{mode}}"), stack=True),
        panel("Resident memory", "bytes", ("sum by (kind) (relay_process_resident_bytes{})", "{{kind}}"), stack=True),
        panel("Heap and stacks", "bytes", ('sum by (kind) (relay_memory_bytes{@kind=~"heap|stack"@})', "{{kind}}"), stack=True),
        panel("In the heap, by kind", "bytes", ('sum by (kind) (relay_memory_bytes{@kind!~"heap|stack"@})', "{{kind}}"), stack=True),
        panel("Threads", "short", ("sum by (role) (relay_threads{}) > 0", "{{role}}"), stack=True),
        panel("File descriptors", "short", ("sum(process_open_fds{})", "open"), ("sum(process_max_fds{})", "may be")),
        panel("Page faults that waited for a disk", "short", (rate("relay_process_page_faults_total", where='{@kind="major"@}'), "major")),
    ],
}


def variable(name, label):
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "$datasource"},
        "query": f"label_values(relay_build_info, {name})",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard():
    panels, y = [], 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}, "panels": []})
        x, y, deepest = 0, y + 1, 0
        for made in row:
            made = dict(made)
            width = made.pop("width")
            height = 4 if made["type"] == "stat" else HEIGHT
            if x + width > WIDTH:
                x, y, deepest = 0, y + deepest, 0
            made["gridPos"] = {"x": x, "y": y, "w": width, "h": height}
            x, deepest = x + width, max(deepest, height)
            panels.append(made)
        y += deepest
    for n, made in enumerate(panels, 1):
        made["id"] = n
    datasource = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}
    return {
        "title": "zlay relay",
        "uid": "zlay-relay",
        "tags": ["atproto", "zlay"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [datasource, variable("job", "Job"), variable("instance", "Instance")]},
        "panels": panels,
    }


text = json.dumps(dashboard(), indent=2) + "\n"
if "--check" in sys.argv:
    if TARGET.read_text() != text:
        sys.exit(f"{TARGET.name} is not what {pathlib.Path(__file__).name} writes; run it")
else:
    TARGET.write_text(text)
