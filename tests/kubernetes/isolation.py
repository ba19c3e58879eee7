"""A network, mounts and process numbers of its own for a test: fixed ports are free, and nothing can be fetched."""

import os, subprocess, sys


def isolate():
    """Starts the test again, isolated. All its processes end with it."""
    if not os.environ.get("DOORWARD_ISOLATED"):
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        command = ["unshare", *user, "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, *sys.argv]
        os.execvpe(command[0], command, os.environ | {"DOORWARD_ISOLATED": "1", "PATH": path})
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def add_address(address, names, folder):
    """Another address of this machine, with names."""
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    add_names(address, names, folder)


def add_names(address, names, folder):
    """Names of an address of this machine."""
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{address} {' '.join(names)}\n")
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
