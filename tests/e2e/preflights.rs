//! `cors.allow_preflight` admits `OPTIONS` requests for which no rule names the method, and nothing else.

use crate::{
    edges::Edge,
    harness::{Envoy, Gateway, Service, send},
};

const RULES: &str = "
    [cors]
    allow_preflight = true
    [[route]]
    path = '/login'
    allow = 'login'
    [[route]]
    path = '/*'
    allow = 'signed-in'
    [[route]]
    path = '/closed/*'
    allow = 'signed-in'
    [[route]]
    path = '/closed/*'
    methods = ['OPTIONS']
    allow = 'nobody'
    [[route]]
    path = '/closed/known'
    methods = ['OPTIONS']
    allow = 'signed-in'
";

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_names_options_decides_preflights() {
    // Gateways that pass the headers of a preflight request to Doorward.
    for edge in [
        Edge::Grpc(Envoy::OLDEST),
        Edge::Grpc(Envoy::NEWEST),
        Edge::Module(Envoy::NEWEST),
        Edge::Http(Gateway::OldestEnvoy),
        Edge::Http(Gateway::NewestEnvoy),
        Edge::Http(Gateway::Nginx),
        Edge::Http(Gateway::Caddy),
        Edge::Http(Gateway::Traefik),
    ] {
        let service = Service::start().await;
        let setup = edge.open(RULES, service.address, |text| text).await;
        for (path, status) in [
            ("/open", 200),
            ("/closed/x", 403),
            ("/closed/known", 401),
            ("/Closed/x", 400),
        ] {
            let before = service.requests();
            let headers = [
                ("origin", "https://www.example.com"),
                ("access-control-request-method", "PUT"),
            ];
            let reply = send(setup.edge, "OPTIONS", path, &headers, "").await;
            assert_eq!(reply.status, status, "{edge:?} {path}: {reply:?}");
            let arrived = service.requests() - before;
            assert_eq!(arrived, u64::from(status == 200), "{edge:?} {path}");
        }
    }
}
