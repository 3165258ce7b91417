# A role of roles.nix as a NixOS module. Commands are written with Debian's paths; here /usr/bin/NAME means NAME of the system.
role:
let
  module = { config, lib, pkgs, ... }:
let
  nixpkgs = package: if builtins.isString package then package else package.nixpkgs;
  find = package: lib.getAttrFromPath (lib.splitString "." (nixpkgs package)) pkgs;

  programs = pkgs.stdenv.mkDerivation {
    name = "g5kdeploy-bpf";
    src = ../../bpf;
    nativeBuildInputs = [ pkgs.llvmPackages.clang-unwrapped pkgs.llvm ];
    buildInputs = [ pkgs.libbpf pkgs.linuxHeaders ];
    makeFlags = [ "CLANG=clang" "BUILD=$(out)" ];
    CPATH = lib.makeSearchPath "include" [ pkgs.libbpf pkgs.linuxHeaders ];
    hardeningDisable = [ "all" ]; # the compiler's hardening does not exist for BPF
    dontInstall = true;
    dontFixup = true;
  };

  python = pkgs.python3.withPackages (p: [ p.pyyaml p.prometheus-client ]);
  exporter = pkgs.runCommand "g5kdeploy-exporter" { nativeBuildInputs = [ pkgs.makeWrapper ]; } ''
    mkdir -p $out/lib
    cp -r ${../../g5kdeploy/exporter} $out/lib/g5kdeploy_exporter
    makeWrapper ${python}/bin/python3 $out/bin/python3 \
      --prefix PYTHONPATH : $out/lib --prefix LD_LIBRARY_PATH : ${lib.getLib pkgs.libbpf}/lib
  '';

  compiled = name: source: pkgs.runCommandCC name { buildInputs = [ pkgs.glibc.static ]; } ''
    mkdir -p $out/bin
    $CC -O2 -Wall -static -o $out/bin/${name} ${source}
  '';
  binaries = lib.mapAttrsToList compiled (role.binaries or { });
  folder = "/usr/lib/g5kdeploy/bpf";
  hasPrograms = (role.programs or [ ]) != [ ];
  command = text: lib.concatStringsSep " " (map
    (word:
      if word == "/usr/bin/python3" then "${exporter}/bin/python3"
      else if lib.hasPrefix "/usr/bin/" word then "/run/current-system/sw/bin/${lib.removePrefix "/usr/bin/" word}"
      else if word == folder then "${programs}"
      else word)
    (lib.splitString " " text));
in
{
  boot.kernelPackages = lib.mkIf (role ? kernel) (pkgs.${nixpkgs role.kernel});
  environment.systemPackages = [ pkgs.curl ] ++ map find role.packages ++ binaries ++ lib.optional hasPrograms exporter;
  environment.etc = lib.mapAttrs' (path: text: lib.nameValuePair (lib.removePrefix "/etc/" path) { inherit text; })
    (lib.filterAttrs (path: _: lib.hasPrefix "/etc/" path) role.files);
  services.openssh.enable = true;
  networking.firewall.enable = false; # nodes are behind the site's
  users.users.prometheus = lib.mkIf (lib.any (s: s.user or "" == "prometheus") (lib.attrValues role.services)) {
    isSystemUser = true;
    group = "prometheus";
  };
  users.groups.prometheus = { };
  systemd.services = lib.mapAttrs
    (_: service: {
      wantedBy = [ "multi-user.target" ];
      after = service.after or [ ];
      environment = service.environment or { };
      serviceConfig = {
        ExecStart = command service.command;
        Type = service.type or "exec";
        User = service.user or "root";
      } // lib.optionalAttrs (service ? state) { StateDirectory = service.state; }
      // lib.optionalAttrs (service ? timeout) { TimeoutStartSec = service.timeout; };
    })
    role.services;
};
in
{
  key = "g5kdeploy-role"; # by it nix/debian/additions.nix tells what a composition adds to this
  imports = [ module ];
}
