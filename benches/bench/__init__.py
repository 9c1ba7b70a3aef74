"""The benchmark behind scripts/measure/bench.py: one file for each concern.

cli      options, and the order of things
measure  processes, CPU time, memory, the load tool
servers  what every server has in common; ours; the limit servers
peers    the other caches and their configurations
points   what is measured, and how
report   Markdown, JSON and the goals
chart    the chart
"""
