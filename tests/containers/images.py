"""Images without a container engine: buildah builds them, a registry on loopback serves them, skopeo and umoci fetch and unpack them."""

import contextlib, json, platform, socket, subprocess, sys

import spine
from replica import end

NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(*command, **options):
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {ran.stderr or ran.stdout}")
    return ran.stdout


def buildah(folder):
    """The command, with its images in the folder. The driver vfs needs nothing of the file system below."""
    return ["buildah", "--root", str(folder / "storage"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]


@contextlib.contextmanager
def registry(folder):
    """Gives the address, which is also the first part of the names of its images."""
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
    try:
        spine.until(lambda: spine.status(port, "/v2/") == 200, "the registry answers", log.read_text)
        yield f"127.0.0.1:{port}"
    finally:
        end(process)


def pulled(folder, reference, architecture=NATIVE):
    """The configuration of an image in the registry, and its unpacked files."""
    skopeo = ["skopeo", "--override-arch", architecture]
    config = json.loads(run(*skopeo, "inspect", "--config", "--raw", "--tls-verify=false", f"docker://{reference}"))
    run(*skopeo, "copy", "--src-tls-verify=false", f"docker://{reference}", f"oci:{folder}/pulled:test")
    run("umoci", "unpack", "--image", f"{folder}/pulled:test", folder / "bundle")
    return config, folder / "bundle/rootfs"


def files(root):
    """All files but the folders above them, with owner and mode."""
    found = {}
    for path in sorted(root.rglob("*")):
        facts = path.lstat()
        if path.is_file() or not any(path.iterdir()):
            found[str(path.relative_to(root))] = (facts.st_uid, facts.st_mode & 0o7777)
    return found
