//! One filter configuration, and what becomes of its requests.

use std::{cell::RefCell, mem, sync::Arc};

use doorward_core::{
    decision::{Answer, Decision, Denial, Realm, Unavailable},
    header_edits::{Gateway, HeaderEdits},
    identity_headers::IdentityHeaders,
};

use crate::{
    abi::{Config, ConfigId, Flow, Header, Level, Of, Reply, Stream},
    action::{self, Asks, Ends, Unanswered},
    check::{Told, Verdict},
    log::Kind,
    reading::{self, Judgement, Next},
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

/// What is kept of one request.
#[derive(Default)]
pub(crate) struct Exchange(RefCell<Phase>);

/// How far one request is. A phase is taken out before Envoy is called, which may call back or end the request.
#[derive(Default)]
enum Phase {
    /// It is not judged yet, passes, or has been answered.
    #[default]
    Idle,
    /// Its body is still to come.
    Collects(Box<Asks>),
    /// Doorward was asked.
    Waits(Ends),
    /// It passes, and these are for the response.
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
    /// What is wrong with it.
    pub(crate) fn new(config: &Config<'_>, text: &[u8]) -> Result<Self, SettingsFault> {
        let settings = Settings::read(text)?;
        let filter = Self {
            state: State::of(&settings)?,
            stats: Stats::define(config)?,
            id: config.id(),
            settings,
        };
        if let Some(follower) = &filter.state.follower
            && !config.is_validated()
        {
            follower.join(config)?;
        }
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
        let names_rule = self.settings.metadata.is_some();
        let (Judgement { next, rule }, identity) = self.state.with(|in_force| {
            let judged =
                stream.with_headers(|headers| reading::judge(in_force, headers, names_rule));
            let identity = in_force.map(|in_force| in_force.identity);
            (judged, identity.unwrap_or_default())
        });
        match next {
            Next::Pass(decision, remove) => {
                self.say(&mut stream, &decision, rule.as_deref());
                if !self.settings.shadow {
                    pass(&mut stream, &decision, &remove, identity);
                }
                Flow::Continue
            }
            Next::Refuse(decision, answer) => {
                self.say(&mut stream, &decision, rule.as_deref());
                if self.settings.shadow {
                    return Flow::Continue;
                }
                respond(stream, &answer, decision.reason().name());
                Flow::Stop
            }
            Next::Ask(asks) => {
                self.stats.count_asked(&stream);
                if self.settings.shadow {
                    return Flow::Continue;
                }
                if asks.wants_body && !is_last {
                    exchange.put(Phase::Collects(asks));
                } else {
                    self.ask(exchange, stream, *asks);
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
        let mut asks = match exchange.take() {
            Phase::Collects(asks) => asks,
            waits @ Phase::Waits(_) => {
                exchange.put(waits);
                return Flow::Pause;
            }
            other @ (Phase::Idle | Phase::Responds(_)) => {
                exchange.put(other);
                return Flow::Continue;
            }
        };
        let most = (self.settings.actions.as_ref()).map_or(0, |actions| actions.max_body);
        stream.received(|chunk| {
            let room = (most + 1).saturating_sub(asks.body.len());
            let fits = chunk.get(..room).unwrap_or(chunk);
            asks.body.extend_from_slice(fits);
        });
        if asks.body.len() > most {
            stream.respond(413, &[], b"Payload Too Large", "doorward_body_too_long");
            return Flow::Stop;
        }
        if is_last {
            self.ask(exchange, stream, *asks);
        } else {
            exchange.put(Phase::Collects(asks));
        }
        Flow::Keep
    }

    /// The body of a request is over.
    pub(crate) fn request_trailers(&self, exchange: &Exchange, stream: Stream<'_>) -> Flow {
        self.panic_in("request_trailers");
        match exchange.take() {
            Phase::Collects(asks) => {
                self.ask(exchange, stream, *asks);
                Flow::Stop
            }
            waits @ Phase::Waits(_) => {
                exchange.put(waits);
                Flow::Stop
            }
            other @ (Phase::Idle | Phase::Responds(_)) => {
                exchange.put(other);
                Flow::Continue
            }
        }
    }

    fn ask(&self, exchange: &Exchange, mut stream: Stream<'_>, asks: Asks) {
        let Asks {
            mut question,
            wants_body: _,
            body,
            ends,
        } = asks;
        let Some(actions) = &self.settings.actions else {
            self.unanswered(stream, &Unanswered::NoCluster);
            return;
        };
        question.source = stream.source();
        // Envoy may answer before the call returns.
        exchange.put(Phase::Waits(ends));
        if let Err(fault) = action::send(&mut stream, actions, &question, body) {
            exchange.take();
            self.unanswered(stream, &fault);
        }
    }

    fn unanswered(&self, stream: Stream<'_>, fault: &Unanswered) {
        static UNANSWERED: Kind = Kind::new();
        UNANSWERED.line(
            Level::Warn,
            format_args!("an action gets 503, because Doorward does not answer: {fault}"),
        );
        let decision = Decision::Deny(Denial::Unavailable(Unavailable::Internal));
        self.stats.count(&stream, &decision);
        refuse(stream, "doorward_unanswered");
    }

    /// Does what Doorward answers.
    pub(crate) fn called(
        &self,
        exchange: &Exchange,
        mut stream: Stream<'_>,
        reply: Option<Reply<'_>>,
    ) {
        self.panic_in("callout_done");
        let Phase::Waits(ends) = exchange.take() else {
            return;
        };
        let answer = match action::answered(reply) {
            Ok(answer) => answer,
            Err(fault) => return self.unanswered(stream, &fault),
        };
        if let Some(in_force) = self.state.keep() {
            action::revoke(&in_force, &ends, &answer.verdict);
        }
        if let Some(namespace) = &self.settings.metadata {
            for (key, told) in &answer.metadata {
                match told {
                    Told::Text(text) => stream.tell(namespace, key, text),
                    Told::List(texts) => {
                        for text in texts {
                            stream.tell_also(namespace, key, text);
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
                for name in &remove {
                    stream.remove(Of::Request, name.as_bytes());
                }
                exchange.put(Phase::Responds(respond));
                stream.go_on();
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

    /// Adds to a response what Doorward's answer had for it.
    pub(crate) fn response_headers(&self, exchange: &Exchange, mut stream: Stream<'_>) -> Flow {
        self.panic_in("response_headers");
        if let Phase::Responds(headers) = exchange.take() {
            for (name, value) in &headers {
                stream.set(Of::Response, name, value);
            }
        }
        Flow::Continue
    }

    /// It is time to ask for the feed.
    pub(crate) fn woken(&self, config: &Config<'_>) {
        self.panic_in("scheduled");
        if let Some(follower) = &self.state.follower {
            follower.ask(config);
        }
    }

    /// The feed has answered, or not.
    pub(crate) fn fed(&self, config: &Config<'_>, reply: Option<Reply<'_>>) {
        self.panic_in("config_callout_done");
        if let Some(follower) = &self.state.follower {
            follower.take(&self.state, config, reply);
        }
    }

    /// Counts a decision, and tells the access log of it.
    fn say(&self, stream: &mut Stream<'_>, decision: &Decision, rule: Option<&str>) {
        self.stats.count(stream, decision);
        self.stats.tell(stream, &self.state);
        let Some(namespace) = &self.settings.metadata else {
            return;
        };
        stream.tell(namespace, "decision", decision.verdict().name());
        stream.tell(namespace, "reason", decision.reason().name());
        if let Some(rule) = rule {
            stream.tell(namespace, "rule", rule);
        }
        if let Some(subject) = decision.subject() {
            stream.tell(namespace, "sub", subject);
        }
        if let Some(identity) = decision.identity() {
            for role in identity.roles.iter() {
                stream.tell_also(namespace, "roles", role.as_str());
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
        if let Some(follower) = &self.state.follower {
            follower.leave(self.id);
        }
    }
}

fn pass(
    stream: &mut Stream<'_>,
    decision: &Decision,
    remove: &[&'static str],
    identity: IdentityHeaders,
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
    let details = format!("doorward_{}", details.replace('-', "_"));
    stream.respond(answer.status, &headers, answer.body.as_bytes(), &details);
}

fn refuse(stream: Stream<'_>, details: &str) {
    let answer = Denial::Unavailable(Unavailable::Internal).answer(&Realm::default());
    let headers: Vec<Header<'_>> = (answer.headers.iter())
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    stream.respond(answer.status, &headers, answer.body.as_bytes(), details);
}

/// What a client gets whose request met a panic.
pub(crate) fn refuse_after_panic(stream: Stream<'_>) {
    refuse(stream, "doorward_panicked");
}
