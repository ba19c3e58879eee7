//! Paths as services are known to read them: Caddy ignores case by Unicode folding, Python's `re` and `str` fold more,
//! `urlsplit` reads a host after two slashes, Rails removes an extension, and Windows removes trailing dots and spaces.

use std::{collections::BTreeSet, fmt::Write as _, process::Command};

use doorward::domain::path::{Path, Tolerance};
use futures_util::future::join_all;

use crate::{
    edges::Edge,
    front::{ADA, BOB, Front},
    harness::{Doorward, Envoy, EnvoyConfig, Flask, Gateway, Service, program, send_bytes},
};

const RULES: &str = "
    [[route]]
    path = '/login'
    allow = 'login'
    [[route]]
    path = '/*'
    allow = 'public'
    [[route]]
    path = '/admin/*'
    allow = 'role:admin'
";

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'/' | b'a'..=b'z' | b'A'..=b'Z' => escaped.push(char::from(byte)),
            _ => write!(escaped, "%{byte:02X}").unwrap(),
        }
    }
    escaped
}

fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("{answer:?}"))
}

async fn get(edge: std::net::SocketAddr, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    send_bytes(edge, request.as_bytes()).await
}

/// Every character that some mapping turns into an ASCII letter, at every place of the path.
#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_reaches_caddys_handler_for_administrators() {
    let (public, admin) = (Service::start().await, Service::start().await);
    let (own, other) = (public.address.port(), admin.address.port());
    let change = |text: String| {
        let from = format!("\t\t\treverse_proxy 127.0.0.1:{own}\n");
        assert!(text.contains(&from), "{text}");
        let to = format!(
            "\t\t\t@admin path /admin/* /kiss/*\n\t\t\treverse_proxy @admin 127.0.0.1:{other}\n{from}"
        );
        text.replace(&from, &to)
    };
    let rules = format!("{RULES}[[route]]\npath = '/kiss/*'\nallow = 'role:admin'\n");
    let edge = Edge::Http(Gateway::Caddy);
    let setup = edge.open(&rules, public.address, change).await;
    let letters = ('\u{80}'..=char::MAX).filter(|character| {
        let lower = character.to_lowercase();
        let mut mapped = lower.chain(character.to_uppercase());
        mapped.any(|mapped| mapped.is_ascii())
    });
    let more = [
        '\u{ff41}',
        '\u{ff49}',
        '\u{1d422}',
        '\u{2170}',
        '\u{ad}',
        '\u{200b}',
    ];
    let letters: BTreeSet<char> = letters.chain(more).collect();
    assert!(letters.len() > 20, "{letters:?}");
    let mut targets = vec![
        "/ADMIN/users".to_owned(),
        "/Kiss/x".into(),
        "/%61dmin/x".into(),
    ];
    for letter in letters {
        for path in ["/admin/users", "/kiss/x"] {
            for place in 1..5 {
                let (before, after) = path.split_at(place);
                targets.push(escaped(&format!("{before}{letter}{}", &after[1..])));
                targets.push(escaped(&format!("{before}{letter}{}", after)));
                // Go also accepts the character unescaped.
                targets.push(format!("{before}{letter}{}", &after[1..]));
            }
        }
    }
    for some in targets.chunks(100) {
        let answers = join_all(some.iter().map(|target| get(setup.edge, target))).await;
        for (target, answer) in some.iter().zip(answers) {
            assert_eq!(admin.requests(), 0, "{target}: {answer}");
        }
    }
    // Caddy itself treats these characters as equal.
    let bearer = setup.admin().await;
    let request = format!(
        "GET /admin/users HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\nconnection: close\r\n\r\n"
    );
    let answer = send_bytes(setup.edge, request.as_bytes()).await;
    assert_eq!((status(&answer), admin.requests()), (200, 1), "{answer}");
    let before = public.requests();
    assert_eq!(status(&get(setup.edge, "/caf%C3%A9").await), 200);
    assert_eq!(public.requests(), before + 1);
}

/// Python as another implementation: characters that its case mappings, its `re.IGNORECASE` or its normal forms treat
/// as equal are equal in the loose reading.
#[test]
fn characters_that_python_reads_as_ascii_are_read_as_ascii() {
    const PROGRAM: &str = "
import re, sys, unicodedata
ascii = re.compile('[a-z]', re.IGNORECASE)
letters = [(letter, re.compile(letter, re.IGNORECASE)) for letter in 'abcdefghijklmnopqrstuvwxyz']
for code in range(0x80, sys.maxunicode + 1):
    if 0xd800 <= code < 0xe000:
        continue
    character = chr(code)
    made = {character.lower(), character.upper(), character.casefold(), character.title(), character.swapcase()}
    made |= {unicodedata.normalize(form, character) for form in ('NFC', 'NFD', 'NFKC', 'NFKD')}
    if ascii.fullmatch(character):
        made |= {letter for letter, matches in letters if matches.fullmatch(character)}
    for text in made:
        if text != character and text.isascii() and text.isprintable():
            print(f'{code:x} {text.encode().hex()}')
";
    let ran = Command::new(program("python3"))
        .args(["-c", PROGRAM])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let said = String::from_utf8(ran.stdout).unwrap();
    let loose = |text: &str| {
        let target: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        // Some become a slash, a backslash, a percent sign or a dot segment; Doorward refuses or judges them as such.
        Path::parse(format!("/x{target}").as_bytes(), Tolerance::default())
            .map(|path| path.loose().to_owned())
    };
    let mut seen = 0;
    for line in said.lines() {
        let (code, text) = line.split_once(' ').unwrap();
        let character = char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap();
        let bytes = (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16));
        let text = String::from_utf8(bytes.map(Result::unwrap).collect()).unwrap();
        seen += 1;
        match (loose(&character.to_string()), loose(&text)) {
            (Ok(of_character), Ok(of_text)) => {
                assert_eq!(of_character, of_text, "{character:?} is {text:?} to Python");
            }
            (Ok(of_character), Err(_)) => {
                // Escaped, a slash or a percent sign is refused; the character itself is judged as a slash or percent
                // sign.
                assert!(
                    text.contains(['/', '%']),
                    "{character:?} is {text:?}: {of_character}"
                );
                assert!(
                    !of_character.contains(character),
                    "{character:?} is {text:?}"
                );
            }
            (Err(_), _) => {}
        }
    }
    assert!(seen > 1000, "{seen}");
}

