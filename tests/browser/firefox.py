#!/usr/bin/env python3
"""Opens the portal in Firefox as its readers do.

    .test/venv/bin/python tests/browser/firefox.py PLAN.json

PLAN.json has {file, gallery, signIn, outbox, address}. Prints JSON about what was seen. Exit 0; 70 if the browser could not be driven, and 77 without one.

Firefox is driven by its own protocol, Marionette (https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html): a length, a colon and JSON.
"""

import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # https://www.w3.org/TR/webdriver2/#elements
PATIENCE = 30


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def until(what, ask):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := ask():
            return found
        time.sleep(0.05)
    raise TimeoutError(what)


class Firefox:
    def __init__(self, program, root):
        self.port, self.downloads, self.said = free_port(), root / "downloads", 0
        profile = root / "profile"
        profile.mkdir()
        self.downloads.mkdir()
        settings = {
            "marionette.port": self.port,
            "browser.download.folderList": 2,
            "browser.download.dir": str(self.downloads),
            "browser.download.useDownloadDir": True,
            "browser.download.alwaysOpenPanel": False,
            "intl.accept_languages": "en",
            "app.update.enabled": False,
            "app.normandy.enabled": False,
            "browser.safebrowsing.malware.enabled": False,
            "browser.safebrowsing.phishing.enabled": False,
            "datareporting.policy.dataSubmissionEnabled": False,
            "network.captive-portal-service.enabled": False,
            "network.connectivity-service.enabled": False,
            "services.settings.server": "http://127.0.0.1:1/",
        }
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in settings.items())
        (profile / "user.js").write_text("".join(lines))
        command = [program, "--headless", "--marionette", "--no-remote", "--profile", profile]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"HOME": str(root), "PATH": "/usr/bin:/bin", "MOZ_HEADLESS": "1"})
        self.line = until("Firefox", self.connected)
        self.line.settimeout(PATIENCE * 2)
        self.heard()
        self.do("WebDriver:NewSession", capabilities={"alwaysMatch": {"acceptInsecureCerts": False}})

    def connected(self):
        if self.process.poll() is not None:
            raise RuntimeError("Firefox ended")
        try:
            return socket.create_connection(("127.0.0.1", self.port), 5)
        except OSError:
            return None

    def heard(self):
        length = b""
        while not length.endswith(b":"):
            length += self.line.recv(1) or self.gone()
        text = b""
        while len(text) < int(length[:-1]):
            text += self.line.recv(65536) or self.gone()
        return json.loads(text)

    @staticmethod
    def gone():
        raise RuntimeError("Firefox closed the connection")

    def do(self, command, **words):
        self.said += 1
        text = json.dumps([0, self.said, command, words]).encode()
        self.line.sendall(b"%d:%s" % (len(text), text))
        _, _, error, result = self.heard()
        if error:
            raise RuntimeError(f"{command}: {error['error']}: {error['message']}")
        return result.get("value") if isinstance(result, dict) and "value" in result else result

    def open(self, url):
        self.do("WebDriver:Navigate", url=url)

    def find(self, selector):
        return self.do("WebDriver:FindElement", using="css selector", value=selector)[ELEMENT]

    def click(self, selector):
        self.do("WebDriver:ElementClick", id=self.find(selector))

    def type(self, selector, text):
        self.do("WebDriver:ElementSendKeys", id=self.find(selector), text=text)

    def run(self, script, *arguments):
        return self.do("WebDriver:ExecuteScript", script=script, args=list(arguments))

    def saved(self, press):
        """The file that a press saves."""
        before = set(self.downloads.iterdir())
        press()

        def complete():
            new = set(self.downloads.iterdir()) - before
            # The part of a file that is not complete has an ending of its own beside its place.
            return new if len(new) == 1 and not any(path.suffix == ".part" or not path.stat().st_size for path in new) else None

        (path,) = until("a download", complete)
        return {"name": path.name, "bytes": path.stat().st_size}

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def mailed_code(outbox):
    for path in sorted(pathlib.Path(outbox).glob("*.html")):
        if found := re.search(r"^ +(\d{4} \d{4})$", path.read_text(), re.MULTILINE):
            return found[1]
    return None


def flow(firefox, plan):
    seen = {}
    # Two taps: the link of the mail, and the button.
    firefox.open(plan["file"])
    seen["file"] = firefox.saved(lambda: firefox.click("main form button"))

    firefox.open(plan["gallery"])
    loaded = "const all = [...document.querySelectorAll('.photos img')]; return all.length && all.every((i) => i.complete) ? all.map((i) => i.naturalWidth) : null"
    seen["pictures"] = until("the pictures", lambda: firefox.run(loaded))
    firefox.click(".photos td a")
    shown = "const i = document.querySelector('dialog img'); return i.complete ? i.naturalWidth : 0"
    seen["large"] = until("the large picture", lambda: firefox.run(shown))
    firefox.run("document.querySelector('dialog').close()")
    seen["chosen"] = until("the boxes", lambda: firefox.run("const all = document.querySelectorAll('.files .pick'); all.forEach((b) => b.click()); return all.length"))
    seen["gathered"] = firefox.saved(lambda: firefox.click(".gather"))

    # A code by mail, in the browser that asked for it.
    firefox.open(plan["signIn"])
    firefox.type("#address", plan["address"])
    firefox.click("main form button")
    firefox.type("#code", until("the mail with a code", lambda: mailed_code(plan["outbox"])))
    firefox.click("main form button")
    until("the page of the file", lambda: firefox.run("return !!document.querySelector('input[name=ticket]')"))
    seen["signedInFile"] = firefox.saved(lambda: firefox.click("main form button"))
    return seen


def main():
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        print("no firefox: tests/setup.sh firefox", file=sys.stderr)
        sys.exit(77)
    plan = json.loads(pathlib.Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory(prefix="handout-firefox-", ignore_cleanup_errors=True) as root:
        firefox = Firefox(program, pathlib.Path(root))
        try:
            print(json.dumps(flow(firefox, plan)))
        except (RuntimeError, TimeoutError, OSError) as error:
            page = firefox.run("return location.href.slice(0, 40) + ' ' + document.body.innerText.slice(0, 500)")
            print(f"firefox: {error!r} at {page}", file=sys.stderr)
            sys.exit(70)
        finally:
            firefox.close()


if __name__ == "__main__":
    main()
