//! The signed assertion, through real gateways. PyJWT verifies it, as docs/assertion.md says.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    direct::bearer,
    front::BOB,
    harness::{Doorward, Gateway, Settings, repository, send, tool, until},
    machine_keys::key,
    sign_in::{Kind, RULES, Setup, newest_envoy},
};

const NAME: &str = "x-auth-assertion";

/// A configuration of a gateway with the assertion and the name of a key in the same places as the other identity headers,
/// as docs/assertion.md and docs/machine-keys.md say.
fn named(text: String) -> String {
    also(&also(&text, "assertion"), "key")
}

fn also(text: &str, own: &str) -> String {
    let name = format!("x-auth-{own}");
    let alike = |line: &str| alike(line, own);
    let line = |line: &str| {
        let (lower, admin) = (line.to_ascii_lowercase(), "x-auth-admin");
        let Some(at) = lower.find(admin) else {
            let is_copied = line.contains("x_auth_admin");
            return match is_copied {
                true => format!("{line}\n{}", alike(line)),
                false => line.to_owned(),
            };
        };
        if !lower.contains("x-auth-user") {
            return format!("{line}\n{}", alike(line));
        }
        // A list: with the same separator and quotes.
        let after = at + admin.len();
        let own = &line[at..after];
        let (before, rest) = (&line[..at], &line[after..]);
        let quote = if rest.starts_with('"') { "\"" } else { "" };
        let comma = if line.contains(',') { "," } else { "" };
        format!("{before}{own}{quote}{comma} {quote}{name}{rest}")
    };
    let lines: Vec<_> = text.split('\n').map(line).collect();
    lines.join("\n")
}

fn alike(line: &str, own: &str) -> String {
    let (first, rest) = own.split_at(1);
    let title = format!("X-Auth-{}{rest}", first.to_uppercase());
    let variable = format!("${own}");
    [
        ("x_auth_admin", &*format!("x_auth_{own}")),
        ("x-auth-admin", &format!("x-auth-{own}")),
        ("X-Auth-Admin", &title),
        ("$admin", &variable),
        ("$authHeader2", &variable),
    ]
    .iter()
    .fold(line.to_owned(), |line, (from, to)| line.replace(from, to))
}

/// What the code in docs/assertion.md says about an assertion.
fn verified(doorward: &Doorward, assertion: &str) -> Value {
    verified_as("services", doorward, assertion).unwrap()
}

