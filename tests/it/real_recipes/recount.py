"""What becomes of the records of a topic, told from what `kcat -f '%p %o %s\\n'` prints of it, and by nothing that sdl has.

recount.py records             [partition, offset, value] of each record that is a JSON object
recount.py shaped              the same, with device_type, masked ip and ISO timestamp
recount.py summaries SECONDS   the summary of each window
recount.py rows SECONDS        the rows of each window
"""

import datetime
import json
import sys
from collections import Counter

FIELDS = ["user_id", "app_version", "device_type", "ip", "locale", "device_id", "timestamp"]


def records():
    for line in sys.stdin.buffer:
        partition, offset, value = line.rstrip(b"\n").split(b" ", 2)
        try:
            event = json.loads(value)
        except ValueError:
            continue
        yield int(partition), int(offset), event


def iso(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def shaped(event):
    return event | {
        "device_type": event.get("device_type") or "unknown",
        "ip": ".".join(event["ip"].split(".")[:3]) + ".xxx",
        "timestamp": iso(event["timestamp"]),
    }


def windows(seconds):
    found = {}
    for _, _, event in records():
        found.setdefault(event["timestamp"] // seconds * seconds, []).append(event)
    return sorted(found.items())


def summaries(seconds):
    total = {"messages": 0, "missing": Counter(), "types": Counter()}
    for start, events in windows(seconds):
        missing = Counter(field for event in events for field in FIELDS if field not in event)
        types = Counter(event["device_type"] for event in events if "device_type" in event)
        total["messages"] += len(events)
        total["missing"] += missing
        total["types"] += types
        yield {
            "timestamp_start": start,
            "timestamp_end": start + seconds,
            "interval_messages_consumed": len(events),
            "interval_missing_field_count": dict(missing),
            "interval_device_type_count": dict(types),
            "total_messages_consumed": total["messages"],
            "total_missing_field_count": dict(total["missing"]),
            "total_device_type_count": dict(total["types"]),
        }


def rows(seconds):
    for start, events in windows(seconds):
        time = iso(start + seconds)
        for field in ["device_type", "locale"]:
            for value, count in sorted(Counter(event[field] for event in events if field in event).items()):
                yield {"processing_time": time, "record_type": field, field: value, "count": count}
        yield {"processing_time": time, "record_type": "total", "total": "all", "count": len(events)}


what, *arguments = sys.argv[1:]
answers = {
    "records": lambda: records(),
    "shaped": lambda: ((partition, offset, shaped(event)) for partition, offset, event in records()),
    "summaries": lambda: summaries(int(arguments[0])),
    "rows": lambda: rows(int(arguments[0])),
}
json.dump(list(answers[what]()), sys.stdout)
