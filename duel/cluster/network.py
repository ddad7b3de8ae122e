"""Who may reach a cluster's machines: somebody's own network, never a part of the internet."""

import ipaddress
import re
from typing import Any

from duel.errors import UsageError

# The widest that an organisation calls its own: 65,536 addresses; of IPv6, what a provider has.
WIDEST = {4: 16, 6: 32}
PRIVATE = [ipaddress.ip_network(text) for text in
           ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")]  # fmt: skip
CIDR = re.compile(r"[0-9A-Fa-f.:]+/\d{1,3}")


def network(text: Any) -> str:
    """The CIDR that SSH is limited to. UsageError unless it is one, and no wider than somebody's own can be."""
    found = _parsed(str(text))
    if found is None or _too_wide(found):
        raise UsageError(
            f"must be the address that you come from, as 203.0.113.7/32, or a network of yours, at widest "
            f"/{WIDEST[4]} (IPv6 /{WIDEST[6]}) or private, got {text!r}"
        )
    return str(found)


def wide(text: str) -> list[str]:
    """The networks in a text that are wider than anybody's own."""
    found = [(part, _parsed(part)) for part in CIDR.findall(text)]
    return [part for part, parsed in found if parsed is not None and _too_wide(parsed)]


def _parsed(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _too_wide(found: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    # Not `is_private`, which looks at the first address and the last: 0.0.0.0/1 is between two private ones.
    private = any(found.version == one.version and found.subnet_of(one) for one in PRIVATE)  # type: ignore[arg-type]
    return found.prefixlen < WIDEST[found.version] and not private
