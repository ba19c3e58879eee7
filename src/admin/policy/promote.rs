//! Puts the next rules into the file with the settings.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use doorward_rules::{private, routes::ROUTE};
use toml_edit::{DocumentMut, Item, Table};

use super::Outcome;
use crate::{
    cli,
    config::{NextRules, Settings},
};

/// The file with the settings.
pub(crate) struct Written<'a> {
    pub(crate) file: &'a Path,
    /// Reads the settings as they would be with another text of this file.
    pub(crate) load: &'a dyn Fn(String) -> anyhow::Result<Settings>,
}

/// Replaces the rules of the file with the settings by the next rules.
///
/// # Errors
///
/// There are no next rules, or the file cannot be replaced.
pub(super) fn promote(
    settings: &Settings,
    command: &cli::PolicyPromote,
    written: Written<'_>,
) -> anyhow::Result<Outcome> {
    let next = (settings.next.as_ref()).context(
        "rules.next is not set; it names the file with the next rules, such as next.toml",
    )?;
    let name = written.file.display();
    // If the file is a link, such as in a mount, its target is replaced.
    let file = fs::canonicalize(written.file)
        .with_context(|| format!("the settings in {name} cannot be read"))?;
    let before = fs::read_to_string(&file)
        .with_context(|| format!("the settings in {name} cannot be read"))?;
    let after = with_rules(&before, &next.text).context("the next rules cannot be written")?;
    check(next, &after, &written)?;
    if command.print {
        print!("{after}");
        return Ok(Outcome::Yes);
    }
    let (count, source) = (next.policy.rules().len(), next.file.display());
    if after == before {
        println!("{name} already has the {count} rules of {source}.");
        return Ok(Outcome::Yes);
    }
    replace(&file, &before, &after).with_context(|| {
        format!(
            "{name} cannot be replaced; if it is a mount, print the new file with --print and change its source"
        )
    })?;
    println!(
        "{name} now has the {count} rules of {source}. A running Doorward takes them over within two seconds."
    );
    Ok(Outcome::Yes)
}

/// The settings must be valid with the new text, and have exactly the next rules.
fn check(next: &NextRules, after: &str, written: &Written<'_>) -> anyhow::Result<()> {
    let settings = (written.load)(after.to_owned()).context("the settings with the next rules")?;
    ensure!(
        settings.policy.has_the_rules_of(&next.policy),
        "the new file would not have the rules of {}",
        next.file.display()
    );
    Ok(())
}

/// The text of the settings with the rules of another file, and everything else as it was.
fn with_rules(settings: &str, rules: &str) -> anyhow::Result<String> {
    let mut settings: DocumentMut = settings.parse()?;
    let mut rules: DocumentMut = rules.parse()?;
    let routes = rules.remove(ROUTE.name).context("there are no rules")?;
    settings.remove(ROUTE.name);
    let end = last_position(settings.as_table()).saturating_add(1);
    let mut routes = routes;
    if let Item::ArrayOfTables(tables) = &mut routes {
        for (table, position) in tables.iter_mut().zip(end..) {
            table.set_position(Some(position));
        }
        if let Some(first) = tables.iter_mut().next() {
            separate(first, !settings.is_empty());
        }
    }
    settings.insert(ROUTE.name, routes);
    // Comments at the end of the settings now precede the rules, and comments at the end of the rules end the file.
    let trailing = format!(
        "{}{}",
        settings.trailing().as_str().unwrap_or_default(),
        rules.trailing().as_str().unwrap_or_default()
    );
    settings.set_trailing(trailing);
    Ok(settings.to_string())
}

/// An empty line before the first rule, if something precedes it.
fn separate(first: &mut Table, follows: bool) {
    let decor = first.decor_mut();
    let prefix = decor.prefix().and_then(|prefix| prefix.as_str());
    let prefix = prefix
        .unwrap_or_default()
        .trim_start_matches('\n')
        .to_owned();
    decor.set_prefix(match follows {
        true => format!("\n{prefix}"),
        false => prefix,
    });
}

