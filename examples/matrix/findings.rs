//! The faults that a scenario shows, and the result of its cell.

use serde::{Deserialize, Serialize};

/// Faults that a scenario has shown.
#[derive(Default)]
pub struct Findings(Vec<Fault>);

struct Fault {
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Something passed that must not, or the service got what it must not get.
    Open,
    /// Something was refused that must pass, or the answer is not the expected one.
    Refused,
}

impl Findings {
    pub fn open(&mut self, text: impl Into<String>) {
        self.add(Kind::Open, text.into());
    }

    pub fn refused(&mut self, text: impl Into<String>) {
        self.add(Kind::Refused, text.into());
    }

    /// Records a fault unless `holds`.
    pub fn demand(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.refused(text());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn add(&mut self, kind: Kind, text: String) {
        self.0.push(Fault { kind, text });
    }

    /// The result of the cell. A reason why the gateway cannot do it excuses no open fault, and is itself a fault if
    /// everything holds.
    pub fn result(self, cannot: Option<&str>) -> Outcome {
        let open = self.0.iter().any(|fault| fault.kind == Kind::Open);
        match cannot {
            Some(reason) if self.0.is_empty() => Outcome::Fail(vec![format!(
                "it works now; the reason no longer holds: {reason}"
            )]),
            Some(reason) if !open => Outcome::Cannot(reason.to_owned()),
            _ if self.0.is_empty() => Outcome::Pass,
            _ => Outcome::Fail(self.0.into_iter().map(|fault| fault.text).collect()),
        }
    }
}

/// One cell of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", content = "why", rename_all = "kebab-case")]
pub enum Outcome {
    Pass,
    Fail(Vec<String>),
    /// The gateway cannot do it, and lets nothing through.
    Cannot(String),
    /// The scenario is not written, or the measured authorizer does not have what it needs.
    NotBuilt(String),
}
