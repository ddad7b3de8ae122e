"""A cluster's roles in an AWS account, each with an instance profile of the same name."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from duel.cluster.policies import TRUST, Home, Statement, document
from duel.errors import DuelError

POLICY = "duel"  # the one policy of each role
Say = Callable[[str], None]


def refuse_foreign(iam: Any, name: str, region: str) -> None:
    """DuelError where a role or profile of the name is there that this cluster's `prepare` has not made.

    Nothing is changed: what others rely on is not duel's to mend.
    """
    if found := [*_of_the_role(iam, name, region), *_of_the_profile(iam, name)]:
        raise DuelError(f"{name}: {'; '.join(found)}; choose another cluster_name, or remove it, and run this again")


def _of_the_role(iam: Any, name: str, region: str) -> list[str]:
    try:
        role = iam.get_role(RoleName=name)["Role"]
    except iam.exceptions.NoSuchEntityException:
        return []
    found = []
    if role["AssumeRolePolicyDocument"] != json.loads(document(TRUST)):
        trusted = json.dumps(role["AssumeRolePolicyDocument"].get("Statement"))
        found.append(f"the role trusts somebody else than EC2 alone: {trusted}")
    attached = [policy["PolicyName"] for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]]
    inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
    if others := sorted([*attached, *(set(inline) - {POLICY})]):
        found.append(f"the role has other policies: {', '.join(others)}")
    if POLICY in inline:
        text = json.dumps(iam.get_role_policy(RoleName=name, PolicyName=POLICY)["PolicyDocument"])
        for elsewhere in sorted(set(re.findall(r"arn:[\w-]+:ec2:([\w-]+):", text)) - {region}):
            found.append(f"the role is that of a cluster of the same name in {elsewhere}")
    return found


def _of_the_profile(iam: Any, name: str) -> list[str]:
    try:
        roles = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]
    except iam.exceptions.NoSuchEntityException:
        return []
    others = [role["RoleName"] for role in roles if role["RoleName"] != name]
    return [f"the instance profile holds another role: {', '.join(others)}"] if others else []


def make(iam: Any, home: Home, everywhere: list[Statement], head: list[Statement], say: Say) -> None:
    """The workers' role, which may do what is said for every machine, and the head's, which may do more."""
    _role(iam, home.worker, everywhere, say)
    _role(iam, home.head, [*everywhere, *head], say)
    # There already: AWS says the first, moto the second.
    with suppress(iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException):
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")


def _role(iam: Any, name: str, statements: list[Statement], say: Say) -> None:
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(TRUST))
    iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=document(*statements))
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_instance_profile(InstanceProfileName=name)
    with suppress(iam.exceptions.LimitExceededException):  # a profile holds one role, and it has it
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    actions = dict.fromkeys(action for statement in statements for action in statement["Action"])
    say(f"role and instance profile {name}: may {', '.join(actions)}")
