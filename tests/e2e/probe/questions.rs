//! Questions of the probe through a real Envoy: they let no request pass, and need a valid signature.

use std::time::{SystemTime, UNIX_EPOCH};

use doorward::domain::{
    probe::{Nonce, ProbeKey},
    token::{Secret, UnixTime},
};
use serde_json::json;

use super::{KEY, envoy};
use crate::{
    direct,
    front::{ADA, basic},
    harness::{Envoy, Reply, send},
};

fn challenge(reply: &Reply) -> &str {
    reply.header("www-authenticate").unwrap_or_default()
}

/// A question lets no request pass, runs no action, and gets no answer without a valid signature.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_lets_nothing_pass_and_needs_a_valid_signature() {
    let front = envoy(Envoy::NEWEST, |config| config).await;
    let bearer = direct::bearer(&front.doorward, ADA).await;
    let key = ProbeKey::new(&Secret::parse(KEY.as_bytes()).unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let nonce = Nonce([9; 16]);
    let valid = key.question(nonce, UnixTime(now.as_secs()));
    let old = key.question(nonce, UnixTime(now.as_secs() - 3600));
    let (ada, wrong) = (basic(ADA.0, ADA.1), basic(ADA.0, "wrong"));

    // With a valid question no request passes, not even an administrator's, and nobody is logged in.
    for (method, path, authorization) in [
        ("GET", "/open/x", None),
        ("GET", "/admin/x", Some(&*bearer)),
        ("POST", "/login", Some(&*ada)),
        ("POST", "/login", Some(&*wrong)),
    ] {
        let mut headers = vec![("x-doorward-probe", &*valid)];
        headers.extend(authorization.map(|value| ("authorization", value)));
        let reply = front.send(method, path, &headers).await;
        assert_eq!(reply.status, 401, "{path} {reply:?}");
        assert!(
            challenge(&reply).starts_with("Doorward-Probe "),
            "{reply:?}"
        );
        let answered = key.read_challenge(challenge(&reply), nonce).unwrap();
        let expected = match (path, authorization) {
            ("/open/x", _) => ("allow", "anonymous"),
            ("/admin/x", _) => ("allow", "token"),
            // Right and wrong passwords get the same answer, because the action does not run.
            _ => ("act", "login"),
        };
        assert_eq!((&*answered.decision, &*answered.reason), expected, "{path}");
        assert!(reply.header("authorization").is_none(), "{reply:?}");
    }
    assert_eq!(front.service.requests(), 0);
    // The same at Doorward's HTTP port.
    let headers = [("x-doorward-probe", &*valid), ("authorization", &*ada)];
    let reply = send(front.doorward.http, "POST", "/login", &headers, "").await;
    assert_eq!((reply.status, reply.header("authorization")), (401, None));

    // Everything else is judged as if there were no question.
    let tampered = valid.replacen("1.", "1.1", 1);
    for question in [&*old, &*tampered, "", "1", "x.y.z.w"] {
        let headers = [("x-doorward-probe", question)];
        let reply = front.send("GET", "/admin/x", &headers).await;
        assert_eq!(
            (reply.status, challenge(&reply)),
            (401, "Bearer realm=\"doorward\""),
            "{question}"
        );
        assert_eq!(reply.text(), "Missing token");
        let reply = front.send("GET", "/open/x", &headers).await;
        assert_eq!(reply.status, 200, "{question}");
    }
    let line = front
        .doorward
        .logged("a probe", |line| line["fields"]["reason"] == "probe")
        .await;
    assert!(!line.to_string().contains(&valid), "{line}");
    assert_eq!(line["fields"]["path"], json!("/open/x"), "{line}");
}
