"""The table as Markdown, all figures as JSON."""

import json
import os
import platform
import statistics

from . import points


def figure(value):
    """Three digits that matter, large numbers in thousands."""
    if value >= 10_000:
        return f"{value / 1000:.1f}k" if value < 100_000 else f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def summary(samples):
    """Median and spread of the figure, medians of the rest that is a number."""
    values = [sample["value"] for sample in samples]
    out = {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": len(values)}
    for key, first in samples[0].items():
        if key != "value" and isinstance(first, (int, float)):
            out[key] = statistics.median(sample[key] for sample in samples)
        elif key.endswith("_us") and isinstance(first, dict):
            out[key] = {name: statistics.median(sample[key][name] for sample in samples) for name in first}
    return out


class Results:
    """Of one run, added to point by point."""

    def __init__(self, machine, settings, servers):
        self.data = {"machine": machine, "settings": settings, "servers": servers, "points": {}}

    def add(self, point, samples, failures):
        self.data["points"][point.name] = {
            "title": point.title, "unit": point.unit, "lower_is_better": point.lower_is_better,
            "servers": {name: {**summary(own), "samples": own} for name, own in samples.items()},
            "failures": failures,
        }

    def median(self, point, server):
        """None where it was not measured."""
        own = self.data["points"].get(point, {}).get("servers", {}).get(server)
        return own["median"] if own else None

    def told(self, point, server, key):
        own = self.data["points"].get(point, {}).get("servers", {}).get(server, {})
        return own.get(key)

    def print_point(self, name):
        """One point as text."""
        point = self.data["points"][name]
        nginx = self.median(name, "nginx")
        print(f"{point['title']} ({point['unit']}{', lower is better' if point['lower_is_better'] else ''})", flush=True)
        for server, own in point["servers"].items():
            ratio = f"{own['median'] / nginx:5.2f} x nginx" if nginx else ""
            late = own.get("last_byte_us")
            latency = f"p50 {late['p50']:.0f} us, p99 {late['p99']:.0f} us" if late else ""
            print(f"    {server:<16} {figure(own['median']):>8}  [{figure(own['min'])}-{figure(own['max'])}]"
                  f"  {ratio}  {latency}", flush=True)
        for server, word in point["failures"].items():
            print(f"    {server:<16} failed: {word[:200]}", flush=True)


def machine(directory):
    """What the figures depend on."""
    model = cpus = ""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        model, cpus = (names or ["unknown"])[0], len(names)
    system = os.stat(directory)
    kind = ""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if before.split()[2] == f"{os.major(system.st_dev)}:{os.minor(system.st_dev)}":
                kind = after.split()[0]
    return {"processor": model, "cores": cpus, "kernel": platform.release(), "file system": kind}
