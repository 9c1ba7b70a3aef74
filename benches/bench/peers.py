"""The other caches: how each is configured and started. All in the foreground, with one thread for
the network where they let us choose, with an access log where they write one themselves."""

import os
import re
import shutil
import subprocess

from .servers import Server


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "")


NGINX = """
daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile {descriptors};
pid {directory}/nginx.pid;
error_log {directory}/errors.log warn;
events {{ worker_connections 16384; }}
http {{
    access_log {directory}/access.log combined buffer=64k flush=1s;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/temp-body;
    proxy_temp_path {directory}/temp-proxy;
    fastcgi_temp_path {directory}/temp-fastcgi;
    uwsgi_temp_path {directory}/temp-uwsgi;
    scgi_temp_path {directory}/temp-scgi;
    upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 1000000000; }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    {extra}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ \\.zip$ {{ proxy_pass http://origin; }}
        {locations}
    }}
}}
"""


class Nginx(Server):
    name = "nginx"
    needs = {"nginx": "Debian package nginx"}
    passes = True
    log = "to a file, buffer=64k flush=1s"
    extra = "proxy_cache_path {directory}/store levels=1:2 keys_zone=bench:200m max_size=200g inactive=10d use_temp_path=off;"
    locations = "location / { proxy_pass http://origin; proxy_cache bench; proxy_cache_valid 200 1d; proxy_cache_lock on; }"

    def command(self, workers, cpus):
        names = {"directory": self.directory, "port": self.port, "origin": self.bench.origin.port, "workers": workers,
                 "user": "user root;" if os.getuid() == 0 else "", "descriptors": self.bench.descriptors,
                 "extra": self.extra.replace("{directory}", self.directory),
                 "locations": self.locations.replace("{directory}", self.directory)}
        path = write(os.path.join(self.directory, "nginx.conf"), NGINX.format(**names))
        return [self.find("nginx"), "-c", path, "-e", os.path.join(self.directory, "errors.log")]

    def version(self):
        return first_line(self.find("nginx"), "-v")


class NginxOfc(Nginx):
    """With its cache of open files."""

    name = "nginx-ofc"
    extra = Nginx.extra + "\n    open_file_cache max=10000 inactive=300s; open_file_cache_valid 60s;"


class NginxStore(Nginx):
    """proxy_store: plain files, as ours."""

    name = "nginx-store"
    plain_tree = True
    extra = ""
    locations = """location / { root {directory}/store; try_files $uri @fetch; }
        location @fetch { proxy_pass http://origin; proxy_store {directory}/store$uri; proxy_store_access user:rw; }"""


ALL = [Nginx, NginxOfc, NginxStore]
