//! The overlays with the module in Envoy: what its settings name exists.

use std::collections::BTreeMap;

use yaml_rust2::Yaml;

use super::{at, object, objects, rendered, text, variable};

/// `host:port` of the address of each cluster, by name.
fn addresses(clusters: &[Yaml]) -> BTreeMap<String, String> {
    let addresses = clusters.iter().map(|cluster| {
        let address = at(
            cluster,
            "load_assignment.endpoints.0.lb_endpoints.0.endpoint.address.socket_address",
        );
        let port = address["port_value"].as_i64().unwrap();
        let host = format!("{}:{port}", text(address, "address"));
        (text(cluster, "name").to_owned(), host)
    });
    addresses.collect()
}

/// The settings of the module name clusters that lead to the two ports of the Service.
fn assert_that_the_module_finds_doorward(manifests: &str, clusters: &[Yaml], module: &Yaml) {
    let service = object(manifests, "Service", "doorward");
    let host = format!(
        "{}.{}.svc.cluster.local",
        text(&service, "metadata.name"),
        text(&service, "metadata.namespace")
    );
    let addresses = addresses(clusters);
    assert_eq!(addresses.len(), 2);
    assert_eq!(
        addresses[text(module, "feed.cluster")],
        format!("{host}:9002")
    );
    assert_eq!(
        addresses[text(module, "actions.cluster")],
        format!("{host}:9001")
    );
    // Doorward has a feed.
    let feed = variable(manifests, "DOORWARD_FEED__ENABLED");
    assert_eq!(feed.as_deref(), Some("true"));
}

#[test]
fn the_module_in_envoy_gateway_finds_doorward_and_its_library() {
    let manifests = rendered("envoy-gateway-filter");
    assert!(!manifests.contains("SecurityPolicy"), "both decide");
    let proxy = object(&manifests, "EnvoyProxy", "edge");
    let policy = object(&manifests, "EnvoyExtensionPolicy", "doorward");
    assert_eq!(text(&policy, "spec.targetRefs.0.kind"), "Gateway");
    let module = at(&policy, "spec.dynamicModule.0");
    let registered = at(&proxy, "spec.dynamicModules.0");
    assert_eq!(text(module, "name"), text(registered, "name"));
    assert_eq!(registered["doNotClose"].as_bool(), Some(true));
    let gateway = object(&manifests, "Gateway", "edge");
    let parameters = at(&gateway, "spec.infrastructure.parametersRef");
    assert_eq!(text(parameters, "name"), text(&proxy, "metadata.name"));

    // EnvoyProxy has the bootstrap as text.
    let bootstrap = objects(text(&proxy, "spec.bootstrap.value")).remove(0);
    let clusters = at(&bootstrap, "static_resources.clusters").as_vec();
    let settings = &module["config"];
    assert_that_the_module_finds_doorward(&manifests, clusters.unwrap(), settings);
    let extension = at(&bootstrap, "bootstrap_extensions.0.typed_config");
    assert_eq!(
        at(extension, "extension_config.value.feed"),
        &settings["feed"]
    );
    let library = text(registered, "source.local.path");
    let loaded = "dynamic_module_config.module.local.filename";
    assert_eq!(text(extension, loaded), library);
    let deployment = at(&proxy, "spec.provider.kubernetes.envoyDeployment");
    let mount = at(deployment, "container.volumeMounts.0");
    assert_eq!(
        library,
        format!("{}/usr/lib/libdoorward.so", text(mount, "mountPath"))
    );
    assert_eq!(mount["name"], at(deployment, "pod.volumes.0.name").clone());
}

#[test]
fn the_module_in_istio_finds_doorward_and_its_library() {
    let manifests = rendered("istio-filter");
    assert!(!manifests.contains("AuthorizationPolicy"), "both decide");
    let filter = object(&manifests, "EnvoyFilter", "doorward");
    assert_eq!(text(&filter, "spec.targetRefs.0.kind"), "Gateway");
    let patches = at(&filter, "spec.configPatches").as_vec().unwrap();
    let values = |kind: &str| -> Vec<Yaml> {
        let of_kind = patches
            .iter()
            .filter(|patch| text(patch, "applyTo") == kind);
        of_kind
            .map(|patch| at(patch, "patch.value").clone())
            .collect()
    };
    let [module] = &values("HTTP_FILTER")[..] else {
        panic!("not one filter");
    };
    let settings = at(module, "typed_config.filter_config.value");
    assert_that_the_module_finds_doorward(&manifests, &values("CLUSTER"), settings);
    // Istio has no way to patch the bootstrap; its agent merges a file into it.
    assert!(values("BOOTSTRAP").is_empty(), "Istio ignores it");
    let bootstrap = object(&manifests, "ConfigMap", "edge-bootstrap");
    let bootstrap = objects(bootstrap["data"]["bootstrap.yaml"].as_str().unwrap()).remove(0);
    let extension = at(&bootstrap, "bootstrap_extensions.0.typed_config");
    assert_eq!(
        at(extension, "extension_config.value.feed"),
        &settings["feed"]
    );
    let library = at(module, "typed_config.dynamic_module_config");
    for member in ["name", "do_not_close"] {
        assert_eq!(extension["dynamic_module_config"][member], library[member]);
    }

    let gateway = object(&manifests, "Gateway", "edge");
    let options = text(&gateway, "spec.infrastructure.parametersRef.name");
    let options = object(&manifests, "ConfigMap", options);
    let deployment = objects(text(&options, "data.deployment")).remove(0);
    let pod = at(&deployment, "spec.template.spec");
    let container = at(pod, "containers.0");
    assert_eq!(text(container, "name"), "istio-proxy");
    let search = text(container, "env.0.value");
    let mount = text(container, "volumeMounts.0.mountPath");
    assert_eq!(search, format!("{mount}/usr/lib"));
    assert_eq!(text(container, "env.1.name"), "ISTIO_BOOTSTRAP_OVERRIDE");
    let folder = text(container, "volumeMounts.1.mountPath");
    assert_eq!(
        text(container, "env.1.value"),
        format!("{folder}/bootstrap.yaml")
    );
    for place in ["0", "1"] {
        assert_eq!(
            text(container, &format!("volumeMounts.{place}.name")),
            text(pod, &format!("volumes.{place}.name"))
        );
    }
    assert_eq!(text(pod, "volumes.1.configMap.name"), "edge-bootstrap");
}
