//! `[[route]]`: the rules, and the endpoints that they may name.

use super::{
    RefreshSettings, SelfServiceSettings,
    raw::{Raw, RawTable},
    reader::Reader,
};
use crate::domain::{
    path::{Path, Tolerance},
    policy::{Demand, Endpoint, Policy, Rule},
};

/// The endpoints that are switched on: always login and logout.
pub(super) fn endpoints(
    refresh: &RefreshSettings,
    self_service: &SelfServiceSettings,
) -> Vec<Endpoint> {
    Endpoint::ALL
        .into_iter()
        .filter(|endpoint| match endpoint {
            Endpoint::Login | Endpoint::Logout => true,
            Endpoint::Refresh => refresh.lifetime.is_some(),
            Endpoint::Register => self_service.register,
            Endpoint::Password => self_service.password,
        })
        .collect()
}

/// The setting that switches an endpoint on.
fn switch(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Login | Endpoint::Logout => "nothing",
        Endpoint::Refresh => "refresh.enabled = true",
        Endpoint::Register => "self_service.register = true",
        Endpoint::Password => "self_service.password = true",
    }
}

pub(super) fn policy(reader: &mut Reader, endpoints: &[Endpoint], tolerance: Tolerance) -> Policy {
    let routes = std::mem::take(&mut reader.routes);
    if routes.is_empty() {
        return Policy::built_in(endpoints);
    }
    let mut rules = Vec::new();
    for route in &routes {
        let Some(rule) = rule(reader, route, tolerance) else {
            continue;
        };
        if let Demand::Endpoint(endpoint) = rule.demand()
            && !endpoints.contains(endpoint)
        {
            reader.fault(
                route.place.clone(),
                format!(
                    "allow = {:?} names an endpoint that is switched off; set {}",
                    endpoint.name(),
                    switch(*endpoint)
                ),
            );
        }
        rules.push(rule);
    }
    let place = routes.first().map(|route| route.place.clone());
    Policy::new(rules).unwrap_or_else(|conflicts| {
        for conflict in conflicts {
            reader.fault(place.clone().unwrap_or_default(), conflict.to_string());
        }
        Policy::built_in(endpoints)
    })
}

fn rule(reader: &mut Reader, route: &RawTable, tolerance: Tolerance) -> Option<Rule> {
    let list = |name: &str| match route.members.get(name).map(|value| &value.raw) {
        None => Vec::new(),
        Some(Raw::Text(one)) => vec![one.to_string()],
        Some(Raw::List(several)) => several.clone(),
    };
    for name in ["methods", "hosts"] {
        if let Some(value) = route.members.get(name)
            && value.raw == Raw::List(Vec::new())
        {
            reader.fault(
                value.place.clone(),
                "is an empty list, which no request matches; leave it out for all",
            );
        }
    }
    let demand = match route.members.get("allow") {
        None => {
            reader.fault(
                route.place.clone(),
                "\"allow\" is missing; write \"public\", \"login\", \"signed-in\", \"nobody\" or \"role:NAME\"",
            );
            None
        }
        Some(value) => {
            let demand = match &value.raw {
                Raw::Text(word) => Demand::parse(word),
                Raw::List(roles) => Demand::roles(roles.iter().map(String::as_str)),
            };
            demand
                .map_err(|fault| reader.fault(value.place.clone(), fault.to_string()))
                .ok()
        }
    };
    let path = match route.members.get("path").map(|value| &value.raw) {
        Some(Raw::Text(path)) => path.to_string(),
        Some(Raw::List(_)) | None => {
            reader.fault(
                route.place.clone(),
                "\"path\" is missing or not a string; write a path such as \"/docs\" or a prefix such as \"/docs/*\"",
            );
            return None;
        }
    };
    // A rule for `/a.` would be none for what is read as `/a`.
    let own = path.strip_suffix("/*").unwrap_or(&path).as_bytes();
    if let (Ok(read), Ok(also)) = (
        Path::parse(own, Tolerance::default()),
        Path::parse(own, tolerance),
    ) && read.loose() != also.loose()
    {
        reader.fault(
            route.place.clone(),
            format!(
                "path {path:?} has a segment that ends in a dot or a blank, which \"paths.also\" cuts; write {:?}",
                also.loose()
            ),
        );
    }
    // Without a demand the rest of the rule is still read, for its own faults.
    let known = demand.is_some();
    let demand = demand.unwrap_or(Demand::Nobody);
    match Rule::new(&path, &list("methods"), &list("hosts"), demand) {
        Ok(rule) => known.then_some(rule),
        Err(faults) => {
            for fault in faults {
                reader.fault(route.place.clone(), fault.to_string());
            }
            None
        }
    }
}
