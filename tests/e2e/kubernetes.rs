//! The Kubernetes manifests: rendered, checked against schemas, and checked for required content.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use yaml_rust2::{Yaml, YamlLoader};

use crate::{
    docs::blocks,
    harness::{Doorward, fed, repository, tool},
};

mod demo;
mod filter;
mod probe;

/// The Kubernetes version whose schemas the manifests must fit.
const KUBERNETES: &str = "1.37";

const OVERLAYS: [&str; 9] = [
    "envoy-gateway",
    "envoy-gateway-filter",
    "envoy-gateway-http",
    "gateway-api",
    "ingress-nginx",
    "istio",
    "istio-filter",
    "minikube",
    "production",
];

/// Their Doorward signs with the keys of the Secret `doorward-keys`.
const WITH_KEYS: [&str; 3] = ["envoy-gateway-filter", "istio-filter", "production"];

/// The manifests that `kubectl apply -k` would send for an overlay.
fn rendered(overlay: &str) -> String {
    render(&repository().join("k8s/overlays").join(overlay))
}

fn render(folder: &Path) -> String {
    let ran = Command::new(tool("kustomize/kustomize"))
        .arg(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{}: {said}", folder.display());
    // kustomize warns about deprecated fields.
    assert!(said.is_empty(), "{}: {said}", folder.display());
    String::from_utf8(ran.stdout).unwrap()
}

/// The manifests of the production overlay with another `kustomization.yaml`.
fn production_with(change: impl FnOnce(&str) -> String) -> String {
    let dir = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(repository().join("k8s"))
        .arg(dir.path())
        .status();
    assert!(copied.unwrap().success());
    let production = dir.path().join("k8s/overlays/production");
    let file = production.join("kustomization.yaml");
    let own = fs::read_to_string(&file).unwrap();
    let changed = change(&own);
    assert_ne!(changed, own);
    fs::write(&file, changed).unwrap();
    render(&production)
}

/// Checks manifests against the schemas; gives the faults, or the number of objects.
fn judged(manifests: &str) -> Result<String, String> {
    let mut validate = Command::new("python3");
    validate
        .arg(repository().join("tests/kubernetes/validate.py"))
        .arg(KUBERNETES)
        .arg(repository().join("tests/kubernetes/schemas"))
        .env("PYTHONPATH", tool("manifests"));
    let ran = fed(&mut validate, manifests.as_bytes());
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    match ran.status.code() {
        Some(0) => Ok(said),
        Some(1) if said.contains(" faults") => Err(said),
        _ => panic!("{said}{}", String::from_utf8_lossy(&ran.stderr)),
    }
}

fn objects(manifests: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(manifests).unwrap()
}

fn text<'a>(thing: &'a Yaml, path: &str) -> &'a str {
    let value = at(thing, path);
    value
        .as_str()
        .unwrap_or_else(|| panic!("{path} is not text: {value:?}"))
}

fn at<'a>(thing: &'a Yaml, path: &str) -> &'a Yaml {
    path.split('.')
        .fold(thing, |thing, part| match part.parse::<usize>() {
            Ok(index) => &thing[index],
            Err(_) => &thing[part],
        })
}

