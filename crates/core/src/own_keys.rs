//! Requests of people for their own keys for machines: from programs over HTTP, and from the forms of the page.
//!
//! Must not know: what the page looks like, which keys exist.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};

use super::{
    account::{Identity, Roles},
    body::{Body, BodyFault},
    decision::Denial,
    form_key::FormKey,
    machine_key::{KeyName, MachineKeyId},
    machine_keys::KeyLimits,
};

/// What is to be done with keys.
#[derive(Debug)]
pub enum KeyWish {
    /// List them.
    List,
    /// Make one.
    Add(NewKey),
    /// End one.
    End(MachineKeyId),
}

/// A key that is not made yet.
#[derive(Debug)]
pub struct NewKey {
    /// The id that follows from a form; `None` for a random one.
    pub id: Option<MachineKeyId>,
    /// Its name.
    pub name: KeyName,
    /// Its limits.
    pub limits: KeyLimits,
    /// Its lifetime; `None` for the usual one.
    pub lifetime: Option<Duration>,
}

/// What the page is asked for.
#[derive(Debug)]
pub struct KeysVisit {
    /// What is to be done, or why the form is refused.
    pub wish: Result<KeyWish, Denial>,
    /// The form for a new key as it was typed; a refused form is shown with it.
    pub typed: Typed,
}

/// The form for a new key, as it was typed.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    /// The value that makes at most one key, if the form has one.
    pub once: Option<FormKey>,
    /// The name.
    pub name: String,
    /// Roles, separated by commas.
    pub roles: String,
    /// Whether the key gets no role at all.
    pub no_roles: bool,
    /// Paths, separated by blanks.
    pub paths: String,
    /// The lifetime in days.
    pub days: String,
}

impl KeysVisit {
    /// The page without a form.
    pub(crate) fn list() -> Self {
        Self {
            wish: Ok(KeyWish::List),
            typed: Typed::default(),
        }
    }

    /// A form that is refused before it is read.
    pub(crate) fn refused(denial: Denial) -> Self {
        Self {
            wish: Err(denial),
            typed: Typed::default(),
        }
    }

    /// Reads the form for a new key, or the button that ends one.
    pub(crate) fn of_form(body: Body<'_>, form: Option<&FormKey>, user: &Identity) -> Self {
        let fields = [
            "form", "end", "once", "name", "roles", "no_roles", "paths", "days",
        ];
        let found = match body.find(fields) {
            Ok(found) => found.map(Option::unwrap_or_default),
            Err(fault) => return Self::refused(Denial::Body(fault)),
        };
        let [key, end, once, name, roles, no_roles, paths, days] = found;
        let typed = Typed {
            once: FormKey::parse(once.as_bytes()),
            name: name.trim().to_owned(),
            roles: roles.trim().to_owned(),
            no_roles: !no_roles.is_empty(),
            paths: paths.trim().to_owned(),
            days: days.trim().to_owned(),
        };
        let wish = if !form.is_some_and(|own| own.is(&key)) {
            Err(Denial::ForeignForm)
        } else if end.is_empty() {
            typed.new_key(user).map(KeyWish::Add)
        } else {
            let id = MachineKeyId::parse(&end).ok_or(Denial::KeyNotFound);
            id.map(KeyWish::End)
        };
        Self { wish, typed }
    }
}

impl Typed {
    fn new_key(&self, user: &Identity) -> Result<NewKey, Denial> {
        let impossible = |name| Denial::Body(BodyFault::Impossible(name));
        let once = self.once.as_ref().ok_or_else(|| impossible("once"))?;
        let roles = match (self.no_roles, &*self.roles) {
            (true, "") => Some(Roles::default()),
            (true, _) => return Err(impossible("roles")),
            (false, "") => None,
            (false, roles) => Some(Roles::parse_list(roles).map_err(|_| impossible("roles"))?),
        };
        // When a key is used, a role that its owner does not have is ignored; in the form, it is a mistake.
        let is_missing = |role| !user.roles.contains(role);
        if roles.iter().flat_map(Roles::iter).any(is_missing) {
            return Err(impossible("roles"));
        }
        let limits = KeyLimits::new(roles, self.paths.split_whitespace());
        let lifetime = match &*self.days {
            "" => None,
            days => match days.parse::<u32>() {
                Ok(days @ 1..) => Some(Duration::from_secs(u64::from(days) * DAY)),
                Ok(0) | Err(_) => return Err(impossible("days")),
            },
        };
        Ok(NewKey {
            id: Some(once.key_id(&user.subject)),
            name: KeyName::parse(&self.name).ok_or_else(|| impossible("name"))?,
            limits: limits.map_err(|_| impossible("paths"))?,
            lifetime,
        })
    }
}

/// The new key in the body of a program.
pub(crate) fn new_key(body: Body<'_>) -> Result<KeyWish, Denial> {
    let impossible = |name| Denial::Body(BodyFault::Impossible(name));
    let [name, roles, paths, lifetime] = body
        .find(["name", "roles", "paths", "expires_in"])
        .map_err(Denial::Body)?;
    let name = name.ok_or(Denial::Body(BodyFault::Missing("name")))?;
    let roles = roles
        .map(|roles| Roles::parse_list(&roles).map_err(|_| impossible("roles")))
        .transpose()?;
    let paths = paths.unwrap_or_default();
    let limits =
        KeyLimits::new(roles, paths.split_whitespace()).map_err(|_| impossible("paths"))?;
    let lifetime = lifetime
        .map(|seconds| match seconds.parse() {
            Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
            Ok(0) | Err(_) => Err(impossible("expires_in")),
        })
        .transpose()?;
    Ok(KeyWish::Add(NewKey {
        id: None,
        name: KeyName::parse(&name).ok_or_else(|| impossible("name"))?,
        limits,
        lifetime,
    }))
}

