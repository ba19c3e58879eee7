//! `[[route]]`: the rules, and the endpoints that they may name; `[rules]`: the next rules. `doorward_rules::routes` reads
//! them.

use std::path::PathBuf;

use doorward_rules::routes::{self, RouteFaults, RouteOptions};

use super::{
    RefreshSettings, SelfServiceSettings, SignInSettings,
    key::{Key, Optional, Section},
    reader::Reader,
    value::file,
};
use crate::domain::policy::{Endpoint, Policy};

/// The endpoints that are switched on: always login and logout.
pub(super) fn endpoints(
    refresh: &RefreshSettings,
    self_service: &SelfServiceSettings,
    sign_in: Option<&SignInSettings>,
    keys: bool,
) -> Vec<Endpoint> {
    Endpoint::ALL
        .into_iter()
        .filter(|endpoint| match endpoint {
            Endpoint::Login | Endpoint::Logout => true,
            Endpoint::Refresh => refresh.lifetime.is_some(),
            Endpoint::Register => self_service.register,
            Endpoint::Password => self_service.password,
            Endpoint::SignIn | Endpoint::SignOut | Endpoint::SignedIn => sign_in.is_some(),
            Endpoint::Keys => keys,
            Endpoint::KeysPage => keys && sign_in.is_some(),
        })
        .collect()
}

/// The next rules.
#[derive(Clone, Debug)]
pub(crate) struct NextRules {
    /// The file that they were read from.
    pub(crate) file: PathBuf,
    /// The text of the file.
    pub(crate) text: String,
    /// The rules.
    pub(crate) policy: Policy,
}

pub(super) static KEYS: Section = &[&NEXT];

static NEXT: Optional<PathBuf> = Key::new(
    "rules.next",
    "none",
    file,
    "File with the next rules (only `[[route]]`). Requests are judged by them, too: the rules in force decide, and a different verdict is counted, logged and sent to Envoy. `doorward policy promote` puts them in force.",
)
.reloads()
.optional();

pub(super) fn policy(reader: &mut Reader<'_>, options: RouteOptions<'_>) -> Policy {
    let tables = std::mem::take(&mut reader.routes);
    routes::policy(&tables, options).unwrap_or_else(|faults| {
        report(reader, faults);
        Policy::built_in(options.endpoints)
    })
}

pub(super) fn next(reader: &mut Reader<'_>, options: RouteOptions<'_>) -> Option<NextRules> {
    let (file, text) = reader.named_content(&NEXT)?;
    match routes::of_file(&file.display().to_string(), &text, options) {
        Ok(policy) => Some(NextRules { file, text, policy }),
        Err(faults) => {
            report(reader, faults);
            None
        }
    }
}

fn report(reader: &mut Reader<'_>, faults: RouteFaults) {
    for fault in faults {
        reader.fault(fault.place, fault.what);
    }
}
