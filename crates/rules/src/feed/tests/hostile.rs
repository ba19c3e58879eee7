//! Answers that are refused.

use serde_json::{Value, json};

use super::*;

/// Changes one thing in a good answer.
fn changed(answer: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut answer: Value = serde_json::from_slice(answer).unwrap();
    change(&mut answer);
    answer.to_string().into_bytes()
}

#[test]
fn a_hostile_answer_changes_nothing_and_its_fault_is_named() {
    let replica = Replica::usual();
    replica.judge.revoked.end("t", later(60));
    let mut known = follower();
    follow(&mut known, &replica, NOW);
    let old_question = known.question();
    let old_answer = replica.answer(&old_question);
    replica.judge.revoked.set_inactive(["9".into()].into());
    replica.judge.revoked.end("u", later(60));
    let before = image(&known);

    let question = known.question();
    let good = replica.answer(&format!("{PATH}?{}", {
        let query = question.split_once('?').unwrap().1;
        query
            .split('&')
            .filter(|part| !part.starts_with("have"))
            .collect::<Vec<_>>()
            .join("&")
    }));
    type Change = fn(&mut Value);
    let changes: Vec<(Change, &str)> = vec![
        (|a| a["format"] = json!(2), "is of format 2"),
        (
            |a| {
                a["format"] = json!(2);
                a["later"] = json!(1);
            },
            "is of format 2",
        ),
        (|a| a["format"] = json!("1"), "cannot be read"),
        (|a| a["answers"] = json!("other"), "another question"),
        (|a| a["more"] = json!(0), "cannot be read"),
        (|a| a["unknown"] = json!(0), "unknown field"),
        (|a| a["position"] = json!(0), "goes back"),
        (|a| a["position"] = json!(-1), "cannot be read"),
        (|a| a["age"] = json!("1"), "cannot be read"),
        (
            |a| drop(a.as_object_mut().unwrap().remove("age")),
            "missing field",
        ),
        (|a| a["part"] = json!("last"), "did not begin"),
        (|a| a["part"] = json!("Last"), "unknown variant"),
        (|a| a["replica"] = json!(""), "empty or overlong"),
        (|a| a["next"] = json!("x".repeat(2000)), "empty or overlong"),
        (
            |a| a["changes"] = json!([["t", "", 5]]),
            "empty or overlong",
        ),
        (
            |a| a["changes"] = json!([["t", "x".repeat(600), 5]]),
            "empty or overlong",
        ),
        (|a| a["changes"] = json!([["t", "x"]]), "cannot be read"),
        (|a| a["changes"] = json!([["t", "x", 5, 6]]), "too many"),
        (
            |a| a["changes"] = json!([["t", "x", 5.5]]),
            "cannot be read",
        ),
        (|a| a["changes"] = json!([["i", "x", 1]]), "cannot be read"),
        (|a| a["changes"] = json!([["z", "x", 1]]), "unknown variant"),
        (
            |a| a["changes"] = json!(vec![json!(["t", "x", 5]); 4001]),
            "more than 4000",
        ),
        (|a| a["content"] = json!(null), "cannot be read"),
    ];
    for (change, says) in changes {
        let answer = changed(&good, change);
        let fault = known.take(&answer, NOW).unwrap_err().to_string();
        assert!(fault.contains(says), "{says}: {fault}");
        assert_eq!(image(&known), before, "{says}");
    }
    for length in 0..good.len() {
        assert!(known.take(&good[..length], NOW).is_err(), "{length}");
    }
    for body in [
        [&good[..], b"x"].concat(),
        b"{}".to_vec(),
        b"[[[[".repeat(100_000),
        vec![b' '; LONGEST + 1],
        vec![b'['; 100 * 1024 * 1024],
        b"\xff\xfe".to_vec(),
        old_answer,
    ] {
        assert!(known.take(&body, NOW).is_err());
    }
    assert_eq!(image(&known), before);
    let taken = known.take(&good, NOW).unwrap();
    assert_eq!(taken.changes, 2);
    // The same once more.
    assert_eq!(known.take(&good, NOW).unwrap_err(), FeedFault::Replayed);
}

