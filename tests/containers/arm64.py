"""The static program for arm64, on a machine of any kind: arm64.py PROGRAM.

QEMU emulates the processor and passes system calls to the kernel of this machine.
"""

import os, pathlib, platform, subprocess, sys, tempfile

from faults import check, conclude
from program import serves

PROGRAM = pathlib.Path(sys.argv[1]).resolve()
EMULATOR = [] if platform.machine() == "aarch64" else ["qemu-aarch64-static"]


def main():
    header = subprocess.run(["readelf", "--file-header", "--dynamic", PROGRAM], capture_output=True, text=True, check=True).stdout
    check("AArch64" in header, "the program is for another processor")
    check("(NEEDED)" not in header, "the program is not static")
    with tempfile.TemporaryDirectory(prefix="doorward-arm64-") as name:
        folder = pathlib.Path(name)
        variables = {"PATH": os.environ["PATH"], "DOORWARD_DATA_DIR": name}

        def started(*command, listen, **options):
            return subprocess.Popen([*EMULATOR, PROGRAM, *command], env=variables | listen, **options)

        serves(folder, started, ["serve"])
    conclude(f"The program for arm64 serves; it has {PROGRAM.stat().st_size / 2**20:.1f} MiB.")


main()
