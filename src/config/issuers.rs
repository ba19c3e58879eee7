//! `[[issuer]]`: other issuers whose tokens are accepted.

use doorward_rules::tables::{Raw, Table};

use super::{fault::ValueFault, reader::Reader, value::name};
use crate::{
    domain::{
        account::{Roles, Username},
        issuer::IssuerTerms,
        key::Algorithm,
    },
    issuers::{Believed, Source},
};

/// The most issuers; each one has its own cache of verified tokens.
const MOST: usize = 16;

pub(super) fn issuers(reader: &mut Reader, own: &str) -> Vec<Believed> {
    let tables = std::mem::take(&mut reader.issuers);
    if let Some(table) = tables.get(MOST) {
        reader.fault(table.place.clone(), format!("is one more than {MOST}"));
    }
    let mut issuers: Vec<Believed> = Vec::new();
    for table in &tables {
        let issuer = issuer(reader, table);
        let name = &*issuer.terms.issuer;
        let taken = if name == own {
            Some("is jwt.issuer, our own name; the tokens of that name are ours")
        } else if !name.is_empty() && issuers.iter().any(|other| other.terms.issuer == name) {
            Some("is there twice; one name is one issuer")
        } else {
            None
        };
        if let Some(what) = taken {
            let place = table.members.get("issuer").map(|value| &value.place);
            reader.fault(place.unwrap_or(&table.place).clone(), what);
        }
        issuers.push(issuer);
    }
    issuers
}

fn issuer(reader: &mut Reader, table: &Table) -> Believed {
    type Check = fn(&str) -> Result<(), ValueFault>;
    let mut text = |member: &'static str, default: Option<&str>, parse: Check| {
        let value = table.members.get(member);
        let (place, parsed) = match (value.map(|value| (&value.place, &value.raw)), default) {
            (Some((place, Raw::Text(text))), _) => {
                (place, parse(text).map(|()| text.as_str().to_owned()))
            }
            (Some((place, Raw::List(_))), _) => (place, Err(ValueFault::List)),
            (None, Some(default)) => return default.to_owned(),
            (None, None) => (&table.place, Err(ValueFault::Missing(member))),
        };
        parsed.unwrap_or_else(|what| {
            reader.fault(place.clone(), what);
            String::new()
        })
    };
    let issuer = text("issuer", None, |text| {
        possible(text)?;
        // In the ids of its users, the issuer is what comes before the first "|".
        match text.contains('|') {
            true => Err(ValueFault::IssuerName),
            false => Ok(()),
        }
    });
    let audience = text("audience", None, possible);
    let jwks = text("jwks", None, |text| Ok(Source::parse(text).map(drop)?));
    let prefix = text("prefix", None, |prefix| {
        let fits = prefix.len() <= 64 && Username::parse(&format!("{prefix}x")).is_some();
        fits.then_some(()).ok_or(ValueFault::Prefix)
    });
    let username = text("username", Some("sub"), possible);
    let claim = text("roles", Some(""), possible);
    let accept_roles = roles(reader, table, "accept_roles");
    let grant = roles(reader, table, "grant");
    if let Some(value) = table.members.get("accept_roles")
        && !table.members.contains_key("roles")
    {
        let what = "needs \"roles\" beside it, the claim that they are taken from";
        reader.fault(value.place.clone(), what);
    }
    let all = accept_roles.iter().chain(grant.iter()).cloned();
    if let Err(fault) = Roles::collect(all) {
        reader.fault(table.place.clone(), fault.to_string());
    }
    Believed {
        terms: IssuerTerms {
            issuer,
            audience,
            prefix,
            username,
            roles: (!claim.is_empty()).then_some(claim),
            accept_roles,
            grant,
            algorithms: algorithms(reader, table),
        },
        // If it cannot be parsed, that is a fault already.
        jwks: Source::parse(&jwks).unwrap_or_default(),
    }
}

fn possible(text: &str) -> Result<(), ValueFault> {
    name(text).map(drop)
}

fn roles(reader: &mut Reader, table: &Table, member: &str) -> Roles {
    let Some(value) = table.members.get(member) else {
        return Roles::default();
    };
    let roles = value.raw.items();
    Roles::parse(roles.iter().map(String::as_str)).unwrap_or_else(|fault| {
        reader.fault(value.place.clone(), fault.to_string());
        Roles::default()
    })
}

fn algorithms(reader: &mut Reader, table: &Table) -> Vec<Algorithm> {
    let Some(value) = table.members.get("algorithms") else {
        return IssuerTerms::ALGORITHMS.into();
    };
    let names = value.raw.items();
    if names.is_empty() {
        let what = "is an empty list, by which no token is signed; leave it out for all";
        reader.fault(value.place.clone(), what);
    }
    let mut algorithms = Vec::new();
    for name in names {
        let known = Algorithm::parse(&name).filter(|it| IssuerTerms::ALGORITHMS.contains(it));
        match known {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let known = IssuerTerms::ALGORITHMS.map(Algorithm::name).join(", ");
                reader.fault(value.place.clone(), format!("{name:?} is none of: {known}"));
            }
        }
    }
    algorithms
}
