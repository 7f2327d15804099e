#!/usr/bin/env python3
"""Takes the definitions of the custom resources that the chart uses from the projects that own them, and writes tests/deploy/crds.

    python3 tests/deploy/crds.py

The definitions are those of the Go modules named here, at their versions and with their checksums, without the descriptions. Wants Go, and PyYAML.
"""

import json
import pathlib
import subprocess
import sys

import yaml

HERE = pathlib.Path(__file__).resolve().parent
MODULES = [
    (
        "github.com/kedacore/keda/v2@v2.18.0",
        "h1:ttR223fii/4QJ0YvtrhcWHaEoezByb/t5CeFopjl6EI=",
        ["config/crd/bases/keda.sh_scaledobjects.yaml", "config/crd/bases/keda.sh_triggerauthentications.yaml"],
    ),
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        ["example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"],
    ),
]
HEAD = "# {path} of {module} (Apache-2.0), without its descriptions: written by tests/deploy/crds.py.\n"


def terse(value):
    """Without descriptions, which are texts; a property that has that name is a schema, and stays."""
    if isinstance(value, dict):
        return {key: terse(of) for key, of in value.items() if not (key == "description" and isinstance(of, str))}
    return [terse(of) for of in value] if isinstance(value, list) else value


def main():
    (HERE / "crds").mkdir(exist_ok=True)
    for module, checksum, paths in MODULES:
        said = json.loads(subprocess.run(["go", "mod", "download", "-json", module], check=True, capture_output=True, cwd="/").stdout)
        if said["Sum"] != checksum:
            sys.exit(f"crds: {module} has the checksum {said['Sum']}, and not {checksum}")
        for path in paths:
            definition = yaml.safe_load((pathlib.Path(said["Dir"]) / path).read_text())
            definition["spec"]["versions"] = [{"name": of["name"], "schema": terse(of["schema"]), "served": of["served"], "storage": of["storage"]} for of in definition["spec"]["versions"]]
            text = yaml.safe_dump(definition, sort_keys=True, width=150)
            (HERE / "crds" / pathlib.Path(path).name).write_text(HEAD.format(path=path, module=module) + text)


if __name__ == "__main__":
    main()
