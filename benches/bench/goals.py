"""The goals, and whether a run meets them."""

import dataclasses


@dataclasses.dataclass
class Goal:
    """A figure of ours against a limit: above it, or below it if `most`."""

    text: str
    # From the results and one of our engines: the figure, or None if something was not measured.
    figure: object
    limit: float
    most: bool = False


def times(point, other, limit):
    def figure(results, ours):
        return ratio(results.median(point, ours), results.median(point, other))

    return Goal(f"{point}: {limit:g} x {other}", figure, limit)


def at_most_times(point, other, limit):
    goal = times(point, other, limit)
    return Goal(f"{point}: at most {limit:g} x {other}", goal.figure, limit, True)


def at_most(point, limit, unit, key=None, words=""):
    def figure(results, ours):
        return results.told(point, ours, key) if key else results.median(point, ours)

    return Goal(f"{point}{words}: at most {limit:g} {unit}", figure, limit, True)


def of_base(point, limit, base, key="of_base", most=False):
    """Of the same server in another state, measured in the same round."""
    def figure(results, ours):
        return results.told(point, ours, key)

    return Goal(f"{point}: {'at most ' if most else ''}{limit:g} x {base}", figure, limit, most)


def fairness(point):
    def figure(results, ours):
        late = results.told(point, ours, "last_byte_us")
        return ratio(late["p99"], late["p50"]) if late else None

    return Goal(f"{point}: p99 at most 3 x p50", figure, 3, True)


def ratio(one, other):
    return one / other if one is not None and other else None


SMALL = [("nginx", 2.0), ("nginx-ofc", 1.6), ("haproxy", 1.3), ("limit-sendfile", 0.9)]
GOALS = [
    *(times("hit-1k-64", other, limit) for other, limit in SMALL),
    *(times("hit-1k-512", other, limit) for other, limit in SMALL),
    *(times("hit-16k-64", other, limit) for other, limit in [("nginx", 2.0), ("nginx-ofc", 1.6), ("varnish", 3.0)]),
    *(times("mixed", other, limit) for other, limit in [("nginx", 2.0), ("nginx-ofc", 1.6)]),
    *(times("hit-256k-64", other, limit) for other, limit in [("nginx", 2.3), ("varnish", 1.2), ("ats", 1.2)]),
    times("hit-8m-16", "limit-sendfile", 0.95),
    fairness("hit-8m-16"),
    times("hit-128m-4", "limit-sendfile", 0.95),
    times("miss-64k", "ats", 1.3),
    at_most("miss-64m", 0.55, "cpu-s/GB"),
    at_most_times("miss-64m", "apt-cacher-rs", 1.0),
    at_most_times("miss-64m", "ats", 0.6),
    at_most("pass-64m", 0.30, "cpu-s/GB"),
    at_most("slow-origin", 1.0, "ms"),
    at_most("slow-origin", 1.0, "ms", "lag_median", ", any byte (median)"),
    at_most("crowd", 1, "request to the origin", "origin_requests"),
    at_most("idle", 500, "KiB"),
    at_most("cold-1k", 10, "ms"),
    at_most("cold-1m", 10, "ms"),
    of_base("neighbours-cold", 2.0, "the p99 without", most=True),
    of_base("neighbours-fill", 2.0, "the p99 without", most=True),
    of_base("hit-1k-10000", 0.8, "64 connections"),
    of_base("files-1m", 0.9, "1,000 files"),
    of_base("cores", 1.8, "one core, in equal CPU time", "of_base_cpu"),
]


def checked(results):
    """(goal, engine, figure, met) of all that this run can tell."""
    for ours in ("ours-uring", "ours-poll"):
        for goal in GOALS:
            value = goal.figure(results, ours)
            if value is not None:
                yield goal, ours, value, value <= goal.limit if goal.most else value >= goal.limit


def margin(goal, value):
    """How far on the right side of the limit, in percent; negative: how far it is missed."""
    side = -1 if goal.most else 1
    return side * (value / goal.limit - 1) * 100 + 0.0


def text(results):
    lines = [f"{'met   ' if met else 'MISSED'}  {goal.text:<52} {ours:<11} {value:8.3g}  {margin(goal, value):+.0f} %"
             for goal, ours, value, met in checked(results)]
    missed = sum(line.startswith("MISSED") for line in lines)
    return "\n".join([*lines, f"goals: {len(lines) - missed} met, {missed} missed"]) if lines else ""


def markdown(results):
    lines = ["## Goals", "", "| goal | engine | measured | met |", "| --- | --- | --- | --- |"]
    for goal, ours, value, met in checked(results):
        lines.append(f"| {goal.text} | {ours} | {value:.3g} | {'yes' if met else 'no'} ({margin(goal, value):+.0f} %) |")
    return lines
