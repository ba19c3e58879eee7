//! Keys as operators manage them: commands, files of other programs, secrets that change, and mounts.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    front::{BOB, check, header_of, log_in, refusal},
    harness::{Doorward, Home, Settings, send, until},
};

const FIRST: &str = "c2d4e5a60718293a4b5c6d7e8f90f3b1";
const SECOND: &str = "a60718293a4b5c6d7e8f90f3b1c2d4e5";
const THIRD: &str = "8293a4b5c6d7e8f90f3b1c2d4e5a6071";

/// Changed files are loaded within this time.
const FOLLOWED: Duration = Duration::from_secs(10);

const ALGORITHMS: [&str; 8] = [
    "HS256", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA",
];

async fn prepared(choose: impl FnOnce(&mut Settings)) -> Home {
    let home = Doorward::prepare(choose);
    home.add_user(BOB.0, BOB.1, &[]).await;
    home
}

fn dir(home: &Home) -> std::path::PathBuf {
    home.dir().join("data/keys")
}

/// Writes a file into the key directory, which is created if it is missing.
fn put(dir: &Path, name: &str, text: &str) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(name), text).unwrap();
}

async fn list(home: &Home) -> Vec<Value> {
    let listed = home.run(&["keys", "list", "--output", "json"], "").await;
    serde_json::from_str(&listed.ok().stdout).unwrap()
}

async fn states(home: &Home) -> Vec<String> {
    let keys = list(home).await;
    let text = |key: &Value, member: &str| key[member].as_str().unwrap().to_owned();
    keys.iter()
        .map(|key| format!("{} {}", text(key, "kid"), text(key, "state")))
        .collect()
}

