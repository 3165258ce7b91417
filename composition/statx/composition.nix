# The composition in NixOS Compose's form. What a role is stands in roles.nix; NixOS modules that only this composition wants are
# added here, beside the import.
{ g5kdeploy ? ../.., ... }:
let
  spec = import ./roles.nix;
  node = import (g5kdeploy + "/nix/modules/role.nix");
in
{
  roles = builtins.mapAttrs (_: role: { ... }: { imports = [ (node role) ]; }) spec.roles;
  testScript = builtins.readFile ./test.py;
}
