//! Parsers of values that several sections use.

use std::{path::PathBuf, time::Duration};

use super::fault::ValueFault;
use crate::domain::account::Roles;

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn number<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, ValueFault> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| ValueFault::Number {
            text: text.to_owned(),
            least,
            most,
        })
}

pub(super) fn duration(
    text: &str,
    least: Duration,
    most: Duration,
) -> Result<Duration, ValueFault> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| (least..=most).contains(duration))
        .ok_or_else(|| ValueFault::Duration {
            text: text.to_owned(),
            least,
            most,
        })
}

pub(super) fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, ValueFault> {
    let chosen = choices.iter().find(|(name, _)| *name == text);
    chosen.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        ValueFault::Choice {
            text: text.to_owned(),
            choices: names.join(", "),
        }
    })
}

pub(super) fn boolean(text: &str) -> Result<bool, ValueFault> {
    one_of(text, &[("true", true), ("false", false)])
}

pub(super) fn name(text: &str) -> Result<String, ValueFault> {
    let possible = (1..=255).contains(&text.len()) && !text.contains(char::is_control);
    match possible {
        true => Ok(text.to_owned()),
        false => Err(ValueFault::Name),
    }
}

pub(super) fn directory(text: &str) -> Result<PathBuf, ValueFault> {
    match text {
        "" => Err(ValueFault::Empty),
        _ => Ok(PathBuf::from(text)),
    }
}

pub(super) fn file(text: &str) -> Result<PathBuf, ValueFault> {
    Ok(PathBuf::from(text))
}

pub(super) fn roles(names: &[String]) -> Result<Roles, Vec<ValueFault>> {
    Roles::parse(names.iter().map(String::as_str)).map_err(|fault| vec![fault.into()])
}

/// Parses each name of a list, and returns the faults of all of them.
pub(super) fn each<T>(
    names: &[String],
    mut parse: impl FnMut(&str) -> Result<T, ValueFault>,
) -> Result<Vec<T>, Vec<ValueFault>> {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for name in names {
        match parse(name) {
            Ok(value) => values.push(value),
            Err(fault) => faults.push(fault),
        }
    }
    match faults.is_empty() {
        true => Ok(values),
        false => Err(faults),
    }
}
