# What runs where: a plain attribute set that needs no nixpkgs, from which nix/debian/ builds the closures for the lab and
# composition.nix builds NixOS. A package is a name, or { debian; nixpkgs; } where the two differ.
{
  roles.exporter = {
    count = 1;
    kernel = { debian = "linux-image-cloud-amd64"; nixpkgs = "linuxPackages_latest"; };
    packages = [
      { debian = "python3-yaml"; nixpkgs = "python3Packages.pyyaml"; }
      { debian = "python3-prometheus-client"; nixpkgs = "python3Packages.prometheus-client"; }
      { debian = "libbpf1"; nixpkgs = "libbpf"; }
    ];
    # From bpf/: each one's object and YAML, and the exporter that loads them.
    programs = [ "statx" "statx_mock" ];
    # Compiled from C when the closure is built, statically, into /usr/bin.
    binaries = { statx_bench = ./workload/statx_bench.c; bystander = ./workload/bystander.c; };
    files = { };
    services.g5kdeploy-exporter = {
      command = "/usr/bin/python3 -m g5kdeploy_exporter --config.dir /usr/lib/g5kdeploy/bpf --config.names statx,statx_mock --web.listen-address :9435";
      type = "notify";
      timeout = 300; # seconds to start: an emulated machine on a busy host is slow
      after = [ "network.target" ];
      user = "root";
      environment = { PYTHONUNBUFFERED = "1"; };
    };
    # Somebody else who calls statx all the time: what it does must not be counted as the benchmark's.
    services.bystander = {
      command = "/usr/bin/bystander /etc/hostname";
      after = [ "g5kdeploy-exporter.service" ];
      user = "nobody";
      environment = { };
    };
  };

  roles.collector = {
    count = 1;
    kernel = { debian = "linux-image-cloud-amd64"; nixpkgs = "linuxPackages_latest"; };
    packages = [ "prometheus" ];
    # 212 MB of time zones for the old web pages; they would be most of what this node pulls.
    without = [ "libjs-moment-timezone" ];
    programs = [ ];
    binaries = { };
    files."/etc/prometheus/g5kdeploy.yml" = ''
      global:
        scrape_interval: 1s
      scrape_configs:
        - job_name: exporter
          static_configs:
            - targets: ["exporter:9435"]
    '';
    services.prometheus = {
      command = "/usr/bin/prometheus --config.file=/etc/prometheus/g5kdeploy.yml --storage.tsdb.path=/var/lib/prometheus --web.listen-address=:9090";
      after = [ "network.target" ];
      state = "prometheus"; # StateDirectory=
      user = "prometheus";
      environment = { };
    };
  };
}
