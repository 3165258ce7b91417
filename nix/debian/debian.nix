# roles.nix + a lock + a folder of .debs -> one NixOS-shaped toplevel per role. No nixpkgs, no network.
#
#   nix-build debian.nix -A toplevels.exporter --argstr roles ROLES.nix --argstr lock LOCK.json --argstr debs DIR
#
# One store path per Debian package, unpacked and never configured; nothing is merged at build time. Stage 2 stacks the paths
# with overlayfs, so files stand where Debian compiled them to be: python, ld.so, udev and systemd find everything as on any
# Debian. What travels on a change is the package that changed.
{ roles, lock, debs, bpf ? "", exporter ? "", system ? "x86_64-linux" }:
let
  spec = import (/. + roles);
  base = import ./base.nix;
  locked = builtins.fromJSON (builtins.readFile (/. + lock));
  clean = builtins.replaceStrings [ ":" "~" ] [ "-" "-" ]; # not allowed in the name of a store path
  lines = f: l: builtins.concatStringsSep "\n" (map f l);
  attrLines = f: s: lines (n: f n s.${n}) (builtins.attrNames s);
  optional = condition: list: if condition then list else [ ];
  # Tools of the building machine: sh, coreutils, tar, xz, gzip, zstd, cpio, dpkg-deb. They shape no output beyond its content.
  mk = name: attrs: script: derivation ({
    inherit name system;
    builder = "/bin/sh";
    PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
    LC_ALL = "C";
    args = [ "-euc" script ];
  } // attrs);

  # ---- packages -------------------------------------------------------------------------------------------------------
  # The .deb is checked against the lock here (a wrong byte stops the build) and is not part of what travels.
  deb = n: let p = locked.packages.${n}; in
    builtins.path { name = clean p.file; path = /. + debs + "/${p.file}"; recursive = false; inherit (p) sha256; };
  unpack = n: extra: mk "${n}-${clean locked.packages.${n}.version}" { } ''
    mkdir $out; cd $out
    dpkg-deb --fsys-tarfile ${deb n} | tar -x --no-same-owner --no-same-permissions \
      --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/info/*' --exclude='./usr/share/locale/*' \
      --exclude='./usr/share/lintian/*' --exclude='./usr/share/bug/*' --exclude='./etc/init.d/*' --exclude='./var/log/journal' \
      --exclude='./usr/lib/udev/hwdb.d/*' --exclude='./lib/udev/hwdb.d/*' # sources of a database that a postinst would make
    # Debian 12 still ships /bin, /sbin, /lib and /lib64; the system is merged, so the files move once, here
    for d in bin sbin lib lib64; do
      if [ -d $d ] && [ ! -L $d ]; then mkdir -p usr/$d; cp -a $d/. usr/$d/; rm -r $d; fi
    done
    ${extra}
  '';
  packages = builtins.mapAttrs (n: _: unpack n "") locked.packages;
  libs = builtins.concatStringsSep ":"
    (map (n: "${packages.${n}}/usr/lib/x86_64-linux-gnu") [ "libc6" "libzstd1" "liblzma5" "libssl3" ]);

  busybox = mk "busybox-tools" { } ''
    mkdir -p $out/bin; cp ${packages.busybox-static}/usr/bin/busybox $out/bin/
    for a in $($out/bin/busybox --list); do [ $a = busybox ] || ln -s busybox $out/bin/$a; done
  '';

  # ---- kernel and stage 1 ---------------------------------------------------------------------------------------------
  # depmod is what the kernel's maintainer script would run. It is Debian's own, run by Debian's own loader: no host tool.
  # Modules are compressed, as libkmod reads them: every node hashes and writes what it pulls, and this is half of it.
  kernelOf = n: unpack n ''
    mv boot/vmlinuz-* bzImage; cp boot/config-* config; rm -r boot
    ls usr/lib/modules > release
    find usr/lib/modules -name '*.ko' -print0 | xargs -0 -n 64 -P 4 zstd -q --rm -6
    ${packages.libc6}/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --argv0 depmod --library-path ${libs} \
      ${packages.kmod}/usr/bin/kmod -b usr "$(cat release)"
  '';

  # What a store may lie on: a partition of a disk (virtio, SATA, NVMe), an image, a folder of the host. A name that the kernel
  # lacks is built in or not wanted. crc32c_generic is not in ext4's dependencies, yet ext4 cannot mount without it.
  stage1Modules = "virtio_pci virtio_blk virtio_scsi sd_mod ahci nvme crc32c_generic ext4 squashfs loop 9pnet_virtio 9p virtiofs overlay";
  initrdOf = kernel: mk "initrd" { stage1 = ./stage1.sh; } ''
    mkdir -p r/bin r/proc r/sys r/dev $out; cp ${busybox}/bin/busybox r/bin/; cp $stage1 r/init; chmod +x r/init
    cd ${kernel}/usr/lib/modules/*; v=$(basename $PWD); m=$OLDPWD/r/lib/modules/$v; mkdir -p $m; cp modules.alias modules.symbols $m/
    for n in ${stage1Modules}; do
      l=$(grep -E "/$n\.ko\.zst:" modules.dep || true); [ -n "$l" ] || continue
      echo $n >> $OLDPWD/r/modules
      for f in $(echo "$l" | tr -d :); do mkdir -p $m/$(dirname $f); zstd -dqfo $m/''${f%.zst} $f; done
    done
    sed 's/\.ko\.zst/.ko/g' modules.dep > $m/modules.dep # busybox knows no zstd
    cd $OLDPWD/r; find . -exec touch -hd @1 {} +; find . | sort | cpio -o -H newc -R 0:0 --reproducible 2>/dev/null | gzip -9n > $out/initrd
    truncate -s %512 $out/initrd # a plain cpio appended later is seen only at an offset that 4 divides
  '';

  # ---- what maintainer scripts would have left behind -------------------------------------------------------------------
  # Users that packages make with adduser instead of sysusers.d; systemd-sysusers creates them in stage 2.
  users = {
    udev = lines (g: "g ${g} -") [ "input" "kvm" "render" "sgx" ];
    openssh-server = "u sshd - \"sshd\" /run/sshd";
    prometheus = "u prometheus - \"Prometheus\" /var/lib/prometheus";
  };
  # One small path for all roles: the few files that postinst scripts copy from /usr/share or write.
  common = mk "common-etc" {
    sshd = ./etc/sshd_config;
    keygen = ./etc/ssh-hostkey.service;
    net = ./etc/80-dhcp.network;
    profile = ./etc/profile;
  } ''
    mkdir -p $out/etc/ssh $out/etc/systemd/network $out/etc/systemd/system/multi-user.target.wants $out/etc/systemd/system-generators \
      $out/etc/systemd/system/sysinit.target.wants $out/etc/ssl/certs $out/usr/bin $out/usr/lib/ssl; cd $out/etc
    cp $sshd ssh/sshd_config; cp $keygen systemd/system/ssh-hostkey.service; cp $net systemd/network/80-dhcp.network; cp $profile profile
    cp ${packages.libc-bin}/usr/share/libc-bin/nsswitch.conf nsswitch.conf
    : > machine-id # empty, not missing: a new id each boot, and no "first boot"
    : > fstab; ln -s ../proc/self/mounts mtab; ln -s /usr/share/zoneinfo/Etc/UTC localtime; echo LANG=C.UTF-8 > locale.conf
    cat $(find ${packages.ca-certificates}/usr/share/ca-certificates -name '*.crt' | sort) > ssl/certs/ca-certificates.crt
    ln -s /etc/ssl/certs/ca-certificates.crt ../usr/lib/ssl/cert.pem # openssl's default file: spares 150 hash links
    ln -s mawk ../usr/bin/awk # the one alternative that programs call
    for u in ssh systemd-networkd; do ln -s /lib/systemd/system/$u.service systemd/system/multi-user.target.wants/; done
    ln -s ../ssh-hostkey.service systemd/system/multi-user.target.wants/
    ln -s /dev/null systemd/system-generators/systemd-getty-generator # the console is for reading
    for u in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer getty@tty1.service; do ln -s /dev/null systemd/system/$u; done
  '';

  # ---- a role -----------------------------------------------------------------------------------------------------------
  unit = name: s: builtins.toFile "${name}.service" ''
    [Unit]
    After=${toString (s.after or [ ])}
    [Service]
    Type=${s.type or "simple"}
    ExecStart=${s.command}
    User=${s.user or "root"}
    ${if s ? state then "StateDirectory=${s.state}" else ""}
    ${if s ? timeout then "TimeoutStartSec=${toString s.timeout}" else ""}
    ${attrLines (k: v: "Environment=\"${k}=${v}\"") (s.environment or { })}
    [Install]
    WantedBy=multi-user.target
  '';
  source = p: v: if builtins.isString v then builtins.toFile (clean (baseNameOf p)) v else v;

  # The BPF objects with their YAML, and the exporter that loads them: the project's own, ready-made.
  exporterFiles = mk "g5kdeploy-exporter" {
    programs = builtins.path { name = "bpf-programs"; path = /. + bpf; };
    sources = builtins.path {
      name = "exporter-sources";
      path = /. + exporter;
      filter = path: type: builtins.match ".*(__pycache__|\\.pyc)$" path == null;
    };
  } ''
    mkdir -p $out/usr/lib/g5kdeploy $out/usr/lib/python3/dist-packages $out/usr/bin
    cp -r $programs $out/usr/lib/g5kdeploy/bpf; cp -r $sources $out/usr/lib/python3/dist-packages/g5kdeploy_exporter
    printf '#!/bin/sh\nexec /usr/bin/python3 -m g5kdeploy_exporter "$@"\n' > $out/usr/bin/g5kdeploy-exporter
    chmod +x $out/usr/bin/g5kdeploy-exporter
  '';

  # Small programs in C that a role brings along, linked statically by the building machine's compiler.
  binaryOf = name: file: mk "${name}-static" { source = file; } ''
    mkdir -p $out/usr/bin; ''${CC:-cc} -O2 -static -Wall -o $out/usr/bin/${name} -x c $source
  '';

  # Python's byte code: without it each start of Python on an emulated node compiles for ten seconds. Made by the packaged
  # Python through the packaged loader.
  pythonOf = names: map (n: packages.${n}) (builtins.filter (n: builtins.match "(lib)?python3.*" n != null) names);
  bytecodeOf = names: roots: let
    interpreter = builtins.head (builtins.filter (n: builtins.match "python3\\.[0-9]+-minimal" n != null) names);
    path = builtins.concatStringsSep ":" (map (n: "${packages.${n}}/usr/lib/x86_64-linux-gnu") [ "libc6" "zlib1g" "libexpat1" ]);
  in mk "python-bytecode" { script = ./bytecode.py; PYTHONHASHSEED = "0"; } ''
    export PYTHONPATH=$(for r in ${toString (pythonOf names)}; do ls -d $r/usr/lib/python3.[0-9]* 2>/dev/null || true; done | tr '\n' :)
    mkdir $out
    ${packages.libc6}/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path ${path} \
      ${packages.${interpreter}}/usr/bin/python3.[0-9]* -S -B $script $out ${toString roots}
  '';

  # Everything that is the role's own, in one small path: an edit of a file or a service moves a few kilobytes.
  extrasOf = name: role: pkgs: mk "role-${name}" { } ''
    mkdir -p $out/etc/systemd/system/multi-user.target.wants $out/usr/lib/sysusers.d; cd $out
    ${attrLines (p: v: "mkdir -p .${dirOf p}; cp ${source p v} .${p}; case $(head -c 2 .${p}) in '#!') chmod +x .${p} ;; esac") role.files}
    ${attrLines (n: s: "cp ${unit n s} etc/systemd/system/${n}.service; ln -s ../${n}.service etc/systemd/system/multi-user.target.wants/") role.services}
    cat > usr/lib/sysusers.d/role.conf <<'EOF'
    ${lines (p: users.${p} or "") pkgs}
    EOF
  '';

  merged = [ "usr" "etc" "var" "opt" "srv" ]; # every folder of / that a package or a role may bring files for
  toplevelOf = name: role0: let
    role = { packages = [ ]; programs = [ ]; binaries = { }; files = { }; services = { }; } // role0;
    l = locked.roles.${name};
    kernel = kernelOf l.kernel;
    layers = [ (extrasOf name role l.packages) ]
      ++ optional (role.programs != [ ]) [ exporterFiles (bytecodeOf l.packages [ exporterFiles ]) (bytecodeOf l.packages (pythonOf l.packages)) ]
      ++ map (n: binaryOf n role.binaries.${n}) (builtins.attrNames role.binaries)
      ++ [ common ] ++ map (n: packages.${n}) l.packages ++ [ kernel ];
  in mk "nixos-system-${name}-debian-12" {
    stage2 = ./stage2.sh;
    inherit busybox;
    sbom = builtins.toJSON (map (n: { name = n; inherit (locked.packages.${n}) version sha256 file; }) (l.packages ++ [ l.kernel ]));
  } ''
    # Layers by number, topmost first, and per folder the `lowerdir=` that stacks them: worked out here, not at every boot.
    mkdir -p $out/layers $out/lower; cd $out/layers; n=0
    for l in ${toString layers}; do
      ln -s $l $n
      for d in ${toString merged}; do [ ! -d $l/$d ] || printf %s ":$n/$d" >> ../lower/$d; done
      n=$((n+1))
    done
    cd $out
    for d in lower/*; do # mount(2) takes one page of options, overlayfs 500 layers
      [ $(wc -c < $d) -lt 3900 ] || { echo "too many packages to stack: $d" >&2; exit 1; }
    done
    sed "s#@busybox@#$busybox#; s#@toplevel@#$out#" $stage2 > init; chmod +x init
    ln -s ${kernel}/bzImage kernel; ln -s ${initrdOf kernel}/initrd initrd; ln -s ${kernel}/usr/lib/modules kernel-modules
    cp ${kernel}/release kernel-release
    # no_timer_check: where an emulated machine's host is busy its timer ticks late, and the kernel would panic at its start
    printf %s "console=ttyS0 panic=5 loglevel=4 no_timer_check" > kernel-params; printf %s ${system} > system
    printf %s "debian-${clean locked.packages.base-files.version}" > nixos-version; echo "$sbom" > packages.json
  '';
  toplevels = builtins.mapAttrs toplevelOf spec.roles;

  # ---- the same systems as images: for a disk's partition, or for memory --------------------------------------------------
  imageOf = name: toplevel: mk "image-${name}" { exportReferencesGraph = [ "graph" toplevel ]; inherit toplevel; } ''
    mkdir -p root/nix/store $out
    grep -E '^/nix/store/' graph | sort -u | while read -r p; do cp -a "$p" root/nix/store/; done
    mksquashfs root $out/store.squashfs -comp zstd -Xcompression-level 6 -all-root -no-xattrs -mkfs-time 1 -all-time 1 -no-progress -quiet
    ln -s $toplevel $out/toplevel
  '';

  # ---- Nix and kexec for a foreign system, with every library they need and the loader that finds them -------------------
  bundleOf = name: _: let
    path = builtins.concatStringsSep ":" (map (n: "${packages.${n}}/usr/lib/x86_64-linux-gnu") locked.roles.${name}.packages);
  in mk "bundle" { } ''
    mkdir -p b/bin b/lib $out
    cp ${packages.nix-bin}/usr/bin/nix b/bin/nix.bin; cp ${packages.kexec-tools}/usr/sbin/kexec b/bin/kexec.bin
    loader=${packages.libc6}/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
    for p in nix kexec; do
      $loader --library-path ${path} --list b/bin/$p.bin > needs; ! grep 'not found' needs
      cp -Ln $(awk '/=> \//{print $3}' needs) b/lib/
      # Without a path of its own written in: wherever the archive is unpacked, it runs. (Building would not work so; nothing is built.)
      printf '#!/bin/sh\nd=''${0%%/bin/*}\nexec "$d/lib/ld-linux-x86-64.so.2" --library-path "$d/lib" "$d/bin/%s.bin" "$@"\n' $p > b/bin/$p
      chmod +x b/bin/$p
    done
    # 31 MB of Unicode tables, for an XML parser that libarchive would call to read one kind of archive: never here
    icu=$(basename b/lib/libicudata.so.*); v=''${icu##*.}
    echo "const char icudt''${v}_dat[16];" | ''${CC:-cc} -shared -nostdlib -Wl,-soname,$icu -o stub -x c -; rm b/lib/$icu; mv stub b/lib/$icu
    cp $loader b/lib/; chmod -R u+w b; strip --strip-unneeded b/lib/*.so* b/bin/*.bin 2>/dev/null || true
    tar -C b --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner -c . | gzip -9n > $out/bundle.tar.gz
  '';
in {
  inherit packages toplevels;
  bundles = builtins.mapAttrs bundleOf spec.roles;
  images = builtins.mapAttrs imageOf toplevels;
}
