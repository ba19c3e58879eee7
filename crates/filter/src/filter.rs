//! One filter configuration, and the phases of its requests.

use std::{cell::RefCell, mem, sync::Arc, time::Instant};

use doorward_core::{
    decision::{Answer, Decision, Denial, Realm, Unavailable},
    header_edits::{Gateway, HeaderEdits},
    identity_headers::IdentityHeaders,
};

use crate::{
    abi::{Config, ConfigId, Flow, Header, Level, Of, Reply, Stream},
    action::{self, Effect, PendingAction, Unanswered},
    check::{MetadataValue, Verdict},
    log::Kind,
    reading::{self, Judgement, Next, Wants},
    settings::{Settings, SettingsFault},
    state::State,
    stats::Stats,
};

/// A configured filter.
#[derive(Debug)]
pub(crate) struct Filter {
    settings: Settings,
    state: Arc<State>,
    stats: Stats,
    id: ConfigId,
}

/// The state of one request.
#[derive(Default)]
pub(crate) struct Exchange(RefCell<Phase>);

/// The phase of a request. It is taken out before Envoy is called, because Envoy may call back or end the request.
#[derive(Default)]
enum Phase {
    /// Not judged yet, allowed, or answered.
    #[default]
    Idle,
    /// A request for Doorward whose body is incomplete.
    Collects(Box<PendingAction>),
    /// A request that was sent to Doorward, and when.
    Waits(Effect, Instant),
    /// A request that Doorward lets pass, with headers for the response.
    Responds(Vec<(String, Vec<u8>)>),
}

impl Exchange {
    fn take(&self) -> Phase {
        mem::take(&mut self.0.borrow_mut())
    }

    fn put(&self, phase: Phase) {
        *self.0.borrow_mut() = phase;
    }
}

impl Filter {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// A fault of the configuration.
    pub(crate) fn new(config: &Config<'_>, text: &[u8]) -> Result<Self, SettingsFault> {
        let settings = Settings::read(text)?;
        let filter = Self {
            state: State::of(&settings)?,
            stats: Stats::define(config)?,
            id: config.id(),
            settings,
        };
        filter.state.join(config)?;
        Ok(filter)
    }

    /// Judges a request.
    pub(crate) fn request_headers(
        &self,
        exchange: &Exchange,
        mut stream: Stream<'_>,
        is_last: bool,
    ) -> Flow {
        self.panic_in("request_headers");
        // An answer to an earlier call must not follow this decision.
        exchange.put(Phase::Idle);
        let wants = Wants {
            rule: self.settings.metadata.is_some(),
            assertion: !self.settings.shadow,
        };
        let Judgement { next, rule, .. } = self.state.with(|known| {
            let in_force = known.map(|known| &*known.in_force);
            let judgement = stream.with_headers(|headers| reading::judge(in_force, headers, wants));
            if let Some(known) = known {
                known.count(judgement.number, judgement.next.outcome());
            }
            judgement
        });
        match next {
            Next::Pass {
                decision,
                identity,
                remove,
            } => {
                self.report(&mut stream, &decision, rule.as_deref());
                if !self.settings.shadow {
                    pass(&mut stream, &decision, identity, &remove);
                }
                Flow::Continue
            }
            Next::Refuse(decision, answer) => {
                self.report(&mut stream, &decision, rule.as_deref());
                if self.settings.shadow {
                    return Flow::Continue;
                }
                let details = format!("doorward_{}", decision.reason().name().replace('-', "_"));
                respond(stream, &answer, &details);
                Flow::Stop
            }
            Next::Ask(pending) => {
                self.stats.count_asked(&stream);
                if self.settings.shadow {
                    return Flow::Continue;
                }
                if pending.wants_body && !is_last {
                    exchange.put(Phase::Collects(pending));
                } else {
                    self.ask(exchange, stream, *pending);
                }
                Flow::Stop
            }
        }
    }

