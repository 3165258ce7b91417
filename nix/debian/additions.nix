# composition.nix -> per role, the NixOS options that it sets beyond roles.nix. Without nixpkgs: nothing is evaluated but names,
# two levels deep (services.nginx, boot.kernelPackages); values stay untouched, so that what they are made of need not exist.
{ composition }:
let
  project = toString ../..;

  # Of nixpkgs' library what shapes a module. A condition cannot be known here, so what stands under it counts as added.
  lib = builtins // rec {
    mkIf = _: content: content;
    mkMerge = contents: { g5kdeployMerge = contents; };
    mkForce = content: content;
    mkDefault = mkForce;
    mkBefore = mkForce;
    mkAfter = mkForce;
    mkOverride = _: content: content;
    mkOrder = _: content: content;
    optionalAttrs = _: attrs: attrs;
    optionals = _: list: list;
    optional = _: item: [ item ];
    nameValuePair = name: value: { inherit name value; };
    genAttrs = names: f: builtins.listToAttrs (map (name: nameValuePair name (f name)) names);
    mapAttrs' = f: set: builtins.listToAttrs (map (name: f name set.${name}) (builtins.attrNames set));
    recursiveUpdate = a: b: a // builtins.mapAttrs
      (name: value: if builtins.isAttrs value && builtins.isAttrs (a.${name} or null) then recursiveUpdate a.${name} value else value) b;
    id = x: x;
    flip = f: a: b: f b a;
  };

  arguments = {
    inherit lib;
    pkgs = { inherit lib; };
    config = { };
    options = { };
    modulesPath = "";
    helpers = { };
    flavour = { name = "local-store"; };
    setup = { };
    nur = { };
    system = "x86_64-linux";
    g5kdeploy = project;
  };
  # A function that lists its arguments without `...` is given those alone.
  call = f: let named = builtins.functionArgs f; in f (if named == { } then arguments else builtins.intersectAttrs named arguments);
  opened = x:
    if builtins.isFunction x then opened (call x)
    else if builtins.isPath x || builtins.isString x then opened (import x)
    else x;

  ours = module: builtins.isAttrs module && module.key or "" == "g5kdeploy-role";
  notOptions = [ "imports" "config" "options" "key" "_file" "disabledModules" "_module" "meta" "g5kdeployMerge" ];
  under = set: builtins.concatMap
    (name: let value = set.${name}; in
      if value ? g5kdeployMerge then builtins.concatMap (part: under { ${name} = part; }) value.g5kdeployMerge
      else if builtins.isAttrs value then map (child: "${name}.${child}") (builtins.attrNames value)
      else [ name ])
    (builtins.filter (name: !(builtins.elem name notOptions)) (builtins.attrNames set));
  walk = x: let module = opened x; in
    if ours module then [ ]
    else builtins.concatMap walk (module.imports or [ ])
      ++ builtins.concatMap walk (module.g5kdeployMerge or [ ])
      ++ (if module ? config then walk module.config else [ ])
      ++ under module;

  told = opened composition;
  unique = names: builtins.attrNames (builtins.listToAttrs (map (name: { inherit name; value = null; }) names));
in
builtins.mapAttrs (_: role: unique (walk role)) (told.roles or told.nodes or { })
