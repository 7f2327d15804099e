#!/usr/bin/env python3
"""As much of the AWS CLI as the guides use, for tests: `aws SERVICE OPERATION --name VALUE …`, at AWS_ENDPOINT_URL.

A value is a text, `file://PATH`, or for a map `A=1,B=2`.
"""

import sys

import boto3


def value(text):
    if text.startswith("file://"):
        with open(text.removeprefix("file://"), encoding="utf-8") as file:
            return file.read()
    return text


def main():
    service, operation, *rest = sys.argv[1:]
    names = [name.removeprefix("--").title().replace("-", "") for name in rest[::2]]
    arguments = dict(zip(names, map(value, rest[1::2]), strict=True))
    if "Attributes" in arguments:
        arguments["Attributes"] = dict(pair.split("=") for pair in arguments["Attributes"].split(","))
    answer = getattr(boto3.client(service.removesuffix("api")), operation.replace("-", "_"))(**arguments)
    answer.pop("ResponseMetadata")
    print(answer)


if __name__ == "__main__":
    main()
