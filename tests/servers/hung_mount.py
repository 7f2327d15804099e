#!/usr/bin/env python3
"""A mount that hangs: every access waits until this program ends, as with a disk or a server that does not answer. Linux, as root.

    python3 tests/servers/hung_mount.py DIR

Mounts FUSE on DIR and answers none of its requests. Prints `ready 0` when it is mounted, and unmounts when its standard input is closed.
"""

import ctypes
import os
import sys

MNT_DETACH = 2
CANNOT = 69


def main():
    place = sys.argv[1].encode()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        print(f"could not open /dev/fuse: {error}", file=sys.stderr)
        sys.exit(CANNOT)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    if libc.mount(b"hung", place, b"fuse", 0, options.encode()) != 0:
        print(f"could not mount: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        sys.exit(CANNOT)
    try:
        print("ready 0", flush=True)
        sys.stdin.read()
    finally:
        libc.umount2(place, MNT_DETACH)


main()
