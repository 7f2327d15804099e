#!/usr/bin/env python3
"""A certificate authority for the tests, and a server certificate of 127.0.0.1, localhost and other names that it signed.

    .test/venv/bin/python tests/servers/make_ca.py DIRECTORY [NAME…]

Writes ca.pem (to trust), server.pem and server.key (to serve with), and other-ca.pem (which signed nothing: a client that trusts only
this one must refuse). Valid from yesterday for a week.
"""

import datetime
import ipaddress
import os
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def name(common):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Handout tests"), x509.NameAttribute(NameOID.COMMON_NAME, common)])


def certificate(subject, key, issuer, issuer_key, extensions):
    """Signs a certificate; `extensions` is a list of (extension, critical)."""
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def authority(common):
    key = ec.generate_private_key(ec.SECP256R1())
    use = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    extensions = [(x509.BasicConstraints(ca=True, path_length=0), True), (use, True)]
    return key, certificate(name(common), key, name(common), key, extensions)


def pem(cert):
    return cert.public_bytes(serialization.Encoding.PEM)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    ca_key, ca = authority("Test CA")
    _, other_ca = authority("Some other CA")
    key = ec.generate_private_key(ec.SECP256R1())
    others = [x509.DNSName(name) for name in sys.argv[2:]]
    names = [*others, x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.IPAddress(ipaddress.ip_address("::1"))]
    server = certificate(
        name("localhost"),
        key,
        ca.subject,
        ca_key,
        [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.SubjectAlternativeName(names), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        ],
    )
    (directory / "ca.pem").write_bytes(pem(ca))
    (directory / "other-ca.pem").write_bytes(pem(other_ca))
    (directory / "server.pem").write_bytes(pem(server))
    with open(os.open(directory / "server.key", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )


if __name__ == "__main__":
    main()
