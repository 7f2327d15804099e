#!/usr/bin/env python3
"""Runs Debian's postfix as an own instance, with its own configuration, queue and log, and ends it when standard input is closed.

    python3 tests/servers/postfix.py DIR DOMAIN [ADDRESS=REPLY | ADDRESS=bounce | ADDRESS=|USER COMMAND | NAME=VALUE]…

    DIR/inbox/new   the mails for DOMAIN, as postfix delivered them (a maildir)
    DIR/log         what postfix says of itself
    ADDRESS=REPLY   a recipient that is refused: later@acme.example="451 4.7.1 try later"
    ADDRESS=bounce  a recipient that is accepted, and bounced behind that, since it has no mailbox
    …|USER COMMAND  a recipient, also with an extension, whose mails are the standard input of a command, by a service of pipe(8)
    NAME=VALUE      a setting of main.cf: mynetworks=192.0.2.0/24

Says `ready PORT` when it listens on 127.0.0.1:PORT, and ends when nothing of it is left. Exit 69 with the reason if it cannot run here:
postfix is not installed, or this is not root, as whom its master must be started. The system's own postfix is not touched.
"""

import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import time

from serving import PATIENCE, cannot, free_port, listens

MAIN = """
compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
myhostname = mx.{domain}
mydestination = {domain}
local_transport = virtual
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
default_transport = error:nothing leaves this machine
relay_transport = error:nothing leaves this machine
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_base = {dir}
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
recipient_delimiter = +
transport_maps = texthash:{dir}/transport
smtpd_recipient_restrictions = check_recipient_access texthash:{dir}/access, permit_mynetworks, reject
"""

MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
nowhere unix - n n - - virtual -o virtual_mailbox_maps=texthash:/dev/null
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

PIPE = "{name} unix - n n - - pipe user={user} argv={command}\n"


def prepare(home, domain, replies):
    """Writes the configuration; postfix itself makes its queue."""
    port, owner = free_port(), pwd.getpwnam("postfix")
    values = {"dir": home, "domain": domain, "port": port, "uid": owner.pw_uid, "gid": owner.pw_gid}
    config = home / "config"
    for path in (config, home / "queue", home / "data", home / "inbox"):
        path.mkdir(parents=True)
    # Its parts run as another user, and must get through a directory that was made for one.
    home.chmod(0o755)
    for path in (home / "data", home / "inbox"):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    settings = [reply for reply in replies if "@" not in reply.split("=", 1)[0]]
    replies = [reply for reply in replies if reply not in settings]
    settings = "".join(f"{setting.replace('=', ' = ', 1)}\n" for setting in settings)
    (config / "main.cf").write_text(MAIN.format(**values) + settings)
    (config / "master.cf").write_text(MASTER.format(**values))
    write_replies(home, config, [reply.split("=", 1) for reply in replies])
    return config, port


def write_replies(home, config, replies):
    """What becomes of recipients: at RCPT, or behind it."""
    access, transport, services = [], [], []
    for address, reply in replies:
        if reply == "bounce":
            transport.append(f"{address} nowhere:\n")
        elif reply.startswith("|"):
            user, command = reply[1:].split(" ", 1)
            name = f"pipe{len(services)}"
            transport.append(f"{address} {name}:\n")
            services.append(PIPE.format(name=name, user=user, command=command))
        else:
            access.append(f"{address} {reply}\n")
    (home / "access").write_text("".join(access))
    (home / "transport").write_text("".join(transport))
    with open(config / "master.cf", "a") as master_cf:
        master_cf.writelines(services)


def master(home):
    try:
        return int((home / "queue/pid/master.pid").read_text())
    except (OSError, ValueError):
        return None


def lives(pid):
    try:
        # A process that ended and was not fetched by its parent yet is a Z.
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def stop(home, config):
    pid = master(home)
    subprocess.run(["postfix", "-c", config, "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while pid and lives(pid):
        if time.monotonic() > deadline:
            return os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def run(home, domain, replies):
    if not shutil.which("postfix", path=os.environ["PATH"]):
        cannot("postfix is not installed: tests/setup.sh postfix, as root on Debian")
    if os.geteuid() != 0:
        cannot("postfix must be started by root")
    config, port = prepare(home, domain, replies)
    try:
        started = subprocess.run(["postfix", "-c", config, "start"], capture_output=True, text=True, timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            if started.returncode or time.monotonic() > deadline:
                log = home / "log"
                sys.exit(f"postfix did not start: {started.stderr}{log.read_text() if log.exists() else ''}")
            time.sleep(0.02)
        print(f"ready {port}", flush=True)
        sys.stdin.read()
    finally:
        stop(home, config)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    os.environ["PATH"] += ":/usr/sbin"
    run(pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3:])
