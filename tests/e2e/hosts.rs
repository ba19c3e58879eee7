//! Two virtual hosts behind one gateway: www is public, admin is for administrators. Whatever host a client names, and
//! wherever, the service of admin never receives a request that was judged by the rule for www.

use std::net::SocketAddr;

use futures_util::future::join_all;
use serde_json::Value;

use crate::{
    edges::{Edge, Opened},
    harness::{Envoy, Gateway, PATIENCE, Reply, Service, send, send_bytes, try_send_http2, until},
};

const WWW: &str = "www.example.com";
const ADMIN: &str = "admin.example.com";

const RULES: &str = "
    [[route]]
    path = '/login'
    allow = 'login'
    [[route]]
    path = '/*'
    allow = 'public'
    [[route]]
    path = '/*'
    hosts = ['admin.example.com']
    allow = 'role:admin'
";

/// The gateway's committed configuration with a second virtual host, whose service is at `admin`.
fn with_admin(edge: Edge, text: String, service: SocketAddr, admin: SocketAddr) -> String {
    let change = |text: String, from: &str, to: &str| {
        assert!(text.contains(from), "{edge:?}: no {from:?} in\n{text}");
        text.replacen(from, to, 1)
    };
    let (own, port) = (format!(":{}", service.port()), admin.port());
    match edge {
        Edge::Grpc(_)
        | Edge::Module(_)
        | Edge::Http(Gateway::OldestEnvoy | Gateway::NewestEnvoy) => {
            let text = change(
                text,
                "                    - name: everything\n",
                "                    - name: admin
                      domains: [admin.example.com, \"admin.example.com:*\"]
                      routes:
                        - match: { prefix: / }
                          route: { cluster: admin }
                    - name: everything\n",
            );
            let cluster = format!(
                "  clusters:
    - name: admin
      type: STATIC
      connect_timeout: 1s
      load_assignment:
        cluster_name: admin
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address:
                    socket_address: {{ address: 127.0.0.1, port_value: {port} }}
"
            );
            change(text, "  clusters:\n", &cluster)
        }
        Edge::Http(Gateway::Nginx | Gateway::IngressNginx) => {
            let (before, block) = text.split_once("    server {\n").unwrap();
            let (block, end) = block.rsplit_once("}\n").unwrap();
            let block = format!("    server {{\n{block}");
            let second = block
                .replace(" default_server", "")
                .replace("server_name _;", "");
            let second = change(second, "{\n", "{\n        server_name admin.example.com;\n");
            let second = change(
                second,
                "proxy_pass http://service;",
                "proxy_pass http://admin;",
            );
            format!(
                "{before}    upstream admin {{ server 127.0.0.1:{port}; }}\n{block}{second}}}\n{end}"
            )
        }
        Edge::Http(Gateway::Caddy) => {
            let (before, site) = text.split_once("http://:").unwrap();
            let second = change(site.to_owned(), &own, &format!(":{port}"));
            format!("{before}http://:{site}\nhttp://admin.example.com:{second}")
        }
        // The second of its two configuration files.
        Edge::Http(Gateway::Haproxy) if text.starts_with("--") => text,
        Edge::Http(Gateway::Haproxy) => {
            let text = change(
                text,
                "    default_backend service\n",
                "    use_backend admin if { req.hdr(host) -m reg -i ^admin\\.example\\.com\\.*(:|$) }
    default_backend service\n",
            );
            format!("{text}\nbackend admin\n    server admin 127.0.0.1:{port}\n")
        }
        Edge::Http(Gateway::Traefik) if text.contains("entryPoints:\n") => text,
        Edge::Http(Gateway::Traefik) => {
            let text = change(
                text,
                "    everything:\n",
                "    admin:
      rule: Host(`admin.example.com`)
      priority: 10
      entryPoints: [edge]
      middlewares: [forged, doorward]
      service: admin

    everything:\n",
            );
            let added = format!(
                "  services:
    admin:
      loadBalancer:
        servers:
          - url: http://127.0.0.1:{port}
"
            );
            change(text, "  services:\n", &added)
        }
    }
}

struct Hosts {
    edge: Edge,
    setup: Opened,
    www: Service,
    admin: Service,
}

impl Hosts {
    async fn open(edge: Edge, change: impl Fn(String) -> String) -> Self {
        let (www, admin) = (Service::start().await, Service::start().await);
        let change = |text| with_admin(edge, change(text), www.address, admin.address);
        let setup = edge.open(RULES, www.address, change).await;
        let hosts = Self {
            edge,
            setup,
            www,
            admin,
        };
        // Traefik accepts requests before it has loaded all routes.
        until("both hosts are served", PATIENCE, async || {
            let reply = hosts.get("/ready", &[("host", ADMIN)]).await;
            (reply.status != 404).then_some(())
        })
        .await;
        hosts
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        send(self.setup.edge, "GET", path, headers, "").await
    }

    /// Asserts the expected answer of each host.
    async fn answer_as_configured(&self) {
        let bearer = self.setup.admin().await;
        let known = ("authorization", &*bearer);
        let admin = self.get("/x", &[("host", ADMIN), known]).await;
        let www = self.get("/x", &[("host", WWW)]).await;
        let anonymous = self.get("/x", &[("host", ADMIN)]).await;
        let edge = self.edge;
        if edge == Edge::Http(Gateway::IngressNginx) {
            for reply in [admin, www, anonymous] {
                assert_eq!(reply.status, 403, "{edge:?} {reply:?}");
            }
            let reason = |line: &Value| line["fields"]["reason"] == "no-host";
            self.setup.doorward.logged("no host", reason).await;
            assert_eq!((self.www.requests(), self.admin.requests()), (0, 0));
            return;
        }
        assert_eq!((admin.status, www.status), (200, 200), "{edge:?}");
        assert_eq!(anonymous.status, 401, "{edge:?} {anonymous:?}");
        assert_eq!(self.admin.requests(), 1, "{edge:?}");
    }
}

/// Requests that name two hosts, or spell one in an unusual way.
fn questions() -> Vec<String> {
    let mut questions = Vec::new();
    let mut ask = |target: &str, hosts: &[&str], more: &str| {
        let hosts: String = hosts
            .iter()
            .map(|host| format!("host: {host}\r\n"))
            .collect();
        questions.push(format!(
            "GET {target} HTTP/1.1\r\n{hosts}{more}connection: close\r\n\r\n"
        ));
    };
    let spellings = [
        "admin.example.com",
        "ADMIN.Example.COM",
        "admin.example.com:80",
        "admin.example.com:8080",
        "admin.example.com:0",
        "admin.example.com:",
        "admin.example.com:99999",
        "admin.example.com.",
        "admin.example.com..",
        "admin.example.com...",
        "admin.example.com.:8080",
        "admin.example.com..:8080",
        ".admin.example.com",
        "admin..example.com",
        "user@admin.example.com",
        "user:pass@admin.example.com",
        "www.example.com@admin.example.com",
        "www.example.com:80@admin.example.com:80",
        "admin%2eexample.com",
        "%61dmin.example.com",
        "admin.example.com%20",
        "admin.example.com#",
        "admin.example.com?",
        "admin.example.com\\",
        "www.example.com,admin.example.com",
        "admin.example.com,www.example.com",
        "\u{ff41}dmin.example.com",
        "admin\u{3002}example\u{3002}com",
    ];
    for host in spellings {
        ask("/x", &[host], "");
        for scheme in ["http", "HTTP", "https", "ws"] {
            ask(&format!("{scheme}://{host}/x"), &[WWW], "");
        }
        ask(&format!("http://{host}/x"), &[], "");
        ask(&format!("http://{host}/x"), &[host], "");
        ask(&format!("http://{host}"), &[WWW], "");
        ask(&format!("http://{host}?x=/"), &[WWW], "");
        ask(&format!("//{host}/x"), &[WWW], "");
        ask(&format!("http://{WWW}/x"), &[host], "");
        ask("/x", &[host, WWW], "");
        ask("/x", &[WWW, host], "");
        ask(&format!("http://{host}/x"), &[WWW, host], "");
        ask("/x", &["", host], "");
        ask("/x", &[host, ""], "");
    }
    for forged in [WWW, ADMIN, ""] {
        let more = format!(
            "x-forwarded-host: {forged}\r\nx-original-host: {forged}\r\nx-original-url: http://{forged}/x\r\n\
             forwarded: host={forged}\r\nx-host: {forged}\r\n"
        );
        ask("/x", &[ADMIN], &more);
        ask(&format!("http://{ADMIN}/x"), &[WWW], &more);
    }
    ask("/x", &["www.example.com\r\n admin.example.com"], "");
    ask("/x", &[], "host : admin.example.com\r\n");
    ask("/x", &[WWW], ":authority: admin.example.com\r\n");
    for target in ["http:///x", "http:/x", "http:admin.example.com/x", "*"] {
        ask(target, &[ADMIN], "");
    }
    questions
}

async fn admin_is_never_judged_as_www(edge: Edge, change: impl Fn(String) -> String) {
    let hosts = Hosts::open(edge, change).await;
    let (at, edge) = (hosts.setup.edge, hosts.edge);
    // Envoy keeps a connection for a second after a request that it refuses.
    for some in questions().chunks(150) {
        let answers = some.iter().map(|asked| send_bytes(at, asked.as_bytes()));
        for (asked, answer) in some.iter().zip(join_all(answers).await) {
            let served = hosts.admin.requests();
            assert_eq!(served, 0, "{edge:?} {asked}{answer}");
        }
    }
    if edge.is_envoy() {
        for url in [
            ADMIN,
            "ADMIN.example.com",
            "admin.example.com:8080",
            "admin.example.com.",
        ] {
            for headers in [&[][..], &[("host", WWW)], &[("host", ADMIN), ("host", WWW)]] {
                // Envoy may close the connection instead of answering.
                let _ = try_send_http2(at, "GET", &format!("http://{url}/x"), headers).await;
                let www = format!("http://{WWW}/x");
                let _ = try_send_http2(at, "GET", &www, &[("host", url)]).await;
                assert_eq!(hosts.admin.requests(), 0, "{edge:?} {url} {headers:?}");
            }
        }
    }
    hosts.answer_as_configured().await;
}

macro_rules! through {
    ($($name:ident: $edge:expr, $change:expr;)*) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            admin_is_never_judged_as_www($edge, $change).await;
        }
    )* };
}

