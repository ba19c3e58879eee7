"""Installs, upgrades, rolls back, tests and removes the Helm chart in an API server.

No kubelet runs the pods of hooks. A thread says in its place how they ended, as its status would; Helm waits for that.
"""

import contextlib, json, threading
import yaml

from faults import check

SPACE = ("--namespace", "doorward")
NOW = "2026-01-01T00:00:00Z"

# The values of an earlier version, every optional object, the other protocol, and the usual form.
EARLIER = ("--set", "image.tag=0.0.9", "--set", "extraRoutes[0].path=/docs/*", "--set", "extraRoutes[0].allow=public")
ALL = (
    "--set", "serviceMonitor.enabled=true", "--set", "envoyGateway.enabled=true", "--set", "externalAuth.enabled=true",
    "--set", "externalAuth.protocol=HTTP", "--set", "istio.enabled=true",
)
GRPC = ("--set", "externalAuth.enabled=true")
SMALL = (
    "--set", "autoscaling.enabled=false", "--set", "podDisruptionBudget.enabled=false", "--set", "priorityClass.create=false",
    "--set", "priorityClass.name=", "--set", "networkPolicy.enabled=false", "--set", "existingKeysSecret=",
)
USUAL = ()


def condition(name, reason):
    return {"type": name, "status": "True", "reason": reason, "message": "", "lastTransitionTime": NOW, "lastProbeTime": NOW}


JOB = {
    True: {
        "startTime": NOW, "completionTime": NOW, "succeeded": 1,
        "conditions": [condition("SuccessCriteriaMet", "CompletionsReached"), condition("Complete", "CompletionsReached")],
    },
    False: {
        "startTime": NOW, "failed": 1,
        "conditions": [condition("FailureTarget", "BackoffLimitExceeded"), condition("Failed", "BackoffLimitExceeded")],
    },
}
POD = {True: {"phase": "Succeeded"}, False: {"phase": "Failed"}}


@contextlib.contextmanager
def kubelet(server, succeeds):
    """Ends each Job and Pod that appears meanwhile, and collects their names."""
    ended, done = [], threading.Event()

    def run():
        seen = set()
        while not done.wait(0.2):
            found = server.kubectl("get", "jobs,pods", *SPACE, "-o", "json").stdout
            for thing in json.loads(found or '{"items": []}')["items"]:
                kind, name, uid = thing["kind"], thing["metadata"]["name"], thing["metadata"]["uid"]
                if uid in seen:
                    continue
                status = json.dumps({"status": (JOB if kind == "Job" else POD)[succeeds]})
                ran = server.kubectl("patch", kind.lower(), name, *SPACE, "--subresource=status", "--type=merge", "-p", status)
                check(ran.returncode == 0, f"status of {kind} {name}: {ran.stderr}")
                seen.add(uid)
                ended.append(f"{kind} {name}")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        done.set()
        thread.join()


def image(server):
    deployment = json.loads(server.kubectl("get", "deployment", "doorward", *SPACE, "-o", "json").stdout)
    return deployment["spec"]["template"]["spec"]["containers"][0]["image"]


def check_release(server, chart, admitted):
    """`admitted` submits the pods of manifests, and returns how many wrong ones were refused."""
    before = server.everything()
    revision = 0

    def helm(*arguments, succeeds=True, hooks=()):
        with kubelet(server, succeeds) as ended:
            ran = server.helm(*arguments)
        check((ran.returncode == 0) == succeeds, f"helm {arguments}: {ran.stdout} {ran.stderr}")
        if succeeds:
            check("warning" not in ran.stderr.lower(), f"helm {arguments}: {ran.stderr}")
        check(ended == list(hooks), f"helm {arguments}: hooks {ended}")
        return ran

    def now(form, text):
        """The objects in the server are those of this form."""
        nonlocal revision
        revision += 1
        ran = server.helm("status", "doorward", *SPACE, "-o", "json")
        status = json.loads(ran.stdout)
        check(status["version"] == revision and status["info"]["status"] == "deployed", f"{form}: {status['version']} {status['info']['status']}")
        names = {f"{thing['kind']}/{thing['metadata']['name']}" for thing in objects_of(text)}
        left = {line.split(" ")[0].rsplit("/", 1)[1] + "/" + line.rsplit("/", 1)[1] for line in server.everything() - before}
        left = {name for name in left if not name.startswith("Secret/sh.helm.release.")}
        check(left == names, f"{form}: missing {names - left}, left from before {left - names}")
        return server.content(manifest(text))

    def template(*form):
        ran = server.helm("template", "doorward", chart, *SPACE, *form)
        check(ran.returncode == 0, f"template {form}: {ran.stderr}")
        return ran.stdout

    refused = 0
    contents = {}
    migrate = ["Job doorward-migrate"]
    helm("install", "doorward", chart, *SPACE, *EARLIER, hooks=migrate)
    contents[EARLIER] = now(EARLIER, template(*EARLIER))
    check(image(server).endswith(":0.0.9"), image(server))
    for form in (USUAL, ALL, GRPC, SMALL, USUAL):
        text = template(*form)
        helm("upgrade", "doorward", chart, *SPACE, "--reset-values", *form, hooks=migrate)
        content = now(form, text)
        check(contents.setdefault(form, content) == content, f"{form}: a second upgrade gives other objects")
        # Strictly, with the hooks too: Helm does not show the server's warnings.
        fault = server.submit(text, "--dry-run=server", "--force-conflicts", *SPACE)
        check(not fault, f"{form}: {fault}")
        refused += admitted(text, f"chart, {form}")
    check(image(server).endswith(":0.1.0"), image(server))

    # Nothing changes for an upgrade with the same values.
    versions = server.versions(manifest(template()))
    helm("upgrade", "doorward", chart, *SPACE, "--reset-values", hooks=migrate)
    now(USUAL, template())
    check(server.versions(manifest(template())) == versions, "an upgrade with the same values changes objects")

    # Tables that cannot be updated stop an upgrade before it changes anything.
    helm("upgrade", "doorward", chart, *SPACE, "--set", "image.tag=0.1.1", succeeds=False, hooks=migrate)
    check(image(server).endswith(":0.1.0"), f"an upgrade without its tables: {image(server)}")
    server.kubectl("delete", "job", "doorward-migrate", *SPACE)
    revision += 1

    helm("rollback", "doorward", "1", *SPACE)
    check(now(EARLIER, template(*EARLIER)) == contents[EARLIER], "the rollback gives other objects than the installation")

    helm("test", "doorward", *SPACE, hooks=["Pod doorward-test"])
    helm("test", "doorward", *SPACE, succeeds=False, hooks=["Pod doorward-test"])
    server.kubectl("delete", "pod", "doorward-test", *SPACE, "--force", "--grace-period=0")

    helm("uninstall", "doorward", *SPACE)
    left = server.everything() - before
    check(not left, f"the chart left {sorted(left)}")
    print(f"chart: {revision} revisions, {len(contents)} forms, {refused} pods refused", flush=True)


def objects_of(text):
    """What belongs to the release, without its hooks."""
    for thing in yaml.safe_load_all(text):
        if thing and "helm.sh/hook" not in thing["metadata"].get("annotations", {}):
            yield thing


def manifest(text):
    def placed(thing):
        if thing["kind"] != "PriorityClass":
            thing["metadata"].setdefault("namespace", "doorward")
        return thing

    return yaml.safe_dump_all(placed(thing) for thing in objects_of(text))
