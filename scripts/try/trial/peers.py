"""Other caches that are tried beside the program: nginx, and the Node.js original."""

import os
import re
import shutil

from .server import Program

NGINX = """daemon off;
{user}
pid {place}/nginx.pid;
error_log {place}/nginx.log warn;
events {{ }}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path {place}/temp-body;
    proxy_temp_path {place}/temp-proxy;
    fastcgi_temp_path {place}/temp-fastcgi;
    uwsgi_temp_path {place}/temp-uwsgi;
    scgi_temp_path {place}/temp-scgi;
    proxy_cache_path {place}/cache keys_zone=trial:8m {zone};
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {origin};
            proxy_http_version 1.1;
            proxy_cache trial;
            {rules}
        }}
    }}
}}
"""


def nginx():
    """The path of its program, or nothing."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Nginx(Program):
    """With its cache below `place`; `zone` are parameters of proxy_cache_path, `rules` directives of its location."""

    def __init__(self, place, origin, zone, rules):
        super().__init__(output=True)
        self.cache = os.path.join(place, "cache")
        path = os.path.join(place, "nginx.conf")
        with open(path, "w", encoding="utf-8") as file:
            user = "user root;" if os.getuid() == 0 else ""
            file.write(NGINX.format(place=place, port=self.address[1], origin=origin, user=user, zone=zone, rules=rules))
        self.words = [nginx() or "nginx", "-c", path, "-e", os.path.join(place, "nginx.log")]

    def kept(self, path):
        """The one finished file, without its head."""
        for name in os.listdir(self.cache):
            if re.fullmatch("[0-9a-f]{32}", name):
                with open(os.path.join(self.cache, name), "rb") as file:
                    return file.read().partition(b"\r\n\r\n")[2]
        return None


def original(path):
    """The words that start the original, from a checkout of it with its modules installed, or from its one file."""
    return ["node", os.path.join(path, "fs-caching-server.js") if os.path.isdir(path) else path]