    /// Collects the body of a request that Doorward answers.
    pub(crate) fn request_body(
        &self,
        exchange: &Exchange,
        stream: Stream<'_>,
        is_last: bool,
    ) -> Flow {
        self.panic_in("request_body");
        let mut pending = match exchange.take() {
            Phase::Collects(pending) => pending,
            waits @ Phase::Waits(..) => {
                exchange.put(waits);
                return Flow::Pause;
            }
            other @ (Phase::Idle | Phase::Responds(_)) => {
                exchange.put(other);
                return Flow::Continue;
            }
        };
        let most = (self.settings.actions.as_ref()).map_or(0, |actions| actions.max_body);
        stream.received_body(|chunk| {
            let room = (most + 1).saturating_sub(pending.body.len());
            let fits = chunk.get(..room).unwrap_or(chunk);
            pending.body.extend_from_slice(fits);
        });
        if pending.body.len() > most {
            stream.respond(413, &[], b"Payload Too Large", "doorward_body_too_long");
            return Flow::Stop;
        }
        if is_last {
            self.ask(exchange, stream, *pending);
        } else {
            exchange.put(Phase::Collects(pending));
        }
        Flow::Keep
    }

    /// Trailers end the body of a request.
    pub(crate) fn request_trailers(&self, exchange: &Exchange, stream: Stream<'_>) -> Flow {
        self.panic_in("request_trailers");
        match exchange.take() {
            Phase::Collects(pending) => {
                self.ask(exchange, stream, *pending);
                Flow::Stop
            }
            waits @ Phase::Waits(..) => {
                exchange.put(waits);
                Flow::Stop
            }
            other @ (Phase::Idle | Phase::Responds(_)) => {
                exchange.put(other);
                Flow::Continue
            }
        }
    }

    fn ask(&self, exchange: &Exchange, mut stream: Stream<'_>, pending: PendingAction) {
        let PendingAction {
            mut question,
            wants_body: _,
            body,
            effect,
        } = pending;
        let Some(actions) = &self.settings.actions else {
            self.unanswered(stream, &Unanswered::NoCluster);
            return;
        };
        question.source = stream.source();
        // Envoy may answer before the call returns.
        exchange.put(Phase::Waits(effect, Instant::now()));
        if let Err(fault) = action::send(&mut stream, actions, &question, body) {
            exchange.take();
            self.unanswered(stream, &fault);
        }
    }

    fn unanswered(&self, stream: Stream<'_>, fault: &Unanswered) {
        static UNANSWERED: Kind = Kind::new();
        UNANSWERED.line(
            Level::Warn,
            format_args!("a request gets 503, because Doorward does not answer: {fault}"),
        );
        let decision = Decision::Deny(Denial::Unavailable(Unavailable::Internal));
        self.stats.count(&stream, &decision);
        refuse(stream, "doorward_unanswered");
    }

    /// Applies Doorward's answer.
    pub(crate) fn called(&self, exchange: &Exchange, mut stream: Stream<'_>, reply: Option<Reply>) {
        self.panic_in("callout_done");
        let (effect, since) = match exchange.take() {
            Phase::Waits(effect, since) => (effect, since),
            // An answer that nobody waits for changes nothing; above all, it does not let a request pass.
            other @ (Phase::Idle | Phase::Collects(_) | Phase::Responds(_)) => {
                exchange.put(other);
                return;
            }
        };
        self.stats.record_asked(&stream, since.elapsed());
        let answer = match action::answered(reply) {
            Ok(answer) => answer,
            Err(fault) => return self.unanswered(stream, &fault),
        };
        let in_force = self.state.keep();
        if let Some(in_force) = &in_force {
            action::revoke(in_force, &effect, &answer.verdict);
            if let Err(fault) = action::keep(in_force, &effect, &answer.verdict) {
                return self.unanswered(stream, &fault);
            }
        }
        let assertion = in_force.and_then(|in_force| in_force.identity.assertion());
        if let Some(namespace) = &self.settings.metadata {
            for (key, value) in &answer.metadata {
                match value {
                    MetadataValue::Text(text) => stream.set_metadata(namespace, key, text),
                    MetadataValue::List(texts) => {
                        for text in texts {
                            stream.add_metadata(namespace, key, text);
                        }
                    }
                }
            }
        }
        match answer.verdict {
            Verdict::Pass {
                set,
                remove,
                respond,
            } => {
                for (name, value) in &set {
                    stream.set(Of::Request, name, value);
                }
                // A replica without this setting does not know that the client may not send it.
                if let Some(name) = assertion.filter(|own| set.iter().all(|(name, _)| name != own))
                {
                    stream.remove(Of::Request, name.as_bytes());
                }
                for name in &remove {
                    stream.remove(Of::Request, name.as_bytes());
                }
                exchange.put(Phase::Responds(respond));
                stream.resume();
            }
            Verdict::Answer {
                status,
                headers,
                body,
            } => {
                let headers: Vec<Header<'_>> = (headers.iter())
                    .map(|(name, value)| (name.as_bytes(), &**value))
                    .collect();
                stream.respond(status, &headers, &body, "doorward_answered");
            }
        }
    }

