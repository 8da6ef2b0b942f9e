//! The function's variables: column names, the click rule, the partitioning.

use super::Partitioning;
use super::mapping::Field;

/// How interactions become the table.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For each field the names that a column may have, the preferred first.
    pub names: Vec<(Field, Vec<String>)>,
    /// What stands for a click where the file has no such column.
    pub click_from: Option<ClickRule>,
    /// How rows are laid out by date.
    pub partitioning: Partitioning,
}

impl Settings {
    /// Reads the variables `column.<field>`, `click.from` and `partition`.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let names = Field::ALL.map(|field| {
            let given = variable(&format!("column.{}", field.name()));
            let text = given.unwrap_or_else(|| field.aliases().to_owned());
            (
                field,
                text.split(',')
                    .map(str::trim)
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect(),
            )
        });
        let click_from = variable("click.from")
            .map(|text| ClickRule::parse(&text))
            .transpose()?;
        let partitioning = match variable("partition") {
            Some(text) => Partitioning::parse(&text)?,
            None => Partitioning::Auto,
        };
        Ok(Self {
            names: names.to_vec(),
            click_from,
            partitioning,
        })
    }

    /// The names that a field's column may have.
    pub fn names_of(&self, field: Field) -> &[String] {
        self.names
            .iter()
            .find(|(of, _)| *of == field)
            .map_or(&[], |(_, names)| names)
    }
}

impl Default for Settings {
    fn default() -> Self {
        let click_from = Some(ClickRule {
            field: Field::Rating,
            at_least: true,
            threshold: 4.0,
        });
        let names = Field::ALL.map(|field| (field, field.aliases().split(',').map(str::to_owned).collect()));
        Self {
            names: names.to_vec(),
            click_from,
            partitioning: Partitioning::Auto,
        }
    }
}

/// A click derived from a number: `rating>=4`, `dwell_seconds>30`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClickRule {
    /// The field that is looked at.
    pub field: Field,
    /// Whether the threshold itself counts.
    pub at_least: bool,
    /// The threshold.
    pub threshold: f64,
}

impl ClickRule {
    /// Parses `<rating|dwell_seconds> <>|>=> <number>`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "the variable `click.from` is `{text}`, allowed are `rating` or `dwell_seconds`, `>` or `>=`, and a number"
            )
        };
        let (name, rest) = text.split_once('>').ok_or_else(wrong)?;
        let (at_least, number) = match rest.strip_prefix('=') {
            Some(number) => (true, number),
            None => (false, rest),
        };
        let field = match name.trim() {
            "rating" => Field::Rating,
            "dwell_seconds" => Field::DwellSeconds,
            _ => return Err(wrong()),
        };
        let threshold = number
            .trim()
            .parse()
            .ok()
            .filter(|n: &f64| n.is_finite())
            .ok_or_else(wrong)?;
        Ok(Self {
            field,
            at_least,
            threshold,
        })
    }

    /// Whether this value stands for a click.
    pub fn holds(&self, value: f64) -> bool {
        value > self.threshold || (self.at_least && value == self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_rule_is_parsed_or_says_what_is_allowed() {
        let rule = ClickRule::parse("rating >= 4").unwrap();
        assert!(rule.holds(4.0) && rule.holds(4.5) && !rule.holds(3.5));
        assert!(!ClickRule::parse("dwell_seconds>30").unwrap().holds(30.0));
        for wrong in ["", "rating", "rating<4", "rating>=x", "stars>=4", "rating>=nan"] {
            assert!(
                ClickRule::parse(wrong).unwrap_err().contains("allowed are"),
                "`{wrong}` was accepted"
            );
        }
    }

    #[test]
    fn a_variable_replaces_the_names_of_its_column() {
        let variable = |name: &str| (name == "column.user_id").then(|| " member , who".to_owned());
        let settings = Settings::from_variables(variable).unwrap();
        assert_eq!(settings.names_of(Field::UserId), ["member", "who"]);
        assert!(settings.names_of(Field::ItemId).contains(&"movieId".to_owned()));
        assert!(Settings::from_variables(|name| (name == "partition").then(|| "hour".into())).is_err());
    }
}
