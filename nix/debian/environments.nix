# The lab's environments: what a node boots before anybody brings a closure. As on the real site they carry no Nix and no kexec.
let
  kernel = "linux-image-amd64";
  # The scratch partition is where closures are pulled to. Its filesystem is made at the first boot of a blank disk.
  scratch = {
    files."/etc/fstab" = "PARTLABEL=KDPL_TMP_disk0 /scratch ext4 noatime,nofail,x-mount.mkdir,x-systemd.makefs 0 0\n";
  };
  minimal = [ "sudo" "e2fsprogs" "fdisk" "rsync" "zstd" "xz-utils" "python3" ];
in
{
  roles = {
    debian12-min = scratch // { inherit kernel; packages = minimal; };
    debian12-std = scratch // { inherit kernel; packages = minimal ++ [ "nfs-common" "tmux" "gdisk" "ethtool" "pciutils" ]; };
    standard = scratch // { inherit kernel; packages = minimal ++ [ "nfs-common" "tmux" "gdisk" "ethtool" "pciutils" ]; };
  };
}
