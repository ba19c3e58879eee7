//! The operations of an OpenAPI document: their methods, and where servers have them.

use anyhow::{Context as _, bail, ensure};
use url::Url;
use yaml_rust2::{Yaml, YamlLoader};

/// The members of a path item that are operations (OpenAPI 3.2, 4.8.9.1).
const METHODS: [&str; 9] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace", "query",
];

/// One operation at one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) method: String,
    /// Empty if the server's URL has none.
    pub(super) host: String,
    /// The path template, with the server's path before it.
    pub(super) path: String,
    pub(super) id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Server {
    host: String,
    base: String,
}

/// Reads OpenAPI 3 or Swagger 2.0, in YAML or JSON.
///
/// # Errors
///
/// It is none of these, or it refers to another document.
pub(super) fn operations(text: &str) -> anyhow::Result<Vec<Operation>> {
    let documents = YamlLoader::load_from_str(text).context("it is neither YAML nor JSON")?;
    let [document] = &*documents else {
        bail!("it is not one document");
    };
    let servers = root_servers(document)?;
    let paths = document["paths"].as_hash();
    let paths = paths.context("paths: it has none, so there is nothing to show")?;
    let mut operations = Vec::new();
    for (path, item) in paths {
        let path = path.as_str().context("paths: a member is not a path")?;
        if path.starts_with("x-") {
            continue;
        }
        ensure!(
            item["$ref"].is_badvalue(),
            "paths: {path:?} refers to another place; resolve the references first, for example with `redocly bundle`"
        );
        let of_path = servers_of(item)?;
        for method in METHODS {
            let operation = &item[method];
            if operation.is_badvalue() {
                continue;
            }
            let own = servers_of(operation)?;
            for server in own.as_ref().or(of_path.as_ref()).unwrap_or(&servers) {
                operations.push(Operation {
                    method: method.to_ascii_uppercase(),
                    host: server.host.clone(),
                    path: format!("{}{path}", server.base),
                    id: operation["operationId"].as_str().map(str::to_owned),
                });
            }
        }
    }
    Ok(operations)
}

fn root_servers(document: &Yaml) -> anyhow::Result<Vec<Server>> {
    let version = |name: &str| match &document[name] {
        Yaml::String(version) | Yaml::Real(version) => Some(version.clone()),
        Yaml::Integer(_)
        | Yaml::Boolean(_)
        | Yaml::Array(_)
        | Yaml::Hash(_)
        | Yaml::Alias(_)
        | Yaml::Null
        | Yaml::BadValue => None,
    };
    match (version("openapi"), version("swagger")) {
        (Some(version), _) if version.starts_with("3.") => {
            Ok(servers_of(document)?.unwrap_or_else(|| vec![Server::of(String::new(), "")]))
        }
        (None, Some(version)) if version == "2.0" => {
            let host = document["host"].as_str().unwrap_or_default();
            let host = host.split(':').next().unwrap_or_default();
            let base = document["basePath"].as_str().unwrap_or_default();
            Ok(vec![Server::of(host.to_owned(), base)])
        }
        (None, None) => bail!("it is not an OpenAPI document: it has no member \"openapi\""),
        (Some(version), _) | (None, Some(version)) => {
            bail!("version {version:?} is not known; OpenAPI 3 and Swagger 2.0 are")
        }
    }
}

/// The servers of a document, a path or an operation, if it has its own.
fn servers_of(node: &Yaml) -> anyhow::Result<Option<Vec<Server>>> {
    let Some(servers) = node["servers"].as_vec().filter(|all| !all.is_empty()) else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for server in servers {
        let url = server["url"].as_str().context("servers: one has no url")?;
        let read = Server::parse(&filled(url, &server["variables"]));
        let server = read.with_context(|| format!("servers: {url:?}"))?;
        if !found.contains(&server) {
            found.push(server);
        }
    }
    Ok(Some(found))
}

/// The URL with the default of each variable.
fn filled(url: &str, variables: &Yaml) -> String {
    let mut url = url.to_owned();
    for (name, variable) in variables.as_hash().into_iter().flatten() {
        if let (Some(name), Some(default)) = (name.as_str(), variable["default"].as_str()) {
            url = url.replace(&format!("{{{name}}}"), default);
        }
    }
    url
}

impl Server {
    fn of(host: String, base: &str) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self { host, base }
    }

    /// A URL, or a path on the host of the document.
    fn parse(url: &str) -> anyhow::Result<Self> {
        if !url.contains("://") {
            ensure!(
                url.starts_with('/') || url.is_empty(),
                "write a URL, or a path that begins with a slash"
            );
            return Ok(Self::of(String::new(), url));
        }
        let url = Url::parse(url)?;
        let host = url.host_str().context("it has no host")?;
        Ok(Self::of(host.to_owned(), url.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let found = operations(text).unwrap().into_iter();
        found
            .map(|one| format!("{} {}{} {:?}", one.method, one.host, one.path, one.id))
            .collect()
    }

    #[test]
    fn operations_are_found_at_their_servers() {
        let text = r#"
openapi: 3.1.0
servers:
  - url: https://{region}.example.com:8443/v1/
    variables: { region: { default: eu } }
  - url: https://eu.example.com/v1
  - url: /v2
paths:
  /users/{id}:
    parameters: [{ name: id, in: path }]
    get: { operationId: getUser }
    delete: {}
  /status:
    servers: [{ url: https://status.example }]
    get:
      operationId: status
    head:
      servers: [{ url: "" }]
  x-notes: {}
"#;
        assert_eq!(
            shown(text),
            [
                "GET eu.example.com/v1/users/{id} Some(\"getUser\")",
                "GET /v2/users/{id} Some(\"getUser\")",
                "DELETE eu.example.com/v1/users/{id} None",
                "DELETE /v2/users/{id} None",
                "GET status.example/status Some(\"status\")",
                "HEAD /status None",
            ]
        );
    }

    #[test]
    fn json_and_swagger_are_read() {
        let text = r#"{"swagger": "2.0", "host": "api.example.com:8080", "basePath": "/v1", "paths": {"/a": {"post": {}}}}"#;
        assert_eq!(shown(text), ["POST api.example.com/v1/a None"]);
        assert_eq!(
            shown(r#"{"openapi": "3.0.3", "paths": {"/a": {"get": {}}}}"#),
            ["GET /a None"]
        );
    }

    #[test]
    fn what_cannot_be_shown_whole_is_refused() {
        for (text, fault) in [
            ("a: [", "it is neither YAML nor JSON"),
            ("", "it is not one document"),
            ("paths: {}", "it is not an OpenAPI document"),
            (
                "openapi: 4.0.0\npaths: {}",
                "version \"4.0.0\" is not known",
            ),
            ("openapi: 3.1.0", "paths: it has none"),
            (
                "openapi: 3.1.0\npaths: { /a: { $ref: \"./a.yaml\" } }",
                "paths: \"/a\" refers to another place",
            ),
            (
                "openapi: 3.1.0\nservers: [{ url: v1 }]\npaths: {}",
                "servers: \"v1\"",
            ),
        ] {
            let said = format!("{:#}", operations(text).unwrap_err());
            assert!(said.starts_with(fault), "{said}");
        }
    }
}
