//! `make demo`: starts Doorward, Envoy and a service on this machine, and shows the answer to each kind of request.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a demo prints, and panics if a part does not start"
)]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::{
    env, fs,
    io::{self, IsTerminal as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    panic,
    path::PathBuf,
    pin::pin,
    process::ExitCode,
};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use clap::Parser;
use harness::{Doorward, Envoy, EnvoyConfig, Reply, Service};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

const GATEWAY: u16 = 8080;
const SERVICE: u16 = 8081;
const GRPC: u16 = 9001;
const HTTP: u16 = 9002;
const OPS: u16 = 9003;
const ADMIN: u16 = 9901;

const ADA: User = User {
    name: "ada",
    password: "analytical-engine",
};
const BOB: User = User {
    name: "bob",
    password: "builder-of-things",
};

/// Start Doorward, Envoy and a service, and show the answer to each kind of request.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Path of the Doorward binary.
    #[arg(long, value_name = "PATH")]
    doorward: PathBuf,
    /// Exit after the requests; the exit status is 0 if every answer is as expected.
    #[arg(long)]
    once: bool,
    /// Use free ports instead of those in `envoy/envoy.yaml`.
    #[arg(long)]
    free_ports: bool,
}

struct User {
    name: &'static str,
    password: &'static str,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    panic::set_hook(Box::new(|fault| {
        eprintln!(
            "\n{}",
            fault.payload_as_str().unwrap_or("The demo has failed.")
        );
    }));
    if !arguments.free_ports && !ports_are_free() {
        return ExitCode::FAILURE;
    }
    let mut stop = match stop_signal() {
        Ok(stop) => pin!(stop),
        Err(fault) => {
            eprintln!("Signals cannot be awaited: {fault}");
            return ExitCode::FAILURE;
        }
    };
    let style = Style::of_terminal();
    let once = arguments.once;
    let walked = async {
        let demo = Demo::start(arguments).await;
        let failed = demo.walk(style).await;
        (demo, failed)
    };
    let stopped = "\nStopped.";
    let (demo, failed) = tokio::select! {
        walked = walked => walked,
        () = &mut stop => {
            println!("{stopped}");
            return ExitCode::FAILURE;
        }
    };
    if !once {
        demo.invite(style);
        stop.await;
        println!("{stopped}");
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// All running parts; dropping it stops them.
struct Demo {
    envoy: Envoy,
    doorward: Doorward,
    _service: Service,
}

impl Demo {
    async fn start(arguments: Arguments) -> Self {
        let Arguments {
            doorward,
            once: _,
            free_ports,
        } = arguments;
        let on = |port: u16| local(if free_ports { 0 } else { port });
        let rules = harness::repository().join("examples/doorward.toml");
        let rules = fs::read_to_string(&rules)
            .unwrap_or_else(|fault| panic!("{}: {fault}", rules.display()));
        let binary = doorward
            .canonicalize()
            .unwrap_or_else(|fault| panic!("{}: {fault}", doorward.display()));

        let service = Service::start_at(on(SERVICE)).await;
        println!("{:<13} listens on {}", "The service", service.address);
        let doorward = Doorward::start(|settings| {
            settings
                .binary(binary)
                .env("DOORWARD_LISTEN__GRPC", on(GRPC).to_string())
                .env("DOORWARD_LISTEN__HTTP", on(HTTP).to_string())
                .env("DOORWARD_LISTEN__OPS", on(OPS).to_string())
                .toml(rules);
        })
        .await;
        println!(
            "{:<13} listens on {}, keeps its data in {}",
            "Doorward",
            doorward.grpc,
            doorward.home().dir().display()
        );
        doorward
            .add_user(ADA.name, ADA.password, &["--admin"])
            .await;
        doorward.add_user(BOB.name, BOB.password, &[]).await;
        let mut config = EnvoyConfig::committed();
        if free_ports {
            config = config
                .free_ports()
                .doorward(doorward.grpc)
                .service(service.address);
        }
        let envoy = Envoy::start(Envoy::NEWEST, &config).await;
        let name = format!("Envoy {}", Envoy::NEWEST);
        println!("{name:<13} listens on {}", envoy.edge);
        println!(
            "{:<13} {}, an administrator, with the password {}; {} with {}",
            "Users", ADA.name, ADA.password, BOB.name, BOB.password
        );
        Self {
            envoy,
            doorward,
            _service: service,
        }
    }

    /// Sends all requests, and returns the number of unexpected answers.
    async fn walk(&self, style: Style) -> usize {
        let mut walk = Walk {
            gateway: self.envoy.edge,
            style,
            taken: 0,
            failed: 0,
        };
        walk.all().await;
        let Walk { taken, failed, .. } = walk;
        if failed == 0 {
            println!(
                "\n{}",
                style.good(&format!("All {taken} answers were as expected."))
            );
        } else {
            println!(
                "\n{}",
                style.bad(&format!(
                    "{failed} of {taken} answers were not as expected."
                ))
            );
            println!("\nWhat Doorward wrote:\n{}", self.doorward.output());
        }
        failed
    }

    fn invite(&self, style: Style) {
        let gateway = self.envoy.edge;
        let ops = self.doorward.ops;
        let log = self.doorward.log_file();
        let (name, password) = (BOB.name, BOB.password);
        println!(
            "\n{}\n",
            style.bold("Everything stays up until Ctrl-C. To try in another terminal:")
        );
        println!(
            "\
TOKEN=$(curl -sS -X POST -u {name}:{password} http://{gateway}/login)
curl -i -H \"Authorization: Bearer $TOKEN\" http://{gateway}/profile
curl -i -H \"Authorization: Bearer $TOKEN\" http://{gateway}/admin/users
curl -i -H \"Authorization: Bearer $TOKEN\" -H 'X-Auth-User: ada' http://{gateway}/echo
curl -i http://{gateway}/profile

ADMIN=$(curl -sS -X POST -u {}:{} http://{gateway}/login)
curl -i -H \"Authorization: Bearer $ADMIN\" http://{gateway}/admin/users

curl -i http://{ops}/readyz
tail -f {}
",
            ADA.name,
            ADA.password,
            log.display()
        );
    }
}

/// The requests, one after the other.
struct Walk {
    gateway: SocketAddr,
    style: Style,
    taken: usize,
    failed: usize,
}

impl Walk {
    async fn all(&mut self) {
        let reply = self
            .step(
                "Bob logs in",
                Ask::post("/login").basic(&BOB),
                "200 and a token",
                |reply| reply.status == 200 && bearer(reply).is_some(),
            )
            .await;
        let bob = bearer(&reply).unwrap_or_default().to_owned();
        if let Some(claims) = claims(&bob) {
            println!(
                "     the token says: {}",
                self.style.faint(&claims.to_string())
            );
        }

        self.step(
            "Bob's profile: the service is told who is asking",
            Ask::get("/profile").bearer(&bob),
            "200 for bob, no administrator",
            |reply| reply.status == 200 && is_bob(&json_of(reply)),
        )
        .await;
        self.step(
            "Bob asks for what only administrators get",
            Ask::get("/admin/users").bearer(&bob),
            "403, insufficient_scope",
            |reply| reply.status == 403 && challenge(reply).contains("insufficient_scope"),
        )
        .await;
        self.step(
            "Bob claims to be ada, in headers of his own",
            Ask::get("/profile")
                .bearer(&bob)
                .header("x-auth-user", "ada")
                .header("x-auth-admin", "true"),
            "200, and still for bob",
            |reply| reply.status == 200 && is_bob(&json_of(reply)),
        )
        .await;
        self.step(
            "Bob edits his token to say that he is an administrator",
            Ask::get("/admin/users").bearer(&promoted(&bob)),
            "401, invalid_token",
            |reply| reply.status == 401 && challenge(reply).contains("invalid_token"),
        )
        .await;

        let reply = self
            .step(
                "Ada logs in",
                Ask::post("/login").basic(&ADA),
                "200 and a token",
                |reply| reply.status == 200 && bearer(reply).is_some(),
            )
            .await;
        let ada = bearer(&reply).unwrap_or_default().to_owned();
        self.step(
            "Ada is an administrator",
            Ask::get("/admin/users").bearer(&ada),
            "200 from the service",
            |reply| reply.status == 200 && json_of(reply)["users"].is_array(),
        )
        .await;

        self.step(
            "A public route needs no token, and forged identity headers are removed",
            Ask::get("/healthz").header("x-auth-user", "ada"),
            "200 without any x-auth-… header",
            |reply| reply.status == 200 && !reply.text().contains("x-auth-"),
        )
        .await;
        self.step(
            "Everything else needs a token",
            Ask::get("/profile"),
            "401 that asks for a token, without an error code",
            |reply| {
                let challenge = challenge(reply);
                reply.status == 401
                    && challenge.starts_with("Bearer ")
                    && !challenge.contains("error")
            },
        )
        .await;
        let wrong = User {
            name: BOB.name,
            password: "a-wrong-password",
        };
        self.step(
            "A wrong password",
            Ask::post("/login").basic(&wrong),
            "401, Invalid credentials",
            |reply| reply.status == 401 && reply.text().contains("Invalid credentials"),
        )
        .await;
    }

    async fn step(
        &mut self,
        title: &str,
        ask: Ask,
        expected: &str,
        holds: impl FnOnce(&Reply) -> bool,
    ) -> Reply {
        let style = self.style;
        self.taken += 1;
        println!("\n{}", style.bold(&format!("{:>3}. {title}", self.taken)));
        println!("     → {} {}", ask.method, ask.path);
        for (name, value) in &ask.headers {
            println!("     → {name}: {}", style.faint(&shortened(value)));
        }
        if let Some(note) = &ask.note {
            println!("       {}", style.faint(note));
        }
        let headers: Vec<_> = ask
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let reply = harness::send(self.gateway, ask.method, &ask.path, &headers, "").await;
        println!("     ← {}", style.bold(&reply.status.to_string()));
        for name in ["authorization", "www-authenticate", "allow", "retry-after"] {
            for value in reply.header_values(name) {
                println!("     ← {name}: {}", style.faint(&shortened(value)));
            }
        }
        for line in String::from_utf8_lossy(&reply.body).lines() {
            println!("     ← {}", shortened(line));
        }
        if holds(&reply) {
            println!("     {} {expected}", style.good("✓"));
        } else {
            self.failed += 1;
            println!("     {} expected: {expected}", style.bad("✗"));
        }
        reply
    }
}

/// One request.
struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    note: Option<String>,
}

impl Ask {
    fn get(path: &str) -> Self {
        Self {
            method: "GET",
            path: path.to_owned(),
            headers: Vec::new(),
            note: None,
        }
    }

    fn post(path: &str) -> Self {
        Self {
            method: "POST",
            ..Self::get(path)
        }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn basic(self, user: &User) -> Self {
        let pair = BASE64_STANDARD.encode(format!("{}:{}", user.name, user.password));
        self.header("authorization", format!("Basic {pair}"))
            .note(format!("{}:{} in base64", user.name, user.password))
    }

    /// Adds a line about something that the headers do not show.
    fn note(mut self, note: String) -> Self {
        self.note = Some(note);
        self
    }

    fn bearer(self, token: &str) -> Self {
        let claims = claims(token).unwrap_or_default();
        let short = json!({ "username": claims["username"], "admin": claims["admin"] });
        self.header("authorization", format!("Bearer {token}"))
            .note(format!("a token that says {short}"))
    }
}

fn is_bob(profile: &Value) -> bool {
    profile["user"] == "bob" && profile["admin"] == "false"
}

/// The body as JSON. A body that is not JSON becomes `null`, so the check of the answer fails and the demo continues.
fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}

fn bearer(reply: &Reply) -> Option<&str> {
    reply.header("authorization")?.strip_prefix("Bearer ")
}

fn challenge(reply: &Reply) -> &str {
    reply.header("www-authenticate").unwrap_or_default()
}

fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// The token with changed claims and the old signature.
fn promoted(token: &str) -> String {
    let mut claims = claims(token).unwrap_or_else(|| json!({}));
    claims["admin"] = json!(true);
    claims["roles"] = json!(["admin"]);
    let payload = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    let parts: Vec<_> = token.split('.').collect();
    match parts.as_slice() {
        [header, _, signature] => format!("{header}.{payload}.{signature}"),
        _ => payload,
    }
}

/// The text with the middle of every token left out.
fn shortened(text: &str) -> String {
    let words: Vec<_> = text
        .split(' ')
        .map(|word| {
            match word
                .char_indices()
                .nth(10)
                .zip(word.char_indices().nth_back(5))
            {
                Some(((head, _), (tail, _)))
                    if word.len() > 60 && word.matches('.').count() == 2 =>
                {
                    format!("{}…{}", &word[..head], &word[tail..])
                }
                _ => word.to_owned(),
            }
        })
        .collect();
    words.join(" ")
}

/// Whether the terminal shows colours.
#[derive(Clone, Copy)]
struct Style(bool);

impl Style {
    fn of_terminal() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(io::stdout().is_terminal() && !refused)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Reports ports that are taken before anything starts: Envoy would silently share its port with another Envoy.
fn ports_are_free() -> bool {
    let needed = [
        (GATEWAY, "Envoy"),
        (ADMIN, "the admin interface of Envoy"),
        (SERVICE, "the service"),
        (GRPC, "Doorward"),
        (HTTP, "Doorward for other gateways"),
        (OPS, "the health of Doorward"),
    ];
    let mut free = true;
    for (port, what) in needed {
        if let Err(fault) = TcpListener::bind(local(port)) {
            eprintln!("Port {port} of 127.0.0.1 is needed for {what}: {fault}");
            free = false;
        }
    }
    if !free {
        eprintln!("Stop what listens there and start the demo again.");
    }
    free
}

/// Resolves when a signal asks this program to stop.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
