//! Traefik with its provider for Ingresses of ingress-nginx, and as much of an API server of Kubernetes as it reads:
//! the committed manifests, which never change.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use yaml_rust2::{Yaml, YamlLoader};

use super::{
    columns::Doors,
    harness::{Process, free_address, repository, tool, try_send},
};

/// A running Traefik.
pub struct TraefikIngress {
    process: Process,
    _api: ApiServer,
    _dir: TempDir,
    pub edge: SocketAddr,
}

impl TraefikIngress {
    /// Starts it; `edit` may change the text of each manifest.
    pub async fn start(
        doors: Doors,
        service: SocketAddr,
        edit: impl Fn(String) -> String,
    ) -> anyhow::Result<Self> {
        let api = ApiServer::start(objects(doors, service, edit)?).await?;
        let (edge, tls) = (free_address(), free_address());
        let dir = tempfile::tempdir()?;
        let config = include_str!("traefik-ingress-nginx.yaml")
            .replace("{edge-port}", &edge.port().to_string())
            .replace("{tls-port}", &tls.port().to_string())
            .replace("{api}", &api.address.to_string());
        fs::write(dir.path().join("traefik.yaml"), config)?;
        let mut command = Command::new(tool("traefik-3.7.15").join("traefik"));
        command
            .arg("--configfile=traefik.yaml")
            .current_dir(dir.path());
        let mut process = Process::start("traefik", &mut command, dir.path());
        process
            .ready(async |_| {
                let reply = try_send(edge, "GET", "/", &[], "").await.ok()?;
                // It listens before it has read the Ingresses.
                (reply.status != 404).then_some(())
            })
            .await;
        Ok(Self {
            process,
            _api: api,
            _dir: dir,
            edge,
        })
    }

    pub fn log(&self) -> String {
        self.process.output()
    }
}

/// Objects by the plural of their kind.
type Objects = BTreeMap<&'static str, (&'static str, Vec<Value>)>;

/// The committed Ingresses, for every host, with the Services that they name.
fn objects(
    doors: Doors,
    service: SocketAddr,
    edit: impl Fn(String) -> String,
) -> anyhow::Result<Objects> {
    let mut ingresses = Vec::new();
    for name in ["service.yaml", "login.yaml"] {
        let file = repository().join("k8s/overlays/ingress-nginx").join(name);
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let text = edit(text)
            .replace(
                "doorward.default.svc.cluster.local:9002",
                &doors.http.to_string(),
            )
            .replace("- host: www.example.com\n      http:", "- http:");
        let documents = YamlLoader::load_from_str(&text)?;
        let mut ingress = json_of(documents.first().context("an empty manifest")?)?;
        let metadata = ingress.get_mut("metadata").and_then(Value::as_object_mut);
        metadata.context("no metadata")?.extend(identifiers());
        ingresses.push(ingress);
    }
    let class = json!({
        "metadata": named("nginx"),
        "spec": { "controller": "k8s.io/ingress-nginx" },
    });
    let ports = [("service", 8081, service), ("doorward", 9002, doors.http)];
    let services = ports.map(|(name, port, _)| {
        json!({
            "metadata": named(name),
            "spec": {
                "type": "ClusterIP",
                "clusterIP": "10.0.0.1",
                "ports": [{ "name": "http", "port": port, "targetPort": port, "protocol": "TCP" }],
            },
        })
    });
    let slices = ports.map(|(name, _, address)| {
        let mut metadata = named(name);
        metadata.insert(
            "labels".into(),
            json!({ "kubernetes.io/service-name": name }),
        );
        json!({
            "metadata": metadata,
            "addressType": "IPv4",
            "endpoints": [{
                "addresses": [address.ip().to_string()],
                "conditions": { "ready": true, "serving": true },
            }],
            "ports": [{ "name": "http", "port": address.port(), "protocol": "TCP" }],
        })
    });
    Ok([
        ("ingresses", ("Ingress", ingresses)),
        ("ingressclasses", ("IngressClass", vec![class])),
        ("services", ("Service", services.into())),
        ("endpointslices", ("EndpointSlice", slices.into())),
        ("secrets", ("Secret", Vec::new())),
        ("configmaps", ("ConfigMap", Vec::new())),
        ("namespaces", ("Namespace", Vec::new())),
    ]
    .into())
}

fn named(name: &str) -> Map<String, Value> {
    let mut metadata = identifiers();
    metadata.insert("name".into(), name.into());
    metadata
}

fn identifiers() -> Map<String, Value> {
    let pairs = [("namespace", "default"), ("resourceVersion", "1")];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.into()));
    pairs.into_iter().collect()
}

fn json_of(yaml: &Yaml) -> anyhow::Result<Value> {
    Ok(match yaml {
        Yaml::String(text) => text.clone().into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Boolean(is) => (*is).into(),
        Yaml::Array(list) => list
            .iter()
            .map(json_of)
            .collect::<anyhow::Result<Vec<_>>>()?
            .into(),
        Yaml::Hash(members) => {
            let mut object = Map::new();
            for (name, value) in members {
                let name = name.as_str().context("a name that is no text")?;
                object.insert(name.to_owned(), json_of(value)?);
            }
            object.into()
        }
        Yaml::Real(_) | Yaml::Alias(_) | Yaml::Null | Yaml::BadValue => {
            bail!("a manifest contains {yaml:?}")
        }
    })
}

/// Answers lists, and watches in which nothing happens.
struct ApiServer {
    task: JoinHandle<()>,
    address: SocketAddr,
}

impl ApiServer {
    async fn start(objects: Objects) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let objects = Arc::new(objects);
        let router = Router::new().fallback(move |request: Request| {
            let answer = answer(&objects, &request);
            async { answer }
        });
        let task = tokio::spawn(async move {
            // Ends only with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { task, address })
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(objects: &Objects, request: &Request) -> Response {
    let path = request.uri().path().trim_end_matches('/');
    let query = request.uri().query().unwrap_or_default();
    let plural = path.rsplit('/').next().unwrap_or_default();
    let version = match path.strip_prefix("/apis/") {
        Some(rest) => rest.split('/').take(2).collect::<Vec<_>>().join("/"),
        None => "v1".to_owned(),
    };
    let Some((kind, items)) = objects.get(plural) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // The client lists instead, as with an older Kubernetes.
    if query.contains("sendInitialEvents") {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "reason": "Invalid", "code": 422, "message": "sendInitialEvents is not known",
        });
        return (StatusCode::UNPROCESSABLE_ENTITY, JSON, status.to_string()).into_response();
    }
    if query.contains("watch=true") {
        let nothing = futures_util::stream::pending::<std::io::Result<Bytes>>();
        return (JSON, Body::from_stream(nothing)).into_response();
    }
    let list = json!({
        "kind": format!("{kind}List"),
        "apiVersion": version,
        "metadata": { "resourceVersion": "1" },
        "items": items,
    });
    (JSON, list.to_string()).into_response()
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
