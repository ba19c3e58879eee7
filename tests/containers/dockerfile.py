"""The Dockerfile as it is, without a container engine: dockerfile.py REPOSITORY FOLDER ENVOY.

Builds its images `doorward` and `filter` with buildah, from the first stage to the last. FOLDER has a folder debian-SUITE for each
image of Rust that a stage starts from; no registry with the official ones is asked. Then it does with `doorward` what image.py does
with the image around a program that was built outside, and loads the library of `filter` into Envoy.
"""

import os, pathlib, re, subprocess, sys, tempfile

from base import base, toolchain
from faults import check, conclude
from images import buildah, files, pulled, registry, run
from walk import passes

REPOSITORY, FOLDER, ENVOY = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
LIBRARY = "usr/lib/libdoorward.so"


def bases(folder):
    """Makes every image that the Dockerfile names as rust:…, and gives the suite of Debian for each stage that starts from one."""
    text = (REPOSITORY / "Dockerfile").read_text()
    (version,) = re.findall(r"^ARG RUST=(.+)$", text, re.MULTILINE)
    suites = dict(re.findall(r"^FROM rust:\$\{RUST\}-(\w+) AS (\S+)$", text, re.MULTILINE))
    home = toolchain(folder, REPOSITORY, version)
    for suite in suites:
        base(folder, FOLDER / f"debian-{suite}", home, version, f"rust:{version}-{suite}")
    return {stage: suite for suite, stage in suites.items()}


def built(folder, target):
    options = ["--isolation", "chroot", "--pull=never", "--layers=false", "--format", "docker"]
    command = [*buildah(folder), "build", *options, "--target", target, "--tag", f"localhost/{target}:built", REPOSITORY]
    if subprocess.run([str(part) for part in command]).returncode != 0:
        sys.exit(f"{target} cannot be built")


def pushed(folder, target, address):
    reference = f"{address}/{target}:test"
    run(*buildah(folder), "push", "--tls-verify=false", f"localhost/{target}:built", f"docker://{reference}")
    return reference


def module(folder, reference, debian):
    """The image has the library alone, which loads in Envoy and needs no newer glibc than that of the Debian it was built in."""
    config, root = pulled(folder, reference)
    labels = config["config"]["Labels"]
    check(labels.get("org.opencontainers.image.title") == "doorward-filter", f"Labels are {labels}")
    found = files(root)
    check(found == {LIBRARY: (0, 0o755)}, f"the image filter has {found}")
    needed = re.findall(r"GLIBC_(\d+)\.(\d+)", run("readelf", "--version-info", root / LIBRARY))
    newest = max((int(major), int(minor)) for major, minor in needed)
    there = re.search(r"(\d+)\.(\d+)$", run("chroot", debian, "ldd", "--version").splitlines()[0])
    check(newest <= (int(there[1]), int(there[2])), f"the library needs glibc {newest}")
    variables = os.environ | {"ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str((root / LIBRARY).parent)}
    settings = REPOSITORY / "envoy/envoy-filter.yaml"
    run(ENVOY, "--mode", "validate", "--log-level", "error", "--config-path", settings, env=variables)
    return (root / LIBRARY).stat().st_size


def main():
    with tempfile.TemporaryDirectory(prefix="doorward-dockerfile-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        suites = bases(folder)
        for target in ("filter", "doorward"):
            built(folder, target)
            (folder / target).mkdir()
        with registry(folder) as address:
            library = module(folder / "filter", pushed(folder, "filter", address), FOLDER / f"debian-{suites['build-filter']}")
            program = passes(folder / "doorward", pushed(folder, "doorward", address))
        sizes = f"doorward has {len(program) / 2**20:.1f} MiB, the module {library / 2**20:.1f} MiB"
        conclude(f"The Dockerfile was built for doorward and filter; both were pushed, pulled and run. {sizes}.")


if os.geteuid() != 0:
    sys.exit("Please run this as root: it builds with chroot, and unpacks an image with its owners")
main()
