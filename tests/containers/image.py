"""The image, without a container engine: image.py PROGRAM REPOSITORY.

Builds the last stage of the Dockerfile around the static program with buildah, pushes it to a registry on loopback, pulls it from
there, and runs it as the image says: without root, with a root file system that it cannot write.
"""

import json, os, pathlib, shutil, socket, subprocess, sys, tempfile

import spine
from faults import check, conclude
from replica import end

PROGRAM, REPOSITORY = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
STAGE = "FROM scratch AS doorward\n"
OWNER = "65532:65532"
PASSWORD = "analytical-engine"


def run(*command, **options):
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {ran.stderr or ran.stdout}")
    return ran.stdout


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def build(folder, buildah):
    """The last stage of the Dockerfile; what it copies from the first stage is here already."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    check(dockerfile.count(STAGE) == 1, "the Dockerfile has another last stage")
    stage = STAGE + dockerfile.split(STAGE)[1]
    check("--from=build " in stage, "the last stage copies nothing from the first")
    context = folder / "context"
    (context / "out/data").mkdir(parents=True)
    shutil.copy(PROGRAM, context / "out/doorward")
    (context / "Dockerfile").write_text(stage.replace("--from=build ", ""))
    run(*buildah, "build", "--isolation", "chroot", "--format", "docker", "--tag", "doorward:built", context)


def registry(folder):
    port = free_port()
    settings = folder / "registry.yml"
    settings.write_text(
        json.dumps(
            {
                "version": "0.1",
                "log": {"level": "warn"},
                "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
                "http": {"addr": f"127.0.0.1:{port}"},
            }
        )
    )
    log = folder / "registry.log"
    with open(log, "w") as output:
        process = subprocess.Popen(["docker-registry", "serve", settings], stdout=output, stderr=output)
    spine.until(lambda: spine.status(port, "/v2/") == 200, "the registry answers", log.read_text)
    return process, port


def inspected(image):
    """What whoever runs the image relies on."""
    config = json.loads(run("skopeo", "inspect", "--config", "--raw", "--tls-verify=false", image))
    own = config["config"]
    expected = {
        "User": OWNER,
        "Entrypoint": ["doorward"],
        "Cmd": ["serve"],
        "ExposedPorts": {"9001/tcp": {}, "9002/tcp": {}, "9003/tcp": {}},
    }
    for name, value in expected.items():
        check(own.get(name) == value, f"{name} is {own.get(name)}, not {value}")
    check("DOORWARD_DATA_DIR=/var/lib/doorward" in own["Env"], f"Env is {own['Env']}")
    health = own.get("Healthcheck", {}).get("Test", [])
    check(health[1:3] == ["doorward", "check"], f"the health check is {health}")
    check(own["Labels"]["org.opencontainers.image.title"] == "doorward", f"Labels are {own['Labels']}")
    return own


def files(root):
    """All files but the folders above them, with owner and mode."""
    found = {}
    for path in sorted(root.rglob("*")):
        facts = path.lstat()
        if path.is_file() or not any(path.iterdir()):
            found[str(path.relative_to(root))] = (facts.st_uid, facts.st_mode & 0o7777)
    return found


def serves(folder, root, own):
    """Starts the image's own command as the image's user. Only the data folder can be written."""
    ports = {name: free_port() for name in ("GRPC", "HTTP", "OPS")}
    variables = dict(pair.split("=", 1) for pair in own["Env"])
    variables |= {f"DOORWARD_LISTEN__{name}": f"127.0.0.1:{port}" for name, port in ports.items()}
    user, group = OWNER.split(":")
    # A private mount of the root, read-only but for the folder that a volume would have.
    inside = "mount --bind {0} {0} && mount --bind {0}/var/lib/doorward {0}/var/lib/doorward && mount -o remount,bind,ro {0} && exec chroot --userspec={1} {0} {2}"

    def started(*command, **options):
        line = inside.format(root, f"{user}:{group}", " ".join(command))
        shell = ["unshare", "--mount", "sh", "-c", line]
        return subprocess.Popen(shell, env={**variables, "PATH": f"{variables['PATH']}:/usr/sbin:/usr/bin:/sbin:/bin"}, **options)

    adding = started("/usr/local/bin/doorward", "user", "add", "ada", stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _, said = adding.communicate(PASSWORD, timeout=60)
    check(adding.returncode == 0, f"user add: {said}")
    log = folder / "doorward.log"
    with open(log, "w") as output:
        doorward = started("/usr/local/bin/doorward", *own["Cmd"], stdout=output, stderr=output)
    try:
        spine.until(lambda: spine.status(ports["OPS"], "/readyz") == 200, "Doorward is ready", log.read_text)
        held = pathlib.Path(f"/proc/{doorward.pid}/status").read_text()
        ids = {line.split(":")[0]: line.split()[1] for line in held.splitlines() if line.startswith(("Uid", "Gid"))}
        check(ids == {"Uid": user, "Gid": group}, f"Doorward runs as {ids}")
        answer = spine.ask(ports["HTTP"], "POST", "/login", spine.basic("ada", PASSWORD))
        check(answer.status == 200, f"a login gets {answer.status}")
        bearer = answer.headers.get("authorization", "")
        answer = spine.ask(ports["HTTP"], "GET", "/validate", ("authorization", bearer))
        check(answer.status == 200, f"its token gets {answer.status}")
        healthy = started("/usr/local/bin/doorward", "check", "--url", f"http://127.0.0.1:{ports['OPS']}/readyz")
        check(healthy.wait(60) == 0, "the health check fails")
    finally:
        end(doorward)
    check(doorward.returncode == 0, f"after SIGTERM, Doorward ends with {doorward.returncode}\n{log.read_text()}")


def main():
    with tempfile.TemporaryDirectory(prefix="doorward-image-") as name:
        folder = pathlib.Path(name)
        # Others must be able to reach the unpacked files.
        folder.chmod(0o755)
        storage = ["--root", folder / "storage", "--runroot", folder / "run", "--storage-driver", "vfs"]
        buildah = ["buildah", *storage]
        build(folder, buildah)
        process, port = registry(folder)
        try:
            reference = f"127.0.0.1:{port}/doorward:test"
            run(*buildah, "push", "--tls-verify=false", "doorward:built", f"docker://{reference}")
            own = inspected(f"docker://{reference}")
            pulled = folder / "pulled"
            run("skopeo", "copy", "--src-tls-verify=false", f"docker://{reference}", f"oci:{pulled}:test")
            root = folder / "bundle/rootfs"
            run("umoci", "unpack", "--image", f"{pulled}:test", folder / "bundle")
        finally:
            end(process)
        found = files(root)
        uid = int(OWNER.split(":")[0])
        # Copying gives the folder the mode 0755; Doorward's files in it are private.
        expected = {"usr/local/bin/doorward": (0, 0o755), "var/lib/doorward": (uid, 0o755)}
        check(found == expected, f"the image has {found}")
        check((root / "usr/local/bin/doorward").read_bytes() == PROGRAM.read_bytes(), "the program has changed on its way")
        serves(folder, root, own)
        size = PROGRAM.stat().st_size / 2**20
        conclude(f"The image was built, pushed, pulled and run; its program has {size:.1f} MiB.")


if os.geteuid() != 0:
    sys.exit("Please run this as root: it unpacks an image with its owners, and mounts it")
main()