/// The same as a service with another audience.
fn verified_as(audience: &str, doorward: &Doorward, assertion: &str) -> Result<Value, String> {
    let page = fs::read_to_string(repository().join("docs/assertion.md")).unwrap();
    let (_, code) = page.split_once("```python\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    let code = code.replace("127.0.0.1:9002", &doorward.http.to_string());
    assert!(code.contains("audience=\"services\""));
    let code = code.replace("audience=\"services\"", &format!("audience=\"{audience}\""));
    let code = format!("{code}\nimport json, sys\nprint(json.dumps(caller(sys.argv[1])))\n");
    let ran = Command::new("python3")
        .args(["-c", &code, assertion])
        .env("PYTHONPATH", tool("pyjwt"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    match ran.status.success() {
        true => Ok(serde_json::from_slice(&ran.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&ran.stderr).into_owned()),
    }
}

/// The assertion that the service got.
fn got(seen: &Value) -> Option<String> {
    header(seen, NAME)
}

/// The header of this name that the service got, unless it says that there is none.
fn header(seen: &Value, name: &str) -> Option<String> {
    let headers = seen["headers"].as_array().unwrap();
    let mut found = headers.iter().filter(|pair| pair[0] == name);
    let value = found
        .next()
        .map(|pair| pair[1].as_str().unwrap().to_owned());
    assert!(found.next().is_none(), "{seen}");
    value.filter(|value| value != "-")
}

fn is_bobs(claims: &Value) {
    assert_eq!(claims["username"], "bob", "{claims}");
    assert_eq!(claims["roles"], serde_json::json!(["editor"]));
    assert_eq!(claims["admin"], false);
    assert_eq!(claims["iss"], "doorward");
    let time = |name: &str| claims[name].as_u64().unwrap();
    assert_eq!(time("exp") - time("iat"), 60);
}

async fn arrives(setup: &Setup, edge: SocketAddr, credentials: &[String]) {
    let forged = (NAME, "a.b.c");
    for credential in credentials {
        let headers = [("authorization", &**credential), forged];
        let reply = send(edge, "GET", "/data", &headers, "").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let assertion = got(&reply.json()).expect("an assertion");
        is_bobs(&verified(&setup.doorward, &assertion));
        let key = header(&reply.json(), "x-auth-key");
        let shown = credential.contains("dwk_").then_some("deploy");
        assert_eq!(key.as_deref(), shown, "{reply:?}");
        // It speaks to services, and is no access token.
        let shown = format!("Bearer {assertion}");
        let reply = send(edge, "GET", "/data", &[("authorization", &shown)], "").await;
        // ingress-nginx redirects it.
        assert!(matches!(reply.status, 401 | 302), "{reply:?}");
    }
    let reply = send(edge, "GET", "/healthz", &[forged], "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(got(&reply.json()), None, "{reply:?}");
    let forged = [
        ("authorization", &*credentials[0]),
        ("x-auth-key", "forged"),
    ];
    let reply = send(edge, "GET", "/data", &forged, "").await;
    let is_refused = matches!(reply.status, 400 | 403 | 302);
    assert!(
        is_refused || header(&reply.json(), "x-auth-key").is_none(),
        "{reply:?}"
    );
}

async fn open(kind: Kind) -> Setup {
    let bills = "\n[[route]]\npath = \"/bills/*\"\nallow = \"signed-in\"\naudience = \"billing\"\n";
    Setup::open(kind, |settings| {
        settings
            .toml(format!("{RULES}{bills}"))
            .env("DOORWARD_IDENTITY__ASSERTION", NAME)
            .env("DOORWARD_KEYS__ENABLED", "true");
    })
    .await
}

/// Bearer tokens, keys and cookies through an Envoy; the result is a token and a key.
async fn arrive(setup: &Setup) -> [String; 2] {
    let doorward = &setup.doorward;
    let key = key(doorward, &["add", "deploy", "--owner", BOB.0]).await;
    let credentials = [bearer(doorward, BOB).await, format!("Bearer {key}")];
    // A key that was added by another process counts after the next read.
    until("the key", Duration::from_secs(60), async || {
        let shown = [("authorization", &*credentials[1])];
        let reply = send(setup.edge.address(), "GET", "/data", &shown, "").await;
        (reply.status == 200).then_some(())
    })
    .await;
    arrives(setup, setup.edge.address(), &credentials).await;

    // A browser has no token to pass on.
    let mut browser = setup.browser();
    browser.enter("/sign-in?return=/", BOB).await;
    let reply = browser.open("/data").await;
    let assertion = got(&reply.json()).expect("an assertion");
    is_bobs(&verified(doorward, &assertion));

    // Each service gets one of its own.
    let billed = browser.open("/bills/7").await;
    let billed = got(&billed.json()).expect("an assertion");
    is_bobs(&verified_as("billing", doorward, &billed).unwrap());
    for (audience, assertion) in [("services", &billed), ("billing", &assertion)] {
        let refused = verified_as(audience, doorward, assertion).unwrap_err();
        assert!(refused.contains("InvalidAudienceError"), "{refused}");
    }
    let ambiguous = browser.open("/BILLS/7").await;
    assert_eq!(ambiguous.status, 400, "{ambiguous:?}");
    let logs = doorward.output();
    assert!(!logs.contains(&*assertion), "{logs}");
    credentials
}

#[tokio::test(flavor = "multi_thread")]
async fn services_behind_every_gateway_verify_who_is_asking() {
    let setup = open(newest_envoy()).await;
    let credentials = arrive(&setup).await;
    for gateway in Gateway::ALL {
        let service = setup.service.address;
        let proxy = gateway.start(setup.doorward.http, service, named).await;
        arrives(&setup, proxy.edge, &credentials).await;
    }
}

/// The module has no private key. It asks Doorward for the first request of a token, and sends the assertion again.
#[tokio::test(flavor = "multi_thread")]
async fn the_module_in_envoy_passes_on_what_doorward_has_signed() {
    let setup = open(Kind::Module).await;
    arrive(&setup).await;
    let unused = bearer(&setup.doorward, BOB).await;
    let edge = setup.edge.address();
    let ask = async |path, credential: &str| {
        let headers = [("authorization", credential), (NAME, "a.b.c")];
        send(edge, "GET", path, &headers, "").await
    };
    // A new one, so that it lasts for the rest of the test.
    let last = bearer(&setup.doorward, BOB).await;
    let first = got(&ask("/data", &last).await.json()).expect("an assertion");
    let claims = verified(&setup.doorward, &first);
    let Setup {
        doorward,
        service,
        edge: envoy,
    } = setup;
    let _home = doorward.kill();
    let again = ask("/data", &last).await;
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(got(&again.json()), Some(first), "{claims}");
    let before = service.requests();
    for (what, path, credential) in [
        ("no assertion yet", "/data", &unused),
        ("none for this audience", "/bills/7", &last),
    ] {
        let refused = ask(path, credential).await;
        assert_eq!(refused.status, 503, "{what}: {refused:?}");
    }
    assert_eq!(service.requests(), before);
    let public = send(edge, "GET", "/healthz", &[(NAME, "a.b.c")], "").await;
    assert_eq!(got(&public.json()), None, "{public:?}");
    drop(envoy);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_needs_a_key_that_services_can_verify_with() {
    let page = fs::read_to_string(repository().join("docs/assertion.md")).unwrap();
    let (_, block) = page.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let check = async |choose: fn(&mut Settings), keys: bool| {
        let home = Doorward::prepare(|settings| {
            settings.toml(block);
        });
        if keys {
            home.run(&["keys", "generate", "ES256"], "").await.ok();
        }
        let checked = home.with(choose).run(&["config", "check"], "").await;
        (
            checked.status.success(),
            format!("{}{}", checked.stdout, checked.stderr),
        )
    };
    let (good, said) = check(|_| {}, true).await;
    assert!(good, "{said}");
    for (choose, keys, expected) in [
        (
            (|_| {}) as fn(&mut Settings),
            false,
            "doorward keys generate ES256",
        ),
        (
            |settings| {
                settings.env("JWT_SECRET", "2b7e151628aed2a6abf7158809cf4f3c");
            },
            false,
            "doorward keys generate ES256",
        ),
        (
            |settings| {
                settings.env("DOORWARD_IDENTITY__ASSERTION_AUDIENCE", "doorward");
            },
            true,
            "jwt.audience",
        ),
        (
            |settings| {
                settings.env("DOORWARD_IDENTITY__ASSERTION", "X_Auth_User");
            },
            true,
            "x-auth-user",
        ),
        (
            |settings| {
                settings.env("DOORWARD_KEYS__HEADER", "X_Auth_Assertion");
            },
            true,
            "identity.assertion",
        ),
    ] {
        let (good, said) = check(choose, keys).await;
        assert!(!good && said.contains(expected), "{expected}: {said}");
    }
}
