"""The image, without a container engine: image.py PROGRAM REPOSITORY.

Builds the last stage of the Dockerfile around the static program with buildah, pushes it to a registry on loopback, pulls it from
there, and runs it as the image says: without root, with a root file system that it cannot write.
"""

import json, os, pathlib, shlex, shutil, subprocess, sys, tempfile

import spine
from faults import check, conclude
from program import free_port, serves
from replica import end

PROGRAM, REPOSITORY = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
STAGE = "FROM scratch AS doorward\n"
OWNER = "65532:65532"


def run(*command, **options):
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {ran.stderr or ran.stdout}")
    return ran.stdout


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


def runs(folder, root, own):
    """Starts the image's own command as the image's user. Only the data folder can be written."""
    variables = dict(pair.split("=", 1) for pair in own["Env"])
    variables["PATH"] += ":/usr/sbin:/usr/bin:/sbin:/bin"
    user, group = OWNER.split(":")
    # A private mount of the root, read-only but for the folder that a volume would have.
    inside = "mount --bind {0} {0} && mount --bind {0}/var/lib/doorward {0}/var/lib/doorward && mount -o remount,bind,ro {0} && exec chroot --userspec={1} {0} {2}"

    def started(*command, listen, **options):
        line = inside.format(root, f"{user}:{group}", shlex.join(["/usr/local/bin/doorward", *command]))
        return subprocess.Popen(["unshare", "--mount", "sh", "-c", line], env=variables | listen, **options)

    def confined(process):
        held = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        ids = {line.split(":")[0]: line.split()[1] for line in held.splitlines() if line.startswith(("Uid", "Gid"))}
        check(ids == {"Uid": user, "Gid": group}, f"Doorward runs as {ids}")

    serves(folder, started, own["Cmd"], confined)


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
        runs(folder, root, own)
        size = PROGRAM.stat().st_size / 2**20
        conclude(f"The image was built, pushed, pulled and run; its program has {size:.1f} MiB.")


if os.geteuid() != 0:
    sys.exit("Please run this as root: it unpacks an image with its owners, and mounts it")
main()
