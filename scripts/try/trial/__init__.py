"""What the trials share: one file for each concern.

command    options, the engines to run on, the program, the verdict
server     the program under trial, and others on a port: their lives, memory, processor time, descriptors
origin     an origin that answers each request as a function says
wire       HTTP on a socket, for clients and origins alike
client     requests, and answers checked byte by byte
probe      clients that ask again and again while something else goes on
directory  the cache directory: what lies in it, and what others do to it

For soak.py, kill.py, drops.py, which are driven by seeds (what the scheduler does is not: a seed gives the same
requests in the same order for each client, not the same run):

content    names, and the bytes that belong to each: a function of path and offset, so that nothing is kept
faulty     an origin that answers, and misbehaves, as the path says
load       random clients, and what became of them

For real clients, and for comparisons:

packages   what package clients need, an origin of files, a run of each trial on each engine
apt        a signed repository, and an apt that knows nothing of the system's
peers      nginx, and the Node.js original
"""
