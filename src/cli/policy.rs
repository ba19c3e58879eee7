//! Commands for rules.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Output;

/// Commands for rules.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show which rule decides a request, why, and the result.
    ///
    /// Exit status 0: the request passes; 1: it does not.
    #[command(after_help = "\
Examples:
  doorward policy check GET /admin/users
  doorward policy check GET /admin/users --user bob
  doorward policy check POST https://api.example.com/orders?x=1 --role editor --output json")]
    Check(PolicyCheck),
    /// Put the rules of `rules.next` into the file with the settings.
    ///
    /// Replaces the tables of rules in the file by those of `rules.next`, in one step; a running Doorward takes them over within
    /// two seconds. The next rules stay where they are.
    #[command(after_help = "\
Examples:
  doorward policy promote
  doorward policy promote --print > doorward.new.toml     # for a file in a ConfigMap or in git")]
    Promote(PolicyPromote),
    /// Show what other rules would have changed for the requests in access logs.
    ///
    /// Reads Envoy's default text and JSON, nginx's combined, Common Log, and Doorward's own log. Exit status 0: no verdict
    /// changes; 1: some do, or may.
    #[command(after_help = "\
Examples:
  doorward policy replay /var/log/nginx/access.log --rules next.toml --host shop.example
  kubectl logs deploy/envoy | doorward policy replay - --output json")]
    Replay(PolicyReplay),
    /// Run cases: requests, and the decisions that the rules must make about them.
    ///
    /// Exit status 0: all cases pass; 1: a case fails, or with --strict a rule is not shown.
    #[command(after_help = "\
Examples:
  doorward policy test --init cases.toml           write a first file from the rules
  doorward policy test --strict cases.toml
  doorward policy test --watch cases.toml more-cases.toml
  doorward --config doorward.toml policy test cases.toml --output junit > cases.xml")]
    Test(PolicyTest),
    /// Show which requests two files of settings decide differently.
    ///
    /// Computed from the rules, and complete. Exit status 0: none; 1: some.
    #[command(after_help = "\
Examples:
  doorward policy diff doorward.toml next.toml
  doorward policy diff --output json doorward.toml next.toml
  doorward policy diff --old-precedence path-first doorward.toml doorward.toml
                                                   what an upgrade changes for a file with hosts")]
    Diff(PolicyDiff),
    /// Show which rules decide the operations of an OpenAPI document.
    ///
    /// Exit status 0; 1 with --require-rule: some operation is not decided by a rule.
    #[command(after_help = "\
Examples:
  doorward policy coverage openapi.yaml
  doorward policy coverage --require-rule --host api.example.com openapi.yaml
  curl -s http://localhost:8080/openapi.json | doorward policy coverage - --output json")]
    Coverage(PolicyCoverage),
}

/// Arguments of `doorward policy check`.
#[derive(Debug, Args)]
pub(crate) struct PolicyCheck {
    /// Request method, such as GET.
    pub(crate) method: String,
    /// Path, or URL if rules name hosts.
    pub(crate) url: String,
    /// Decide as for this user of the user table.
    #[arg(long, conflicts_with = "roles")]
    pub(crate) user: Option<String>,
    /// Decide as for a user with this role. Can be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// Format of the result.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Arguments of `doorward policy promote`.
#[derive(Debug, Args)]
pub(crate) struct PolicyPromote {
    /// Print the new file, and change nothing.
    #[arg(long)]
    pub(crate) print: bool,
}

/// Arguments of `doorward policy replay`.
#[derive(Debug, Args)]
pub(crate) struct PolicyReplay {
    /// Logs; "-" is standard input.
    #[arg(required = true, value_name = "LOG")]
    pub(crate) logs: Vec<PathBuf>,
    /// File with the other rules and nothing else (default: the one that `rules.next` names).
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Host of requests for which the log has none.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// How many requests and users to show.
    #[arg(long, value_name = "NUMBER", default_value = "10")]
    pub(crate) top: usize,
    /// Format of the result.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Arguments of `doorward policy test`.
#[derive(Debug, Args)]
pub(crate) struct PolicyTest {
    /// Files with cases.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Also fail if a rule is decided by no case, or if no case shows whom it keeps out.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Write a first file of cases from the rules, unless it exists.
    #[arg(long, conflicts_with_all = ["strict", "watch"])]
    pub(crate) init: bool,
    /// Run again whenever the settings or the cases change.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Format of the results.
    #[arg(long, value_enum, default_value_t = TestFormat::Text)]
    pub(crate) output: TestFormat,
}

/// Arguments of `doorward policy diff`.
#[derive(Debug, Args)]
pub(crate) struct PolicyDiff {
    /// File with the present settings.
    pub(crate) old: PathBuf,
    /// File with the new settings.
    pub(crate) new: PathBuf,
    /// How the rules of OLD are compared.
    #[arg(long, value_enum, default_value_t = OldPrecedence::HostFirst)]
    pub(crate) old_precedence: OldPrecedence,
    /// Format of the result.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Arguments of `doorward policy coverage`.
#[derive(Debug, Args)]
pub(crate) struct PolicyCoverage {
    /// The document, OpenAPI 3 or Swagger 2.0 in YAML or JSON; "-" is standard input.
    pub(crate) document: PathBuf,
    /// Host of all operations, instead of those of `servers`.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Exit with 1 if some operation is not decided by a rule.
    #[arg(long)]
    pub(crate) require_rule: bool,
    /// Format of the result.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How rules are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OldPrecedence {
    /// Host, path, method, as now.
    HostFirst,
    /// Path, method, host, as before the change that CHANGELOG.md names.
    PathFirst,
}

/// Formats of results of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TestFormat {
    /// What fails, and a count, for people.
    Text,
    /// JSON, for machines.
    Json,
    /// XML as JUnit writes it, for build servers.
    Junit,
}
