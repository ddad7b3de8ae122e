"""What a cluster on AWS costs an hour, from a table that says of what day it is."""

from typing import Any

AS_OF = "August 2026"
REGIONS = ("us-east-1", "us-east-2", "us-west-2")  # where these prices are the same
ON_DEMAND = {  # US dollars an hour, Linux; from https://aws.amazon.com/ec2/pricing/on-demand/
    "m5.large": 0.096, "m5.xlarge": 0.192, "m5.2xlarge": 0.384,
    "m6i.large": 0.096, "m6i.xlarge": 0.192, "m6i.2xlarge": 0.384,
    "g4dn.xlarge": 0.526, "g4dn.2xlarge": 0.752,
    "g5.xlarge": 1.006, "g5.2xlarge": 1.212, "g5.4xlarge": 1.624,
    "g6.xlarge": 0.8048, "g6.2xlarge": 0.9776, "g6.4xlarge": 1.3232,
    "g6e.xlarge": 1.861, "g6e.2xlarge": 2.24208,
}  # fmt: skip


def hourly(config: dict[str, Any]) -> str:
    """From the head with as few workers as the file allows to as many of the dearest, in words.

    Workers count at the on-demand price, which a spot machine's never exceeds. Where the table does not know a
    type or the region, that is said instead.
    """
    if config["provider"]["type"] != "aws":
        return "your own machines; duel knows no price for them"
    region = config["provider"].get("region")
    types = config["available_node_types"]
    kinds = {name: kind["node_config"].get("InstanceType") for name, kind in types.items()}
    unknown = sorted({str(kind) for kind in kinds.values() if kind not in ON_DEMAND})
    if region not in REGIONS:
        return f"not known for the region {region}: the table of {AS_OF} holds {', '.join(REGIONS)}"
    if unknown:
        return f"not known for {', '.join(unknown)}: the table of {AS_OF} holds {', '.join(ON_DEMAND)}"
    head = ON_DEMAND[kinds.pop(config["head_node_type"])]
    most = config.get("max_workers", 2)
    places = [p for name, kind in kinds.items() for p in [ON_DEMAND[kind]] * types[name].get("max_workers", most)]
    dearest = sorted(places, reverse=True)[:most]
    least = sum(ON_DEMAND[kind] * types[name].get("min_workers", 0) for name, kind in kinds.items())
    return (
        f"from ${head + least:.2f} an hour (the head{', and the fewest workers' * (least > 0)}) to at most "
        f"${head + sum(dearest):.2f} with {len(dearest)} workers (on-demand prices of {AS_OF}, which spot machines "
        "stay below; without disks and traffic)"
    )
