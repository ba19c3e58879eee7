//! Published secrets and RSA keys that can be factored, from every source of keys.

use std::fs;

use crate::{
    harness::{Doorward, Settings},
    issuers::NAME,
};

/// The key of RFC 7515, A.1.
const PUBLISHED: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

const GOOD: &str = "2b7e151628aed2a6abf7158809cf4f3c";

/// A modulus as libraries with the weakness CVE-2017-15361 make it.
const ROCA: &str = "zUyguPcEl4y2drkRLM3aF6TGvuakuRTiTFgTEf4hBF-oz24MtTfYj9k5w1GFTemtyG9mCMPW2w6a-hgX7l2pXuoAtVtwxB1K9VvH2zIdNybNxZ7_2PRW7Qck5AbXPiR3TEkL5LVDHcLkM1NMz29C7P4ks3mEsZQ-ULZuV2bD8KAsNwuOLFJ3Nx8bl63rTNHYT9VIWBh4tNpDhTFnPTrezC5jPft3aNSKnOc-mKBeFiR8OHnVysutoIFU_VhZUmukDuoajKeWRyuJ9WTFQVl3DcVh-9s93ofLMstL6PvEeIKUNtJ9ZSBlMwF1jiBAaA27ZVELDBe-5friB_D0VaAXHQ";

fn roca() -> String {
    format!(r#"{{"kty":"RSA","kid":"old","alg":"RS256","use":"sig","e":"AQAB","n":"{ROCA}"}}"#)
}

fn oct() -> String {
    format!(r#"{{"kty":"oct","kid":"k","alg":"HS256","k":"{PUBLISHED}"}}"#)
}

/// The error of a start that fails, with these settings and these files in the data directory.
async fn refused(choose: impl FnOnce(&mut Settings), files: &[(&str, &str)]) -> String {
    let home = Doorward::prepare(choose);
    let data = home.dir().join("data");
    fs::create_dir_all(data.join("keys")).unwrap();
    for (file, text) in files {
        fs::write(data.join(file), text).unwrap();
    }
    let ran = home.run(&["serve"], "").await;
    assert!(!ran.status.success(), "{ran:?}");
    assert!(!ran.stderr.contains(PUBLISHED), "{ran:?}");
    ran.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn published_secrets_are_refused_wherever_they_come_from() {
    let known = "is known to everybody";
    for (name, remedy) in [
        ("JWT_SECRET", "openssl rand -hex 32"),
        ("JWT_SECRET_PREVIOUS", "remove it"),
    ] {
        let choose = |settings: &mut Settings| {
            settings.env("JWT_SECRET", GOOD).env(name, PUBLISHED);
        };
        let said = refused(choose, &[]).await;
        assert!(said.contains(known) && said.contains(remedy), "{said}");
    }
    let said = refused(|_| {}, &[("jwt.secret", &format!("{PUBLISHED}\n"))]).await;
    assert!(
        said.contains(known) && said.contains("openssl rand -hex 32"),
        "{said}"
    );
    let said = refused(|_| {}, &[("keys/k.jwk", &oct())]).await;
    assert!(
        said.contains(known) && said.contains("doorward keys generate"),
        "{said}"
    );
    let choose = |settings: &mut Settings| {
        settings.env("JWT_KEY", oct());
    };
    let said = refused(choose, &[]).await;
    assert!(
        said.contains(known) && said.contains("doorward keys generate"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_keys_with_the_weakness_roca_are_refused() {
    let said = refused(|_| {}, &[("keys/old.jwk", &roca())]).await;
    assert!(said.contains("CVE-2017-15361"), "{said}");

    // In the JWK Set of another issuer, such a key is skipped.
    let home = Doorward::prepare(|settings| {
        settings.toml(format!(
            "[[issuer]]\nissuer = '{NAME}'\naudience = 'a'\njwks = 'jwks.json'\nprefix = 'x/'\n"
        ));
    });
    let document = format!(r#"{{"keys":[{}]}}"#, roca());
    fs::write(home.dir().join("jwks.json"), document).unwrap();
    let doorward = home.serve().await;
    doorward
        .logged("no key is left", |line| {
            let cause = line["fields"]["cause"].as_str().unwrap_or_default();
            cause.contains("has no key that can be used")
        })
        .await;
}