/// The settings with which Envoy matches virtual hosts most loosely.
fn stripping(text: String) -> String {
    let (from, to) = (
        "codec_type: AUTO\n",
        "codec_type: AUTO
                strip_any_host_port: true
                strip_trailing_host_dot: true\n",
    );
    assert!(text.contains(from));
    text.replacen(from, to, 1)
}

fn unchanged(text: String) -> String {
    text
}

/// The configuration of ingress-nginx without `auth-method`.
fn without_method(text: String) -> String {
    text.replace("proxy_method GET;", "")
        .replace("proxy_set_header X-Original-URI $request_uri;", "")
}

through! {
    oldest_envoy_grpc: Edge::Grpc(Envoy::OLDEST), unchanged;
    newest_envoy_grpc: Edge::Grpc(Envoy::NEWEST), unchanged;
    oldest_envoy_http: Edge::Http(Gateway::OldestEnvoy), unchanged;
    newest_envoy_http: Edge::Http(Gateway::NewestEnvoy), unchanged;
    oldest_envoy_grpc_stripping: Edge::Grpc(Envoy::OLDEST), stripping;
    newest_envoy_grpc_stripping: Edge::Grpc(Envoy::NEWEST), stripping;
    module_1_38: Edge::Module(Envoy::WITH_MODULES[0]), unchanged;
    module_1_39: Edge::Module(Envoy::WITH_MODULES[1]), unchanged;
    module_1_40: Edge::Module(Envoy::WITH_MODULES[2]), unchanged;
    module_stripping: Edge::Module(Envoy::NEWEST), stripping;
    oldest_envoy_http_stripping: Edge::Http(Gateway::OldestEnvoy), stripping;
    newest_envoy_http_stripping: Edge::Http(Gateway::NewestEnvoy), stripping;
    nginx: Edge::Http(Gateway::Nginx), unchanged;
    ingress_nginx: Edge::Http(Gateway::IngressNginx), unchanged;
    ingress_nginx_without_auth_method: Edge::Http(Gateway::IngressNginx), without_method;
    caddy: Edge::Http(Gateway::Caddy), unchanged;
    haproxy: Edge::Http(Gateway::Haproxy), unchanged;
    traefik: Edge::Http(Gateway::Traefik), unchanged;
}