    /// Sets the response headers of Doorward's answer.
    pub(crate) fn response_headers(&self, exchange: &Exchange, mut stream: Stream<'_>) -> Flow {
        self.panic_in("response_headers");
        if let Phase::Responds(headers) = exchange.take() {
            for (name, value) in &headers {
                stream.set(Of::Response, name, value);
            }
        }
        Flow::Continue
    }

    /// A request for the feed is due.
    pub(crate) fn woken(&self, config: &Config<'_>) {
        self.panic_in("scheduled");
        self.state.ask(config);
    }

    /// The answer to a request for the feed, or none.
    pub(crate) fn fed(&self, config: &Config<'_>, reply: Option<Reply>) {
        self.panic_in("config_callout_done");
        self.state.take(config, reply);
    }

    /// Counts a decision, and writes it to the dynamic metadata for the access log.
    fn report(&self, stream: &mut Stream<'_>, decision: &Decision, rule: Option<&str>) {
        self.stats.count(stream, decision);
        self.stats.flush(stream, &self.state);
        let Some(namespace) = &self.settings.metadata else {
            return;
        };
        stream.set_metadata(namespace, "decision", decision.verdict().name());
        stream.set_metadata(namespace, "reason", decision.reason().name());
        if let Some(rule) = rule {
            stream.set_metadata(namespace, "rule", rule);
        }
        if let Some(subject) = decision.subject() {
            stream.set_metadata(namespace, "sub", subject);
        }
        if let Some(identity) = decision.identity() {
            for role in identity.roles.iter() {
                stream.add_metadata(namespace, "roles", role.as_str());
            }
        }
    }

    #[cfg(feature = "panics")]
    fn panic_in(&self, hook: &str) {
        assert!(
            self.settings.panic_in.as_deref() != Some(hook),
            "as the test wants"
        );
    }

    #[cfg(not(feature = "panics"))]
    fn panic_in(&self, _hook: &str) {}
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.state.leave(self.id);
    }
}

fn pass(
    stream: &mut Stream<'_>,
    decision: &Decision,
    identity: IdentityHeaders,
    remove: &[&'static str],
) {
    if let Decision::Allow(admission) = decision {
        let edits = HeaderEdits::of(admission, identity, Gateway::ShowsAll);
        for (name, value) in edits.set() {
            stream.set(Of::Request, name, value.as_bytes());
        }
    }
    for name in remove {
        stream.remove(Of::Request, name.as_bytes());
    }
}

fn respond(stream: Stream<'_>, answer: &Answer, details: &str) {
    let headers: Vec<Header<'_>> = (answer.headers.iter())
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    stream.respond(answer.status, &headers, answer.body.as_bytes(), details);
}

fn refuse(stream: Stream<'_>, details: &str) {
    let answer = Denial::Unavailable(Unavailable::Internal).answer(&Realm::default());
    respond(stream, &answer, details);
}

/// Answers a request whose hook panicked.
pub(crate) fn refuse_after_panic(stream: Stream<'_>) {
    refuse(stream, "doorward_panicked");
}
