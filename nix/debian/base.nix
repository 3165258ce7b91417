# What every system made of Debian packages has: the real systemd, journald and sshd, and what a hand on a node expects.
{
  packages = [
    "systemd" "systemd-sysv" "udev" "dbus" "openssh-server" "iproute2" "iputils-ping" "kmod" "curl" "ca-certificates" "python3-minimal" "procps"
    "less" "libbpf1"
  ];
  # Needed by every Debian and named by none: Essential packages are not pulled in by dependencies. busybox is the shell of
  # stages 1 and 2.
  essential = [
    "base-files" "base-passwd" "bash" "coreutils" "dash" "debianutils" "diffutils" "findutils" "grep" "gzip" "hostname" "libc-bin" "login"
    "mawk" "mount" "passwd" "sed" "tar" "util-linux" "usr-is-merged" "busybox-static"
  ];
  # Dependencies that only maintainer scripts use; nobody runs those here. A role that names one gets it.
  scriptsOnly = [
    "adduser" "debconf" "dpkg" "init-system-helpers" "libdebconfclient0" "perl-base" "ucf" "usr-is-merged" "sensible-utils"
  ];
  # What a web interface shows; 300 MB beside Prometheus, and nobody looks there. A role that names one gets it.
  webOnly = [ "libjs-" "fonts-" ];
  # What the exporter of BPF programs needs beside its own files.
  exporter = [ "python3-yaml" "python3-prometheus-client" "libbpf1" ];
  kernel = "linux-image-cloud-amd64";
}
