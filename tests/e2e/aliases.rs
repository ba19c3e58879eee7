//! Whatever header names a client sends, a service behind CGI reads only Doorward's identity headers.

use std::fs;

use futures_util::future::join_all;

use crate::{
    cgi::{PATTERN, Setup, Way, behind_each_gateway, request},
    front::{BOB, basic, log_in},
    harness::{
        Doorward, Envoy, EnvoyConfig, Gateway, Lighttpd, Settings, ask_bytes, repository, send,
        try_send_http2,
    },
};

/// The bytes of a header name that HTTP allows besides letters and digits (RFC 9110, 5.6.2).
const SEPARATORS: &str = "!#$%&'*+-.^_`|~";

/// The identity headers, with values that a client forges.
const FORGED: [(&str, &str); 3] = [
    ("x-auth-user", "ada"),
    ("x-auth-roles", "admin"),
    ("x-auth-admin", "true"),
];

impl Setup {
    /// The identity that the service must read.
    fn expected(&self, is_known: bool) -> Vec<String> {
        match (self.way, is_known) {
            (_, true) => identity("false", "editor", "bob"),
            (Way::Grpc(_) | Way::FilteredGrpc(_), false) => Vec::new(),
            (Way::Http(_) | Way::LaxNginx, false) => identity("false", "-", "-"),
        }
    }

    /// Whether the gateway forwards names unchanged, so that Doorward must refuse them.
    fn passes_names_on(&self) -> bool {
        match self.way {
            Way::Grpc(_) | Way::FilteredGrpc(_) | Way::LaxNginx => true,
            Way::Http(gateway) => gateway.is_envoy() || gateway == Gateway::Haproxy,
        }
    }

    /// Sends all rows, 32 at a time, and compares each answer with the expected one.
    async fn hold(&self, rows: Vec<Row>) {
        for some in rows.chunks(32) {
            let ask = async |row: &Row| {
                let headers: Vec<_> = (row.headers.iter())
                    .map(|(name, value)| (&**name, &**value))
                    .collect();
                self.get(row.path, &headers).await
            };
            for (row, (status, body)) in some.iter().zip(join_all(some.iter().map(ask)).await) {
                let way = self.way;
                if status == 200 {
                    let read = read(&body);
                    assert_eq!(read, self.expected(row.is_known), "{way:?} {row:?}: {body}");
                    assert!(!self.passes_names_on(), "{way:?} {row:?}: {body}");
                } else {
                    // nginx and Go refuse some names themselves.
                    assert!(
                        [400, self.refusal()].contains(&status),
                        "{way:?} {row:?}: {status} {body}"
                    );
                    assert_eq!(read(&body), [""; 0], "{way:?} {row:?}");
                }
            }
        }
    }
}

impl Setup {
    /// Spellings that HTTP does not allow, or that arrive in another way. Gateways and Doorward may refuse or remove
    /// them.
    async fn nothing_else_arrives(&self, bob: &str) {
        let way = self.way;
        let mut asked = Vec::new();
        let known = format!("host: www.example.com\r\nauthorization: {bob}\r\n").into_bytes();
        let get = [&b"GET /echo HTTP/1.1\r\n"[..], &known].concat();
        let others = (1..=255_u8).filter(|byte| {
            !byte.is_ascii_alphanumeric()
                && !SEPARATORS.as_bytes().contains(byte)
                && !matches!(byte, b'\r' | b'\n' | b':')
        });
        for byte in others {
            let name = [b"x", &[byte][..], b"auth", &[byte], b"user"].concat();
            asked.push([&get, &*name, b": ada\r\ncontent-length: 0\r\n\r\n"].concat());
        }
        for lines in [
            // Gateways remove the headers that Connection names, before or after they ask Doorward.
            "connection: x~auth~user\r\nx~auth~user: ada",
            "connection: close, X_Auth_User\r\nx_auth_user: ada",
            "x-auth-user : ada",
            "x-auth-user\t: ada",
            "x-filler: a\r\n x-auth-user: ada",
            "x-filler: a\r\n\tx~auth~user: ada",
        ] {
            asked.push([&get, lines.as_bytes(), b"\r\ncontent-length: 0\r\n\r\n"].concat());
        }
        let post = [&b"POST /echo HTTP/1.1\r\n"[..], &known].concat();
        for trailer in ["x-auth-user", "x~auth~user", "x_auth_user"] {
            let lines = format!(
                "te: trailers\r\ntrailer: {trailer}\r\ntransfer-encoding: chunked\r\n\r\n\
                 1\r\na\r\n0\r\n{trailer}: ada\r\n\r\n"
            );
            asked.push([&post, lines.as_bytes()].concat());
        }
        let answers = join_all(asked.iter().map(|bytes| ask_bytes(self.edge(), bytes))).await;
        for (bytes, (status, body)) in asked.iter().zip(answers) {
            let request = String::from_utf8_lossy(bytes);
            match status {
                200 => assert_eq!(read(&body), self.expected(true), "{way:?} {request}"),
                // If nginx shows Doorward a header that HTTP does not allow, nginx rejects Doorward's answer.
                _ => assert!(matches!(status, 400..=599), "{way:?} {status} {request}"),
            }
        }
    }
}