/// A day in seconds.
const DAY: u64 = 24 * 3600;

impl FormKey {
    /// The id of the one key that a form can make: whoever sends the form again asks for a key that exists. It depends on the
    /// user, so that nobody can take the id of somebody else's form.
    fn key_id(&self, subject: &str) -> MachineKeyId {
        let mut context = Context::new(&SHA256);
        for part in ["doorward key of a form, version 1", self.expose(), subject] {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        let digest = context.finish();
        let id = digest.as_ref().first_chunk().copied().unwrap_or_default();
        MachineKeyId(u64::from_be_bytes(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Username;

    fn ada() -> Identity {
        Identity {
            subject: "7".into(),
            username: Username::parse("ada").unwrap(),
            roles: Roles::parse_list("editor,ops").unwrap(),
        }
    }

    fn read(key: &FormKey, fields: &str) -> KeysVisit {
        let body = format!("form={}&{fields}", key.expose());
        KeysVisit::of_form(Body::Form(body.as_bytes()), Some(key), &ada())
    }

    fn new_key(fields: &str) -> Result<NewKey, Denial> {
        let key = FormKey::draw().unwrap();
        match read(&key, &format!("once={}&{fields}", key.expose())).wish {
            Ok(KeyWish::Add(new)) => Ok(new),
            Ok(other @ (KeyWish::List | KeyWish::End(_))) => panic!("{other:?}"),
            Err(denial) => Err(denial),
        }
    }

    #[test]
    fn a_form_makes_a_key_with_its_limits() {
        let new = new_key("name=ci&roles=&paths=&days=").unwrap();
        assert_eq!((new.name.as_str(), new.lifetime), ("ci", None));
        assert_eq!(new.limits, KeyLimits::default());
        let new = new_key("name=+ci+&roles=ops&paths=%2Fa++%2Fb%2F*&days=7").unwrap();
        assert_eq!(new.limits.roles(), Some(vec!["ops"]));
        assert_eq!(new.limits.paths(), ["/a", "/b/*"]);
        assert_eq!(new.lifetime, Some(Duration::from_secs(7 * DAY)));
        let new = new_key("name=ci&no_roles=1").unwrap();
        assert_eq!(new.limits.roles(), Some(Vec::new()));
    }

    #[test]
    fn a_fault_names_its_field() {
        for (fields, name) in [
            ("", "name"),
            ("name=a+b", "name"),
            ("name=ci&roles=admin", "roles"),
            ("name=ci&roles=a+b", "roles"),
            ("name=ci&roles=ops&no_roles=1", "roles"),
            ("name=ci&paths=a", "paths"),
            ("name=ci&days=0", "days"),
            ("name=ci&days=-1", "days"),
            ("name=ci&days=1.5", "days"),
            ("name=ci&days=99999999999", "days"),
        ] {
            let expected = Denial::Body(BodyFault::Impossible(name));
            assert_eq!(new_key(fields).unwrap_err(), expected, "{fields}");
        }
    }

    #[test]
    fn a_refused_form_is_shown_as_it_was_typed() {
        let key = FormKey::draw().unwrap();
        let fields = format!(
            "once={}&name=a+b&roles=x&no_roles=1&paths=y&days=z",
            key.expose()
        );
        let typed = read(&key, &fields).typed;
        let texts = [&*typed.name, &typed.roles, &typed.paths, &typed.days];
        assert_eq!(texts, ["a b", "x", "y", "z"]);
        assert!(typed.no_roles && typed.once.unwrap().is(key.expose()));
    }

    #[test]
    fn a_form_makes_one_key_for_one_user() {
        let (one, other) = (FormKey::draw().unwrap(), FormKey::draw().unwrap());
        assert_eq!(one.key_id("7"), one.key_id("7"));
        assert_ne!(one.key_id("7"), one.key_id("8"));
        assert_ne!(one.key_id("7"), other.key_id("7"));
        // Without the value, a form could make any number of keys, so it is refused.
        let wish = read(&one, "name=ci").wish;
        let expected = Denial::Body(BodyFault::Impossible("once"));
        assert_eq!(wish.unwrap_err(), expected);
    }

    #[test]
    fn only_the_form_of_this_browser_counts() {
        let (own, other) = (FormKey::draw().unwrap(), FormKey::draw().unwrap());
        for (cookie, expected) in [(Some(&own), true), (Some(&other), false), (None, false)] {
            for wish in ["end=0123456789abcdef", "name=ci"] {
                let body = format!("form={0}&once={0}&{wish}", own.expose());
                let visit = KeysVisit::of_form(Body::Form(body.as_bytes()), cookie, &ada());
                match expected {
                    true => assert!(visit.wish.is_ok()),
                    false => assert_eq!(visit.wish.unwrap_err(), Denial::ForeignForm),
                }
            }
        }
        let wish = read(&own, "end=x").wish;
        assert_eq!(wish.unwrap_err(), Denial::KeyNotFound);
    }
}
