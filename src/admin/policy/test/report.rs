//! What the cases gave, for people, for programs, and as JUnit's XML.

use anyhow::Context as _;
use quick_xml::{Writer, events::BytesText};
use serde_json::json;

use super::run::{Ran, Results};
use crate::cli::TestFormat;

pub(super) fn print(results: &Results, format: TestFormat) -> anyhow::Result<()> {
    match format {
        TestFormat::Text => text(results),
        TestFormat::Json => println!("{}", serde_json::to_string_pretty(&machine(results))?),
        TestFormat::Junit => println!("{}", junit(results)?),
    }
    Ok(())
}

fn text(results: &Results) {
    let failing: Vec<_> = (results.cases.iter())
        .filter(|ran| !ran.faults.is_empty())
        .collect();
    for ran in &failing {
        let case = &ran.case;
        println!("FAIL  {}: {}", case.place, case.name);
        println!(
            "  request  {} {}{}, {}",
            case.method, case.host, case.target, case.who
        );
        for fault in &ran.faults {
            println!("  {fault}");
        }
        println!("  rule  {}", ran.rule.as_deref().unwrap_or("none"));
        println!("  why   {}", ran.why);
    }
    let mut gaps = 0;
    if results.strict {
        for rule in &results.rules {
            if let Some(gap) = rule.gap() {
                println!("GAP   {}: {gap}", rule.rule);
                gaps += 1;
            }
        }
    }
    let passed = results.cases.len() - failing.len();
    let of_rules = match (results.strict, gaps) {
        (false, _) => String::new(),
        (true, 0) => "; every rule is shown".into(),
        (true, gaps) => format!("; {gaps} of {} rules are not shown", results.rules.len()),
    };
    println!("{passed} of {} cases pass{of_rules}.", results.cases.len());
}

fn machine(results: &Results) -> serde_json::Value {
    let cases = results.cases.iter().map(|ran| {
        let Ran { file, case, was, rule, why, faults } = ran;
        json!({
            "file": file, "place": case.place, "name": case.name,
            "method": case.method, "host": case.host, "path": case.target, "as": case.who.to_string(),
            "expected": case.expected.to_string(), "was": was, "rule": rule, "why": why,
            "passed": faults.is_empty(), "faults": faults,
        })
    });
    let rules = results.rules.iter().map(|shown| {
        json!({"rule": shown.rule, "reached": shown.reached, "denied": shown.denied, "gap": shown.gap()})
    });
    json!({
        "passed": results.passed(),
        "cases": cases.collect::<Vec<_>>(),
        "rules": rules.collect::<Vec<_>>(),
    })
}

/// One suite for each file, and with `--strict` one for the rules.
fn junit(results: &Results) -> anyhow::Result<String> {
    let mut files: Vec<&str> = Vec::new();
    for ran in &results.cases {
        if !files.contains(&&*ran.file) {
            files.push(&ran.file);
        }
    }
    let mut suites: Vec<Suite<'_>> = Vec::new();
    for file in files {
        let cases = results.cases.iter().filter(|ran| ran.file == file);
        let cases = cases.map(|ran| {
            let fault = (!ran.faults.is_empty()).then(|| {
                let rule = ran.rule.as_deref().unwrap_or("none");
                format!("{}\nrule: {rule}\nwhy: {}", ran.faults.join("\n"), ran.why)
            });
            (&*ran.case.name, fault)
        });
        suites.push((file, cases.collect()));
    }
    if results.strict {
        let rules = results.rules.iter();
        let rules = rules.map(|shown| (&*shown.rule, shown.gap().map(str::to_owned)));
        suites.push(("rules", rules.collect()));
    }
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer
        .create_element("testsuites")
        .write_inner_content(|writer| {
            for (name, cases) in &suites {
                suite(writer, name, cases)?;
            }
            Ok(())
        })?;
    let text = String::from_utf8(writer.into_inner()).context("names are text")?;
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}"
    ))
}

/// The name of a suite; for each case its name, and what is wrong with it.
type Suite<'a> = (&'a str, Vec<(&'a str, Option<String>)>);

fn suite(
    writer: &mut Writer<Vec<u8>>,
    name: &str,
    cases: &[(&str, Option<String>)],
) -> std::io::Result<()> {
    let failures = cases.iter().filter(|(_, fault)| fault.is_some()).count();
    let (tests, failures) = (cases.len().to_string(), failures.to_string());
    let suite = writer.create_element("testsuite").with_attributes([
        ("name", &*visible(name)),
        ("tests", &tests),
        ("failures", &failures),
    ]);
    suite.write_inner_content(|writer| {
        for (case, fault) in cases {
            let (case, class) = (visible(case), visible(name));
            let element = writer
                .create_element("testcase")
                .with_attributes([("name", &*case), ("classname", &*class)]);
            match fault {
                None => element.write_empty()?,
                Some(fault) => element.write_inner_content(|writer| {
                    let fault = visible(fault);
                    let first = fault.lines().next().unwrap_or_default();
                    let failure = writer.create_element("failure");
                    failure
                        .with_attribute(("message", first))
                        .write_text_content(BytesText::new(&fault))?;
                    Ok(())
                })?,
            };
        }
        Ok(())
    })?;
    Ok(())
}

/// XML has no control characters, not even escaped ones.
fn visible(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}
