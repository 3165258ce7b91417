# roles.nix -> what apt must be asked for, role by role: names only, nothing is built.
{ roles }:
let
  spec = import (/. + roles);
  base = import ./base.nix;
  debian = p: if builtins.isString p then p else p.debian or null;
  kernelOf = role: debian (role.kernel or base.kernel);
  plan = name: role: {
    kernel = kernelOf role;
    packages = base.essential ++ base.packages
      ++ builtins.filter (p: p != null) (map debian (role.packages or [ ]))
      ++ (if (role.programs or [ ]) == [ ] then [ ] else base.exporter);
    # Dependencies that a role can do without: the pages of a web interface, say.
    without = role.without or [ ];
    # A role without an exporter has no programs; one that names none of its own serves those of the experiment.
    programs = role.programs or [ ];
    count = role.count or 1;
    # Names alone, to be compared with those that there are.
    keys = builtins.attrNames role;
    services = builtins.mapAttrs (_: builtins.attrNames) (role.services or { });
  };
in
{
  inherit (base) scriptsOnly webOnly;
  roles = builtins.mapAttrs plan spec.roles;
}
