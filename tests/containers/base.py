"""Stand-ins for the official images of Rust, from a folder with Debian and the toolchain of this machine."""

import os, pathlib, platform, shutil, sys

from images import buildah, run

CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# Where the official images have them.
RUSTUP_HOME, CARGO_HOME = "usr/local/rustup", "usr/local/cargo"
PROXIES = ("cargo", "rustc", "rustdoc")


def toolchain(folder, repository, version):
    """Copies this machine's toolchain into a home of rustup, as one that was installed without anything but the default target."""
    sysroot = pathlib.Path(run("rustc", "--print", "sysroot", cwd=repository).strip()).resolve()
    found = run(sysroot / "bin/rustc", "--version").split()[1]
    if found != version:
        sys.exit(f"The toolchain of this machine is {found}; the Dockerfile has {version}")
    home = folder / "rustup"
    (home / "toolchains").mkdir(parents=True)
    copy = home / "toolchains" / f"{version}-{platform.machine()}-unknown-linux-gnu"
    # The manuals are in share.
    shutil.copytree(sysroot, copy, symlinks=True, ignore=lambda at, _: ["share"] if pathlib.Path(at) == sysroot else [])
    rustup = ["env", f"RUSTUP_HOME={home}", "rustup"]
    run(*rustup, "set", "profile", "minimal")
    run(*rustup, "default", version)
    # The Dockerfile adds what it needs.
    for target in run(*rustup, "target", "list", "--installed", "--toolchain", version).split():
        if not target.endswith("-linux-gnu"):
            run(*rustup, "target", "remove", "--toolchain", version, target)
    return home


def base(folder, debian, home, version, name):
    """Commits an image with what the build takes from the official one: tools, certificates, places and variables."""
    command = buildah(folder)
    container = run(*command, "from", "scratch").strip()
    root = pathlib.Path(run(*command, "mount", container).strip())
    run("cp", "-a", f"{debian}/.", root)
    # This machine may reach registries through a proxy with a certificate of its own.
    shutil.copy(f"/{CERTIFICATES}", root / CERTIFICATES)
    run("cp", "-a", home, root / RUSTUP_HOME)
    programs = root / CARGO_HOME / "bin"
    programs.mkdir(parents=True)
    shutil.copy(os.path.realpath(shutil.which("rustup")), programs / "rustup")
    for proxy in PROXIES:
        (programs / proxy).symlink_to("rustup")
    variables = {
        "RUSTUP_HOME": f"/{RUSTUP_HOME}",
        "CARGO_HOME": f"/{CARGO_HOME}",
        "PATH": f"/{CARGO_HOME}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "RUST_VERSION": version,
    }
    options = [part for pair in variables.items() for part in ("--env", "=".join(pair))]
    run(*command, "config", *options, container)
    run(*command, "umount", container)
    run(*command, "commit", "--quiet", "--disable-compression", "--rm", container, f"localhost/{name}")
