//! The matrix in its two forms: JSON, and the page that is made from it.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{findings::Outcome, scenario::Scenarios};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub authorizer: String,
    pub scenarios: Vec<Scenario>,
    pub gateways: Vec<Gateway>,
    pub cells: Vec<Cell>,
    pub changes: Vec<Change>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    pub proves: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    pub proxy: String,
    pub title: String,
    pub version: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Cell {
    pub proxy: String,
    pub version: String,
    pub scenario: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A change of a committed configuration that a scenario needs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub name: String,
    pub proxies: Vec<String>,
    pub why: String,
}

impl Report {
    pub fn new(authorizer: String, scenarios: &Scenarios) -> Self {
        let changes = scenarios.changes.iter().map(|change| Change {
            name: change.name.clone(),
            proxies: change.proxies.clone(),
            why: change.why.clone(),
        });
        Self {
            authorizer,
            scenarios: Vec::new(),
            gateways: Vec::new(),
            cells: Vec::new(),
            changes: changes.collect(),
        }
    }

    pub fn failing(&self) -> usize {
        let fails = |cell: &&Cell| matches!(cell.outcome, Outcome::Fail(_));
        self.cells.iter().filter(fails).count()
    }

    pub fn json(&self) -> anyhow::Result<String> {
        Ok(format!("{}\n", serde_json::to_string_pretty(self)?))
    }

    /// The page. The reasons are numbered below the table.
    pub fn markdown(&self) -> String {
        let mut page = format!(
            "# The matrix\n\n\
             {} behind real gateways, each with its configuration in this repository. `make matrix` makes this page and\n\
             [matrix.json](matrix.json) again; `examples/matrix/scenarios.toml` says what each scenario sends and demands, and\n\
             [matrix-howto.md](matrix-howto.md) how to measure another authorizer. A number refers to the notes below the table.\n\n",
            self.authorizer
        );
        let mut reasons: Vec<String> = Vec::new();
        let heads = self
            .gateways
            .iter()
            .map(|own| format!(" {} {} |", own.title, own.version));
        let _ = writeln!(page, "| scenario |{}", heads.collect::<String>());
        let _ = writeln!(page, "|---|{}", "---|".repeat(self.gateways.len()));
        for scenario in &self.scenarios {
            let _ = write!(page, "| {} |", scenario.name);
            for gateway in &self.gateways {
                let cell = self.cells.iter().find(|cell| {
                    cell.scenario == scenario.name
                        && (&cell.proxy, &cell.version) == (&gateway.proxy, &gateway.version)
                });
                let (word, reason) = match cell.map(|cell| &cell.outcome) {
                    None => ("not run", None),
                    Some(Outcome::Pass) => ("pass", None),
                    Some(Outcome::Fail(faults)) => ("**FAIL**", Some(shortened(faults))),
                    Some(Outcome::Cannot(reason)) => ("cannot", Some(reason.clone())),
                    Some(Outcome::NotBuilt(reason)) => ("not built", Some(reason.clone())),
                };
                let note = reason.map(|reason| {
                    let known = reasons.iter().position(|own| *own == reason);
                    let index = known.unwrap_or_else(|| {
                        reasons.push(reason);
                        reasons.len() - 1
                    });
                    format!(" [{}]", index + 1)
                });
                let _ = write!(page, " {word}{} |", note.unwrap_or_default());
            }
            page.push('\n');
        }
        if !reasons.is_empty() {
            page.push_str("\n## Notes\n\n");
        }
        for (index, reason) in reasons.iter().enumerate() {
            let _ = writeln!(page, "{}. {reason}", index + 1);
        }
        page.push_str("\n## What each scenario proves\n\n| scenario | proves |\n|---|---|\n");
        for scenario in &self.scenarios {
            let _ = writeln!(page, "| {} | {} |", scenario.name, scenario.proves);
        }
        page.push_str(
            "\n## Changes of the configurations\n\n\
             Some scenarios need more than the committed configuration; `[[change]]` in `examples/matrix/scenarios.toml` has the lines.\n\n\
             | change | gateway | why |\n|---|---|---|\n",
        );
        for change in &self.changes {
            let _ = writeln!(
                page,
                "| {} | {} | {} |",
                change.name,
                change.proxies.join(", "),
                change.why
            );
        }
        page
    }
}

/// The first three faults, because most faults of a cell have one cause.
fn shortened(faults: &[String]) -> String {
    let shown = faults
        .iter()
        .take(3)
        .map(|fault| fault.replace(['|', '\n'], " "));
    let text = shown.collect::<Vec<_>>().join("; ");
    match faults.len() {
        0..=3 => text,
        more => format!("{text}; and {} more", more - 3),
    }
}
