"""Reads metrics with the parser of Prometheus' own Python library: URL, then lines NAME[{key}] of metrics whose values are printed."""

import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

with urllib.request.urlopen(sys.argv[1], timeout=60) as answer:
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", answer.headers
    text = answer.read().decode()

seen = set()
values = {}
for family in text_string_to_metric_families(text):
    assert family.type in ("gauge", "counter", "summary", "histogram"), family
    assert family.name not in seen, f"{family.name} is told twice"
    seen.add(family.name)
    for sample in family.samples:
        labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
        values[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value

for name in sys.argv[2:]:
    print(f"{values[name]:g}")
