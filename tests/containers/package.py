"""The Debian package in a Debian of its own: package.py PACKAGE DEBIAN.

Installs it there with dpkg, runs the command of its unit as a user without rights, installs it again over changed settings, removes
it, and purges it. systemd itself does not run there.
"""

import os, pathlib, re, shutil, subprocess, sys, tempfile

from faults import check, conclude
from images import run
from walk import OWNER, serves

PACKAGE, DEBIAN = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
SETTINGS = "etc/doorward/doorward.toml"
UNIT = "lib/systemd/system/doorward.service"
DATA = "var/lib/doorward"
# What dpkg itself remembers, and the package.
NOT_OURS = ("var/lib/dpkg", "var/log", "doorward.deb")


def paths(root):
    every = (str(path.relative_to(root)) for path in root.rglob("*"))
    return {path for path in every if not path.startswith(NOT_OURS)}


def dpkg(root, *arguments):
    return run("chroot", root, "dpkg", *arguments)


def starts(folder, root):
    """The command of the unit, with its variables."""
    unit = (root / UNIT).read_text()
    (command,) = re.findall(r"^ExecStart=(.+) serve$", unit, re.MULTILINE)
    variables = dict(pair.split("=", 1) for pair in re.findall(r"^Environment=(\S+)$", unit, re.MULTILINE))
    check(variables == {"DOORWARD_DATA_DIR": f"/{DATA}"}, f"the unit has {variables}")
    # systemd makes it (StateDirectory).
    (root / DATA).mkdir(0o700)
    os.chown(root / DATA, *map(int, OWNER))

    def started(*arguments, listen, **options):
        confined = ["chroot", f"--userspec={':'.join(OWNER)}", root, *command.split(), *arguments]
        return subprocess.Popen(confined, env={"PATH": os.environ["PATH"]} | variables | listen, **options)

    serves(folder, started, ["serve"], lambda process: None)
    shutil.rmtree(root / DATA)


def main():
    with tempfile.TemporaryDirectory(prefix="doorward-package-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        root = folder / "debian"
        run("cp", "--archive", DEBIAN, root)
        shutil.copy(PACKAGE, root / "doorward.deb")
        before = paths(root)
        dpkg(root, "--install", "/doorward.deb")
        version = dpkg(root, "--field", "/doorward.deb", "Version").strip()
        said = run("chroot", root, "doorward", "--version").split()
        check(said == ["doorward", version.rsplit("-", 1)[0]], f"{version} says it is {said}")
        added = paths(root) - before
        for path in (
            SETTINGS,
            UNIT.removeprefix("lib/"),
            "usr/share/man/man1/doorward.1.gz",
            "usr/share/bash-completion/completions/doorward",
            "usr/share/doc/doorward/docs/settings.md",
        ):
            check(any(one.endswith(path) for one in added), f"the package has no {path}")
        starts(folder, root)

        own = (root / SETTINGS).read_text() + "\n[log]\nlevel = 'debug'\n"
        (root / SETTINGS).write_text(own)
        dpkg(root, "--install", "/doorward.deb")
        check((root / SETTINGS).read_text() == own, "a second installation changes the settings")
        dpkg(root, "--remove", "doorward")
        check((root / SETTINGS).read_text() == own, "removing the package removes the settings")
        check(not (root / "usr/bin/doorward").exists(), "removing the package leaves the program")
        dpkg(root, "--purge", "doorward")
        left = paths(root) - before
        check(not left, f"purging the package leaves {sorted(left)}")
        size = PACKAGE.stat().st_size / 2**20
        conclude(f"The package of {size:.1f} MiB was installed, run, installed again, removed and purged.")


if os.geteuid() != 0:
    sys.exit("Please run this as root: it installs a package with chroot")
main()
