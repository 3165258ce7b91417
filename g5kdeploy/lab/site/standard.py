"""The standard environment: what nodes run between jobs, and how users get onto it while they hold a job."""

from __future__ import annotations

from g5kdeploy.base.cpio import Entry
from g5kdeploy.lab.site.names import Names

UID = 10000  # of the lab's user, on nodes and frontend
KEYS = "/etc/ssh/users"

_SSHD = f"""\
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile {KEYS}/%u .ssh/authorized_keys
MaxStartups 100:30:200
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
"""

_ACCOUNTS_UNIT = """\
[Unit]
Description=Accounts of the site's users
DefaultDependencies=no
After=local-fs.target
Before=ssh.service multi-user.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /usr/local/sbin/lab-accounts
"""

_ACCOUNTS = """\
#!/bin/sh
# The site's user, without a password; his keys come with a job
getent passwd {user} >/dev/null || echo "{user}:x:{uid}:{uid}::/home/{user}:/bin/bash" >> /etc/passwd
getent group {user} >/dev/null || echo "{user}:x:{uid}:" >> /etc/group
[ ! -e /etc/shadow ] || grep -q "^{user}:" /etc/shadow || echo "{user}:*:19000:0:99999:7:::" >> /etc/shadow
"""

_ACCESS = """\
#!/bin/sh
# lab-access grant|revoke USER: called by the site's management when a job begins and ends. Keys come on stdin.
# `revoke` says "dirty" when the job's user was root here: the node is then started anew.
set -e
user=$2
case $1 in
  grant)
    mkdir -p /home/$user; chown $user: /home/$user; chmod 700 /home/$user
    cat > {keys}/$user; chmod 644 {keys}/$user ;;
  revoke)
    rm -f {keys}/$user
    pkill -KILL -u $user || :
    rm -rf /home/$user
    [ ! -e /run/sudo-g5k ] || echo dirty ;;
esac
"""

_SUDO_G5K = """\
#!/bin/sh
# Root for the user of the job: further sudo needs no password, and his keys open root's door too.
set -e
sudo -n /usr/local/sbin/lab-sudo
[ $# -eq 0 ] || exec sudo -n "$@"
"""

_LAB_SUDO = """\
#!/bin/sh
set -e
[ -e {keys}/$SUDO_USER ] || { echo "sudo-g5k: no job of $SUDO_USER runs on this node" >&2; exit 1; }
touch /run/sudo-g5k
printf '%s ALL=(ALL:ALL) NOPASSWD: ALL\\n' "$SUDO_USER" > /etc/sudoers.d/sudo-g5k; chmod 440 /etc/sudoers.d/sudo-g5k
mkdir -p -m 700 /root/.ssh; touch /root/.ssh/authorized_keys
while read -r key; do
  grep -qxF "$key" /root/.ssh/authorized_keys || printf '%s\\n' "$key" >> /root/.ssh/authorized_keys
done < {keys}/$SUDO_USER
"""

_PAM = "auth sufficient pam_permit.so\naccount sufficient pam_permit.so\nsession sufficient pam_permit.so\n"


_PATIENCE = b"[Manager]\nDefaultTimeoutStartSec=600s\n"  # an emulated machine on a busy host is slow, not broken


def identity(site: Names, index: int, hosts: str, host_key: bytes) -> dict[str, Entry]:
    """What makes a system this node: host name, the sites' names, its name server, and the host key."""
    return {
        "handover/etc/hostname": Entry(f"{site.short(index)}\n".encode()),
        "handover/etc/hosts": Entry(hosts.encode()),
        "handover/etc/resolv.conf": Entry(f"search {site.domain}\nnameserver {site.gateway()}\n".encode()),
        "handover/etc/ssh/ssh_host_ed25519_key": Entry(host_key, 0o600),
        "handover/etc/systemd/system.conf.d/patience.conf": Entry(_PATIENCE),
    }


def root_keys(keys: str) -> dict[str, Entry]:
    """The public keys that open root's door."""
    return {"handover/root/.ssh/authorized_keys": Entry(keys.rstrip().encode() + b"\n", 0o600)}


def handover(identity: dict[str, Entry], user: str, management_key: str) -> dict[str, Entry]:
    """Everything that a node of the standard environment is given at boot, beside its identity."""
    wants = "handover/etc/systemd/system/multi-user.target.wants/lab-accounts.service"
    accounts = _ACCOUNTS.replace("{user}", user).replace("{uid}", str(UID))
    sudoers = f"{user} ALL=(root) NOPASSWD: /usr/local/sbin/lab-sudo\n"
    return {
        **identity,
        f"handover{KEYS}/root": Entry(management_key.encode() + b"\n"),
        "handover/etc/ssh/sshd_config": Entry(_SSHD.encode()),
        "handover/etc/systemd/system/lab-accounts.service": Entry(_ACCOUNTS_UNIT.encode()),
        wants: Entry(b"../lab-accounts.service", link=True),
        "handover/etc/sudoers.d/lab": Entry(sudoers.encode(), 0o440),
        "handover/etc/pam.d/sudo": Entry(_PAM.encode()),
        "handover/etc/pam.d/other": Entry(_PAM.encode()),
        "handover/usr/local/sbin/lab-accounts": Entry(accounts.encode(), 0o755),
        "handover/usr/local/sbin/lab-access": Entry(_ACCESS.replace("{keys}", KEYS).encode(), 0o755),
        "handover/usr/local/sbin/lab-sudo": Entry(_LAB_SUDO.replace("{keys}", KEYS).encode(), 0o755),
        "handover/usr/local/bin/sudo-g5k": Entry(_SUDO_G5K.encode(), 0o755),
    }
