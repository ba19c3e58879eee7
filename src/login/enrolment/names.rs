//! Names that could be confused with others: names of other issuers' users, and reserved names such as `admin`.

use std::collections::HashSet;

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

use crate::{domain::account::Username, login::account::Account};

/// Names that belong to others.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameRules {
    /// Reserved names, in the form in which they look the same.
    reserved: HashSet<String>,
    foreign: Vec<Foreign>,
}

/// The prefixes of the names and ids of another issuer's users.
#[derive(Clone, Debug)]
struct Foreign {
    issuer: String,
    folded: String,
    look: String,
}

impl NameRules {
    /// Takes reserved names, and the other issuers, each with the prefix of its names. An empty prefix protects no names.
    #[must_use]
    pub(crate) fn new<'a>(
        reserved: impl IntoIterator<Item = &'a str>,
        issuers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let foreign = issuers.into_iter().map(|(issuer, prefix)| Foreign {
            issuer: issuer.to_owned(),
            folded: folded(prefix),
            look: look(prefix),
        });
        Self {
            reserved: reserved.into_iter().filter_map(person).collect(),
            foreign: foreign.collect(),
        }
    }

    /// Whether a name is reserved. Compares its mailbox, without the parts that many mail servers ignore.
    #[must_use]
    pub(crate) fn is_reserved(&self, name: &Username) -> bool {
        person(name.as_str()).is_some_and(|person| self.reserved.contains(&person))
    }

    /// The issuer to which a person would attribute a name.
    #[must_use]
    pub(crate) fn looks_foreign(&self, name: &Username) -> Option<&str> {
        let (folded, look) = (folded(name.as_str()), look(name.as_str()));
        let foreign = self
            .foreign
            .iter()
            .find(|foreign| begins(&folded, &foreign.folded) || begins(&look, &foreign.look));
        foreign.map(|foreign| &*foreign.issuer)
    }

    /// The issuer to which a service would attribute an account, by its name or by its id.
    #[must_use]
    pub(crate) fn is_foreign(&self, account: &Account) -> Option<&str> {
        let by_id = self.foreign.iter().find(|foreign| {
            let rest = account.id.strip_prefix(&foreign.issuer);
            rest.is_some_and(|rest| rest.starts_with('|'))
        });
        let by_id = by_id.map(|foreign| &*foreign.issuer);
        by_id.or_else(|| self.is_foreign_name(&account.username))
    }

    /// The issuer to which a service would attribute a name.
    #[must_use]
    pub(crate) fn is_foreign_name(&self, name: &Username) -> Option<&str> {
        if self.foreign.is_empty() {
            return None;
        }
        let folded = folded(name.as_str());
        let mut foreign = self.foreign.iter();
        let foreign = foreign.find(|foreign| begins(&folded, &foreign.folded));
        foreign.map(|foreign| &*foreign.issuer)
    }
}

fn begins(name: &str, prefix: &str) -> bool {
    !prefix.is_empty() && name.starts_with(prefix)
}

/// A text in the form in which the most lenient collation compares it: without case, marks, spaces and invisible
/// characters.
fn folded(text: &str) -> String {
    let upper: String = seen(text).flat_map(char::to_uppercase).collect();
    let lower: String = upper.chars().flat_map(char::to_lowercase).collect();
    seen(&lower).collect()
}

fn seen(text: &str) -> impl Iterator<Item = char> {
    let decomposed = text.nfkd();
    decomposed.filter(|c| !is_combining_mark(*c) && !c.is_whitespace() && !is_ignorable(*c))
}

/// The form of a text that people see (UTS 39, 4).
fn look(text: &str) -> String {
    let skeleton: String = unicode_security::skeleton(&folded(text)).collect();
    folded(&skeleton)
}

/// The look of the mailbox in a name, without the part after `+` and without separators.
fn person(name: &str) -> Option<String> {
    let mailbox = name.split('@').next().unwrap_or(name);
    let mailbox = mailbox.split('+').next().unwrap_or(mailbox);
    let person = look(mailbox).replace(['.', '_', '-'], "");
    (!person.is_empty()).then_some(person)
}