fn last_position(table: &Table) -> isize {
    let within = table.iter().map(|(_, item)| match item {
        Item::Table(table) => last_position(table),
        Item::ArrayOfTables(tables) => tables.iter().map(last_position).max().unwrap_or(0),
        Item::None | Item::Value(_) => 0,
    });
    within.chain(table.position()).max().unwrap_or(0)
}

/// Replaces a file in one step. It keeps its owner and its mode, so that Doorward can still read it.
fn replace(file: &Path, before: &str, after: &str) -> anyhow::Result<()> {
    let old = fs::metadata(file)?;
    let dir = file.parent().unwrap_or(Path::new("/"));
    let draft = draft(file)?;
    let written = write(&draft, &old, after).map_err(anyhow::Error::from);
    let replaced = written.and_then(|()| {
        // Somebody may have changed the file meanwhile.
        if fs::read_to_string(file)? != before {
            bail!("it has changed since it was read; run the command again");
        }
        Ok(fs::rename(&draft, file)?)
    });
    if replaced.is_err() {
        // The first fault is the one to report.
        let _ = fs::remove_file(&draft);
    }
    replaced?;
    Ok(File::open(dir)?.sync_all()?)
}

/// A name beside the file that nobody can guess; names with a dot are not read.
fn draft(file: &Path) -> anyhow::Result<PathBuf> {
    let name = file.file_name().context("is not a file")?;
    let id = uuid::Uuid::new_v4().simple();
    Ok(file.with_file_name(format!(".{}.draft-{id}", name.to_string_lossy())))
}

fn write(draft: &Path, old: &fs::Metadata, text: &str) -> io::Result<()> {
    let mut file = private::open(draft, OpenOptions::new().write(true).create_new(true))?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(old.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: &str = "# Anybody.\n[[route]]\npath = \"/open\"\nallow = \"public\"\n\n# The rest.\n[[route]]\npath = \"/*\"\nallow = \"nobody\"\n# the end\n";

    #[test]
    fn rules_are_replaced_and_the_rest_stays() {
        let before = "# Head.\nself_service.register = true # why\n\n[jwt]\n# Short.\nlifetime = \"1h\"\n\n[[route]]\npath = \"/old\"\nallow = \"public\"\n\n[log]\nlevel = \"info\"\n\n[[route]]\npath = \"/older\"\nallow = \"public\"\n";
        let after = with_rules(before, NEXT).unwrap();
        assert_eq!(
            after,
            "# Head.\nself_service.register = true # why\n\n[jwt]\n# Short.\nlifetime = \"1h\"\n\n[log]\nlevel = \"info\"\n\n# Anybody.\n[[route]]\npath = \"/open\"\nallow = \"public\"\n\n# The rest.\n[[route]]\npath = \"/*\"\nallow = \"nobody\"\n# the end\n"
        );
        assert_eq!(
            with_rules(&after, NEXT).unwrap().matches("/open").count(),
            1
        );
    }

    #[test]
    fn rules_are_added_where_there_were_none() {
        let rules = |text: &str| text.matches("[[route]]").count();
        for before in [
            "",
            "# Nothing.\n",
            "rules.next = \"next.toml\"\n",
            "[rules]\nnext = \"next.toml\"\n",
        ] {
            let after = with_rules(before, NEXT).unwrap();
            assert_eq!(rules(&after), 2, "{before:?}: {after}");
            assert!(after.contains(before.trim()), "{before:?}: {after}");
            let again: DocumentMut = after.parse().unwrap();
            assert_eq!(again.contains_key("rules"), before.contains("next.toml"));
        }
        let inline = "route = [{ path = \"/a\", allow = \"public\" }]\n";
        let after = with_rules("[log]\nlevel = \"info\"\n", inline).unwrap();
        let again: DocumentMut = after.parse().unwrap();
        assert!(
            again["route"].is_array() && again["log"].is_table(),
            "{after}"
        );
    }

    #[test]
    fn a_file_keeps_its_mode_and_is_not_replaced_after_a_change() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("doorward.toml");
        fs::write(&file, "one").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        replace(&file, "one", "two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o640
        );
        let fault = replace(&file, "one", "three").unwrap_err();
        assert!(fault.to_string().contains("has changed"), "{fault}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
