//! Methods as a real service reads them: Flask converts them to upper case, and runs the handler of `GET` for `HEAD`.
//! The handler that runs must be the one whose rule judged the request.

use crate::{
    edges::Edge,
    harness::{Doorward, Flask, Gateway, Reply, send, try_send_http2},
};

const RULES: &str = "
    [[route]]
    path = '/login'
    allow = 'login'
    [[route]]
    path = '/*'
    allow = 'public'
    [[route]]
    path = '/items/*'
    methods = ['GET', 'POST', 'DELETE']
    allow = 'role:admin'
    [[route]]
    path = '/items/open'
    methods = ['GET']
    allow = 'public'
";

/// Methods that Werkzeug converts to `GET`, `HEAD`, `POST`, `DELETE` and `PATCH`.
const SPELLINGS: [&str; 11] = [
    "post", "Post", "pOST", "POSt", "delete", "Delete", "get", "Get", "head", "heaD", "patch",
];

/// The HTTP version between client and gateway.
#[derive(Clone, Copy, Debug)]
enum Version {
    Http1,
    Http2,
}

impl Version {
    async fn send(
        self,
        edge: std::net::SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        match self {
            Self::Http1 => send(edge, method, path, headers, "").await,
            Self::Http2 => {
                let url = format!("http://{edge}{path}");
                let reply = try_send_http2(edge, method, &url, headers).await;
                reply.unwrap_or_else(|fault| panic!("{method} {url}: {fault}"))
            }
        }
    }
}

async fn no_spelling_of_a_method_reaches_its_handler(edge: Edge, version: Version) {
    let service = Flask::start().await;
    let setup = edge.open(RULES, service.address, |text| text).await;
    let ask = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        version.send(setup.edge, method, path, headers).await
    };
    // ingress-nginx redirects to the sign-in page.
    let refused = |reply: &Reply| (300..=499).contains(&reply.status);
    for method in SPELLINGS {
        for path in ["/items/7", "/elsewhere", "/login"] {
            let reply = ask(method, path, &[]).await;
            assert!(refused(&reply), "{edge:?} {method} {path}: {reply:?}");
        }
    }
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        let reply = ask(method, "/items/7", &[]).await;
        assert!(refused(&reply), "{edge:?} {method}: {reply:?}");
    }
    let preflight = [
        ("origin", "https://www.example.com"),
        ("access-control-request-method", "post"),
    ];
    let reply = ask("OPTIONS", "/items/7", &preflight).await;
    // HAProxy does not pass the headers of a preflight request to Doorward.
    let is_shown = edge != Edge::Http(Gateway::Haproxy);
    assert_eq!(refused(&reply), is_shown, "{edge:?} preflight: {reply:?}");
    assert!(service.ran().await.is_empty(), "{edge:?}");

    // With a token, and under a public rule, the same handlers run.
    let admin = setup.admin().await;
    let admin = [("authorization", &*admin)];
    for (method, path, headers) in [
        ("GET", "/items/7", &admin[..]),
        ("HEAD", "/items/7", &admin),
        ("POST", "/items/7", &admin),
        ("DELETE", "/items/7", &admin),
        ("GET", "/items/open", &[]),
        ("HEAD", "/items/open", &[]),
    ] {
        let reply = ask(method, path, headers).await;
        assert_eq!(reply.status, 200, "{edge:?} {method} {path}: {reply:?}");
    }
    assert_eq!(
        service.ran().await,
        ["GET", "GET", "POST", "DELETE", "GET", "GET"],
        "{edge:?}"
    );
}

macro_rules! through {
    ($($name:ident: $edge:expr, $version:ident;)*) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            no_spelling_of_a_method_reaches_its_handler($edge, Version::$version).await;
        }
    )* };
}

through! {
    oldest_envoy_grpc_http1: Edge::Grpc(crate::harness::Envoy::OLDEST), Http1;
    oldest_envoy_grpc_http2: Edge::Grpc(crate::harness::Envoy::OLDEST), Http2;
    newest_envoy_grpc_http1: Edge::Grpc(crate::harness::Envoy::NEWEST), Http1;
    newest_envoy_grpc_http2: Edge::Grpc(crate::harness::Envoy::NEWEST), Http2;
    module_http1: Edge::Module(crate::harness::Envoy::NEWEST), Http1;
    module_http2: Edge::Module(crate::harness::Envoy::NEWEST), Http2;
    oldest_envoy_http1: Edge::Http(Gateway::OldestEnvoy), Http1;
    oldest_envoy_http2: Edge::Http(Gateway::OldestEnvoy), Http2;
    newest_envoy_http1: Edge::Http(Gateway::NewestEnvoy), Http1;
    newest_envoy_http2: Edge::Http(Gateway::NewestEnvoy), Http2;
    nginx_http1: Edge::Http(Gateway::Nginx), Http1;
    ingress_nginx_http1: Edge::Http(Gateway::IngressNginx), Http1;
    caddy_http1: Edge::Http(Gateway::Caddy), Http1;
    haproxy_http1: Edge::Http(Gateway::Haproxy), Http1;
    traefik_http1: Edge::Http(Gateway::Traefik), Http1;
}

/// The refusal has its own reason, on every route. Caddy passes every spelling on.
#[tokio::test(flavor = "multi_thread")]
async fn another_case_of_a_method_is_logged_as_such() {
    let service = Flask::start().await;
    let edge = Edge::Http(Gateway::Caddy);
    let setup = edge.open(RULES, service.address, |text| text).await;
    let reply = send(setup.edge, "post", "/elsewhere", &[], "").await;
    assert_eq!((reply.status, reply.text()), (400, "Malformed request"));
    let line = setup
        .doorward
        .logged("another case", |line| {
            line["fields"]["reason"] == "method-case"
        })
        .await;
    assert_eq!(line["fields"]["method"], "post", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_name_methods_as_they_are_registered() {
    let home = Doorward::prepare(|settings| {
        settings.toml(
            "
            [[route]]
            path = '/a'
            methods = ['get', 'PURGE']
            allow = 'public'
            [[route]]
            path = '/b'
            methods = ['PURGE', 'HEAD']
            allow = 'public'
            ",
        );
    });
    let ran = home.run(&["config", "check"], "").await;
    assert!(!ran.status.success(), "{ran:?}");
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("write \"GET\""), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_check_says_that_head_is_judged_as_get() {
    let home = Doorward::prepare(|settings| {
        settings.toml(RULES);
    });
    let check = async |method| home.run(&["policy", "check", method, "/items/7"], "").await;
    let head = check("HEAD").await.stdout;
    assert!(
        head.contains("a rule for GET is one for HEAD, too"),
        "{head}"
    );
    assert!(head.contains("401, missing-token"), "{head}");
    let post = check("post").await.stdout;
    assert!(post.contains("only by case"), "{post}");
    assert!(post.contains("400, method-case"), "{post}");
}
