"""Users of the lab: names, passwords, and what the user management service says of them."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Accounts:
    """Users by name, with their passwords, and granting access groups (GGA) by name, with the site of each.

    All users belong to `group`; `sites` are those that have no group, yet are known to the user management.
    """

    passwords: Mapping[str, str] = field(default_factory=dict)
    group: str = "lab"
    groups: Mapping[str, str] = field(default_factory=lambda: {"lab": "lab"})
    sites: tuple[str, ...] = ()

    def check(self, user: str, password: str) -> bool:
        """Is this the user's password? Takes the same time whether the user exists or not."""
        expected = self.passwords.get(user, "")
        return hmac.compare_digest(expected.encode(), password.encode()) and user in self.passwords

    def known(self, user: str) -> bool:
        """Is there such a user?"""
        return user in self.passwords

    def ggas(self) -> list[dict[str, str]]:
        """All granting access groups, each with its site."""
        return [{"name": name, "site": site} for name, site in self.groups.items()]

    def profile(self, user: str) -> dict[str, object]:
        """The user's document at /users/users/<user>."""
        return {
            "uid": user,
            "type": "user",
            "login": user,
            "status": "active",
            "homeDirectory": f"/home/{user}",
            "default_gga": self.group,
            "ggas": [self.group],
        }
