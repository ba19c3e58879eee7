//! The names of the headers for services.

use doorward_core::identity_headers::{AssertionHeader, IdentityHeaders, IdentityNames, KeyHeader};

use super::{
    content::Settings,
    fault::{ContentFault, short},
};

/// Sets of identity headers. Each is kept until the process ends, so their number is bounded.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(Named, IdentityHeaders)>);

/// The settings that name headers for services.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    /// `identity.headers`.
    identity: Vec<String>,
    /// `keys.header`, if keys for machines are on.
    keys: Option<Option<String>>,
    /// `identity.assertion`.
    assertion: Option<String>,
}

const MOST_NAMES: usize = 8;

impl Names {
    pub(super) fn keep(&mut self, settings: &Settings) -> Result<IdentityHeaders, ContentFault> {
        let named = Named {
            identity: settings.identity_headers.clone(),
            keys: (settings.machine_keys.as_ref()).map(|keys| keys.header.clone()),
            assertion: (settings.assertion.as_ref()).map(|own| own.header.clone()),
        };
        if let Some((_, kept)) = self.0.iter().find(|(own, _)| *own == named) {
            return Ok(*kept);
        }
        let identity = IdentityNames::parse(&named.identity)?;
        let assertion = named.assertion.as_deref().map(AssertionHeader::parse);
        let assertion = assertion.transpose()?;
        if let Some(header) = &assertion
            && identity.like(header.as_str()).is_some()
        {
            return Err(ContentFault::Value(
                "assertion header",
                short(header.as_str()),
            ));
        }
        if self.0.len() >= MOST_NAMES {
            return Err(ContentFault::NamesChange);
        }
        let mut kept = IdentityHeaders::keep(identity);
        if let Some(header) = &named.keys {
            kept = kept.with_keys(header.as_deref().map(KeyHeader::parse).transpose()?);
        }
        if let Some(header) = &assertion {
            kept = kept.with_assertion(header);
        }
        self.0.push((named, kept));
        Ok(kept)
    }
}
