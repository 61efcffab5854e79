"""Reads expositions from stdin and says of each whether prometheus_client's parsers take it.

Each request is a line "FORMAT LENGTH" and LENGTH bytes; the answer is one line, "ok SAMPLES" or "bad REASON".
"""
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

PARSERS = {"text": text, "openmetrics": openmetrics}

print("ready", flush=True)
for line in sys.stdin.buffer:
    kind, length = line.split()
    body = sys.stdin.buffer.read(int(length)).decode("utf-8", "strict")
    try:
        families = list(PARSERS[kind.decode()](body))
        print("ok", sum(len(family.samples) for family in families), flush=True)
    except Exception as error:  # the parsers raise more than ValueError
        print("bad", repr(error).replace("\n", " "), flush=True)
