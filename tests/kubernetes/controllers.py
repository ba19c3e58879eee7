"""Lets controllers run the manifests of production and the chart: controllers.py PROGRAMS HELM KUSTOMIZE REPOSITORY.

kube-controller-manager creates and removes pods as in any cluster. There are no nodes: a thread says in the place of a kubelet that
the pods of the Deployment are ready, and that those of Jobs have ended.
"""

import contextlib, json, pathlib, shutil, subprocess, sys, tempfile, threading

from apiserver import ApiServer
from faults import check, conclude
from spine import until

PROGRAMS, HELM, KUSTOMIZE, HERE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
SPACE = ("--namespace", "doorward")
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def pods(server):
    found = json.loads(server.kubectl("get", "pods", *SPACE, "-o", "json").stdout or '{"items": []}')["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def of_the_server(every):
    return [pod for pod in every if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "server"]


def is_ready(pod):
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))


def images(every):
    return {pod["spec"]["containers"][0]["image"].rsplit(":", 1)[1] for pod in every}


@contextlib.contextmanager
def kubelet(server):
    """Collects how many pods of the server were ready, at each look."""
    ready, done = [], threading.Event()

    def run():
        while not done.wait(0.2):
            every = pods(server)
            ready.append(len([pod for pod in of_the_server(every) if is_ready(pod)]))
            for pod in every:
                serves = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "server"
                status = {"phase": "Running", "conditions": [READY]} if serves else {"phase": "Succeeded"}
                if pod["status"]["phase"] == "Pending":
                    text = json.dumps({"status": status})
                    server.kubectl("patch", "pod", pod["metadata"]["name"], *SPACE, "--subresource=status", "--type=merge", "-p", text)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ready
    finally:
        done.set()
        thread.join()


def run(server, *command):
    ran = server.kubectl(*command)
    check(ran.returncode == 0, f"kubectl {command}: {ran.stdout} {ran.stderr}")
    return ran.stdout


def production(server, text):
    check(not server.submit(text), "production is not accepted")
    with kubelet(server) as ready:
        # The autoscaler raises it to its least.
        until(lambda: len(of_the_server(pods(server))) == 3, "production: three pods")
        run(server, "rollout", "status", "deployment/doorward", *SPACE, "--timeout=120s")
        run(server, "wait", "--for=condition=Complete", "job/doorward-migrate", *SPACE, "--timeout=120s")
        until(lambda: ready[-1] == 3, "production: three pods are ready")
        start = len(ready)
        run(server, "set", "image", "deployment/doorward", "doorward=registry.example.com/doorward:0.1.1", *SPACE)
        run(server, "rollout", "status", "deployment/doorward", *SPACE, "--timeout=120s")
        until(lambda: images(of_the_server(pods(server))) == {"0.1.1"}, "production: the pods of the new version")
        check(min(ready[start:]) >= 3, f"production: a rollout leaves {min(ready[start:])} pods ready")
    print("production: three pods, a rollout that always leaves three ready, a migration that ends", flush=True)


def refused(server):
    """Pod Security refuses the pods of a Deployment that asks for more than `restricted` allows."""
    change = {"spec": {"template": {"spec": {"containers": [{"name": "doorward", "securityContext": {"allowPrivilegeEscalation": True}}]}}}}
    run(server, "patch", "deployment", "doorward", *SPACE, "-p", json.dumps(change))

    def said():
        found = json.loads(run(server, "get", "deployment", "doorward", *SPACE, "-o", "json"))["status"]["conditions"]
        return [one["message"] for one in found if one["type"] == "ReplicaFailure" and "violates PodSecurity" in one["message"]]

    until(said, "production: the pods are refused")
    check(len(of_the_server(pods(server))) == 3, "production: the pods of before stay")
    print("production: pods that break `restricted` are not created, and those of before stay", flush=True)


def chart(server, before):
    run(server, "create", "namespace", "doorward")
    run(server, "label", "namespace", "doorward", "pod-security.kubernetes.io/enforce=restricted")
    with kubelet(server):
        for command in ("install", "upgrade"):
            tag = ("--set", "image.tag=0.0.9") if command == "install" else ("--reset-values",)
            ran = server.helm(command, "doorward", HERE / "charts/doorward", *SPACE, "--wait", "--timeout=120s", *tag)
            check(ran.returncode == 0, f"helm {command}: {ran.stdout} {ran.stderr}")
            check(len([pod for pod in of_the_server(pods(server)) if is_ready(pod)]) == 3, f"helm {command}: three pods are ready")
        check(images(of_the_server(pods(server))) == {"0.1.0"}, "helm upgrade: the pods of the new version")
        ran = server.helm("uninstall", "doorward", *SPACE, "--wait", "--timeout=120s")
        check(ran.returncode == 0, f"helm uninstall: {ran.stdout} {ran.stderr}")
    run(server, "delete", "namespace", "doorward", "--timeout=120s")
    gone(server, before, "the chart")
    print("chart: installed, upgraded and uninstalled, each until it is done", flush=True)


def gone(server, before, what):
    left = None

    def nothing():
        nonlocal left
        left = server.everything() - before
        return not left

    try:
        until(nothing, f"{what}: nothing is left")
    except SystemExit:
        check(False, f"{what}: left: {left}")


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="doorward-controllers-"))
    try:
        with ApiServer(PROGRAMS, HELM, folder) as server:
            server.start_controllers()
            until(lambda: server.kubectl("get", "serviceaccount", "default").returncode == 0, "the controllers work")
            until(lambda: server.kubectl("get", "configmap", "kube-root-ca.crt").returncode == 0, "the controllers work")
            before = server.everything()
            production_text = subprocess.run([KUSTOMIZE, HERE / "k8s/overlays/production"], capture_output=True, text=True, check=True).stdout
            production(server, production_text)
            refused(server)
            ran = server.kubectl("delete", "--timeout=120s", "-f", "-", given=production_text)
            check(ran.returncode == 0, f"delete: {ran.stderr}")
            gone(server, before, "production")
            chart(server, before)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    conclude("Controllers run production and the chart.")


main()