async fn refused(home: &Home, arguments: &[&str], why: &str) {
    let ran = home.run(arguments, "").await;
    assert_eq!(ran.status.code(), Some(2), "{arguments:?} {ran:?}");
    assert!(ran.stderr.contains(why), "{arguments:?} {ran:?}");
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?} {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// A key file as `doorward keys generate` writes it, whose key started signing this many seconds ago.
async fn signing_since(algorithm: &str, id: &str, seconds: u64) -> String {
    let home = Doorward::prepare(|_| {});
    let generate = ["keys", "generate", algorithm, "--id", id];
    home.run(&generate, "").await.ok();
    let made = fs::read_to_string(dir(&home).join(format!("{id}.pem"))).unwrap();
    let since = SystemTime::now() - Duration::from_secs(seconds);
    let since = humantime::format_rfc3339_seconds(since);
    made.lines()
        .map(|line| match line.starts_with("not-before:") {
            true => format!("not-before: {since}\n"),
            false => format!("{line}\n"),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn generate_makes_a_first_key_of_every_algorithm() {
    for algorithm in ALGORITHMS {
        let home = Doorward::prepare(|_| {});
        let made = home.run(&["keys", "generate", algorithm], "").await.ok();
        let listed = list(&home).await;
        assert_eq!(listed.len(), 1, "{listed:?}");
        let id = listed[0]["kid"].as_str().unwrap();
        assert!(made.stdout.contains(id), "{made:?}");
        assert_eq!(
            (&listed[0]["alg"], &listed[0]["state"]),
            (&algorithm.into(), &"signing".into())
        );
        let since = listed[0]["not_before"].as_u64().unwrap();
        assert!((now() - 30..=now()).contains(&since), "{listed:?}");
        let files: Vec<_> = fs::read_dir(dir(&home)).unwrap().flatten().collect();
        let [file] = &*files else {
            panic!("{files:?}");
        };
        let end = if algorithm == "HS256" { "jwk" } else { "pem" };
        assert_eq!(file.file_name().to_str(), Some(&*format!("{id}.{end}")));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let mode = fs::metadata(dir(&home)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        let text = home.run(&["keys", "list"], "").await.ok().stdout;
        for said in ["KID", "SIGNS FROM", id, algorithm, "signing"] {
            assert!(text.contains(said), "{text}");
        }
        // No command shows the private key.
        let content = fs::read_to_string(file.path()).unwrap();
        let longest = content.lines().max_by_key(|line| line.len()).unwrap();
        let piece = &longest[20..40];
        assert!(!format!("{}{text}{listed:?}", made.stdout).contains(piece));
        refused(
            &home,
            &["keys", "generate", algorithm],
            "`doorward keys rotate` makes the next",
        )
        .await;
    }
    let home = Doorward::prepare(|_| {});
    for (arguments, why) in [
        (
            &["keys", "generate", "none"][..],
            "\"none\" is none of: HS256",
        ),
        (&["keys", "generate", "es256"], "\"es256\" is none of"),
        (&["keys", "generate", "RS1"], "is none of"),
        (
            &["keys", "generate", "ES256", "--id", "../x"],
            "--id: 1 to 64",
        ),
        (&["keys", "generate", "ES256", "--id", ""], "--id: 1 to 64"),
    ] {
        refused(&home, arguments, why).await;
    }
    assert!(!dir(&home).exists() || fs::read_dir(dir(&home)).unwrap().count() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_staged_signs_and_is_retired() {
    let home = prepared(|_| {}).await;
    home.run(&["keys", "generate", "ES256", "--id", "one"], "")
        .await
        .ok();
    refused(&home, &["keys", "retire", "one"], "no other key can").await;
    refused(&home, &["keys", "retire", "one", "--now"], "no other key").await;
    refused(&home, &["keys", "retire", "two"], "there is no key \"two\"").await;
    refused(
        &home,
        &["keys", "rotate", "--after", "soon"],
        "--after \"soon\"",
    )
    .await;
    refused(&home, &["keys", "rotate", "--id", "one"], "exists already").await;

    let rotate = ["keys", "rotate", "--id", "two"];
    let made = home.run(&rotate, "").await.ok();
    assert!(!made.stderr.contains("warning"), "{made:?}");
    assert_eq!(states(&home).await, ["one signing", "two staged"]);
    let staged = list(&home).await[1]["not_before"].as_u64().unwrap();
    assert!(staged > now() + 590, "ten minutes: {staged}");
    refused(
        &home,
        &["keys", "rotate", "--id", "three"],
        "two is staged already",
    )
    .await;
    refused(&home, &["keys", "retire", "two"], "is staged").await;
    home.run(&["keys", "retire", "two", "--now"], "").await.ok();
    assert_eq!(states(&home).await, ["one signing"]);

    let doorward = home.serve().await;
    let old = log_in(doorward.http, BOB).await;
    let rotate = ["keys", "rotate", "--id", "two", "--after", "3s"];
    let made = doorward.run(&rotate, "").await.ok();
    assert!(
        made.stderr.contains("--after 2m is long enough"),
        "{made:?}"
    );
    let new = until("the new key", FOLLOWED, async || {
        let bearer = log_in(doorward.http, BOB).await;
        (header_of(&bearer, "kid") == "two").then_some(bearer)
    })
    .await;
    let home = doorward.home();
    let listed = list(home).await;
    assert_eq!(states(home).await, ["one verifying", "two signing"]);
    // A day, which is the lifetime of its last token, and twice the clock leeway.
    let ends = listed[1]["not_before"].as_u64().unwrap() + 24 * 60 * 60 + 60;
    assert_eq!(listed[0]["until"].as_u64(), Some(ends));
    let exported = home.run(&["keys", "export"], "").await.ok().stdout;
    let published = send(doorward.http, "GET", "/.well-known/jwks.json", &[], "").await;
    assert_eq!(exported.trim_end(), published.text());
    assert_eq!(exported.matches("\"kid\"").count(), 2);
    assert!(!exported.contains("\"d\""), "{exported}");

    refused(home, &["keys", "retire", "one"], "--now revokes them").await;
    assert_eq!(refusal(doorward.http, &old).await, None);
    home.run(&["keys", "retire", "one", "--now"], "").await.ok();
    until("the end of a key", Duration::from_secs(4), async || {
        (refusal(doorward.http, &old).await.as_deref() == Some("token-unknown-key")).then_some(())
    })
    .await;
    let said = check(doorward.grpc, "GET", "/profile", &old).await;
    assert_eq!(said.status.unwrap().code, 16, "UNAUTHENTICATED");
    let headers = [
        ("authorization", &*old),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "example.com"),
        ("x-forwarded-uri", "/profile"),
    ];
    let asked = send(doorward.http, "GET", "/auth/forward", &headers, "").await;
    assert_eq!(asked.status, 401, "{asked:?}");
    doorward
        .logged("the reason", |line| {
            line["fields"]["reason"] == "token-unknown-key"
        })
        .await;
    assert_eq!(refusal(doorward.http, &new).await, None);
    assert_eq!(states(home).await, ["two signing"]);
}

/// Keys made by openssl are used unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn keys_made_by_openssl_are_used_unchanged() {
    let rsa = openssl(&[
        "genpkey",
        "-quiet",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
    ]);
    let curve = |name: &str| {
        let curve = format!("ec_paramgen_curve:{name}");
        openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", &curve])
    };
    for (text, algorithm) in [
        (rsa.clone(), "RS256"),
        (format!("alg: RS384\n{rsa}"), "RS384"),
        (format!("alg: PS256\n{rsa}"), "PS256"),
        (curve("P-256"), "ES256"),
        (curve("P-384"), "ES384"),
        (openssl(&["genpkey", "-algorithm", "ED25519"]), "EdDSA"),
        (openssl(&["genrsa", "-traditional", "2048"]), "RS256"),
        (
            openssl(&["ecparam", "-genkey", "-name", "prime256v1", "-noout"]),
            "ES256",
        ),
        (
            openssl(&["ecparam", "-genkey", "-name", "secp384r1", "-noout"]),
            "ES384",
        ),
    ] {
        let home = prepared(|_| {}).await;
        put(&dir(&home), "own-key.pem", &text);
        let doorward = home.serve().await;
        let bearer = log_in(doorward.http, BOB).await;
        assert_eq!(header_of(&bearer, "alg"), algorithm);
        assert_eq!(header_of(&bearer, "kid"), "own-key");
        assert_eq!(refusal(doorward.http, &bearer).await, None, "{algorithm}");
        // A Doorward with only the public key verifies the tokens.
        let private = doorward.home().dir().join("data/keys/own-key.pem");
        let public = openssl(&["pkey", "-in", private.to_str().unwrap(), "-pubout"]);
        let verifier = prepared(|_| {}).await;
        put(
            &dir(&verifier),
            "own-key.pem",
            &format!("alg: {algorithm}\n{public}"),
        );
        let verifier = verifier.serve().await;
        assert_eq!(refusal(verifier.http, &bearer).await, None, "{algorithm}");
        assert_eq!(header_of(&log_in(verifier.http, BOB).await, "alg"), "HS256");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_refused_say_why() {
    let short = openssl(&[
        "genpkey",
        "-quiet",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:1024",
    ]);
    let curve = |name: &str| {
        let curve = format!("ec_paramgen_curve:{name}");
        openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", &curve])
    };
    let public = {
        let scratch = tempfile::tempdir().unwrap();
        put(scratch.path(), "k", &short);
        let file = scratch.path().join("k");
        openssl(&["pkey", "-in", file.to_str().unwrap(), "-pubout"])
    };
    let bits = "has 1024 bits; RSA needs at least 2048 (RFC 7518, 3.3)";
    for (text, why) in [
        (short.clone(), bits),
        (format!("alg: PS256\n{short}"), bits),
        (openssl(&["genrsa", "-traditional", "1024"]), bits),
        (public, bits),
        (curve("P-521"), "missing, malformed"),
        (curve("secp256k1"), "missing, malformed"),
        (
            format!("alg: RS256\n{}", curve("P-256")),
            "is no key for RS256",
        ),
        (
            format!("alg: ES384\n{}", curve("P-256")),
            "is no key for ES384",
        ),
        (
            format!("alg: none\n{}", curve("P-256")),
            "does not name an algorithm",
        ),
        (
            format!("not-before: tomorrow\n{}", curve("P-256")),
            "not-before: 2026-01-31T00:00:00Z",
        ),
        (
            format!("{}{}", curve("P-256"), curve("P-256")),
            "is neither a JWK",
        ),
        ("not a key".to_owned(), "is neither a JWK"),
        (String::new(), "is neither a JWK"),
    ] {
        let home = Doorward::prepare(|_| {});
        put(&dir(&home), "k.pem", &text);
        for command in [&["serve"][..], &["config", "check"], &["keys", "list"]] {
            let ran = home.run(command, "").await;
            assert_eq!(ran.status.code(), Some(2), "{why}: {ran:?}");
            assert!(
                ran.stderr.contains(why) && ran.stderr.contains("keys/k.pem"),
                "{why}: {ran:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_replaces_a_secret() {
    let home = prepared(|settings| {
        settings.env("JWT_SECRET", FIRST);
    })
    .await;
    let doorward = home.serve().await;
    let old = log_in(doorward.http, BOB).await;
    assert_eq!(header_of(&old, "alg"), "HS256");

    // Every replica and verifier must know the key before it signs.
    let generate = ["keys", "generate", "ES256", "--id", "later"];
    doorward.run(&generate, "").await.ok();
    let home = doorward.home();
    let listed = list(home).await;
    assert_eq!(listed[1]["state"], "staged");
    let wait = listed[1]["not_before"].as_u64().unwrap() - now();
    assert!((100..=120).contains(&wait), "{wait}");
    let other = header_of(&log_in(doorward.http, BOB).await, "alg");
    assert_eq!(other, "HS256");
    let retire = ["keys", "retire", "later", "--now"];
    home.run(&retire, "").await.ok();

    let key = signing_since("ES256", "at-once", 10).await;
    put(&dir(home), "at-once.pem", &key);
    let new = until("a token of the key", FOLLOWED, async || {
        let bearer = log_in(doorward.http, BOB).await;
        (header_of(&bearer, "alg") == "ES256").then_some(bearer)
    })
    .await;
    assert_eq!(header_of(&new, "kid"), "at-once");
    for bearer in [&old, &new] {
        assert_eq!(refusal(doorward.http, bearer).await, None);
    }
    let published = send(doorward.http, "GET", "/.well-known/jwks.json", &[], "").await;
    assert_eq!(published.json()["keys"].as_array().unwrap().len(), 1);
    let secret = header_of(&old, "kid");
    refused(home, &["keys", "retire", &secret, "--now"], "jwt.secret").await;

    // This key replaced the secret longer ago than a token lives: tokens of the secret are refused, whatever they
    // claim.
    let key = signing_since("ES256", "long-ago", 25 * 60 * 60).await;
    put(&dir(home), "at-once.pem", &key);
    until("the end of the secret", FOLLOWED, async || {
        let refused = refusal(doorward.http, &old).await;
        (refused.as_deref() == Some("token-unknown-key")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_secret_signs_and_the_previous_one_verifies() {
    let scratch = tempfile::tempdir().unwrap();
    let own = scratch.path().join("jwt");
    let previous = scratch.path().join("previous");
    fs::write(&own, format!("{FIRST}\n")).unwrap();
    fs::write(&previous, format!("{THIRD}\n")).unwrap();
    let doorward = prepared(|settings| {
        settings
            .env("JWT_SECRET_FILE", own.to_str().unwrap())
            .env("JWT_SECRET_PREVIOUS_FILE", previous.to_str().unwrap());
    })
    .await
    .serve()
    .await;
    let old = log_in(doorward.http, BOB).await;

    // Both secrets are replaced while Doorward serves. After the first replacement the settings contradict each other,
    // so nothing changes.
    fs::write(&previous, format!("{FIRST}\n")).unwrap();
    doorward
        .logged("what does not hold together", |line| {
            let cause = line["fields"]["cause"].as_str().unwrap_or_default();
            cause.contains("is the secret that signs")
        })
        .await;
    assert_eq!(refusal(doorward.http, &old).await, None);
    fs::write(&own, format!("{SECOND}\n")).unwrap();
    let new = until("the new secret", FOLLOWED, async || {
        let bearer = log_in(doorward.http, BOB).await;
        (header_of(&bearer, "kid") != header_of(&old, "kid")).then_some(bearer)
    })
    .await;
    for bearer in [&old, &new] {
        assert_eq!(refusal(doorward.http, bearer).await, None);
    }
    // Both are accepted after a restart.
    let (home, _) = doorward.stop().await;
    let doorward = home.serve().await;
    for bearer in [&old, &new] {
        assert_eq!(refusal(doorward.http, bearer).await, None);
    }
    // The previous secret signs nothing, and its tokens are refused once it is removed.
    fs::write(&previous, format!("{THIRD}\n")).unwrap();
    until("the end of the old secret", FOLLOWED, async || {
        let refused = refusal(doorward.http, &old).await;
        (refused.as_deref() == Some("token-unknown-key")).then_some(())
    })
    .await;
    assert_eq!(refusal(doorward.http, &new).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn weak_secrets_are_refused() {
    for (weak, why) in [
        ("short".to_owned(), "has 5 bytes; HS256 needs at least 32"),
        ("x".repeat(31), "has 31 bytes"),
        ("a".repeat(64), "is easy to guess"),
        ("abcdefghijkl".repeat(4), "is easy to guess"),
        (
            "your-256-bit-secret-and-some-more-of-it".into(),
            "is easy to guess",
        ),
        (
            "my-Super-SECRET-jwt-signing-key-2026".into(),
            "is easy to guess",
        ),
    ] {
        for name in ["JWT_SECRET", "JWT_SECRET_PREVIOUS"] {
            let home = Doorward::prepare(|settings| {
                settings.env("JWT_SECRET", FIRST).env(name, &weak);
            });
            let ran = home.run(&["serve"], "").await;
            assert_eq!(ran.status.code(), Some(2), "{ran:?}");
            let fault = format!("{name}: {why}");
            assert!(ran.stderr.contains(&fault), "{fault}\n{ran:?}");
            assert!(!ran.stderr.contains(&weak), "{ran:?}");
        }
    }
}

/// Updates a directory like kubelet: files are links through `..data`, and one rename replaces that link.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_mount_is_followed() {
    let mount = tempfile::tempdir().unwrap();
    let one = signing_since("ES256", "one", 100).await;
    let two = signing_since("EdDSA", "two", 50).await;
    let version = |name: &str, files: &[(&str, &str)]| {
        for (file, text) in files {
            put(&mount.path().join(name), file, text);
        }
        symlink(name, mount.path().join("..data_tmp")).unwrap();
        fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
        for (file, _) in files {
            let link = mount.path().join(file);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(file), link).unwrap();
            }
        }
    };
    version("..2026_11_20", &[("one.pem", &one)]);
    let doorward = prepared(|settings| {
        settings.env("DOORWARD_JWT__KEYS_DIR", mount.path().to_str().unwrap());
    })
    .await
    .serve()
    .await;
    let old = log_in(doorward.http, BOB).await;
    assert_eq!(header_of(&old, "kid"), "one");

    version("..2026_11_21", &[("one.pem", &one), ("two.pem", &two)]);
    fs::remove_dir_all(mount.path().join("..2026_11_20")).unwrap();
    let new = until("the new key", FOLLOWED, async || {
        let bearer = log_in(doorward.http, BOB).await;
        (header_of(&bearer, "kid") == "two").then_some(bearer)
    })
    .await;
    for bearer in [&old, &new] {
        assert_eq!(refusal(doorward.http, bearer).await, None);
    }

    // A broken file changes nothing and is named in the log.
    version("..2026_11_22", &[("one.pem", &one), ("two.pem", "broken")]);
    doorward
        .logged("the broken file", |line| {
            let cause = line["fields"]["cause"].as_str().unwrap_or_default();
            cause.contains("two.pem: is neither a JWK")
        })
        .await;
    for bearer in [&old, &new] {
        assert_eq!(refusal(doorward.http, bearer).await, None);
    }

    // kubelet removes the link of a removed file.
    version("..2026_11_23", &[("two.pem", &two)]);
    fs::remove_file(mount.path().join("one.pem")).unwrap();
    until("the end of the first key", FOLLOWED, async || {
        let refused = refusal(doorward.http, &old).await;
        (refused.as_deref() == Some("token-unknown-key")).then_some(())
    })
    .await;
    assert_eq!(refusal(doorward.http, &new).await, None);
}

/// A key in the environment or in one mounted file needs no key directory.
#[tokio::test(flavor = "multi_thread")]
async fn one_key_can_be_set_without_a_key_directory() {
    let pem = signing_since("ES256", "mounted", 60).await;
    let mount = tempfile::NamedTempFile::new().unwrap();
    fs::write(mount.path(), &pem).unwrap();
    let file = mount.path().display().to_string();
    for (name, value) in [("JWT_KEY", &pem), ("JWT_KEY_FILE", &file)] {
        let doorward = prepared(|settings| {
            settings.env(name, value.clone());
        })
        .await
        .serve()
        .await;
        let bearer = log_in(doorward.http, BOB).await;
        assert_eq!(header_of(&bearer, "alg"), "ES256", "{name}");
        assert_eq!(header_of(&bearer, "kid"), "mounted", "{name}");
        assert_eq!(refusal(doorward.http, &bearer).await, None, "{name}");
        let published = send(doorward.http, "GET", "/.well-known/jwks.json", &[], "").await;
        assert!(
            published.text().contains("mounted"),
            "{name}: {published:?}"
        );
        // The key signs alone, so Doorward made no secret.
        assert!(!doorward.home().dir().join("data/jwt.secret").exists());
    }

    let broken = Doorward::prepare(|settings| {
        settings.env("JWT_KEY", pem.replace("-----BEGIN", "-----BEGUN"));
    });
    let ran = broken.run(&["config", "check"], "").await;
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert!(ran.stderr.contains("JWT_KEY: "), "{ran:?}");
    let secret = pem.lines().find(|line| line.len() == 64).unwrap();
    assert!(!ran.stderr.contains(&secret[..16]), "{ran:?}");
}
