#!/usr/bin/env python3
"""Judges CloudFront URLs as CloudFront would, with Python's `cryptography` and botocore: none of our code.

    python3 tests/servers/verify_cloudfront.py PUBLIC.pem NOW < urls      one URL a line

Answers a line for each: "opens", or why it does not. NOW is in seconds since 1970.
"""

import base64
import datetime
import json
import re
import sys

from botocore.signers import CloudFrontSigner
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

OWN = {"Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm"}
HASHES = {None: hashes.SHA1, "SHA256": hashes.SHA256}


def decode(text):
    return base64.b64decode(text.translate(str.maketrans("-_~", "+=/")), validate=True)


def canned(asked, expires):
    end = datetime.datetime.fromtimestamp(expires, datetime.timezone.utc)
    return CloudFrontSigner("", None).build_policy(asked, end).encode()


def is_signed(key, signature, message, algorithm):
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), algorithm)
        else:
            key.verify(signature, message, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


def stands_for(resource, asked):
    letters = {"*": ".*", "?": "."}
    pattern = "".join(letters.get(c, re.escape(c)) for c in resource)
    return re.fullmatch(pattern, asked, re.DOTALL) is not None


def judge(key, url, now):
    place, _, query = url.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    own = {name: value for name, _, value in pairs if name in OWN}
    others = "&".join("".join(pair) for pair in pairs if pair[0] not in OWN)
    asked = f"{place}?{others}" if others else place
    try:
        policy = decode(own["Policy"]) if "Policy" in own else canned(asked, int(own["Expires"]))
        signature = decode(own["Signature"])
        algorithm = HASHES[own.get("Hash-Algorithm")]()
    except (KeyError, ValueError, OverflowError, OSError) as error:
        return f"damaged: {type(error).__name__}"
    if not is_signed(key, signature, policy, algorithm):
        return "the signature is another's"
    (statement,) = json.loads(policy)["Statement"]
    condition = statement["Condition"]
    start = condition.get("DateGreaterThan", {"AWS:EpochTime": 0})["AWS:EpochTime"]
    if not start < now < condition["DateLessThan"]["AWS:EpochTime"]:
        return "not now"
    if not stands_for(statement["Resource"], asked):
        return "another resource"
    return "opens"


def main():
    with open(sys.argv[1], "rb") as file:
        key = serialization.load_pem_public_key(file.read())
    for line in sys.stdin:
        print(judge(key, line.rstrip("\n"), int(sys.argv[2])))


if __name__ == "__main__":
    main()
