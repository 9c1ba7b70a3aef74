"""The long trials scripts/try/soak.py, scripts/try/kill.py and scripts/try/drops.py: one file for each concern.

content  names, and the bytes that belong to each: a function of path and offset, so that nothing is kept
origin   an origin that answers, and misbehaves, as the path says
client   requests, and answers checked byte by byte
load     random clients, and what became of them
server   the program under trial: its life, its memory, its descriptors, its files

All of it is driven by seeds. What the scheduler does is not, so a seed gives the same requests in
the same order for each client, not the same run.
"""
