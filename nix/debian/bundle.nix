# What the tool brings along onto a node: Nix to pull with, kexec to boot with. See bundleOf in debian.nix.
{
  roles.bundle = { packages = [ "nix-bin" "kexec-tools" ]; };
}
