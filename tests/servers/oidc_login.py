#!/usr/bin/env python3
"""Signs in at npm's oidc-provider as a browser without scripts does: by its forms.

    .test/venv/bin/python tests/servers/oidc_login.py LOCATION CALLBACK LOGIN|abort

Follows redirects from LOCATION, types LOGIN into the login page, consents, and prints the URL below CALLBACK to which the browser is sent.
"""

import re
import sys

import requests

location, callback, login = sys.argv[1:]
browser = requests.Session()
answer = browser.get(location, allow_redirects=False, timeout=20)
for _ in range(20):
    if answer.is_redirect:
        location = requests.compat.urljoin(answer.url, answer.headers["Location"])
        if location.startswith(callback):
            print(location)
            sys.exit(0)
        answer = browser.get(location, allow_redirects=False, timeout=20)
        continue
    if answer.status_code != 200:
        sys.exit(f"{answer.status_code} {answer.text[:500]}")
    form = re.search(r'<form[^>]* action="([^"]+)"', answer.text)
    prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
    if login == "abort":
        cancel = re.search(r'href="([^"]*/abort)"', answer.text)
        answer = browser.get(requests.compat.urljoin(answer.url, cancel[1]), allow_redirects=False, timeout=20)
        continue
    fields = {"prompt": prompt[1], "login": login, "password": "any"}
    answer = browser.post(requests.compat.urljoin(answer.url, form[1]), fields, allow_redirects=False, timeout=20)
sys.exit("no end of redirects")
