//! The signed assertion, through real gateways. PyJWT verifies it, as docs/assertion.md says.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    direct::bearer,
    front::BOB,
    harness::{Doorward, Gateway, Settings, repository, send, tool, until},
    machine_keys::key,
    sign_in::{RULES, Setup, newest_envoy},
};

const NAME: &str = "x-auth-assertion";

/// A configuration of a gateway with the assertion in the same places as the other identity headers.
fn named(text: String) -> String {
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
        format!("{before}{own}{quote}{comma} {quote}{NAME}{rest}")
    };
    let lines: Vec<_> = text.split('\n').map(line).collect();
    lines.join("\n")
}

fn alike(line: &str) -> String {
    [
        ("x_auth_admin", "x_auth_assertion"),
        ("x-auth-admin", NAME),
        ("X-Auth-Admin", "X-Auth-Assertion"),
        ("$admin", "$assertion"),
        ("$authHeader2", "$assertion"),
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
    let headers = seen["headers"].as_array().unwrap();
    let mut found = headers.iter().filter(|pair| pair[0] == NAME);
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
        // It speaks to services, and is no access token.
        let shown = format!("Bearer {assertion}");
        let reply = send(edge, "GET", "/data", &[("authorization", &shown)], "").await;
        // ingress-nginx redirects it.
        assert!(matches!(reply.status, 401 | 302), "{reply:?}");
    }
    let reply = send(edge, "GET", "/healthz", &[forged], "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(got(&reply.json()), None, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_behind_every_gateway_verify_who_is_asking() {
    let bills = "\n[[route]]\npath = \"/bills/*\"\nallow = \"signed-in\"\naudience = \"billing\"\n";
    let setup = Setup::open(newest_envoy(), |settings| {
        settings
            .toml(format!("{RULES}{bills}"))
            .env("DOORWARD_IDENTITY__ASSERTION", NAME)
            .env("DOORWARD_KEYS__ENABLED", "true");
    })
    .await;
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
    arrives(&setup, setup.edge.address(), &credentials).await;

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

    for gateway in Gateway::ALL {
        let service = setup.service.address;
        let proxy = gateway.start(doorward.http, service, named).await;
        arrives(&setup, proxy.edge, &credentials).await;
    }
    let logs = doorward.output();
    assert!(!logs.contains(&*assertion), "{logs}");
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
                settings.env("DOORWARD_FEED__ENABLED", "true");
            },
            true,
            "feed.enabled",
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
