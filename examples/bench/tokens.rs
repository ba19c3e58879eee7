//! Token algorithms: the cost of a check with a cached token and with a new token, at one Doorward per algorithm;
//! and, in this process, what verification costs beyond the signature itself.

use std::{
    fs,
    hint::black_box,
    num::NonZero,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, ensure};
use aws_lc_rs::{
    hmac,
    rsa::PublicKeyComponents,
    signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use comfy_table::{Table, presets::NOTHING};
use doorward::domain::{
    account::{Identity, Roles, Username},
    credential::Compact,
    key::{Algorithm, Key, KeyId},
    keyring::Keyring,
    revocation::{Generation, Revocations},
    token::{Signer, TokenTerms, UnixTime, Verifier},
};
use doorward_rules::private::keep;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{
    Arguments, Ratio, Round, binary,
    harness::Doorward,
    load::{Crowd, Load as _},
    median, number, right, round, sorted,
};

/// The first algorithm is the base of the comparison.
const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::Hs256,
    Algorithm::Rs256,
    Algorithm::Es256,
    Algorithm::EdDsa,
];

/// Tokens per algorithm that are shown again and again; Doorward's cache holds three times as many.
const HOT: usize = 10_000;

/// Tokens per algorithm that are shown once, over all rounds.
const FRESH: usize = 30_000;

/// Tokens per round that this process verifies: few enough that the cache keeps all of them.
const VERIFIED: usize = 4_000;

/// Verifications of one kind in a row, and how often each token is repeated.
const BATCH: usize = 100;
const AGAIN: u32 = 10;

pub async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let mut sides = Vec::new();
    for algorithm in ALGORITHMS {
        eprintln!("tokens: {HOT} of {algorithm} are made");
        sides.push(Side::new(algorithm, &dir)?);
    }
    for number in 1..=arguments.rounds {
        eprintln!(
            "tokens, in this process: round {number} of {}",
            arguments.rounds
        );
        for side in &mut sides {
            side.verify()?;
        }
    }

    let (mut doorwards, mut servers) = (Vec::new(), Vec::new());
    for side in &sides {
        let doorward = Doorward::start(|settings| {
            settings.binary(binary(arguments)).env(
                "DOORWARD_JWT__KEYS_DIR",
                side.keys_dir(&dir).display().to_string(),
            );
        })
        .await;
        let crowd = Crowd::open(doorward.grpc, &side.hot, arguments.streams).await?;
        servers.push((doorward.pid(), crowd));
        doorwards.push(doorward);
    }
    for (side, (_, crowd)) in sides.iter().zip(&mut servers) {
        let answers = crowd.run(LONGEST).await?;
        ensure!(
            answers == HOT as u64,
            "{}: only {answers} answers",
            side.algorithm
        );
        crowd.over_and_over(true);
    }
    let length = Duration::from_secs(arguments.seconds);
    for number in 1..=arguments.rounds {
        eprintln!("tokens, seen: round {number} of {}", arguments.rounds);
        for (side, server) in sides.iter_mut().zip(&mut servers) {
            side.seen.push(round(server, length).await?);
        }
    }

    let rounds = usize::try_from(arguments.rounds)?;
    for (side, (_, crowd)) in sides.iter_mut().zip(&mut servers) {
        eprintln!("tokens: {FRESH} of {} are made", side.algorithm);
        side.fresh = side.make(HOT..HOT + FRESH)?;
        crowd.over_and_over(false);
    }
    for number in 1..=arguments.rounds {
        eprintln!("tokens, never seen: round {number} of {}", arguments.rounds);
        for (side, server) in sides.iter_mut().zip(&mut servers) {
            let left = side.fresh.len();
            server
                .1
                .show(&side.fresh.split_off(left - FRESH / rounds))?;
            side.never_seen.push(round(server, length).await?);
        }
    }
    Ok(Report { sides })
}

/// How long it may take to show each token once.
const LONGEST: Duration = Duration::from_secs(60);

/// One algorithm and its results.
struct Side {
    algorithm: Algorithm,
    keys: Arc<Keyring>,
    bare: Bare,
    hot: Vec<Box<str>>,
    fresh: Vec<Box<str>>,
    verified: Vec<TokenCache>,
    seen: Vec<Round>,
    never_seen: Vec<Round>,
}

/// The cost of a verification in this process, in seconds: the median of batches, because other work disturbs only
/// some of them.
struct TokenCache {
    bare: f64,
    never_seen: f64,
    seen: f64,
}

fn now() -> anyhow::Result<UnixTime> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(UnixTime(since.as_secs()))
}

/// The defaults of `jwt.issuer` and the like.
pub fn terms() -> TokenTerms {
    TokenTerms {
        issuer: "doorward".into(),
        audience: "doorward".into(),
        lifetime: Duration::from_secs(24 * 60 * 60),
        leeway: Duration::from_secs(30),
    }
}