fn object(manifests: &str, kind: &str, name: &str) -> Yaml {
    let all = objects(manifests);
    let found = all
        .into_iter()
        .find(|thing| text(thing, "kind") == kind && text(thing, "metadata.name") == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// A variable of Doorward's container, if the manifests set it.
fn variable(manifests: &str, name: &str) -> Option<String> {
    let deployment = object(manifests, "Deployment", "doorward");
    let env = at(&deployment, "spec.template.spec.containers.0.env").as_vec();
    let mut env = env.unwrap().iter();
    let own = env.find(|one| text(one, "name") == name)?;
    Some(text(own, "value").to_owned())
}

#[test]
fn every_overlay_renders_and_fits_the_schemas() {
    let folders = fs::read_dir(repository().join("k8s/overlays")).unwrap();
    let mut folders: Vec<_> = folders
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, OVERLAYS);
    for overlay in OVERLAYS {
        let manifests = rendered(overlay);
        let said = judged(&manifests).unwrap_or_else(|faults| panic!("{overlay}: {faults}"));
        let count = objects(&manifests).len();
        assert_eq!(said, format!("{count} objects, 0 faults\n"), "{overlay}");
        assert!(count >= 5, "{overlay}: {count}");
    }
    let mesh = repository().join("k8s/overlays/istio/mesh-config.yaml");
    judged(&fs::read_to_string(mesh).unwrap()).unwrap();
}

#[test]
fn an_overlay_with_monitoring_fits_the_schemas() {
    // As the comment in the file says.
    let manifests =
        production_with(|text| text.replace("# components:\n#   - ", "components:\n  - "));
    judged(&manifests).unwrap();
    let monitor = object(&manifests, "ServiceMonitor", "doorward");
    let service = object(&manifests, "Service", "doorward-ops");
    assert_eq!(
        text(&monitor, "spec.endpoints.0.port"),
        text(&service, "spec.ports.0.name")
    );
    assert_eq!(
        at(&monitor, "spec.selector.matchLabels"),
        at(&service, "metadata.labels")
    );
    assert_eq!(text(&monitor, "spec.endpoints.0.path"), "/metrics");
}

/// The check finds faults: no cluster would accept these manifests, and it names the place.
#[test]
fn manifests_that_do_not_fit_the_schemas_are_refused() {
    let mesh = repository().join("k8s/overlays/istio/mesh-config.yaml");
    let mesh = fs::read_to_string(mesh).unwrap();
    let mut known: BTreeMap<&str, String> = BTreeMap::from([("mesh", mesh)]);
    for (overlay, right, wrong, said) in [
        (
            "production",
            "readOnlyRootFilesystem:",
            "readOnlyRootFilesystm:",
            "readOnlyRootFilesystm",
        ),
        (
            "production",
            "runAsNonRoot: true",
            "runAsNonRoot: 'true'",
            "runAsNonRoot",
        ),
        (
            "production",
            "minReplicas: 3",
            "minReplicas: three",
            "minReplicas",
        ),
        (
            "production",
            "kind: PodDisruptionBudget",
            "kind: PodDisruptionBudgets",
            "PodDisruptionBudgets",
        ),
        (
            "minikube",
            "serviceName: mysql",
            "serviceNames: mysql",
            "serviceNames",
        ),
        (
            "ingress-nginx",
            "pathType: Exact",
            "pathTyp: Exact",
            "pathTyp",
        ),
        (
            "envoy-gateway",
            "failOpen: false",
            "failopen: false",
            "failopen",
        ),
        ("envoy-gateway", "timeout: 3s", "timeout: 3", "timeout"),
        (
            "envoy-gateway",
            "gatewayClassName: eg",
            "class: eg",
            "gatewayClassName",
        ),
        (
            "envoy-gateway",
            "escapedSlashesAction: RejectRequest",
            "escapedSlashesAction: Reject",
            "Reject",
        ),
        (
            "envoy-gateway-http",
            "type: RegularExpression",
            "type: Regex",
            "Regex",
        ),
        ("envoy-gateway-http", "http:", "grpcs:", "grpcs"),
        (
            "envoy-gateway-filter",
            "path: /doorward/",
            "path: doorward/",
            "path",
        ),
        (
            "envoy-gateway-filter",
            "filterName: doorward",
            "filter: doorward",
            "filter",
        ),
        ("istio", "action: CUSTOM", "action: ASK", "ASK"),
        (
            "istio-filter",
            "operation: INSERT_BEFORE",
            "operation: BEFORE",
            "BEFORE",
        ),
        ("istio-filter", "subFilter:", "subfilter:", "subfilter"),
        (
            "istio",
            "security.istio.io/v1",
            "security.istio.io/v1alpha9",
            "no schema describes it",
        ),
        ("gateway-api", "protocol: GRPC", "protocol: gRPC", "gRPC"),
        ("gateway-api", "externalAuth:", "extAuth:", "extAuth"),
        ("gateway-api", "grpc: {}", "forwardBody: {}", "grpc"),
        ("mesh", "timeout: 3s", "timeouts: 3s", "timeouts"),
        ("mesh", "port: 9001", "port: '9001'", "9001"),
    ] {
        let manifests = known.entry(overlay).or_insert_with(|| rendered(overlay));
        let mut parts = manifests.split("\n---\n");
        let part = parts.find(|part| part.contains(right));
        let part = part.unwrap_or_else(|| panic!("{overlay}: {right}"));
        let broken = part.replacen(right, wrong, 1);
        let faults = judged(&broken).expect_err(wrong);
        assert!(faults.contains(said), "{overlay}, {wrong}: {faults}");
    }
}

/// The generated `doorward.toml` that a pod mounts; its name ends with a hash.
fn settings(manifests: &str, pod: &Yaml) -> String {
    let volumes = pod["volumes"].as_vec().unwrap().iter();
    let mut named = volumes.filter(|volume| volume["name"].as_str() == Some("settings"));
    let name = text(named.next().unwrap(), "configMap.name");
    let map = object(manifests, "ConfigMap", name);
    map["data"]["doorward.toml"].as_str().unwrap().to_owned()
}

/// The spec of each of our pods, with its kind and name.
fn pods(manifests: &str) -> Vec<(String, Yaml)> {
    let with_pods = objects(manifests).into_iter().filter_map(|thing| {
        let pod = at(&thing, "spec.template.spec").clone();
        let name = format!("{} {}", text(&thing, "kind"), text(&thing, "metadata.name"));
        (!pod.is_badvalue()).then_some((name, pod))
    });
    with_pods.collect()
}

#[test]
fn pods_have_only_the_rights_they_need() {
    for overlay in OVERLAYS {
        let pods = pods(&rendered(overlay));
        assert!(!pods.is_empty(), "{overlay}");
        for (name, pod) in pods {
            let name = format!("{overlay}: {name}");
            for (path, expected) in [
                ("automountServiceAccountToken", Yaml::Boolean(false)),
                ("enableServiceLinks", Yaml::Boolean(false)),
                ("securityContext.runAsNonRoot", Yaml::Boolean(true)),
                (
                    "securityContext.seccompProfile.type",
                    Yaml::String("RuntimeDefault".into()),
                ),
            ] {
                assert_eq!(at(&pod, path), &expected, "{name}: {path}");
            }
            let uid = at(&pod, "securityContext.runAsUser").as_i64();
            assert!(uid.is_some_and(|uid| uid > 0), "{name}: {uid:?}");
            let containers = [&pod["containers"], &pod["initContainers"]];
            for container in containers.into_iter().filter_map(Yaml::as_vec).flatten() {
                let allowed = &container["securityContext"];
                assert_eq!(
                    allowed["allowPrivilegeEscalation"].as_bool(),
                    Some(false),
                    "{name}"
                );
                assert_eq!(text(allowed, "capabilities.drop.0"), "ALL", "{name}");
                let image = text(container, "image");
                // Only MySQL writes outside its volume.
                let read_only = allowed["readOnlyRootFilesystem"].as_bool() == Some(true);
                assert_ne!(read_only, image.starts_with("mysql:"), "{name}");
                assert!(
                    image.contains(':') && !image.ends_with(":latest"),
                    "{name}: {image}"
                );
                for resource in ["requests.memory", "requests.cpu", "limits.memory"] {
                    text(&container["resources"], resource);
                }
            }
        }
    }
}

#[test]
fn probes_use_the_ops_port_and_pods_have_time_to_stop() {
    for overlay in OVERLAYS {
        let manifests = rendered(overlay);
        let deployment = object(&manifests, "Deployment", "doorward");
        let pod = at(&deployment, "spec.template.spec");
        assert!(at(pod, "terminationGracePeriodSeconds").as_i64() >= Some(45));
        let container = &pod["containers"][0];
        for (probe, path) in [
            ("startupProbe", "/livez"),
            ("livenessProbe", "/livez"),
            ("readinessProbe", "/readyz"),
        ] {
            assert_eq!(text(&container[probe], "httpGet.path"), path, "{overlay}");
            assert_eq!(text(&container[probe], "httpGet.port"), "ops", "{overlay}");
        }
        let service = object(&manifests, "Service", "doorward");
        assert_eq!(text(&service, "spec.clusterIP"), "None", "{overlay}");
        let labels = at(&deployment, "spec.template.metadata.labels");
        for (key, value) in service["spec"]["selector"].as_hash().unwrap() {
            assert_eq!(&labels[key.as_str().unwrap()], value, "{overlay}");
        }
        assert!(settings(&manifests, pod).contains("[[route]]"), "{overlay}");
    }
}

#[test]
fn gateways_fail_closed_without_an_answer() {
    for overlay in ["envoy-gateway", "envoy-gateway-http"] {
        let manifests = rendered(overlay);
        let own = object(&manifests, "SecurityPolicy", "doorward");
        let auth = at(&own, "spec.extAuth");
        assert_eq!(auth["failOpen"].as_bool(), Some(false), "{overlay}");
        assert_eq!(text(auth, "timeout"), "3s", "{overlay}");
        assert_eq!(text(&own, "spec.targetRefs.0.kind"), "Gateway", "{overlay}");
        let client = object(&manifests, "ClientTrafficPolicy", "doorward");
        let removed = at(&client, "spec.headers.earlyRequestHeaders.remove");
        assert_eq!(removed.as_vec().unwrap().len(), 3, "{overlay}");
    }

    let mesh = repository().join("k8s/overlays/istio/mesh-config.yaml");
    let mesh = objects(&fs::read_to_string(mesh).unwrap()).remove(0);
    let provider = at(&mesh, "spec.meshConfig.extensionProviders.0");
    let grpc = &provider["envoyExtAuthzGrpc"];
    assert_eq!(grpc["failOpen"].as_bool(), Some(false));
    assert_eq!(text(grpc, "timeout"), "3s");
    let istio = rendered("istio");
    let policy = object(&istio, "AuthorizationPolicy", "doorward");
    assert_eq!(text(&policy, "spec.provider.name"), text(provider, "name"));
    // One rule without conditions: Doorward is asked about every request.
    let rules = at(&policy, "spec.rules").as_vec().unwrap();
    assert!(rules.len() == 1 && rules[0].as_hash().unwrap().is_empty());
    let service = object(&istio, "Service", "doorward");
    let host = format!(
        "{}.{}.svc.cluster.local",
        text(&service, "metadata.name"),
        text(&service, "metadata.namespace")
    );
    assert_eq!(text(grpc, "service"), host);

    let route = object(&rendered("gateway-api"), "HTTPRoute", "service");
    for rule in at(&route, "spec.rules").as_vec().unwrap() {
        assert_eq!(text(rule, "filters.0.externalAuth.protocol"), "GRPC");
        // Without this object, the API server refuses the route; with entries in it, Doorward would not see all headers.
        let grpc = at(rule, "filters.0.externalAuth.grpc").as_hash();
        assert!(grpc.is_some_and(|grpc| grpc.is_empty()), "{rule:?}");
    }
}

/// Where each gateway writes the client address. A load balancer or a node connects to each of them, so `peer` would be
/// wrong.
#[test]
fn every_gateway_overlay_sets_the_client_address() {
    for (overlay, expected) in [
        ("envoy-gateway", "x-envoy-external-address"),
        ("envoy-gateway-filter", "x-envoy-external-address"),
        ("envoy-gateway-http", "x-envoy-external-address"),
        ("gateway-api", "x-forwarded-for:1"),
        ("ingress-nginx", "x-forwarded-for:1"),
        ("istio", "x-envoy-external-address"),
        ("istio-filter", "x-envoy-external-address"),
    ] {
        let own = variable(&rendered(overlay), "DOORWARD_CLIENT_ADDRESS");
        assert_eq!(own.as_deref(), Some(expected), "{overlay}");
    }
    let manifests = rendered("production");
    let deployment = object(&manifests, "Deployment", "doorward");
    let settings = settings(&manifests, at(&deployment, "spec.template.spec"));
    assert!(settings.contains("\nclient_address = \"x-envoy-external-address\"\n"));
    // The commented lines for use behind a load balancer fit the schema.
    let policies = repository().join("k8s/overlays/envoy-gateway/policies.yaml");
    let policies = fs::read_to_string(policies).unwrap();
    let with = policies
        .replace("  # clientIPDetection", "  clientIPDetection")
        .replace("  #   xForwardedFor", "    xForwardedFor")
        .replace("  #     numTrusted", "      numTrusted");
    let policy = object(&with, "ClientTrafficPolicy", "doorward");
    let hops = at(
        &policy,
        "spec.clientIPDetection.xForwardedFor.numTrustedHops",
    );
    assert_eq!(hops.as_i64(), Some(1), "{with}");
    judged(&with).unwrap();
}

/// The settings of each overlay as its pod has them, except that files are at paths of this machine.
#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_every_overlay_hold_together() {
    for overlay in OVERLAYS {
        let manifests = rendered(overlay);
        let deployment = object(&manifests, "Deployment", "doorward");
        let pod = at(&deployment, "spec.template.spec");
        let home = Doorward::prepare(|chosen| {
            for door in ["GRPC", "HTTP", "OPS"] {
                chosen.without(&format!("DOORWARD_LISTEN__{door}"));
            }
            chosen.toml(settings(&manifests, pod));
        });
        let dir = home.dir().to_owned();
        let secret = dir.join("secret");
        fs::write(&secret, "3d5e0c6b1f7a482990b4e6d8c2a1f05e7b").unwrap();
        let here = |name: &str| -> PathBuf {
            let demo = repository().join("k8s/overlays/minikube");
            match (overlay, name) {
                ("minikube", "JWT_SECRET_FILE") => demo.join("demo-only-jwt-secret"),
                ("minikube", _) => demo.join("demo-only-mysql-password"),
                _ => secret.clone(),
            }
        };
        let home = home.with(|chosen| {
            for variable in at(pod, "containers.0.env").as_vec().unwrap() {
                let name = text(variable, "name");
                match name {
                    "DOORWARD_CONFIG" => continue,
                    name if name.ends_with("_FILE") => {
                        chosen.env(name, here(name).to_str().unwrap());
                    }
                    name => {
                        chosen.env(name, text(variable, "value"));
                    }
                }
            }
            chosen.env("DOORWARD_JWT__KEYS_DIR", dir.join("keys").to_str().unwrap());
            if overlay == "production" {
                chosen.env("DOORWARD_DATABASE__TLS_CA", secret.to_str().unwrap());
            }
        });
        if WITH_KEYS.contains(&overlay) {
            home.run(&["keys", "generate", "ES256"], "").await.ok();
        }
        let said = home.run(&["config", "check"], "").await.ok().stdout;
        assert!(said.contains("checks on 0.0.0.0:9001"), "{overlay}: {said}");
        assert!(said.contains("users in mysql://"), "{overlay}: {said}");
        let admin = ["policy", "check", "GET", "/admin/x", "--role", "editor"];
        let ran = home.run(&admin, "").await;
        assert_eq!(ran.status.code(), Some(1), "{overlay}: {ran:?}");
    }
}

/// `make test-cluster` runs these commands; this test checks that they name existing things.
#[test]
fn the_guide_names_existing_things() {
    let mut applied: Vec<String> = Vec::new();
    for block in blocks("docs/kubernetes.md", "text") {
        for path in block.split("kubectl apply -k ").skip(1) {
            let path = path.lines().next().unwrap();
            applied.extend(path.strip_prefix("k8s/overlays/").map(str::to_owned));
            render(&repository().join(path));
        }
    }
    applied.sort();
    assert_eq!(applied, OVERLAYS);
    assert!(
        blocks("docs/kubernetes.md", "sh").is_empty(),
        "no test runs these blocks"
    );
    let guide = fs::read_to_string(repository().join("docs/kubernetes.md")).unwrap();
    assert!(guide.contains(&format!("Kubernetes {KUBERNETES}")));
}
