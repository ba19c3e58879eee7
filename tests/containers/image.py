"""The image for several architectures, without a container engine: image.py REPOSITORY PROGRAM…

Builds the last stage of the Dockerfile around each static program with buildah, pushes all as one image to a registry on loopback,
pulls each from there, and runs it; QEMU emulates the processor that this machine does not have.
"""

import json, os, pathlib, shutil, sys, tempfile

from faults import check, conclude
from images import buildah, registry, run
from walk import passes

REPOSITORY, *PROGRAMS = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
STAGE = "FROM scratch AS doorward\n"
LIST = "localhost/doorward:built"
# Of the header of an ELF file: e_machine.
MACHINES = {62: "amd64", 183: "arm64"}


def architecture(program):
    with open(program, "rb") as file:
        return MACHINES[int.from_bytes(file.read(20)[18:], "little")]


def build(folder, programs):
    """The last stage of the Dockerfile; what it copies from the first stage is here already."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    check(dockerfile.count(STAGE) == 1, "the Dockerfile has another last stage")
    (folder / "context").mkdir()
    (folder / "context/Dockerfile").write_text(STAGE + dockerfile.split(STAGE)[1])
    for name, program in programs.items():
        stage = folder / "stages" / name
        (stage / "out/data").mkdir(parents=True)
        shutil.copy(program, stage / "out/doorward")
        options = ["--platform", f"linux/{name}", "--build-context", f"build={stage}", "--manifest", LIST]
        run(*buildah(folder), "build", "--isolation", "chroot", "--format", "docker", *options, folder / "context")


def main():
    programs = {architecture(program): program for program in PROGRAMS}
    check(len(programs) == len(PROGRAMS), f"two programs are for one architecture: {programs}")
    with tempfile.TemporaryDirectory(prefix="doorward-image-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        build(folder, programs)
        with registry(folder) as address:
            reference = f"{address}/doorward:test"
            run(*buildah(folder), "manifest", "push", "--all", "--tls-verify=false", LIST, f"docker://{reference}")
            index = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"))
            offered = sorted(image["platform"]["architecture"] for image in index["manifests"])
            check(offered == sorted(programs), f"the index offers {offered}")
            for name, program in programs.items():
                (folder / name).mkdir()
                came = passes(folder / name, reference, name)
                check(came == program.read_bytes(), f"the program for {name} has changed on its way")
        sizes = " and ".join(f"{program.stat().st_size / 2**20:.1f} MiB ({name})" for name, program in programs.items())
        conclude(f"The image was built, pushed, pulled and run; its program has {sizes}.")


if os.geteuid() != 0:
    sys.exit("Please run this as root: it unpacks an image with its owners, and mounts it")
main()
