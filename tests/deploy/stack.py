#!/usr/bin/env python3
"""Judges deploy/cloudformation/handout.yaml without an account.

    .test/venv/bin/python tests/deploy/stack.py target/debug/handout

cfn-lint holds the template to the schemas of CloudFormation, and must find a misspelt property. moto creates the stack. The policies that it then has must be those that the
documentation prints, the queues must have the attributes that it asks for, and the program must work the queue and keep the ledger in the bucket of the stack: `handout check` judges
the bucket's lifecycle rules.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import boto3
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "deploy/cloudformation/handout.yaml"
REGION, ACCOUNT = "eu-west-1", "123456789012"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PRINTED = ["docs/quick-start/aws.md", "docs/operating/iam.md", "docs/credentials.md"]
# moto passes these over, and cfn-lint alone judges them.
UNSUPPORTED = {
    "AWS::CloudWatch::Alarm",
    "AWS::SES::ConfigurationSet",
    "AWS::SES::ConfigurationSetEventDestination",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::Scheduler::ScheduleGroup",
}


def fail(reason):
    print(f"stack: {reason}", file=sys.stderr)
    sys.exit(1)


def lint(file):
    command = [ROOT / ".test/deploy/bin/cfn-lint", "--non-zero-exit-code", "warning", "-r", REGION, "us-east-1", "-t", file]
    return subprocess.run(command, capture_output=True, text=True)


def linted(folder):
    if (done := lint(TEMPLATE)).returncode != 0:
        fail(f"cfn-lint is not content:\n{done.stdout}{done.stderr}")
    wrong = folder / "wrong.yaml"
    wrong.write_text(TEMPLATE.read_text().replace("maxReceiveCount", "maxReceives").replace("VisibilityTimeout", "VisibilityTimeOut"))
    if "VisibilityTimeOut" not in (done := lint(wrong)).stdout or done.returncode == 0:
        fail(f"cfn-lint passes a misspelt property: {done.stdout}")


def pairs(policies):
    """What policies permit, as pairs of an action and a resource."""

    def listed(value):
        return [value] if isinstance(value, str) else value

    return {
        (action, resource)
        for policy in policies
        for statement in policy["Statement"]
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


def printed():
    """The policies that the documentation prints."""
    policies = []
    for page in PRINTED:
        blocks = re.findall(r"^```json\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
        found = [json.loads(block) for block in blocks]
        found = [block for block in found if "Statement" in block]
        if not found:
            fail(f"{page} prints no policy")
        policies += found
    return policies


def in_table():
    """Every action that docs/operating/iam.md has in its table."""
    lines = (ROOT / "docs/operating/iam.md").read_text().splitlines()
    return {action for line in lines if line.startswith("| ") for action in re.findall(r"`((?:s3|sqs|kms):\w+)`", line)}


class Clients:
    def __init__(self, moto):
        self.settings = {"endpoint_url": moto, "region_name": REGION, "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}

    def __getattr__(self, service):
        return boto3.client(service, **self.settings)


def created(clients, name, **parameters):
    """Creates a stack, and returns its outputs, policies and resources."""
    cloudformation = clients.cloudformation
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    cloudformation.create_stack(StackName=name, TemplateBody=TEMPLATE.read_text(), Parameters=given, Capabilities=["CAPABILITY_IAM"])
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    if stack["StackStatus"] != "CREATE_COMPLETE":
        fail(f"{name}: {stack['StackStatus']}: {stack.get('StackStatusReason')}")
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    resources = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    resources = [resource for resource in resources if resource.get("ResourceType")]
    iam = clients.iam
    policies = []
    for resource in resources:
        if resource["ResourceType"] == "AWS::IAM::ManagedPolicy":
            arn = resource["PhysicalResourceId"]
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            policies.append(iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"])
    return outputs, policies, {resource["LogicalResourceId"]: resource for resource in resources}


def same_rights(policies, expected):
    more, less = pairs(policies) - pairs(expected), pairs(expected) - pairs(policies)
    if more or less:
        fail(f"the template and the documentation differ: only in the template {sorted(more)}, only printed {sorted(less)}")


def queue(clients, url, **expected):
    attributes = clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    for key, value in expected.items():
        if attributes.get(key) != value:
            fail(f"{url}: {key} is {attributes.get(key)}, expected {value}")
    return attributes


CONFIG = """\
state_dir = "state"
[queue]
kind = "sqs"
url = "{queue}"
parked_url = "{parked}"
endpoint_url = "{moto}"
[connections.reports]
region = "eu-west-1"
endpoint_url = "{moto}"
access_key_id = "testing"
secret_access_key_file = "secret"
[ledger]
kind = "s3"
connection = "reports"
bucket = "{ledger}"
[portal]
public_url = "https://files.acme.example"
[[allow]]
connection = "reports"
bucket = "acme-reports"
prefix = "2026/"
recipients = ["*@acme.example"]
publish = ["s3://{out}/"]
via = ["s3", "portal"]
max_expires_in = "365d"
"""


def check(program, folder, clients, outputs):
    """What `handout check` says of the parts of the stack."""
    moto = clients.settings["endpoint_url"]
    (folder / "secret").write_text("testing")
    (folder / "secret").chmod(0o600)
    names = {"queue": outputs["QueueUrl"], "parked": outputs["ParkedUrl"], "ledger": outputs["LedgerBucketName"], "out": outputs["OutBucketName"]}
    (folder / "config.toml").write_text(CONFIG.format(moto=moto, **names))
    environment = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    command = [program, "check", "--json", "--config", folder / "config.toml"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    try:
        findings = json.loads(done.stdout)
    except ValueError:
        fail(f"handout check printed no findings: {done.stdout}{done.stderr}")
    findings = findings if isinstance(findings, list) else findings["findings"]
    return {finding["what"]: finding for finding in findings}


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        linted(scratch)
        server = subprocess.Popen([sys.executable, ROOT / "tests/servers/moto.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            port = server.stdout.readline().removeprefix("ready ").strip()
            judge(program, scratch, Clients(f"http://127.0.0.1:{port}"))
        finally:
            server.stdin.close()
            server.wait()


def judge(program, scratch, clients):
    template = yaml.load(TEMPLATE.read_text(), Loader=Tags)
    clients.s3.create_bucket(Bucket="acme-reports", CreateBucketConfiguration={"LocationConstraint": REGION})

    # The page has every parameter, and its command no other.
    page = (ROOT / "docs/operating/cloudformation.md").read_text()
    rows = {name for row in re.findall(r"^\| (`[A-Z].*?) \|", page, re.M) for name in re.findall(r"`(\w+)`", row)}
    given = set(re.findall(r"\b([A-Z]\w+)=", page))
    if rows != template["Parameters"].keys() or not given <= rows:
        fail(f"docs/operating/cloudformation.md and the template have not the same parameters: {sorted(rows ^ template['Parameters'].keys() | given - rows)}")

    # What the guides say, with their names, which are the defaults.
    outputs, policies, resources = created(clients, "guides", KmsKeyArn=KEY)
    same_rights(policies, printed())
    attributes = queue(clients, outputs["QueueUrl"], VisibilityTimeout="300", MessageRetentionPeriod="1209600")
    redrive = json.loads(attributes["RedrivePolicy"])
    parked = queue(clients, outputs["ParkedUrl"], MessageRetentionPeriod="1209600")
    if redrive["deadLetterTargetArn"] != parked["QueueArn"] or int(redrive["maxReceiveCount"]) != 1000:
        fail(f"redrive: {redrive}")
    if {"Schedules", "SchedulesRole", "FeedbackQueue", "Alarms"} & resources.keys():
        fail(f"parts that were not asked for: {sorted(resources)}")
    with_lifecycle(clients, template, outputs["LedgerBucketName"])
    found = check(program, scratch, clients, outputs)
    lifecycle = [finding for what, finding in found.items() if what.startswith("lifecycle of s3://acme-handout-ledger")]
    if not lifecycle or not lifecycle[0]["ok"] or "spares" not in lifecycle[0]["result"]:
        fail(f"handout check does not say that the ledger's lifecycle spares the portal's records: {found}")
    for what in ["queue", "ledger"]:
        of = [finding for name, finding in found.items() if name.startswith(what)]
        if not of or not all(finding["ok"] for finding in of):
            fail(f"handout check finds fault with the {what} of the stack: {found}")

    # All parts, and names of another installation.
    names = {"FilesBucket": "files-2", "FilesPrefix": "", "OutBucket": "out-2", "LedgerBucket": "ledger-2"}
    features = {"Fifo": "true", "Zips": "true", "SchedulerGroup": "true", "SesFeedback": "true", "AlarmEmail": "ops@acme.example"}
    clients.iam.create_user(UserName="signer")
    outputs, policies, resources = created(clients, "all", QueueName="all", SigningUser="signer", KmsKeyArn=KEY, **names, **features)
    declared = template["Resources"]
    missing = {name for name in declared if name not in resources and declared[name]["Type"] not in UNSUPPORTED}
    if missing:
        fail(f"moto did not create {sorted(missing)}")
    queue(clients, outputs["QueueUrl"], FifoQueue="true")
    queue(clients, outputs["ParkedUrl"], FifoQueue="true")
    known = in_table()
    actions = {action for action, _ in pairs(policies)}
    if actions - known or not {"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"} <= actions:
        fail(f"rights that docs/operating/iam.md does not have, or none for ZIPs: {sorted(actions)}")
    if any("acme" in resource or "report-jobs" in resource for _, resource in pairs(policies)):
        fail(f"the policy names parts of another installation: {sorted(pairs(policies))}")
    attached = clients.iam.list_attached_user_policies(UserName="signer")["AttachedPolicies"]
    if len(attached) != 3:
        fail(f"the user has the policies {attached}")
    print(f"stack: linted; created with {len(resources)} resources; its policies are those of the guides; handout check finds no fault with it")


def with_lifecycle(clients, template, bucket):
    """moto makes a bucket without its rules: they are put there as CloudFormation would."""
    days = {"LedgerDays": 90, "PortalDays": 180}
    rules = []
    for rule in template["Resources"]["Ledger"]["Properties"]["LifecycleConfiguration"]["Rules"]:
        expires = rule["ExpirationInDays"]
        expires = days[expires["Ref"]] if isinstance(expires, dict) else expires
        rules.append({"ID": rule["Id"], "Status": rule["Status"], "Filter": {"Prefix": rule["Prefix"]}, "Expiration": {"Days": expires}})
    clients.s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})


class Tags(yaml.SafeLoader):
    """Reads the tags of CloudFormation: `!Ref` as the function that it stands for, and others as their names."""


Tags.add_multi_constructor("!", lambda loader, suffix, node: {"Ref": node.value} if suffix == "Ref" else suffix)

if __name__ == "__main__":
    main()
