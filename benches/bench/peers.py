"""The other caches: how each is configured and started. All in the foreground, with one thread for
the network where they let us choose, with an access log where they write one themselves."""

import os
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
worker_cpu_affinity auto;
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
        listen 127.0.0.1:{port} backlog=4096{reuse};
        location ~ \\.zip$ {{ proxy_pass http://origin; }}
        {locations}
    }}
}}
"""


class Nginx(Server):
    name = "nginx"
    needs = {"nginx": "Debian package nginx"}
    passes = True
    takes_workers = True
    log = "to a file, buffer=64k flush=1s"
    extra = "proxy_cache_path {store} levels=1:2 keys_zone=bench:200m max_size=200g inactive=10d use_temp_path=off;"
    locations = "location / { proxy_pass http://origin; proxy_cache bench; proxy_cache_valid 200 1d; proxy_cache_lock on; }"

    def command(self, workers, cpus):
        names = {"directory": self.directory, "port": self.port, "origin": self.bench.origin.port, "workers": workers, "reuse": " reuseport" if workers > 1 else "",
                 "user": "user root;" if os.getuid() == 0 else "", "descriptors": self.bench.descriptors,
                 "extra": self.extra.replace("{store}", self.store),
                 "locations": self.locations.replace("{store}", self.store)}
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
    locations = """location / { root {store}; try_files $uri @fetch; }
        location @fetch { proxy_pass http://origin; proxy_store {store}$uri; proxy_store_access user:rw; }"""


VCL = """
vcl 4.1;
backend origin {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_recv {{ if (req.url ~ "\\.zip$") {{ return (pass); }} }}
"""


class Varnish(Server):
    name = "varnish"
    needs = {"varnishd": "Debian package varnish"}
    passes = True
    keeps_on_disk = False
    log = "its ring in shared memory; nothing written out"

    def command(self, workers, cpus):
        vcl = write(os.path.join(self.directory, "bench.vcl"), VCL.format(origin=self.bench.origin.port))
        words = [self.find("varnishd"), "-j", "none", "-F", "-f", vcl, "-a", f"127.0.0.1:{self.port}"]
        words += ["-s", "malloc,4g", "-n", os.path.join(self.directory, "run"), "-t", "86400"]
        return words + ["-p", "timeout_idle=600", "-p", "thread_pool_max=2000", "-p", "listen_depth=4096"]

    def version(self):
        return first_line(self.find("varnishd"), "-V")


RUNROOT = """
prefix: {directory}
exec_prefix: {directory}
sysconfdir: {directory}/etc
localstatedir: {directory}
runtimedir: {directory}/run
logdir: {directory}/log
cachedir: {directory}/store
"""
RECORDS = """
CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT {workers}
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.url_remap.remap_required INT 1
CONFIG proxy.config.cache.ram_cache.size INT 1073741824
CONFIG proxy.config.http.keep_alive_no_activity_timeout_in INT 600
CONFIG proxy.config.cache.enable_read_while_writer INT 1
CONFIG proxy.config.http.background_fill_active_timeout INT 0
CONFIG proxy.config.http.background_fill_completed_threshold FLOAT 0.0
CONFIG proxy.config.net.max_connections_in INT 19000
CONFIG proxy.config.net.connections_throttle INT 19000
"""


class TrafficServer(Server):
    name = "ats"
    needs = {"traffic_server": "Debian package trafficserver"}
    passes = True
    log = "its default: squid.log, binary"
    # Its files of the cache are one large one.
    one_file = True
    CONFIGURATION = "/etc/trafficserver"

    def command(self, workers, cpus):
        for name in ("etc", "run", "log"):
            os.makedirs(os.path.join(self.directory, name), exist_ok=True)
        etc = os.path.join(self.directory, "etc")
        shutil.copytree(self.CONFIGURATION, etc, dirs_exist_ok=True, ignore=shutil.ignore_patterns("body_factory"))
        names = {"directory": self.directory, "port": self.port, "workers": workers}
        write(os.path.join(self.directory, "runroot.yaml"), RUNROOT.format(**names))
        write(os.path.join(etc, "records.config"), RECORDS.format(**names))
        write(os.path.join(etc, "remap.config"), f"map / http://127.0.0.1:{self.bench.origin.port}/\n")
        write(os.path.join(etc, "storage.config"), f"{self.store} 4G\n")
        write(os.path.join(etc, "cache.config"), "url_regex=\\.zip$ action=never-cache\n")
        return [self.find("traffic_server")]

    def environment(self):
        return {**os.environ, "TS_RUNROOT": os.path.join(self.directory, "runroot.yaml")}

    def version(self):
        return first_line(self.find("traffic_server"), "-V")


HAPROXY = """
global
    nbthread {workers}
    maxconn {connections}
    log stdout format raw local0 info
defaults
    mode http
    log global
    option httplog
    timeout connect 10s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
cache bench
    total-max-size 2047
    max-object-size 200000000
    max-age 86400
frontend front
    bind 127.0.0.1:{port} backlog 4096
    http-request cache-use bench unless {{ path_end .zip }}
    http-response cache-store bench
    default_backend origin
backend origin
    http-reuse always
    server origin 127.0.0.1:{origin}
"""


class Haproxy(Server):
    name = "haproxy"
    needs = {"haproxy": "Debian package haproxy"}
    passes = True
    keeps_on_disk = False
    log = "to standard output, a file here, line by line"

    def command(self, workers, cpus):
        names = {"port": self.port, "origin": self.bench.origin.port, "workers": workers,
                 "connections": self.bench.many + 100}
        path = write(os.path.join(self.directory, "haproxy.cfg"), HAPROXY.format(**names))
        return [self.find("haproxy"), "-db", "-f", path]

    def version(self):
        return first_line(self.find("haproxy"), "-v")


ACR = """
bind_addr = '127.0.0.1'
bind_port = {port}
cache_directory = '{directory}/store'
database_path = '{directory}/bench.db'
allowed_mirrors = ['127.0.0.1']
https_upgrade_mode = 'Never'
client_idle_timeout = 600
"""


class AptCacherRs(Server):
    """Knows names of Debian's layout alone, and is asked as a forward proxy."""

    name = "apt-cacher-rs"
    needs = {"apt-cacher-rs": "cargo install apt-cacher-rs --features splice"}
    layout = "debian"
    log = "its default, on standard output, a file here"

    def command(self, workers, cpus):
        path = write(os.path.join(self.directory, "acr.conf"), ACR.format(port=self.port, directory=self.directory))
        words = [self.find("apt-cacher-rs"), "--config-file", path]
        return words + (["--permit-running-daemon-as-root"] if os.getuid() == 0 else [])

    def environment(self):
        return {**os.environ, "TOKIO_WORKER_THREADS": "1"}

    def asked_as(self):
        return {**super().asked_as(), "absolute": f"127.0.0.1:{self.bench.origin.port}"}

    def version(self):
        return first_line(self.find("apt-cacher-rs"), "--version")


class NodeOriginal(Server):
    """The program's predecessor."""

    name = "node"
    needs = {"node": "Debian package nodejs"}
    plain_tree = True
    passes = True
    log = "to a file, line by line"
    SCRIPT = "fs-caching-server.js"

    @classmethod
    def script(cls, given):
        """The program's file: given itself, in the directory given, or in its modules."""
        places = [given or ".", os.path.join(given or ".", "node_modules/fs-caching-server")]
        paths = [given or "", *(os.path.join(place, cls.SCRIPT) for place in places)]
        return next((os.path.abspath(path) for path in paths if os.path.isfile(path)), None)

    @classmethod
    def missing(cls, options):
        if cls.script(options.node_original):
            return super().missing(options)
        return "a checkout of the Node.js program with its modules installed (--node-original DIR)"

    def command(self, workers, cpus):
        words = [self.find("node"), self.script(self.bench.node_original), "-c", self.store, "-H", "127.0.0.1"]
        return words + ["-p", str(self.port), "-U", f"http://127.0.0.1:{self.bench.origin.port}"]

    def version(self):
        return f"Node.js {first_line(self.find('node'), '--version')}"


ALL = [Nginx, NginxOfc, NginxStore, Varnish, TrafficServer, Haproxy, AptCacherRs, NodeOriginal]
