//! Questions to the person at the terminal, and answers line by line.

use std::io::BufRead;

use anyhow::bail;
use clap::ValueEnum;

/// Asks on standard error, so that standard output has only results.
pub(super) struct Questions<R>(R);

impl<R: BufRead> Questions<R> {
    pub(super) fn new(answers: R) -> Self {
        Self(answers)
    }

    /// Asks until the answer is the number or the name of a choice.
    pub(super) fn choice<T: ValueEnum + 'static>(
        &mut self,
        question: &str,
        flag: &str,
    ) -> anyhow::Result<T> {
        eprintln!("{question}");
        for (number, value) in (1..).zip(choices::<T>()) {
            let help = value.get_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            eprintln!("  {number}) {:<12} {help}", value.get_name());
        }
        loop {
            eprint!("> ");
            let answer = self.line(flag)?;
            let chosen = answer
                .parse()
                .ok()
                .and_then(|number: usize| T::value_variants().get(number.checked_sub(1)?).cloned())
                .or_else(|| T::from_str(&answer, true).ok());
            match chosen {
                Some(chosen) => return Ok(chosen),
                None => eprintln!("Please answer with a number or a name from the list."),
            }
        }
    }

    /// Asks for a text; an empty line takes the default.
    pub(super) fn text(
        &mut self,
        question: &str,
        flag: &str,
        usual: &str,
    ) -> anyhow::Result<String> {
        eprint!("{question} [{usual}] > ");
        let answer = self.line(flag)?;
        Ok(match answer.is_empty() {
            true => usual.to_owned(),
            false => answer,
        })
    }

    fn line(&mut self, flag: &str) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            eprintln!();
            bail!("no answer; {flag} gives it without a question");
        }
        Ok(line.trim().to_owned())
    }
}

fn choices<T: ValueEnum + 'static>() -> impl Iterator<Item = clap::builder::PossibleValue> {
    T::value_variants()
        .iter()
        .filter_map(ValueEnum::to_possible_value)
}
