"""The table as Markdown, all figures as JSON."""

import json
import os
import platform
import statistics

from . import chart, goals


def figure(value):
    """Three digits that matter, large numbers in thousands."""
    if value >= 10_000:
        return f"{value / 1000:.1f}k" if value < 100_000 else f"{value / 1000:.0f}k"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


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


# What the load tool says of single answers and moments: points use it, results need it no more.
TRACES = {"answers_per_connection", "timeline", "trace", "words"}


def without_traces(data):
    if isinstance(data, dict):
        return {name: without_traces(value) for name, value in data.items() if name not in TRACES}
    return [without_traces(value) for value in data] if isinstance(data, list) else data


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

    def servers(self):
        """Those with at least one figure, in the order of the run."""
        measured = {name for point in self.data["points"].values() for name in point["servers"]}
        return [name for name in self.data["servers"] if name in measured]

    def write(self, directory):
        """results.json, results.md and chart.svg, which replace what is there."""
        os.makedirs(directory, exist_ok=True)
        for name, text in (("results.json", json.dumps(without_traces(self.data), indent=1) + "\n"), ("results.md", markdown(self)),
                           ("chart.svg", chart.draw(self))):
            with open(os.path.join(directory, name), "w") as file:
                file.write(text)

    def print_point(self, name):
        """One point as text."""
        point = self.data["points"][name]
        nginx = self.median(name, "nginx")
        print(f"{point['title']} ({point['unit']}{', lower is better' if point['lower_is_better'] else ''})", flush=True)
        for server, own in point["servers"].items():
            ratio = f"{own['median'] / nginx:5.2f} x nginx" if nginx else ""
            late = own.get("last_byte_us")
            latency = f"p50 {late['p50']:.0f} us, p99 {late['p99']:.0f} us" if late else ""
            latency = f"p50 {own['p50']:.0f} us" if "p50" in own else latency
            print(f"    {server:<16} {figure(own['median']):>8}  [{figure(own['min'])}-{figure(own['max'])}]"
                  f"  {ratio}  {latency}", flush=True)
        for server, word in point["failures"].items():
            print(f"    {server:<16} failed: {word[:200]}", flush=True)


def markdown(results):
    """The whole of results.md."""
    data, names = results.data, results.servers()
    host, settings = data["machine"], data["settings"]
    lines = ["# Results", "", f"{host['processor']}, {host['cores']} cores, Linux {host['kernel']}, {host['file system']}. "
             f"{settings['rounds']} interleaved rounds, {settings['seconds']:g} s each; medians, with the smallest and the "
             "largest. How it is measured, and what the points mean: docs/benchmark.md.", "",
             "![work per second of server CPU, nginx = 1](chart.svg)", ""]
    lines += ["| point | unit | " + " | ".join(names) + " |", "| --- | --- |" + " --- |" * len(names)]
    for point in data["points"].values():
        word = " (lower is better)" if point["lower_is_better"] else ""
        lines.append(f"| {point['title']} | {point['unit']}{word} | " + " | ".join(cell(point, name) for name in names) + " |")
    lines += ["", f"Where a title says 10,000 connections, there were {settings['many connections']:,}.", ""]
    lines += details(data, names) + goals.markdown(results) + ["", "## Servers", ""]
    lines += ["| server | version | access log |", "| --- | --- | --- |"]
    lines += [f"| {name} | {about['version']} | {about['access log']} |" for name, about in data["servers"].items()]
    failures = [f"- {point['title']}, {name}: {word[:160]}" for point in data["points"].values()
                for name, word in point["failures"].items()]
    return "\n".join(lines + (["", "## Not measured", "", *failures] if failures else [])) + "\n"


def cell(point, name):
    own = point["servers"].get(name)
    if not own:
        return "-"
    return f"{figure(own['median'])} [{figure(own['min'])}-{figure(own['max'])}]"


DETAILS = {
    "late_first_byte_ms": "first byte of the client that comes half-way, ms",
    "origin_requests": "requests to the origin (for each file)",
    "lag_median": "how late a byte is, median, ms",
    "lag_max": "how late a byte is, at most, ms",
    "p50": "p50, us",
    "other_gb_per_second": "the other client, GB/s",
    "per_cpu_second": "req/cpu-s",
    "of_base": "as a multiple of the same without (64 connections; quiet; 1,000 files; one core)",
    "of_base_cpu": "the same in equal CPU time",
}


def details(data, names):
    """Latencies, and what a point tells beside its figure."""
    lines = ["## Latency", "", "p50 / p99 in microseconds, to the last byte, with the load of that point.", "",
             "| point | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    other = ["", "## Also seen", "", "| point | what | " + " | ".join(names) + " |", "| --- | --- |" + " --- |" * len(names)]
    for point in data["points"].values():
        own = [point["servers"].get(name, {}) for name in names]
        if any("last_byte_us" in one for one in own):
            late = [one.get("last_byte_us") for one in own]
            lines.append(f"| {point['title']} | " + " | ".join(
                f"{one['p50']:.0f} / {one['p99']:.0f}" if one else "-" for one in late) + " |")
        for key, words in DETAILS.items():
            if any(key in one for one in own):
                other.append(f"| {point['title']} | {words} | " + " | ".join(
                    figure(one[key]) if key in one else "-" for one in own) + " |")
    return lines + other + [""]


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