impl Side {
    /// Creates a key, also as a file, and tokens.
    fn new(algorithm: Algorithm, dir: &TempDir) -> anyhow::Result<Self> {
        let id = KeyId::parse(algorithm.name()).context("no name of a key")?;
        let text = Key::generate(&id, algorithm, now()?)?;
        let key = Key::read(algorithm.name(), text.as_bytes())?;
        let bare = Bare::of(&key, &text)?;
        let mut side = Self {
            algorithm,
            keys: Arc::new(Keyring::new(vec![key], terms().lasts())?),
            bare,
            hot: Vec::new(),
            fresh: Vec::new(),
            verified: Vec::new(),
            seen: Vec::new(),
            never_seen: Vec::new(),
        };
        let keys_dir = side.keys_dir(dir);
        fs::create_dir(&keys_dir)?;
        keep(&keys_dir.join("key"), &text)?;
        side.hot = side.make(0..HOT)?;
        Ok(side)
    }

    fn keys_dir(&self, dir: &TempDir) -> std::path::PathBuf {
        dir.path().join(self.algorithm.name())
    }

    /// An empty token cache.
    fn tokens(&self) -> Verifier {
        Verifier::of(&self.keys, terms())
    }

    /// Valid tokens for these users, created on all cores; all have the same length.
    fn make(&self, users: std::ops::Range<usize>) -> anyhow::Result<Vec<Box<str>>> {
        let (signer, now) = (&Signer::new(Arc::clone(&self.keys), terms()), now()?);
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let make = |user: usize| {
            let identity = Identity {
                subject: format!("{user:05}"),
                username: Username::parse(&format!("user-{user:05}")).context("no name")?,
                roles: Roles::default(),
            };
            let token = signer.issue(&identity, Generation(0), None, now)?;
            anyhow::Ok(Box::from(token.expose()))
        };
        thread::scope(|scope| {
            let parts: Vec<_> = (0..threads)
                .map(|part| {
                    let users = users.clone().skip(part).step_by(threads);
                    scope.spawn(move || users.map(make).collect::<anyhow::Result<Vec<_>>>())
                })
                .collect();
            let mut made = Vec::new();
            for part in parts {
                let part = part.join().ok().context("tokens could not be made")?;
                made.extend(part?);
            }
            Ok(made)
        })
    }

