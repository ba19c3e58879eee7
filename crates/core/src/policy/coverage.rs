//! Which rules decide the requests of one operation: a method, and a path in which some parts are free, as in OpenAPI.

use std::collections::BTreeSet;

use super::{DecidedBy, Policy, Precedence, Rule, Side};
use crate::{
    path::{Path, PathFault, Tolerance},
    request::{Host, Method},
};

/// A path with parameters, such as `/users/{id}/photo.{format}`. A parameter is at least one character of one segment
/// (OpenAPI 3.1, 4.8.8.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    segments: Vec<Segment>,
}

/// The literal parts of a segment; between each two there is a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment(Vec<String>);

/// Why a text is not a path template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// It does not begin with a slash.
    #[error("it does not begin with a slash")]
    NotAbsolute,
    /// A brace is open at the end of a segment, closed without being open, or opened twice.
    #[error("its braces do not match within a segment")]
    Braces,
}

impl PathTemplate {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, TemplateFault> {
        let path = text.strip_prefix('/').ok_or(TemplateFault::NotAbsolute)?;
        let segments = path.split('/').map(Segment::parse);
        Ok(Self {
            segments: segments.collect::<Result<_, _>>()?,
        })
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, TemplateFault> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once('{') {
            let (name, next) = behind.split_once('}').ok_or(TemplateFault::Braces)?;
            if literal.contains('}') || name.contains('{') {
                return Err(TemplateFault::Braces);
            }
            parts.push(literal.to_owned());
            rest = next;
        }
        if rest.contains('}') {
            return Err(TemplateFault::Braces);
        }
        parts.push(rest.to_owned());
        Ok(Self(parts))
    }

    fn is_literal(&self) -> bool {
        self.0.len() == 1
    }

    /// A text for the parameters that makes the segment equal to this one, in no case, of these.
    fn unlike(&self, others: &BTreeSet<&str>) -> String {
        let filled = |word: &str| self.0.join(word);
        let is_free = |text: &String| !others.iter().any(|own| own.eq_ignore_ascii_case(text));
        let words = (0..).map(|number: u32| match number {
            0 => "any".to_owned(),
            _ => format!("any{number}"),
        });
        let mut texts = words.map(|word| filled(&word));
        texts.find(is_free).unwrap_or_default()
    }
}

/// Whether the literal parts, with at least one character between each two, make this text.
fn fits(parts: &[String], text: &str) -> bool {
    match parts {
        [] => text.is_empty(),
        [last] => text == last,
        [first, others @ ..] => text.strip_prefix(&**first).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, found)| at + found.len_utf8());
            let mut tails = ends.filter_map(|end| rest.get(end..));
            tails.any(|tail| fits(others, tail))
        }),
    }
}

/// What decides the requests of an operation, each with an example of a path: first for parameters that no rule names,
/// then for each value that a rule names.
///
/// Values that services may read as a rule's, such as its other spellings, are left out: they are refused as two readings.
///
/// # Errors
///
/// Why no request can have such a path.
pub fn cover(
    policy: &Policy,
    method: Method<'_>,
    host: Host<'_>,
    template: &PathTemplate,
    tolerance: Tolerance,
) -> Result<Vec<(DecidedBy, String)>, PathFault> {
    let rules: Vec<_> = policy.rules().iter().map(segments).collect();
    let mut paths = Vec::new();
    let alive: Vec<_> = rules.iter().map(Vec::as_slice).collect();
    fill(&template.segments, String::new(), &alive, &mut paths);
    let side = Side {
        policy,
        precedence: Precedence::HostFirst,
    };
    let mut found: Vec<(DecidedBy, String)> = Vec::new();
    for path in paths {
        let read = Path::parse(path.as_bytes(), tolerance)?;
        let by = side.decided_by(policy.access(method, host, &read));
        if !found.iter().any(|(own, _)| *own == by) {
            found.push((by, path));
        }
    }
    Ok(found)
}

/// The segments of a rule's path.
fn segments(rule: &Rule) -> Vec<String> {
    let path = rule.path();
    let path = path.strip_suffix("/*").unwrap_or(&path);
    path.split('/').skip(1).map(str::to_owned).collect()
}

/// All paths of a template that rules distinguish; `alive` has what follows in the rules that begin like the path so far.
fn fill(template: &[Segment], path: String, alive: &[&[String]], paths: &mut Vec<String>) {
    let Some((segment, rest)) = template.split_first() else {
        paths.push(path);
        return;
    };
    let heads = alive.iter().filter_map(|rule| rule.first());
    let named: BTreeSet<&str> = heads
        .map(String::as_str)
        .filter(|head| fits(&segment.0, head))
        .collect();
    let unlike = (!segment.is_literal()).then(|| segment.unlike(&named));
    let literal = segment.is_literal().then(|| segment.0.concat());
    let named = named.iter().map(|head| (*head).to_owned());
    let named = named.filter(|_| literal.is_none());
    for text in literal.iter().cloned().chain(unlike).chain(named) {
        let next: Vec<_> = alive
            .iter()
            .filter_map(|rule| rule.split_first())
            .filter_map(|(head, tail)| (*head == text).then_some(tail))
            .collect();
        fill(rest, format!("{path}/{text}"), &next, paths);
    }
}
