//! `[[route]]`: from tables to rules.

use doorward_core::{
    path::{Path, Tolerance},
    policy::{Conflict, Demand, Endpoint, Policy, Rule, RuleFault},
};

use crate::tables::{Document, List, NotToml, Placed, Raw, Table, TableFault};

/// The tables of rules.
pub static ROUTE: List = List {
    name: "route",
    members: &[
        "path",
        "methods",
        "hosts",
        "allow",
        "basic-keys",
        "audience",
    ],
};

/// What rules depend on, besides their tables.
#[derive(Clone, Copy, Debug)]
pub struct RouteOptions<'a> {
    /// The endpoints that are switched on; rules cannot name others.
    pub endpoints: &'a [Endpoint],
    /// How paths of requests are read.
    pub tolerance: Tolerance,
    /// Whether keys for machines are on.
    pub keys: bool,
    /// The audience of access tokens, which no assertion may have; `None` if services get no assertion.
    pub assertions: Option<&'a str>,
}

/// Why rules are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteFault {
    #[error(transparent)]
    NotToml(#[from] NotToml),
    #[error(transparent)]
    Table(#[from] TableFault),
    #[error("a file of rules has only [[route]]; write other settings into doorward.toml")]
    NotARoute,
    #[error("has no [[route]], so nobody would pass; write rules")]
    NoRoutes,
    #[error("is an empty list, which no request matches; leave it out for all")]
    EmptyList,
    #[error(
        "\"allow\" is missing; write \"public\", \"login\", \"signed-in\", \"nobody\" or \"role:NAME\""
    )]
    NoAllow,
    #[error(
        "\"path\" is missing or not a string; write a path such as \"/docs\" or a prefix such as \"/docs/*\""
    )]
    NoPath,
    #[error(
        "path {path:?} has a segment that ends in a dot or a blank, which \"paths.also\" cuts; write {cut:?}"
    )]
    Cut { path: String, cut: String },
    #[error(
        "allow = {:?} names an endpoint that is switched off; set {}",
        .0.name(),
        switch(*.0)
    )]
    Off(Endpoint),
    #[error("is {0:?}; write true or false")]
    NotBoolean(String),
    #[error("accepts keys for machines, which are switched off; set keys.enabled = true")]
    KeysOff,
    #[error("names an audience of the signed assertion, which is off; set identity.assertion")]
    NoAssertion,
    #[error("must be a string of 1 to 255 bytes without control characters")]
    NotAudience,
    #[error("is jwt.audience: a service could use an assertion as an access token; write another")]
    AudienceOfTokens,
    #[error(transparent)]
    Rule(#[from] RuleFault),
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

/// Every fault of the rules.
pub type RouteFaults = Vec<Placed<RouteFault>>;

/// The setting that switches an endpoint on.
fn switch(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Login | Endpoint::Logout => "nothing",
        Endpoint::Refresh => "refresh.enabled = true",
        Endpoint::Register => "self_service.register = true",
        Endpoint::Password => "self_service.password = true",
        Endpoint::SignIn | Endpoint::SignOut | Endpoint::SignedIn => "sign_in.enabled = true",
        Endpoint::Keys => "keys.enabled = true",
        Endpoint::KeysPage => "keys.enabled = true and sign_in.enabled = true",
    }
}

/// Makes rules from tables; the built-in rules if there are none.
///
/// # Errors
///
/// Every fault.
pub fn policy(tables: &[Table], options: RouteOptions<'_>) -> Result<Policy, RouteFaults> {
    let Some(first) = tables.first() else {
        return Ok(Policy::built_in(options.endpoints));
    };
    let mut faults = Faults(Vec::new());
    let mut rules = Vec::new();
    for table in tables {
        let Some(rule) = rule(&mut faults, table, options) else {
            continue;
        };
        if let Demand::Endpoint(endpoint) = rule.demand()
            && !options.endpoints.contains(endpoint)
        {
            faults.push(&table.place, RouteFault::Off(*endpoint));
        }
        rules.push(rule);
    }
    match Policy::new(rules) {
        Ok(policy) if faults.0.is_empty() => Ok(policy),
        Ok(_) => Err(faults.0),
        Err(conflicts) => {
            for conflict in conflicts {
                faults.push(&first.place, conflict);
            }
            Err(faults.0)
        }
    }
}

/// Reads a file that has only `[[route]]`.
///
/// # Errors
///
/// Every fault.
pub fn of_file(name: &str, text: &str, options: RouteOptions<'_>) -> Result<Policy, RouteFaults> {
    let tables = tables_of_file(name, text)?;
    policy(&tables, options)
}