    /// Verifies new tokens and their bare signatures in turn, and then the cached tokens.
    fn verify(&mut self) -> anyhow::Result<()> {
        let (tokens, now) = (self.tokens(), now()?);
        let nobody = Revocations::new(None);
        let shown = self.hot.get(..VERIFIED).context("too few tokens")?;
        let compacts: Option<Vec<_>> = shown.iter().map(|token| Compact::parse(token)).collect();
        let compacts = compacts.context("not a token")?;
        let signed: anyhow::Result<Vec<_>> = shown.iter().map(|token| taken_apart(token)).collect();
        let signed = signed?;

        let (mut bare, mut never_seen, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        for (compacts, signed) in compacts.chunks(BATCH).zip(signed.chunks(BATCH)) {
            bare.push(each(signed, |(message, signature)| {
                ensure!(self.bare.verifies(message, signature), "a wrong signature");
                Ok(())
            })?);
            never_seen.push(each(compacts, |compact| {
                black_box(tokens.verify(*compact, now, &nobody)?);
                Ok(())
            })?);
        }
        for _ in 0..AGAIN {
            for compacts in compacts.chunks(BATCH) {
                seen.push(each(compacts, |compact| {
                    black_box(tokens.verify(*compact, now, &nobody)?);
                    Ok(())
                })?);
            }
        }
        let [bare, never_seen, seen] =
            [bare, never_seen, seen].map(|times| median(&sorted(times.into_iter())));
        self.verified.push(TokenCache {
            bare,
            never_seen,
            seen,
        });
        Ok(())
    }
}

/// Seconds per item.
fn each<T>(of: &[T], mut verify: impl FnMut(&T) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let start = Instant::now();
    for one in of {
        verify(one)?;
    }
    Ok(start.elapsed().as_secs_f64() / of.len() as f64)
}

/// The signed part and the signature of a token.
fn taken_apart(token: &str) -> anyhow::Result<(&[u8], Vec<u8>)> {
    let (message, signature) = token.rsplit_once('.').context("not a token")?;
    Ok((
        message.as_bytes(),
        BASE64_URL_SAFE_NO_PAD.decode(signature)?,
    ))
}

/// The same key, used with the crypto library directly.
enum Bare {
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Bare {
    fn of(key: &Key, text: &str) -> anyhow::Result<Self> {
        let Some(public) = &key.public().map(|public| json!(public)) else {
            let secret = part(&serde_json::from_str(text)?, "k")?;
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            return Ok(Self::Hmac(Box::new(key)));
        };
        let parsed = match (public.get("n"), public.get("y")) {
            (Some(_), _) => PublicKeyComponents {
                n: part(public, "n")?,
                e: part(public, "e")?,
            }
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256),
            (None, Some(_)) => {
                let point = [vec![4], part(public, "x")?, part(public, "y")?].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            }
            (None, None) => ParsedPublicKey::new(&ED25519, part(public, "x")?),
        };
        Ok(Self::Public(parsed?))
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

fn part(jwk: &Value, name: &str) -> anyhow::Result<Vec<u8>> {
    let part = jwk.get(name).and_then(Value::as_str);
    Ok(BASE64_URL_SAFE_NO_PAD.decode(part.context("not a JWK")?)?)
}

pub struct Report {
    sides: Vec<Side>,
}

/// One line of the report.
struct Line {
    key: &'static str,
    way: String,
    what: &'static str,
    base: f64,
    measured: f64,
    ratio: Ratio,
    expected: &'static str,
}

impl Line {
    /// The compared values of each round.
    fn new(
        key: &'static str,
        (way, what): (String, &'static str),
        rounds: impl Iterator<Item = (f64, f64)>,
        expected: &'static str,
    ) -> Self {
        let rounds: Vec<_> = rounds.collect();
        Self {
            key,
            way,
            what,
            base: median(&sorted(rounds.iter().map(|(base, _)| *base))),
            measured: median(&sorted(rounds.iter().map(|(_, measured)| *measured))),
            ratio: Ratio::of(rounds.iter().map(|(base, measured)| measured / base)),
            expected,
        }
    }
}

impl Report {
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["", "", "base", "measured", "ratio", "rounds", "expected"]);
        for (_, line) in self.lines() {
            let [ratio, rounds] = line.ratio.cells();
            table.add_row([
                line.way,
                line.what.into(),
                number(line.base),
                number(line.measured),
                ratio,
                rounds,
                line.expected.into(),
            ]);
        }
        right(&mut table);
        format!("{table}\n\n{NOTE}")
    }

    pub fn json(&self) -> Value {
        let mut algorithms = Map::new();
        for (algorithm, line) in self.lines() {
            let lines = algorithms
                .entry(algorithm.name())
                .or_insert_with(|| json!({}));
            if let Some(lines) = lines.as_object_mut() {
                let value = json!({
                    "base": line.base,
                    "measured": line.measured,
                    "ratio": line.ratio.median,
                    "ratio_least": line.ratio.least,
                    "ratio_most": line.ratio.most,
                });
                lines.insert(line.key.into(), value);
            }
        }
        algorithms.into()
    }

    fn lines(&self) -> Vec<(Algorithm, Line)> {
        let mut lines = Vec::new();
        let Some((first, others)) = self.sides.split_first() else {
            return lines;
        };
        for side in others {
            let of = side.algorithm;
            let pairs = || first.seen.iter().zip(&side.seen);
            let way = format!(
                "{of}, directly: {HOT} tokens that were seen, to {}",
                first.algorithm
            );
            let rates = pairs().map(|(base, own)| (base.per_second, own.per_second));
            let way = (way, "answers per second");
            let rate = Line::new("seen_per_second", way, rates, "at least 0.95");
            let costs = pairs().map(|(base, own)| (base.cpu_per_request, own.cpu_per_request));
            let way = (String::new(), "CPU µs of a check");
            let cost = Line::new("seen_cpu_micros", way, costs, "");
            lines.extend([(of, rate), (of, cost)]);
        }
        for side in &self.sides {
            let of = side.algorithm;
            let pairs = || side.seen.iter().zip(&side.never_seen);
            let way = format!("{of}, directly: tokens never seen, to those that were");
            let took = |round: &Round| 1e6 / round.per_second;
            let times = pairs().map(|(seen, never)| (took(seen), took(never)));
            let time = Line::new("never_seen_micros", (way, "µs per check"), times, "");
            let costs = pairs().map(|(seen, never)| (seen.cpu_per_request, never.cpu_per_request));
            let way = (String::new(), "CPU µs of a check");
            let cost = Line::new("never_seen_cpu_micros", way, costs, "");
            lines.extend([(of, time), (of, cost)]);
        }
        for side in &self.sides {
            let of = side.algorithm;
            let way = format!("{of}, in this program: a token never seen, to its bare signature");
            let times = side.verified.iter();
            let times = times.map(|round| (round.bare * 1e6, round.never_seen * 1e6));
            // An HMAC takes less than a microsecond, so every other cost shows.
            let expected = match of == Algorithm::Hs256 {
                true => "",
                false => "at most 1.15",
            };
            let time = Line::new("verify_never_seen_micros", (way, "µs"), times, expected);
            let times = side.verified.iter();
            let times = times.map(|round| (round.bare * 1e9, round.seen * 1e9));
            let way = ("the same token again, to its bare signature".into(), "ns");
            let seen = Line::new("verify_seen_nanos", way, times, "");
            lines.extend([(of, time), (of, seen)]);
        }
        lines
    }
}

const NOTE: &str = "Each algorithm has a Doorward of its own, with one key. The load runs on the same cores. A token of \
                    RS256 is longer, which costs time on both sides.";
