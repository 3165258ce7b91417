"""Users of the lab: names, passwords, and what the user management service says of them."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Accounts:
    """Users by name, with their passwords; `group` is the granting access group (GGA) that all of them belong to."""

    passwords: Mapping[str, str] = field(default_factory=dict)
    group: str = "lab"

    def check(self, user: str, password: str) -> bool:
        """Is this the user's password? Takes the same time whether the user exists or not."""
        expected = self.passwords.get(user, "")
        return hmac.compare_digest(expected.encode(), password.encode()) and user in self.passwords

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
