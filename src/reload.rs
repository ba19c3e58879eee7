//! Reloads rules, keys and trusted proxies while Doorward serves: on SIGHUP, and when one of their files has changed.
//! If a file cannot be read or the settings are invalid, nothing changes.

use std::{io, mem, sync::Arc, time::Duration};

use anyhow::bail;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::block_in_place,
    time::{MissedTickBehavior, interval},
};

use crate::{
    clock::unix_time,
    config::Settings,
    domain::{
        assertion::Assertions,
        identity_headers::IdentityHeaders,
        issuer::Issuers,
        judge::Judge,
        key::KeyId,
        keyring::Keyring,
        machine_keys::KeySource,
        probe::ProbeKey,
        revocation::Revocations,
        sign_in::{Places, SignIn},
        token::{Signer, Verifier},
        trust::Warned,
    },
    doors::tls::{self, Tls},
    live::{Live, Rules},
    login::{desk::Desk, password::Hasher},
    observe::{
        causes,
        metrics::{Accepted, Metrics, Outcome},
    },
    shadow::Shadow,
};
use doorward_rules::files::{Files, Look};

/// Reads the settings again while others are in force, and returns the names of changed settings that need a restart.
pub(crate) type Load =
    Box<dyn Fn(&Files, &Settings) -> anyhow::Result<(Settings, Vec<&'static str>)> + Send>;

/// How often to check the files. A change counts once two consecutive checks see the same content: so it takes effect
/// within two seconds, and a file that is still being written is not read.
const LOOK: Duration = Duration::from_secs(1);

/// How often to read all files again if one of them changes during the read.
const ATTEMPTS: usize = 5;

/// The longest fault in the log, in characters.
const LONGEST: usize = 2000;

/// What stays the same when the rules are replaced.
#[derive(Clone, Debug)]
pub(crate) struct Lasting {
    /// Which tokens are revoked.
    pub(crate) ended: Arc<Revocations>,
    /// Hashes and verifies passwords.
    pub(crate) hasher: Arc<Hasher>,
    /// Other issuers whose tokens are accepted.
    pub(crate) issuers: Issuers,
    /// The headers that identify the user to services.
    pub(crate) identity: IdentityHeaders,
    /// Keys for machines.
    pub(crate) keys: KeySource,
    /// Where decisions and tokens are counted.
    pub(crate) metrics: Metrics,
}

impl Lasting {
    /// Builds the rules from these settings.
    #[must_use]
    pub(crate) fn rules(&self, settings: &Settings, keys: Keyring) -> Rules {
        let keys = Arc::new(keys);
        Rules {
            judge: Judge {
                policy: settings.policy.clone(),
                verifier: Verifier::of(&keys, settings.jwt.terms.clone())
                    .believing(Arc::clone(&self.issuers))
                    .counting(self.metrics.token_ages()),
                revoked: Arc::clone(&self.ended),
                forwards_bearer: settings.identity.forward_bearer,
                allows_preflight: settings.cors.allow_preflight,
                keys: self.keys.clone(),
                sign_in: settings.sign_in.as_ref().map(|own| SignIn {
                    session: own.session,
                    localhost: own.localhost,
                    places: Places::of(&settings.policy),
                }),
            },
            desk: Desk {
                hasher: Arc::clone(&self.hasher),
                passwords: settings.passwords.clone(),
                names: settings.names(),
                sessions: settings.refresh.lifetime,
                browser_sessions: settings.sign_in.as_ref().map(|own| own.session),
                reply: settings.login.reply,
                signer: Signer::new(Arc::clone(&keys), settings.jwt.terms.clone()),
            },
            realm: settings.login.realm.clone(),
            tolerance: settings.paths,
            identity: self.identity,
            assertions: settings
                .identity
                .assertion
                .as_ref()
                .map(|own| Assertions::new(keys, &settings.jwt.terms.issuer, &own.audience)),
            trusted: settings.gateways.trusted.clone(),
            client_address: settings.gateways.client_address,
            warned: Warned::default(),
            probe: settings.probe.key.as_ref().map(ProbeKey::new),
            shadow: self.shadow(settings),
            pages: (settings.sign_in.as_ref()).map(|own| Arc::clone(&own.pages)),
            counts: self.metrics.decisions(
                &settings.policy,
                Accepted {
                    keys: self.keys.is_on(),
                    cookies: settings.sign_in.is_some(),
                },
            ),
        }
    }

    /// The next rules, if they differ from those in force.
    fn shadow(&self, settings: &Settings) -> Option<Shadow> {
        let next = settings.next.as_ref();
        let next = next.filter(|next| !next.policy.has_the_rules_of(&settings.policy));
        self.metrics
            .next_rules(next.map_or(0, |next| next.policy.rules().len()));
        let policy = next?.policy.clone();
        let counts = self.metrics.differences(&policy);
        Some(Shadow::new(policy, counts))
    }
}

/// Everything that a reload replaces, read completely before any of it is replaced.
struct Read {
    settings: Settings,
    /// Names of changed settings that need a restart.
    fixed: Vec<&'static str>,
    keys: Keyring,
    tls: Option<tls::Config>,
}

/// Watches files, reads them, and replaces the rules.
pub(crate) struct Reloader {
    /// The settings in force. Settings that need a restart keep their values from the start.
    last: Settings,
    /// Whether the key directory exists.
    has_keys_dir: bool,
    /// The files of the last reload attempt, successful or not.
    tried: Look,
    asked: Signal,
    load: Load,
    live: Live,
    lasting: Lasting,
    tls: Option<Arc<Tls>>,
    metrics: Metrics,
}

impl Reloader {
    /// Takes the settings in force, and the files that they were read from.
    ///
    /// # Errors
    ///
    /// A handler for SIGHUP cannot be installed.
    pub(crate) fn new(
        last: Settings,
        files: &Files,
        load: Load,
        live: Live,
        lasting: Lasting,
        tls: Option<Arc<Tls>>,
        metrics: Metrics,
    ) -> io::Result<Self> {
        Ok(Self {
            has_keys_dir: last.jwt.keys.has_dir(files),
            last,
            tried: files.look(),
            asked: signal(SignalKind::hangup())?,
            tls,
            metrics,
            load,
            live,
            lasting,
        })
    }

    /// Watches and reloads, for ever.
    pub(crate) async fn follow(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = self.tried.digest();
        loop {
            let by = tokio::select! {
                _ = self.asked.recv() => "SIGHUP",
                _ = looks.tick() => {
                    let now = block_in_place(|| self.tried.now());
                    let before = mem::replace(&mut seen, now);
                    // A file that changed since the last check may be half written.
                    if now == self.tried.digest() || now != before {
                        continue;
                    }
                    "a file has changed"
                }
            };
            block_in_place(|| self.attempt(by));
            seen = self.tried.digest();
        }
    }

    fn attempt(&mut self, by: &str) {
        match self.read() {
            Ok(Read {
                settings,
                fixed,
                keys,
                tls,
            }) => {
                if !fixed.is_empty() {
                    tracing::warn!(
                        keys = fixed.join(", "),
                        "changed, and takes effect only after a restart"
                    );
                }
                let names: Vec<_> = keys.names().map(KeyId::as_str).collect();
                let names = names.join(",");
                self.live.exchange(self.lasting.rules(&settings, keys));
                if let (Some(own), Some(tls)) = (&self.tls, tls) {
                    own.exchange(tls);
                }
                warn_of(&settings);
                self.last = settings;
                self.metrics.reloaded(Outcome::Ok);
                tracing::info!(by, keys = names, "reloaded");
            }
            Err(fault) => {
                self.metrics.reloaded(Outcome::Failed);
                let cause = one_line(&causes(fault.as_ref()).to_string());
                tracing::error!(
                    by,
                    cause,
                    "not reloaded, so the previous settings stay in force; fix the cause, and Doorward reads them again"
                );
            }
        }
    }

    /// Reads everything as of one moment: if a file changes before the last one is read, reads all of them again.
    fn read(&mut self) -> anyhow::Result<Read> {
        for _ in 0..ATTEMPTS {
            let files = Files::plain();
            let read = self.read_from(&files);
            self.tried = files.look();
            if self.tried.now() == self.tried.digest() {
                let read = read?;
                self.has_keys_dir = read.settings.jwt.keys.has_dir(&files);
                return Ok(read);
            }
        }
        bail!("the files change while they are read")
    }

    fn read_from(&self, files: &Files) -> anyhow::Result<Read> {
        let (settings, fixed) = (self.load)(files, &self.last)?;
        let tls = match (&settings.listen.tls, &self.tls) {
            (Some(terms), Some(_)) => Some(terms.read(files)?),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                bail!("listen.tls_certificate: switching TLS on or off needs a restart")
            }
        };
        let now = unix_time();
        let keys = (settings.jwt.keys).again(files, self.has_keys_dir, now)?;
        settings.identity.fits(&keys, now)?;
        Ok(Read {
            keys,
            settings,
            fixed,
            tls,
        })
    }
}

/// Logs which next rules are compared, and warns about settings that are valid but rarely intended.
pub(crate) fn warn_of(settings: &Settings) {
    if let Some(next) = &settings.next {
        let file = next.file.display();
        let rules = next.policy.rules().len();
        match next.policy.has_the_rules_of(&settings.policy) {
            true => tracing::info!(%file, rules, "the next rules are those in force"),
            false => tracing::info!(%file, rules, "comparing with the next rules"),
        }
    }
    if settings.gateways.trusted.covers_the_internet() {
        tracing::warn!(
            trusted_proxies = %settings.gateways.trusted,
            "trusted_proxies contains half of the Internet or more: anybody who reaches the port counts as a gateway, and no client address can be believed; name the networks of your gateways"
        );
    }
}

/// Joins a fault of many lines into one line for the log, and cuts it off at [`LONGEST`].
fn one_line(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let line = lines.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}\u{2026}", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
