{
  description = "g5kdeploy: from one experiment file to a reproducible run on Grid'5000";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        default = g5kdeploy;

        # Not in nixpkgs; published as a wheel only.
        python-grid5000 = pkgs.python3Packages.buildPythonPackage {
          pname = "python-grid5000";
          version = "1.2.5";
          format = "wheel";
          src = pkgs.python3Packages.fetchPypi {
            pname = "python_grid5000";
            version = "1.2.5";
            format = "wheel";
            dist = "py3";
            python = "py3";
            hash = "sha256-R5K8ywBYIt+ft/hyQJ88JRV3Qa+L23KYdTVhMqOWMNI=";
          };
          propagatedBuildInputs = with pkgs.python3Packages; [ requests pyyaml ipython ];
          pythonImportsCheck = [ "grid5000" ];
        };

        g5kdeploy = pkgs.python3Packages.buildPythonApplication {
          pname = "g5kdeploy";
          version = builtins.head (builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ./g5kdeploy/__init__.py));
          pyproject = true;
          src = self;
          build-system = [ pkgs.python3Packages.hatchling ];
          nativeBuildInputs = with pkgs; [ clang llvm libbpf gnumake ];
          hardeningDisable = [ "all" ]; # BPF objects: the compiler's hardening flags do not exist there
          preBuild = "make -C bpf";
          dependencies = [ python-grid5000 ] ++ (with pkgs.python3Packages; [
            click clustershell cheroot fabric jinja2 paramiko prometheus-client pyarrow pydantic pyyaml requests rich tenacity werkzeug
          ]);
          pythonImportsCheck = [ "g5kdeploy" ];
          meta = {
            description = "From one experiment file to a reproducible run on Grid'5000";
            license = pkgs.lib.licenses.gpl3Plus;
            mainProgram = "g5kdeploy";
          };
        };
      });

      # Everything that scripts/setup would install on Debian.
      devShells = each (pkgs: {
        default = pkgs.mkShell {
          packages = with pkgs; [
            python3 qemu nix openssh iproute2 dnsmasq clang llvm libbpf bpftools gnumake dpkg cpio gzip xz zstd
            squashfsTools e2fsprogs util-linux curl shellcheck
          ];
        };
      });

      formatter = each (pkgs: pkgs.nixfmt-rfc-style);
    };
}