fn tables_of_file(name: &str, text: &str) -> Result<Vec<Table>, RouteFaults> {
    let document = Document::new(name, text);
    let mut faults = Faults(Vec::new());
    let mut tables = Vec::new();
    let parsed = document.parse().map_err(|fault| {
        let what = fault.what.into();
        vec![Placed {
            place: fault.place,
            what,
        }]
    })?;
    for (member, value) in &parsed {
        let key = &**member.get_ref();
        let place = format!("{}: {key}", document.at(member.span().start));
        if key != ROUTE.name {
            faults.push(&place, RouteFault::NotARoute);
            continue;
        }
        let (read, wrong) = ROUTE.of_toml(&document, value, place);
        tables.extend(read);
        for fault in wrong {
            faults.push(&fault.place, fault.what);
        }
    }
    if tables.is_empty() && faults.0.is_empty() {
        faults.push(name, RouteFault::NoRoutes);
    }
    match faults.0.is_empty() {
        true => Ok(tables),
        false => Err(faults.0),
    }
}

struct Faults(RouteFaults);

impl Faults {
    fn push(&mut self, place: &str, what: impl Into<RouteFault>) {
        let (place, what) = (place.to_owned(), what.into());
        self.0.push(Placed { place, what });
    }
}

fn rule(faults: &mut Faults, table: &Table, options: RouteOptions<'_>) -> Option<Rule> {
    let list = |name: &str| match table.members.get(name).map(|value| &value.raw) {
        None => Vec::new(),
        Some(Raw::Text(one)) => vec![one.to_string()],
        Some(Raw::List(several)) => several.clone(),
    };
    for name in ["methods", "hosts"] {
        if let Some(value) = table.members.get(name)
            && value.raw == Raw::List(Vec::new())
        {
            faults.push(&value.place, RouteFault::EmptyList);
        }
    }
    let demand = match table.members.get("allow") {
        None => {
            faults.push(&table.place, RouteFault::NoAllow);
            None
        }
        Some(value) => {
            let demand = match &value.raw {
                Raw::Text(word) => Demand::parse(word),
                Raw::List(roles) => Demand::roles(roles.iter().map(String::as_str)),
            };
            demand
                .map_err(|fault| faults.push(&value.place, fault))
                .ok()
        }
    };
    let path = match table.members.get("path").map(|value| &value.raw) {
        Some(Raw::Text(path)) => path.to_string(),
        Some(Raw::List(_)) | None => {
            faults.push(&table.place, RouteFault::NoPath);
            return None;
        }
    };
    // A rule for `/a.` would not match what is read as `/a`.
    let own = path.strip_suffix("/*").unwrap_or(&path).as_bytes();
    if let (Ok(read), Ok(also)) = (
        Path::parse(own, Tolerance::default()),
        Path::parse(own, options.tolerance),
    ) && read.loose() != also.loose()
    {
        let cut = also.loose().to_owned();
        let path = path.clone();
        faults.push(&table.place, RouteFault::Cut { path, cut });
    }
    // Without a demand, the rest of the rule is still parsed, so that its faults are reported too.
    let known = demand.is_some();
    let demand = demand.unwrap_or(Demand::Nobody);
    let basic_keys = basic_keys(faults, table, options.keys);
    let audience = audience(faults, table, options.assertions);
    match Rule::new(&path, &list("methods"), &list("hosts"), demand) {
        Ok(rule) if known => {
            let rule = match basic_keys {
                true => rule.taking_basic_keys(),
                false => Ok(rule),
            };
            let rule = rule.and_then(|rule| match audience {
                Some(audience) => rule.asserting_to(audience),
                None => Ok(rule),
            });
            rule.map_err(|fault| faults.push(&table.place, fault)).ok()
        }
        Ok(_) => None,
        Err(own) => {
            for fault in own {
                faults.push(&table.place, fault);
            }
            None
        }
    }
}

/// The audience of the assertions for the service of a rule.
fn audience<'t>(faults: &mut Faults, table: &'t Table, of_tokens: Option<&str>) -> Option<&'t str> {
    let value = table.members.get("audience")?;
    let fault = match (&value.raw, of_tokens) {
        (_, None) => RouteFault::NoAssertion,
        (Raw::Text(text), Some(other)) if text.as_str() == other => RouteFault::AudienceOfTokens,
        (Raw::Text(text), Some(_))
            if (1..=255).contains(&text.len()) && !text.contains(char::is_control) =>
        {
            return Some(text);
        }
        (Raw::Text(_) | Raw::List(_), Some(_)) => RouteFault::NotAudience,
    };
    faults.push(&value.place, fault);
    None
}

/// Whether a rule accepts keys as the password of Basic.
fn basic_keys(faults: &mut Faults, table: &Table, are_on: bool) -> bool {
    let Some(value) = table.members.get("basic-keys") else {
        return false;
    };
    let written = match &value.raw {
        Raw::Text(text) => text.as_str(),
        Raw::List(_) => "[…]",
    };
    match written {
        "true" if !are_on => faults.push(&value.place, RouteFault::KeysOff),
        "true" => return true,
        "false" => {}
        other => faults.push(&value.place, RouteFault::NotBoolean(other.to_owned())),
    }
    false
}

#[cfg(test)]
mod tests;