/// The service receives the host that was judged, not another one that the client also sent.
#[tokio::test(flavor = "multi_thread")]
async fn nginx_passes_the_judged_host_to_the_service() {
    let hosts = Hosts::open(Edge::Http(Gateway::Nginx), unchanged).await;
    let bearer = hosts.setup.admin().await;
    let asked = format!(
        "GET http://{ADMIN}/x?y HTTP/1.1\r\nhost: {WWW}\r\nauthorization: {bearer}\r\nconnection: close\r\n\r\n"
    );
    let answer = send_bytes(hosts.setup.edge, asked.as_bytes()).await;
    assert!(
        answer.contains("[\"host\",\"admin.example.com\"]"),
        "{answer}"
    );
    assert!(!answer.contains(WWW), "{answer}");
    assert!(answer.contains("\"path\":\"/x?y\""), "{answer}");
    assert_eq!(hosts.admin.requests(), 1);
}

/// For a target in absolute form, `$request_uri` is only the path, so Doorward judges the path that the service
/// receives.
#[tokio::test(flavor = "multi_thread")]
async fn nginx_passes_the_path_of_an_absolute_target_to_doorward() {
    let hosts = Hosts::open(Edge::Http(Gateway::Nginx), unchanged).await;
    for (path, judged) in [
        ("/a/b", "/a/b"),
        ("/a%20b?c", "/a%20b"),
        ("", "/"),
        ("//a", "//a"),
    ] {
        let asked = format!(
            "GET http://{ADMIN}{path} HTTP/1.1\r\nhost: {WWW}\r\nconnection: close\r\n\r\n"
        );
        let before = hosts.setup.doorward.log().len();
        send_bytes(hosts.setup.edge, asked.as_bytes()).await;
        until("the denial is logged", PATIENCE, async || {
            let lines = hosts.setup.doorward.log();
            let line = |line: &Value| line["fields"]["path"] == judged;
            lines[before..].iter().any(line).then_some(())
        })
        .await;
    }
}