/// Default_Ignorable_Code_Point of Unicode.
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::account::{Roles, canonical_name},
        login::password::PasswordHash,
    };

    fn rules() -> NameRules {
        let issuers = [
            ("https://partner.example/", "partner."),
            ("https://modern.example/", "Modern/"),
            ("plain", "corp:"),
            ("nobody", ""),
            ("blank", "\u{200b}"),
        ];
        let reserved = [
            "admin",
            "administrator",
            "anonymous",
            "guest",
            "nobody",
            "operator",
            "root",
            "staff",
            "support",
            "system",
            "webmaster",
        ];
        NameRules::new(reserved, issuers)
    }

    fn name(name: &str) -> Username {
        Username::parse(name).unwrap()
    }

    fn account(id: &str, username: &str) -> Account {
        Account {
            id: id.into(),
            username: name(username),
            hash: PasswordHash::new("x".into()),
            roles: Roles::default(),
            disabled: false,
        }
    }

    #[test]
    fn new_names_that_resemble_another_issuers_users_are_refused() {
        for foreign in [
            "partner.bob",
            "partner.",
            "Partner.Bob",
            "PARTNER.bob",
            "p\u{e1}rtner.bob",
            "\u{ff50}artner.bob",
            "par\u{200b}tner.bob",
            " partner.bob",
            "partner\u{2024}bob",
            "\u{440}artner.bob",
            "modern/x",
            "modem/x",
            "MODERN/x",
        ] {
            assert!(
                rules().looks_foreign(&name(foreign)).is_some(),
                "{foreign:?}"
            );
        }
        for own in [
            "partnerbob",
            "bob",
            "bob.partner.",
            "apartner.bob",
            "modern-x",
            "corp",
        ] {
            assert_eq!(rules().looks_foreign(&name(own)), None, "{own:?}");
        }
        assert_eq!(
            NameRules::default().looks_foreign(&name("partner.bob")),
            None
        );
    }

    #[test]
    fn accounts_with_a_name_or_id_of_another_issuer_are_refused() {
        for (id, username) in [
            ("7", "partner.bob"),
            ("7", "PARTNER.bob"),
            ("7", "p\u{e1}rtner.bob"),
            ("https://partner.example/|bob", "bob"),
            ("plain|bob", "plain|bob"),
            ("nobody|", "x"),
        ] {
            assert!(
                rules().is_foreign(&account(id, username)).is_some(),
                "{id} {username}"
            );
        }
        for (id, username) in [
            ("7", "bob"),
            ("plain", "plain"),
            ("https://partner.example/x|bob", "bob"),
            // A person confuses these names; programs do not.
            ("7", "modem/x"),
        ] {
            assert_eq!(
                rules().is_foreign(&account(id, username)),
                None,
                "{id} {username}"
            );
        }
    }

    #[test]
    fn reserved_names_are_recognised_in_any_spelling() {
        for reserved in [
            "admin",
            "root",
            "Admin",
            "r00t",
            "ad.min",
            "admin_",
            "admin@example.com",
            "admin+x@example.com",
            "adm\u{131}n",
            "\u{430}dmin",
            "web-master",
        ] {
            assert!(rules().is_reserved(&name(reserved)), "{reserved:?}");
        }
        for free in [
            "ada",
            "administer",
            "rooty",
            "x.admin.y",
            "x@admin.example",
            "@",
            "+admin",
        ] {
            assert!(!rules().is_reserved(&name(free)), "{free:?}");
        }
        let own = NameRules::new(["Boss"], []);
        assert!(own.is_reserved(&name("boss")) && !own.is_reserved(&name("admin")));
    }

    proptest! {
        /// Every name with the issuer's prefix is refused, as typed and in lower case.
        #[test]
        fn every_name_with_an_issuers_prefix_is_refused(prefix in "[A-Za-z0-9./|=]{1,8}", rest in "[a-z0-9._+@-]{0,20}") {
            let rules = NameRules::new([], [("i", &*prefix)]);
            for candidate in [format!("{prefix}{rest}"), format!("{prefix}{rest}").to_lowercase()] {
                if let Some(username) = canonical_name(&candidate) {
                    prop_assert!(rules.looks_foreign(&username).is_some());
                }
                if let Some(username) = Username::parse(&candidate) {
                    prop_assert!(rules.looks_foreign(&username).is_some());
                    prop_assert!(rules.is_foreign(&account("7", username.as_str())).is_some());
                }
            }
        }
    }
}