#[derive(Debug)]
struct Row {
    path: &'static str,
    headers: Vec<(String, String)>,
    is_known: bool,
}

/// The identity variables that a CGI program reads, including duplicates.
fn read(environment: &str) -> Vec<&str> {
    let mut read: Vec<_> = environment
        .lines()
        .filter(|line| line.starts_with("HTTP_X_AUTH_"))
        .collect();
    read.sort_unstable();
    read
}

fn identity(admin: &str, roles: &str, user: &str) -> Vec<String> {
    vec![
        format!("HTTP_X_AUTH_ADMIN={admin}"),
        format!("HTTP_X_AUTH_ROLES={roles}"),
        format!("HTTP_X_AUTH_USER={user}"),
    ]
}

/// Every spelling of a name except the name itself.
fn spellings(own: &str) -> Vec<String> {
    let mut spellings = Vec::new();
    for left in SEPARATORS.chars() {
        for right in SEPARATORS.chars() {
            let spelling = own.replacen('-', &left.to_string(), 1).replacen(
                "auth-",
                &format!("auth{right}"),
                1,
            );
            if spelling != own {
                spellings.push(spelling);
            }
        }
    }
    assert_eq!(spellings.len(), 224);
    spellings
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Without a gateway, lighttpd maps every spelling to one variable.
#[tokio::test(flavor = "multi_thread")]
async fn lighttpd_reads_every_separator_as_one() {
    let service = Lighttpd::start(Lighttpd::ENVIRONMENT).await;
    for separator in SEPARATORS.chars() {
        let alias = format!("x{separator}auth{separator}user");
        let headers = [("X-Auth-User", "bob"), (&*alias, "ada")];
        let asked = request("GET", "/a?b", &headers);
        let (status, body) = ask_bytes(service.address, asked.as_bytes()).await;
        let both = ["HTTP_X_AUTH_USER=ada", "HTTP_X_AUTH_USER=bob"];
        match separator {
            // lighttpd joins the values of headers with equal names.
            '-' => assert_eq!(read(&body), ["HTTP_X_AUTH_USER=bob, ada"]),
            _ => assert_eq!(read(&body), both, "{alias} {status} {body}"),
        }
        assert!(body.contains("\nREQUEST_URI=/a?b\n"), "{body}");
    }
}

async fn no_alias_arrives(way: Way) {
    let setup = Setup::open(way).await;
    let bob = log_in(setup.doorward.http, BOB).await;
    let shown = pair("authorization", &bob);

    // A client's values under the exact names are always removed, and such a request is not refused.
    for headers in [&FORGED[..], &[FORGED, FORGED].concat()] {
        let (status, body) = setup.get("/healthz", headers).await;
        assert_eq!(
            (status, read(&body)),
            (200, texts(&setup.expected(false))),
            "{way:?} {body}"
        );
        let with_token = [headers, &[("authorization", &*bob)]].concat();
        let (status, body) = setup.get("/echo", &with_token).await;
        assert_eq!(
            (status, read(&body)),
            (200, texts(&setup.expected(true))),
            "{way:?} {body}"
        );
    }

    let mut rows = Vec::new();
    for (own, forged) in FORGED {
        for spelling in spellings(own) {
            rows.push(Row {
                path: "/echo",
                headers: vec![shown.clone(), pair(&spelling, forged)],
                is_known: true,
            });
        }
        for separator in SEPARATORS.chars().filter(|separator| *separator != '-') {
            let alias = own.replace('-', &separator.to_string());
            let upper = alias.to_ascii_uppercase();
            for forged in [
                vec![pair(&alias, forged)],
                vec![pair(&alias, forged), pair(&alias, "other")],
                vec![pair(&upper, forged), pair(&alias, forged)],
                vec![pair(own, forged), pair(&upper, forged)],
                vec![pair(&alias, forged), pair(own, forged)],
            ] {
                rows.push(Row {
                    path: "/healthz",
                    headers: forged.clone(),
                    is_known: false,
                });
                rows.push(Row {
                    path: "/healthz",
                    headers: [vec![shown.clone()], forged].concat(),
                    is_known: true,
                });
            }
        }
    }
    setup.hold(rows).await;

    setup.nothing_else_arrives(&bob).await;

    // The same over HTTP/2.
    for separator in SEPARATORS.chars().filter(|separator| *separator != '-') {
        let alias = format!("x{separator}auth-user");
        let headers = [("authorization", &*bob), (&*alias, "ada")];
        if setup.is_envoy() {
            let url = "http://www.example.com/echo";
            let reply = try_send_http2(setup.edge(), "GET", url, &headers).await;
            assert_eq!(reply.unwrap().status, 400, "{way:?} {alias}");
        }
    }

    // The same for a login.
    let credentials = basic(BOB.0, BOB.1);
    for separator in SEPARATORS.chars().filter(|separator| *separator != '-') {
        let alias = format!("x{separator}auth{separator}user");
        let headers = [("authorization", &*credentials), (&*alias, "ada")];
        let asked = request("POST", "/login", &headers);
        let (status, body) = ask_bytes(setup.edge(), asked.as_bytes()).await;
        let dropped = status == 200 && !setup.passes_names_on();
        assert!(status == 400 || dropped, "{way:?} {alias}: {status} {body}");
    }
    if setup.passes_names_on() && way != Way::Http(Gateway::Haproxy) {
        let is_it = |line: &serde_json::Value| line["fields"]["reason"] == "aliased-header";
        setup.doorward.logged("aliased-header", is_it).await;
    }
    assert!(
        !setup.service.log().contains("error"),
        "{}",
        setup.service.log()
    );
}

fn texts(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

behind_each_gateway!(no_alias_arrives);

/// If Envoy verifies tokens itself, it writes the claims into headers.
#[tokio::test(flavor = "multi_thread")]
async fn clients_cannot_forge_claim_headers_if_envoy_verifies_tokens() {
    let home = Doorward::prepare(|_| {});
    home.run(&["keys", "generate", "ES256"], "").await.ok();
    home.add_user(BOB.0, BOB.1, &[]).await;
    let doorward = home.serve().await;
    let service = Lighttpd::start(Lighttpd::ENVIRONMENT).await;
    let bob = log_in(doorward.http, BOB).await;
    for version in Envoy::VERSIONS {
        let config = EnvoyConfig::file("envoy-jwt-authn.yaml")
            .replace(
                "headers_with_underscores_action: REJECT_REQUEST",
                "headers_with_underscores_action: ALLOW",
            )
            .free_ports()
            .doorward_http(doorward.http)
            .service(service.address);
        let envoy = Envoy::start(version, &config).await;
        for (own, forged) in [("username", "root"), ("admin", "true"), ("payload", "e30")] {
            for separator in SEPARATORS.chars() {
                let alias = format!("x{separator}jwt{separator}{own}");
                let upper = alias.to_ascii_uppercase();
                let headers = [
                    ("authorization", &*bob),
                    (&*alias, forged),
                    (&*upper, forged),
                ];
                let asked = request("GET", "/echo", &headers);
                let (status, body) = ask_bytes(envoy.edge, asked.as_bytes()).await;
                let claims: Vec<_> = (body.lines())
                    .filter(|line| line.starts_with("HTTP_X_JWT_"))
                    .collect();
                assert_eq!((status, claims.len()), (200, 3), "{version} {alias} {body}");
                for expected in ["HTTP_X_JWT_USERNAME=bob", "HTTP_X_JWT_ADMIN=false"] {
                    assert!(claims.contains(&expected), "{version} {alias} {body}");
                }
                assert!(!body.contains("=e30\n"), "{version} {alias} {body}");
            }
        }
    }
}

/// The header pattern of these tests is the committed one.
#[test]
fn the_pattern_is_the_committed_one() {
    let file = repository().join("envoy/envoy-http.yaml");
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(PATTERN));
}

/// Names without a separator have no aliases, and headers that were aliases of the default names are ordinary headers.
#[tokio::test(flavor = "multi_thread")]
async fn other_names_can_be_chosen() {
    let names = "xauthuser, xauthroles, XAuthAdmin";
    let rename = |text: String| {
        ["User", "Roles", "Admin"].iter().fold(text, |text, last| {
            let (own, lower) = (format!("X-Auth-{last}"), last.to_lowercase());
            text.replace(&own, &format!("xauth{lower}")).replace(
                &format!("upstream_http_x_auth_{lower}"),
                &format!("upstream_http_xauth{lower}"),
            )
        })
    };
    for way in [
        Way::Grpc(Envoy::OLDEST),
        Way::Grpc(Envoy::NEWEST),
        Way::LaxNginx,
    ] {
        let choose = |settings: &mut Settings| {
            settings.env("DOORWARD_IDENTITY__HEADERS", names);
        };
        let setup = Setup::with(way, choose, rename).await;
        let bob = log_in(setup.doorward.http, BOB).await;
        let headers = [
            ("authorization", &*bob),
            ("x~auth~user", "root"),
            ("xauthuser", "ada"),
            ("XAuthAdmin", "true"),
        ];
        let (status, body) = setup.get("/echo", &headers).await;
        let mut read: Vec<_> = body
            .lines()
            .filter(|line| line.starts_with("HTTP_XAUTH"))
            .collect();
        read.sort_unstable();
        assert_eq!(
            (status, &*read),
            (
                200,
                &[
                    "HTTP_XAUTHADMIN=false",
                    "HTTP_XAUTHROLES=editor",
                    "HTTP_XAUTHUSER=bob"
                ][..]
            ),
            "{way:?} {body}"
        );
        assert!(body.contains("HTTP_X_AUTH_USER=root"), "{way:?} {body}");
    }
}

/// Doorward's answers over HTTP use the chosen names, and requests with aliases of these names are refused.
#[tokio::test(flavor = "multi_thread")]
async fn chosen_names_are_used_in_every_dialect() {
    let home = Doorward::prepare(|settings| {
        settings.toml(
            "identity.headers = ['Remote-User', 'remote-groups', 'x-is-admin']\n\
             [[route]]\npath = '/*'\nallow = 'public'\n",
        );
    });
    home.run(&["migrate"], "").await.ok();
    let doorward = home.serve().await;
    for (path, asked) in [
        ("/auth/envoy/x", vec![("host", "a.example")]),
        (
            "/auth/nginx",
            vec![("x-original-method", "GET"), ("x-original-uri", "/x")],
        ),
        (
            "/auth/forward",
            vec![
                ("x-forwarded-method", "GET"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "a.example"),
                ("x-forwarded-uri", "/x"),
            ],
        ),
    ] {
        let reply = send(doorward.http, "GET", path, &asked, "").await;
        let told = ["remote-user", "remote-groups", "x-is-admin", "x-auth-user"];
        let told = told.map(|name| reply.header(name).unwrap_or("none"));
        assert_eq!(
            (reply.status, told),
            (200, ["-", "-", "false", "none"]),
            "{path} {reply:?}"
        );
        for (alias, is_one) in [
            ("remote_user", true),
            ("X~Is~Admin", true),
            ("x_auth_user", false),
        ] {
            let asked = [&asked[..], &[(alias, "ada")]].concat();
            let reply = send(doorward.http, "GET", path, &asked, "").await;
            assert_eq!(reply.status != 200, is_one, "{path} {alias} {reply:?}");
        }
    }
}
