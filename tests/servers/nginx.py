#!/usr/bin/env python3
"""Runs Debian's nginx as an own instance, as a proxy in front of a server of this machine, and ends it when standard input is closed.

    python3 tests/servers/nginx.py DIR PORT [--host keep|change] [--below PATH] [--path keep|strip]

    PORT     the server behind it, on 127.0.0.1
    --host   keep: `proxy_set_header Host $http_host`; change: as nginx does by itself
    --below  the path below which it passes requests on; without it, all are
    --path   strip: takes that path off what it passes on

Says `ready PORT` when it listens on 127.0.0.1:PORT. Exit 69 with the reason if it cannot run here. The system's own nginx is not touched.
"""

import argparse
import pathlib
import shutil

from serving import cannot, free_port, serve

CONFIGURATION = """
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    merge_slashes off;
    server {{
        listen 127.0.0.1:{port};
        location {below}/ {{
            proxy_pass http://127.0.0.1:{upstream}{path};
            proxy_set_header Host {host};
        }}
    }}
}}
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("upstream", type=int)
    parser.add_argument("--host", choices=["keep", "change"], default="keep")
    parser.add_argument("--below", default="")
    parser.add_argument("--path", choices=["keep", "strip"], default="keep")
    wanted = parser.parse_args()
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if nginx is None:
        cannot("nginx is not installed: tests/setup.sh nginx")
    wanted.dir.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = wanted.dir / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(
            dir=wanted.dir,
            port=port,
            upstream=wanted.upstream,
            below=wanted.below,
            path="/" if wanted.path == "strip" else "",
            host="$http_host" if wanted.host == "keep" else "$proxy_host",
        )
    )
    command = [nginx, "-p", wanted.dir, "-e", wanted.dir / "error.log", "-c", configuration]
    serve(command, port, "nginx", details=lambda: f": {(wanted.dir / 'error.log').read_text()[-400:]}")


if __name__ == "__main__":
    main()
