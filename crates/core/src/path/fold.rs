//! Folds characters that Unicode's case mappings, case foldings and compatibility decomposition make equal: services that
//! ignore case or normalise confuse them.

use icu_casemap::CaseMapper;
use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};

/// Folds a text that is not ASCII; `None` if folding does not reach a fixed point.
pub(super) fn fold(text: &str) -> Option<String> {
    let mut folded = once(text);
    for _ in 0..MOST_ROUNDS {
        let again = once(&folded);
        if again == folded {
            return Some(folded);
        }
        folded = again;
    }
    None
}

/// Every character reaches a fixed point in three rounds.
const MOST_ROUNDS: usize = 8;

/// Full mappings (Python) make `İ` an `i` with this character, simple mappings (Go) make it `i`.
const DOT_ABOVE: char = '\u{307}';

/// Upper case comes first, because it maps `ı` to `I` and `ſ` to `S`.
fn once(text: &str) -> String {
    let case = CaseMapper::new();
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let upper: String = DecomposingNormalizerBorrowed::new_nfkd()
        .normalize_iter(text.chars())
        .filter(|character| *character != DOT_ABOVE && !ignorable.contains(*character))
        .map(|character| case.simple_uppercase(character))
        .collect();
    case.fold_string(&upper).into_owned()
}

#[cfg(test)]
mod tests {
    use icu_normalizer::ComposingNormalizerBorrowed;
    use proptest::prelude::*;

    use super::*;

    /// All forms that services may make of a text: simple and full mappings and foldings, and the normal forms.
    fn readings(text: &str) -> Vec<String> {
        let case = CaseMapper::new();
        let simple = [
            |character| CaseMapper::new().simple_fold(character),
            |character| CaseMapper::new().simple_fold_turkic(character),
            |character| CaseMapper::new().simple_lowercase(character),
            |character| CaseMapper::new().simple_uppercase(character),
        ];
        let nfkd = DecomposingNormalizerBorrowed::new_nfkd();
        let (nfkc, nfc) = (
            ComposingNormalizerBorrowed::new_nfkc(),
            ComposingNormalizerBorrowed::new_nfc(),
        );
        let full = [
            case.fold_string(text).into_owned(),
            case.fold_turkic_string(text).into_owned(),
            text.to_lowercase(),
            text.to_uppercase(),
            nfkd.normalize(text).into_owned(),
            nfkc.normalize(text).into_owned(),
            nfc.normalize(text).into_owned(),
        ];
        let simple = simple.iter().map(|map| text.chars().map(map).collect());
        simple.chain(full).collect()
    }

    #[test]
    fn every_character_folds_like_its_case_and_normal_forms() {
        let all: Vec<char> = ('\u{0}'..=char::MAX).collect();
        let mut with_ascii = 0;
        for block in all.chunks(64) {
            // Most blocks do not change; a NUL between characters keeps them apart.
            let text: String = block
                .iter()
                .flat_map(|character| [*character, '\0'])
                .collect();
            if fold(&text).as_ref() == Some(&text)
                && readings(&text).iter().all(|reading| *reading == text)
            {
                continue;
            }
            for character in block {
                let text = character.to_string();
                let folded = fold(&text);
                assert!(folded.is_some(), "{character:?}");
                for reading in readings(&text) {
                    assert_eq!(fold(&reading), folded, "{character:?}, read as {reading:?}");
                    if !text.is_ascii() && reading.bytes().any(|byte| byte.is_ascii()) {
                        assert_ne!(
                            folded.as_ref(),
                            Some(&text),
                            "{character:?} passes unfolded"
                        );
                        with_ascii += 1;
                    }
                }
            }
        }
        assert!(with_ascii > 1000, "{with_ascii}");
    }

    #[test]
    fn characters_that_known_services_fold_are_folded() {
        for (text, folded) in [
            ("Adm\u{130}n", "admin"),
            ("adm\u{131}n", "admin"),
            ("admi\u{307}n", "admin"),
            ("\u{212a}eys", "keys"),
            ("u\u{17f}ers", "users"),
            ("\u{ff41}dmin", "admin"),
            ("\u{2460}", "1"),
            ("a\u{ad}d\u{200b}min", "admin"),
            ("stra\u{df}e", "strasse"),
            ("STRA\u{1e9e}E", "strasse"),
            ("\u{fb01}le", "file"),
            ("\u{ff0f}\u{ff3c}\u{ff05}\u{ff1b}\u{2025}", "/\\%;.."),
            ("caf\u{e9}", "cafe\u{301}"),
            ("\u{3a3}\u{3c2}\u{3c3}", "\u{3c3}\u{3c3}\u{3c3}"),
        ] {
            assert_eq!(fold(text).as_deref(), Some(folded), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn folding_terminates_and_ignores_case_and_normal_form(text in "\\PC{0,12}") {
            let folded = fold(&text);
            prop_assert!(folded.is_some());
            let nfc = ComposingNormalizerBorrowed::new_nfc();
            for reading in [text.to_lowercase(), text.to_uppercase(), nfc.normalize(&text).into_owned()] {
                prop_assert_eq!(&fold(&reading), &folded);
            }
        }
    }
}