/// Some services read a host after two slashes, and the path after that host.
#[tokio::test(flavor = "multi_thread")]
async fn no_host_in_a_path_bypasses_the_rule() {
    let rules = format!(
        "[paths]\ntolerate = ['double-slash', 'encoded-slash', 'semicolon', 'encoded-percent']\n{RULES}"
    );
    for edge in [
        Edge::Grpc(Envoy::OLDEST),
        Edge::Grpc(Envoy::NEWEST),
        Edge::Module(Envoy::NEWEST),
        Edge::Http(Gateway::OldestEnvoy),
        Edge::Http(Gateway::NewestEnvoy),
        Edge::Http(Gateway::Nginx),
        Edge::Http(Gateway::IngressNginx),
        Edge::Http(Gateway::Caddy),
        Edge::Http(Gateway::Haproxy),
        Edge::Http(Gateway::Traefik),
    ] {
        let service = Flask::start().await;
        let change = |text: String| {
            text.replace("normalize_path: true", "normalize_path: false")
                .replace("merge_slashes: true", "merge_slashes: false")
                .replace("action: REJECT_REQUEST", "action: KEEP_UNCHANGED")
                .replace(
                    "underscores_action: KEEP_UNCHANGED",
                    "underscores_action: ALLOW",
                )
        };
        let setup = edge.open(&rules, service.address, change).await;
        let targets = [
            "//x/admin",
            "///x/admin",
            "//x/admin?y",
            "//x//admin",
            "//admin/admin",
            "//user@x:80/admin",
            "/%2Fx/admin",
            "/%2fx/admin",
            "/%252fx/admin",
            "%2f/x/admin",
            "/\\x/admin",
            "\\\\x/admin",
            "/%5cx/admin",
            "/;/x/admin",
            "/;x/y/admin",
            "/%09/x/admin",
            "/%EF%BC%8Fx/admin",
            "http://h//x/admin",
        ];
        let answers = join_all(targets.iter().map(|target| get(setup.edge, target))).await;
        for (target, answer) in targets.iter().zip(answers) {
            // Some gateways change the path, and Doorward judges the changed one.
            let read = status(&answer) == 200 && answer.contains("users");
            assert!(!read, "{edge:?} {target}: {answer}");
        }
        assert!(service.ran().await.is_empty(), "{edge:?}");
        let bearer = setup.admin().await;
        let request = format!(
            "GET /admin HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\nconnection: close\r\n\r\n"
        );
        let answer = send_bytes(setup.edge, request.as_bytes()).await;
        assert_eq!(status(&answer), 200, "{edge:?} {answer}");
        assert_eq!(service.ran().await, ["ADMIN"], "{edge:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_also_judged_without_a_suffix_if_configured() {
    for (also, refused) in [
        ("", &[][..]),
        (
            "extension",
            &[
                "/admin.json",
                "/admin%2exml",
                "/admin.",
                "/admin.%20",
                "/ADMIN.json",
            ],
        ),
        (
            "trailing-dot",
            &["/admin.", "/admin%20", "/admin.%20", "/admin./users"],
        ),
    ] {
        let front = Front::open(
            Envoy::NEWEST,
            |settings| {
                settings.env("DOORWARD_PATHS__ALSO", also);
            },
            EnvoyConfig::untouched,
        )
        .await;
        let (ada, bob) = (front.bearer(ADA).await, front.bearer(BOB).await);
        let get = async |path: &str, bearer: &str| {
            let headers = [("authorization", bearer)];
            front.send("GET", path, &headers).await.status
        };
        for path in [
            "/admin.json",
            "/admin%2exml",
            "/admin.",
            "/admin%20",
            "/admin.%20",
            "/admin./users",
        ] {
            let expected = if refused.contains(&path) { 400 } else { 200 };
            assert_eq!(get(path, &bob).await, expected, "{also} {path}");
            assert_eq!(get(path, &ada).await, expected, "{also} {path}");
        }
        for path in refused {
            assert_eq!(get(path, &bob).await, 400, "{also} {path}");
        }
        assert_eq!(get("/admin/users", &ada).await, 200, "{also}");
        assert_eq!(get("/logo.png", &bob).await, 200, "{also}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_readings_are_named() {
    for (settings, said) in [
        ("paths.also = ['dots']", "\"dots\" is no reading of a path"),
        (
            "paths.also = ['trailing-dot']\n[[route]]\npath = '/a./b/*'\nallow = 'public'",
            "write \"/a/b\"",
        ),
    ] {
        let home = Doorward::prepare(|chosen| {
            chosen.toml(settings);
        });
        let ran = home.run(&["config", "check"], "").await;
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(
            !ran.status.success() && all.contains(said),
            "{settings}: {all}"
        );
    }
}
