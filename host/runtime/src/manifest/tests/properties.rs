//! What holds of any text.

use proptest::prelude::*;

use super::{GOOD, Manifest, changed};

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\PC|[\\[\\]\n.=\"{}]){0,200}") {
        if let Err(mistakes) = Manifest::parse(&text, "t") {
            prop_assert!(!mistakes.list.is_empty());
        }
    }

    #[test]
    fn a_line_torn_out_makes_no_panic_and_every_mistake_has_its_line(line in 0_usize..40) {
        let kept: Vec<&str> = GOOD.lines().enumerate().filter(|(index, _)| *index != line).map(|(_, line)| line).collect();
        if let Err(mistakes) = Manifest::parse(&kept.join("\n"), "t") {
            prop_assert!(mistakes.list.iter().all(|mistake| mistake.line.is_some_and(|line| line <= 40)));
        }
    }

    #[test]
    fn whatever_value_a_limit_has_it_is_within_its_bounds_or_a_mistake(number in 0_u64..u64::MAX, unit in "(B|KiB|MiB|GiB|MB|)") {
        let text = changed("128MiB", &format!("{number}{unit}"));
        if let Ok(manifest) = Manifest::parse(&text, "t") {
            prop_assert!((1 << 20..=4 << 30).contains(&manifest.functions[0].limits.memory));
        }
    }
}
