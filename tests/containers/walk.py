"""What whoever runs the image relies on: its configuration, its files, and that it runs without root, with a root file system that it
cannot write."""

import pathlib, shlex, subprocess

import spine
from faults import check
from images import NATIVE, files, free_port, pulled
from replica import PASSWORDS, end

USER, GROUP = OWNER = ("65532", "65532")
PROGRAM = "usr/local/bin/doorward"
DATA = "var/lib/doorward"
# They pass system calls to the kernel of this machine.
EMULATORS = {"amd64": "/usr/bin/qemu-x86_64-static", "arm64": "/usr/bin/qemu-aarch64-static"}


def inspected(config, architecture):
    own = config["config"]
    expected = {
        "User": ":".join(OWNER),
        "Entrypoint": ["doorward"],
        "Cmd": ["serve"],
        "ExposedPorts": {"9001/tcp": {}, "9002/tcp": {}, "9003/tcp": {}},
    }
    for name, value in expected.items():
        check(own.get(name) == value, f"{name} is {own.get(name)}, not {value}")
    check((config["os"], config["architecture"]) == ("linux", architecture), f"it is for {config['os']}/{config['architecture']}")
    check(f"DOORWARD_DATA_DIR=/{DATA}" in own["Env"], f"Env is {own['Env']}")
    health = own.get("Healthcheck", {}).get("Test", [])
    check(health[1:3] == ["doorward", "check"], f"the health check is {health}")
    check(own["Labels"].get("org.opencontainers.image.title") == "doorward", f"Labels are {own['Labels']}")
    return own


def runs(folder, root, own, emulator):
    """Starts the image's own command as the image's user. Only the data folder can be written."""
    variables = dict(pair.split("=", 1) for pair in own["Env"])
    variables["PATH"] += ":/usr/sbin:/usr/bin:/sbin:/bin"
    # A private mount of the root, read-only but for the folder that a volume would have.
    mounts = ["mount --bind {0} {0}", "mount --bind {0}/{1} {0}/{1}", "mount -o remount,bind,ro {0}"]
    program = [f"/{PROGRAM}"]
    if emulator:
        (root / "emulator").touch()
        mounts.insert(1, f"mount --bind {emulator} {{0}}/emulator")
        program.insert(0, "/emulator")
    inside = " && ".join(mounts).format(shlex.quote(str(root)), DATA)

    def started(*command, listen, **options):
        confined = ["exec", "chroot", f"--userspec={':'.join(OWNER)}", root, *program, *command]
        line = f"{inside} && {shlex.join(map(str, confined))}"
        return subprocess.Popen(["unshare", "--mount", "sh", "-c", line], env=variables | listen, **options)

    def confined(process):
        held = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        ids = tuple(line.split()[1] for line in held.splitlines() if line.startswith(("Uid", "Gid")))
        check(ids == OWNER, f"Doorward runs as {ids}")
        mapped = pathlib.Path(f"/proc/{process.pid}/exe").readlink().name
        check(mapped == ("emulator" if emulator else "doorward"), f"the process is {mapped}")

    serves(folder, started, own["Cmd"], confined)


def serves(folder, started, command, examine):
    """A user is added and logs in, the token is good, and Doorward ends when it is told to. `started` starts it with arguments and the
    addresses to listen on, as variables; `examine` looks at the process while it is ready."""
    ports = {name: free_port() for name in ("GRPC", "HTTP", "OPS")}
    listen = {f"DOORWARD_LISTEN__{name}": f"127.0.0.1:{port}" for name, port in ports.items()}
    adding = started("user", "add", "ada", listen=listen, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _, said = adding.communicate(PASSWORDS["ada"], timeout=60)
    check(adding.returncode == 0, f"user add: {said}")
    log = folder / "doorward.log"
    with open(log, "w") as output:
        doorward = started(*command, listen=listen, stdout=output, stderr=output)
    try:
        spine.until(lambda: spine.status(ports["OPS"], "/readyz") == 200, "Doorward is ready", log.read_text)
        examine(doorward)
        name, bearer = spine.logged_in(ports["HTTP"], "ada", PASSWORDS["ada"])
        answer = spine.ask(ports["HTTP"], "GET", "/validate", (name, bearer))
        check(answer.status == 200, f"its token gets {answer.status}")
        wrong = spine.ask(ports["HTTP"], "GET", "/validate", (name, f"{bearer[:-9]}AAAAAAAAA"))
        check(wrong.status == 403, f"a forged token gets {wrong.status}")
        healthy = started("check", "--url", f"http://127.0.0.1:{ports['OPS']}/readyz", listen=listen)
        check(healthy.wait(60) == 0, "the health check fails")
    finally:
        end(doorward)
    check(doorward.returncode == 0, f"after SIGTERM, Doorward ends with {doorward.returncode}\n{log.read_text()}")


def passes(folder, reference, architecture=NATIVE):
    """Pulls the image into the folder, and gives the bytes of its program."""
    # Others must be able to reach the unpacked files.
    folder.chmod(0o755)
    config, root = pulled(folder, reference, architecture)
    own = inspected(config, architecture)
    found = files(root)
    # buildah gives the folder the mode 0755; Doorward's files in it are private.
    expected = {PROGRAM: (0, 0o755), DATA: (int(USER), 0o755)}
    check(found == expected, f"the image for {architecture} has {found}")
    runs(folder, root, own, None if architecture == NATIVE else EMULATORS[architecture])
    return (root / PROGRAM).read_bytes()
