"""The chart: for each point ours, the best of the others, and the limit, as multiples of nginx."""

from xml.sax.saxutils import escape

OURS = "ours-uring"
LIMIT = "limit-sendfile"
NOT_PEERS = {"ours-uring", "ours-poll", "limit-sendfile", "limit-memory", "monoio-http", "nginx"}
# Points whose figures are work or cost of the same thing, so that a ratio tells something.
POINTS = {
    "hit-1k-64": "hit 1 KiB, 64 connections", "hit-1k-512": "hit 1 KiB, 512 connections", "hit-16k-64": "hit 16 KiB",
    "mixed": "4,000 files of 4-64 KiB", "hit-256k-64": "hit 256 KiB", "hit-8m-16": "hit 8 MiB", "hit-128m-4": "hit 128 MiB",
    "miss-64k": "miss 64 KiB", "miss-64m": "miss 64 MiB", "pass-64m": "pass 64 MiB",
}
WIDTH, LEFT, RIGHT, TOP = 860, 190, 150, 78
ROW, BAR, GAP = 50, 15, 3
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #59636e }
.title { font-size: 15px; font-weight: 600 }
.ours { fill: #1a7f5a } .peer { fill: #8c959f }
.one { stroke: #59636e; stroke-dasharray: 3 3 } .grid { stroke: #d1d9e0 } .limit { stroke: #bc4c00; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 }
.ours { fill: #3fb98a } .peer { fill: #656d76 }
.one { stroke: #9198a1 } .grid { stroke: #3d444d } .limit { stroke: #f0883e }
}
"""


def ratios(results, name):
    """How many times as good as nginx each server is."""
    point = results.data["points"].get(name)
    nginx = results.median(name, "nginx")
    if not point or not nginx:
        return {}
    values = {server: own["median"] for server, own in point["servers"].items() if own["median"]}
    return {server: nginx / value if point["lower_is_better"] else value / nginx for server, value in values.items()}


def draw(results):
    rows = [(title, ratios(results, name)) for name, title in POINTS.items()]
    rows = [(title, own) for title, own in rows if OURS in own]
    longest = max([2.0, *(max(own.values()) for _, own in rows)])
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = TOP + ROW * len(rows) + 28
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">',
           "<title>Work per second of server CPU as a multiple of nginx</title>", f"<style>{STYLE}</style>",
           '<text class="title" x="12" y="24">Work per second of server CPU, nginx = 1</text>', *legend(), *axis(longest, scale, height)]
    for number, (title, own) in enumerate(rows):
        out += bars(TOP + ROW * number, title, own, scale)
    return "\n".join([*out, "</svg>"]) + "\n"


def legend():
    return ['<rect class="ours" x="12" y="39" width="12" height="12"/><text class="small" x="29" y="49">fs-caching-server</text>',
            '<rect class="peer" x="142" y="39" width="12" height="12"/><text class="small" x="159" y="49">best of the other caches</text>',
            '<line class="limit" x1="310" y1="38" x2="310" y2="52"/>'
            '<text class="small" x="318" y="49">minimal sendfile server in C: no proxy, no log</text>']


def axis(longest, scale, height):
    out = []
    for step in range(int(longest) + 1):
        x = LEFT + step * scale
        out.append(f'<line class="{"one" if step == 1 else "grid"}" x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{height - 26}"/>')
        out.append(f'<text class="small" x="{x:.1f}" y="{height - 10}" text-anchor="middle">{step} x</text>')
    return out


def bars(y, title, own, scale):
    """One point: its title, two bars and the limit's mark."""
    out = [f'<text x="{LEFT - 10}" y="{y + 21}" text-anchor="end">{escape(title)}</text>']
    peers = {server: value for server, value in own.items() if server not in NOT_PEERS}
    best = max(peers, key=peers.get, default=None)
    for place, (kind, server) in enumerate([("ours", OURS), ("peer", best)]):
        if server:
            top, width = y + 3 + place * (BAR + GAP), own[server] * scale
            name = f" {server}" if kind == "peer" else ""
            label = LEFT + width + 6
            length = 6.5 * len(f"{own[server]:.2f}{name}")
            if LIMIT in own and -8 < LEFT + own[LIMIT] * scale - label < length:
                label = LEFT + own[LIMIT] * scale + 7
            out.append(f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"/>')
            out.append(f'<text class="small" x="{label:.1f}" y="{top + 12}">{own[server]:.2f}{escape(name)}</text>')
    if LIMIT in own:
        x = LEFT + own[LIMIT] * scale
        out.append(f'<line class="limit" x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + 2 * (BAR + GAP) + 3}"/>')
    return out
