//! Known attacks on JWT verifiers (RFC 8725), tried on a running Doorward, and the examples of RFCs.
//! `crates/core/src/jws/tests.rs` tests each rule.

use std::{
    fs,
    process::Command,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    front::{BOB, basic, check, header_of, log_in},
    harness::{Doorward, send, send_bytes},
};

const SECRET: &str = "5b6c7d8e9f00f1e2d3c4a5b69788796a";

/// A Doorward with a secret, an RSA key and two P-256 keys, together with their private keys.
struct Setup {
    doorward: Doorward,
    rsa: rsa::KeyPair,
    ec: EcdsaKeyPair,
    /// The RSA public key in every form that could be mistaken for a secret.
    public: Vec<Vec<u8>>,
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?} {output:?}");
    output.stdout
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn claims() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    json!({
        "sub": "1", "username": "root", "admin": true, "roles": ["admin"], "iss": "doorward",
        "aud": "doorward", "iat": now, "exp": now + 3600, "jti": "x",
    })
    .to_string()
}

fn signed(header: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims()));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

fn keyed(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

impl Setup {
    async fn open() -> Self {
        let home = Doorward::prepare(|settings| {
            settings.env("JWT_SECRET", SECRET);
        });
        home.add_user(BOB.0, BOB.1, &[]).await;
        let dir = home.dir().join("data/keys");
        fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, since: &str, arguments: &[&str]| {
            let key = String::from_utf8(openssl(arguments)).unwrap();
            let path = dir.join(format!("{name}.pem"));
            fs::write(&path, format!("not-before: {since}\n{key}")).unwrap();
            let der = openssl(&["pkey", "-in", path.to_str().unwrap(), "-outform", "DER"]);
            (path, der)
        };
        let curve = "ec_paramgen_curve:P-256";
        let ec = ["genpkey", "-algorithm", "EC", "-pkeyopt", curve];
        let (file, rsa) = write(
            "rsa",
            "2026-01-01T00:00:00Z",
            &["genpkey", "-quiet", "-algorithm", "RSA"],
        );
        let (_, own) = write("ec", "2026-01-01T00:00:00Z", &ec);
        // This key has just replaced the secret, whose tokens are still valid; the other keys only verify.
        let since = SystemTime::now() - Duration::from_secs(60);
        let since = humantime::format_rfc3339_seconds(since).to_string();
        write("other", &since, &ec);
        for name in ["rsa", "ec"] {
            let path = dir.join(format!("{name}.pem"));
            let public = openssl(&["pkey", "-in", path.to_str().unwrap(), "-pubout"]);
            fs::write(&path, public).unwrap();
        }
        let fixed = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pem = fs::read(&file).unwrap();
        let text = String::from_utf8(pem.clone()).unwrap();
        let file = file.to_str().unwrap();
        let spki = openssl(&["pkey", "-pubin", "-in", file, "-outform", "DER"]);
        let pkcs1 = openssl(&["rsa", "-pubin", "-in", file, "-RSAPublicKey_out"]);
        let doorward = home.serve().await;
        let reply = send(doorward.http, "GET", "/.well-known/jwks.json", &[], "").await;
        let keys = reply.json()["keys"].as_array().unwrap().clone();
        let jwk = keys.iter().find(|key| key["kid"] == "rsa").unwrap();
        let n = jwk["n"].as_str().unwrap();
        let public = vec![
            pem,
            text.trim_end().into(),
            text.lines()
                .filter(|line| !line.starts_with('-'))
                .collect::<String>()
                .into(),
            spki,
            pkcs1,
            n.into(),
            decode(n),
            [&[0], &*decode(n)].concat(),
            jwk.to_string().into(),
            reply.body.to_vec(),
            b"rsa".to_vec(),
            Vec::new(),
        ];
        Self {
            doorward,
            rsa: rsa::KeyPair::from_pkcs8(&rsa)
                .or_else(|_| rsa::KeyPair::from_der(&rsa))
                .unwrap(),
            ec: EcdsaKeyPair::from_private_key_der(fixed, &own).unwrap(),
            public,
        }
    }

    fn by_rsa(&self, padding: &'static dyn signature::RsaEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        let signed = (self.rsa).sign(padding, &SystemRandom::new(), message, &mut signature);
        signed.unwrap();
        signature
    }

    fn by_ec(&self, message: &[u8]) -> Vec<u8> {
        let signed = self.ec.sign(&SystemRandom::new(), message).unwrap();
        signed.as_ref().to_vec()
    }

    /// The refusal of `/validate`; asserts that the gRPC door agrees.
    async fn refusal(&self, token: &str) -> Option<String> {
        let bearer = format!("Bearer {token}");
        let refused = crate::front::refusal(self.doorward.http, &bearer).await;
        let said = check(self.doorward.grpc, "GET", "/profile", &bearer).await;
        assert_eq!(refused.is_none(), said.status.unwrap().code == 0, "{token}");
        refused
    }

    async fn refused(&self, token: &str, reason: &str) {
        let refused = self.refusal(token).await;
        assert_eq!(refused.as_deref(), Some(reason), "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forgeries_are_refused_at_the_door() {
    let setup = Setup::open().await;
    let own = log_in(setup.doorward.http, BOB).await;
    assert_eq!(header_of(&own, "kid"), "other");
    let es256 = json!({"alg": "ES256", "typ": "JWT", "kid": "ec"});
    let rs256 = json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"});
    let hs256 = json!({"alg": "HS256", "typ": "JWT"});
    let pkcs1 = &signature::RSA_PKCS1_SHA256;
    // The forgeries below differ from these accepted tokens only in the forged part.
    let good = signed(&es256, |message| setup.by_ec(message));
    assert_eq!(setup.refusal(&good).await, None);
    let by_rsa = signed(&rs256, |message| setup.by_rsa(pkcs1, message));
    assert_eq!(setup.refusal(&by_rsa).await, None);
    let by_secret = signed(&hs256, keyed(SECRET.as_bytes()));
    assert_eq!(setup.refusal(&by_secret).await, None);

    for alg in ["none", "None", "NONE", "nOnE"] {
        for kid in [json!("ec"), json!("rsa"), json!("none")] {
            let header = json!({"alg": alg, "typ": "JWT", "kid": kid});
            let bare = signed(&header, |_| Vec::new());
            setup.refused(&bare, "token-parts").await;
            setup
                .refused(bare.trim_end_matches('.'), "token-parts")
                .await;
            let some = signed(&header, |_| vec![1]);
            setup.refused(&some, "token-algorithm").await;
        }
    }

    // A public key is not accepted as a secret, in whatever form.
    for public in &setup.public {
        for (kid, reason) in [
            (json!("rsa"), "token-algorithm"),
            (json!("ec"), "token-algorithm"),
            (json!("x"), "token-unknown-key"),
        ] {
            let header = json!({"alg": "HS256", "typ": "JWT", "kid": kid});
            setup.refused(&signed(&header, keyed(public)), reason).await;
        }
        let nameless = signed(&hs256, keyed(public));
        setup.refused(&nameless, "token-signature").await;
    }
    let secret_of_rsa = signed(&rs256, keyed(SECRET.as_bytes()));
    setup.refused(&secret_of_rsa, "token-signature").await;

    // Tokens that carry their own keys.
    let fixed = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let stranger = EcdsaKeyPair::generate(fixed).unwrap();
    let by_stranger = |message: &[u8]| {
        let signed = stranger.sign(&SystemRandom::new(), message).unwrap();
        signed.as_ref().to_vec()
    };
    let point = signature::KeyPair::public_key(&stranger).as_ref().to_vec();
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]), "kid": "ec",
    });
    for (member, value) in [
        ("jwk", jwk),
        ("jku", json!(format!("http://{}/jwks", setup.doorward.http))),
        ("x5u", json!(format!("http://{}/x5u", setup.doorward.http))),
        ("x5c", json!([encode(&point)])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        let mut header = es256.clone();
        header[member] = value;
        let token = signed(&header, by_stranger);
        setup.refused(&token, "token-header").await;
        let token = signed(&header, |message| setup.by_ec(message));
        setup.refused(&token, "token-header").await;
    }
    setup
        .refused(&signed(&es256, by_stranger), "token-signature")
        .await;

    for (kid, reason) in [
        (json!("unknown"), "token-unknown-key"),
        (json!("EC"), "token-unknown-key"),
        (json!("other"), "token-signature"),
        (json!("rsa"), "token-algorithm"),
        (json!("../../../dev/null"), "token-key-id"),
        (json!("ec' OR '1'='1"), "token-key-id"),
        (json!("\"ec\""), "token-key-id"),
        (json!(""), "token-key-id"),
        (json!(1), "token-header"),
        (Value::Null, "token-header"),
    ] {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": kid});
        let token = signed(&header, |message| setup.by_ec(message));
        setup.refused(&token, reason).await;
    }
    for alg in [
        "ES384", "PS256", "RS256", "EdDSA", "HS256", "ES512", "es256",
    ] {
        let header = json!({"alg": alg, "typ": "JWT", "kid": "ec"});
        let token = signed(&header, |message| setup.by_ec(message));
        setup.refused(&token, "token-algorithm").await;
    }
    let pss = signed(&rs256, |m| setup.by_rsa(&signature::RSA_PSS_SHA256, m));
    setup.refused(&pss, "token-signature").await;
    let header = json!({"alg": "PS256", "typ": "JWT", "kid": "rsa"});
    let pss = signed(&header, |m| setup.by_rsa(&signature::RSA_PSS_SHA256, m));
    setup.refused(&pss, "token-algorithm").await;

    // Other spellings of the same token.
    let parts: Vec<_> = good.split('.').collect();
    let (h, p, s) = (parts[0], parts[1], parts[2]);
    for (token, reason) in [
        (format!("{good}="), "token-signature"),
        (format!("{good}=="), "token-signature"),
        (format!("{h}=.{p}.{s}"), "malformed-authorization"),
        (format!("{h}.{p}\u{e9}.{s}"), "malformed-authorization"),
        (format!("{h}. {p}.{s}"), "malformed-authorization"),
        (format!("{h}.{p}.~{s}"), "token-signature"),
        (format!("{h}.{p}.{s}.{s}"), "token-parts"),
        (format!("{h}.{p}.{s}.{s}.{s}"), "token-parts"),
        (format!("{h}.{p}"), "token-parts"),
        (format!("{h}..{s}"), "token-parts"),
        (format!(".{p}.{s}"), "token-parts"),
        (
            format!("{}.{p}.{s}", "A".repeat(8192)),
            "malformed-authorization",
        ),
        (
            signed(&json!({"alg": "[".repeat(2000)}), |_| vec![1]),
            "token-algorithm",
        ),
    ] {
        if token.is_ascii() {
            setup.refused(&token, reason).await;
        } else {
            let head = format!(
                "GET /validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
            );
            let answer = send_bytes(setup.doorward.http, head.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            assert!(answer.contains(reason), "{answer}");
        }
    }
    // The forgeries have no lasting effect.
    assert_eq!(setup.refusal(&good).await, None);
    let credentials = basic(BOB.0, BOB.1);
    let headers = [("authorization", &*credentials)];
    let reply = send(setup.doorward.http, "POST", "/login", &headers, "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(!setup.doorward.output().contains("panicked"));
}

const RFC7515: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// RFC 7515, A.1 to A.3, and RFC 8037, A.4: key, header, payload and signature.
fn examples() -> Vec<(&'static str, Value, String)> {
    let a1 = json!({
        "kty": "oct", "alg": "HS256",
        "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    });
    let a2 = json!({
        "kty": "RSA", "alg": "RS256", "e": "AQAB",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    });
    let a3 = json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    let ed = json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    vec![
        (
            "RFC 7515, A.1",
            a1,
            format!(
                "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{RFC7515}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
            ),
        ),
        (
            "RFC 7515, A.2",
            a2,
            format!(
                "eyJhbGciOiJSUzI1NiJ9.{RFC7515}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
            ),
        ),
        (
            "RFC 7515, A.3",
            a3,
            format!(
                "eyJhbGciOiJFUzI1NiJ9.{RFC7515}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
            ),
        ),
        (
            "RFC 8037, A.4",
            ed,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg".into(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_of_rfcs_are_verified() {
    let home = Doorward::prepare(|_| {});
    let file = home.dir().join("key.json");
    let verify = async |jwk: &Value, token: &str| {
        fs::write(&file, jwk.to_string()).unwrap();
        let path = file.to_str().unwrap();
        let arguments = ["token", "verify", "--jwk", path, "--token", token];
        let ran = home.run(&arguments, "").await;
        (ran.status.code(), ran.stdout.trim_end().to_owned())
    };
    let examples = examples();
    for (name, jwk, token) in &examples {
        let good = verify(jwk, token).await;
        assert_eq!(good, (Some(0), "valid".into()), "{name}");
        let (rest, signature) = token.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let (header, payload) = rest.split_once('.').unwrap();
        for forged in [
            format!("{rest}.{first}{}", &signature[1..]),
            format!("{header}.e30.{signature}"),
            format!("{header}.{payload}A.{signature}"),
            format!("{}.{payload}.{signature}", encode(r#"{"alg":"none"}"#)),
        ] {
            let (code, said) = verify(jwk, &forged).await;
            assert_eq!(code, Some(1), "{name}: {forged}");
            assert!(said.starts_with("invalid: "), "{name}: {said}");
        }
        for (other, jwk, _) in examples.iter().filter(|(other, ..)| other != name) {
            let (code, said) = verify(jwk, token).await;
            assert_eq!(code, Some(1), "{name} by the key of {other}");
            assert!(said.contains("its algorithm is"), "{said}");
        }
    }
    // A key with another purpose verifies nothing.
    let (_, key, token) = &examples[2];
    for (member, value, code) in [
        ("use", json!("sig"), 0),
        ("use", json!("enc"), 2),
        ("key_ops", json!(["verify"]), 0),
        ("key_ops", json!(["deriveKey", "deriveBits"]), 2),
    ] {
        let mut jwk = key.clone();
        jwk[member] = value;
        assert_eq!(verify(&jwk, token).await.0, Some(code), "{jwk}");
    }
}