/// Any fault in the content refuses the whole answer.
#[test]
fn an_answer_with_an_invalid_content_is_refused_completely() {
    let replica = Replica::usual();
    let mut known = follower();
    follow(&mut known, &replica, NOW);
    replica.judge.revoked.end("t", later(60));
    let before = image(&known);
    let own_secret = json!({"kid": "s", "alg": "HS256", "not_before": 0, "signs": true,
        "public": {"kty": "oct", "k": "AAAA"}});
    type Change = fn(&mut Value);
    let changes: Vec<(Change, &str)> = vec![
        (|c| c["keys"] = json!([]), "no key"),
        (|c| c["keys"][0]["kid"] = json!("a b"), "no valid name"),
        (
            |c| c["keys"][0]["alg"] = json!("none"),
            "does not name an algorithm",
        ),
        (|c| c["keys"][0]["alg"] = json!("RS256"), "\"alg\""),
        (|c| c["keys"][0]["public"]["d"] = json!("AAAA"), "\"d\""),
        (
            |c| c["keys"][0]["public"]["x"] = json!("AAAA"),
            "part that is missing",
        ),
        (
            |c| drop(c["keys"][0].as_object_mut().unwrap().remove("public")),
            "part that is missing",
        ),
        (
            |c| {
                let key = c["keys"][0].clone();
                c["keys"].as_array_mut().unwrap().push(key);
            },
            "two keys",
        ),
        (
            |c| c["keys"] = json!(vec![c["keys"][0].clone(); 65]),
            "more than 64 keys",
        ),
        (|c| c["token"]["lifetime"] = json!(u64::MAX), "lifetime"),
        (|c| c["token"]["leeway"] = json!(u64::MAX), "leeway"),
        (|c| c["token"]["issuer"] = json!(""), "issuer"),
        (|c| c["rules"][0]["path"] = json!("no"), "rule 1"),
        (|c| c["rules"][1]["allow"] = json!("everybody"), "rule 2"),
        (|c| c["rules"][1]["allow"] = json!([]), "rule 2"),
        (|c| c["rules"][1]["allow"] = json!(7), "cannot be read"),
        (|c| c["rules"][1]["methods"] = json!(["get"]), "rule 2"),
        (|c| c["rules"][1]["demand"] = json!("x"), "unknown field"),
        (
            |c| {
                let rule = c["rules"][0].clone();
                c["rules"].as_array_mut().unwrap().push(rule);
            },
            "two rules",
        ),
        (|c| c["settings"]["realm"] = json!("a\"b"), "realm"),
        (|c| c["settings"]["endpoints"] = json!(["logn"]), "endpoint"),
        (
            |c| c["settings"]["identity_headers"] = json!(["x", "y"]),
            "three names",
        ),
        (|c| c["settings"]["tolerate"] = json!(["all"]), "tolerate"),
        (|c| c["settings"]["also"] = json!(["all"]), "also"),
        (
            |c| c["settings"]["trusted_proxies"] = json!(["x"]),
            "network",
        ),
        (
            |c| c["settings"]["client_address"] = json!("x"),
            "client_address",
        ),
        (|c| c["settings"]["login_reply"] = json!("x"), "login_reply"),
        (
            |c| c["settings"]["forward_bearer"] = json!("true"),
            "cannot be read",
        ),
        (
            |c| drop(c["settings"].as_object_mut().unwrap().remove("metadata")),
            "missing field",
        ),
        (|c| c["settings"]["cookies"] = json!(true), "unknown field"),
        (
            |c| {
                c["settings"]["assertion"] =
                    json!({"header": "x-auth-assertion", "audience": "doorward"})
            },
            "assertion audience",
        ),
        (
            |c| {
                c["settings"]["assertion"] =
                    json!({"header": "X_Auth_User", "audience": "services"})
            },
            "assertion header",
        ),
        (
            |c| c["settings"]["assertion"] = json!({"header": "host", "audience": "services"}),
            "identity_headers",
        ),
        (
            |c| {
                c["rules"][0]["allow"] = json!("nobody");
                c["rules"][0]["audience"] = json!("x");
            },
            "rule 1",
        ),
        (
            |c| c["issuers"] = json!([issuer("doorward", json!(null))]),
            "taken",
        ),
        (
            |c| c["issuers"] = json!([issuer("a|b", json!(null))]),
            "cannot have this name",
        ),
        (
            |c| c["issuers"] = json!([issuer("a", json!({"keys": []}))]),
            "no key that can be used",
        ),
        (
            |c| c["issuers"] = json!(vec![issuer("a", json!(null)); 2]),
            "taken",
        ),
        (
            |c| c["issuers"] = json!(vec![issuer("a", json!(null)); 17]),
            "more than 16 issuers",
        ),
    ];
    let mut try_one = |says: &str, change: &dyn Fn(&mut Value)| {
        let mut question = known.question();
        question.truncate(question.find("&have").unwrap());
        let answer = changed(&replica.answer(&question), |answer| {
            answer["digest"] = json!("another");
            change(&mut answer["content"]);
        });
        let fault = known.take(&answer, NOW).unwrap_err().to_string();
        assert!(fault.contains(says), "{says}: {fault}");
        assert!(!fault.contains('\n') && fault.len() < 500, "{fault}");
        assert_eq!(image(&known), before, "{says}");
    };
    for (change, says) in changes {
        try_one(says, &change);
    }
    try_one("is no key for HS256", &|content| {
        content["keys"][0] = own_secret.clone()
    });
    // An answer whose digest names a content that the answer does not contain.
    let question = known.question();
    let answer = changed(&replica.answer(&question), |answer| {
        answer["digest"] = json!("another")
    });
    assert_eq!(known.take(&answer, NOW).unwrap_err(), FeedFault::NoContent);
    assert_eq!(image(&known), before);
    follow(&mut known, &replica, NOW);
    assert_eq!(known.revoked().len(), 1);
}

fn issuer(name: &str, keys: Value) -> Value {
    json!({"issuer": name, "audience": "a", "prefix": "p/", "username": "sub", "roles": null,
        "accept_roles": [], "grant": [], "algorithms": ["ES256"], "keys": keys})
}
