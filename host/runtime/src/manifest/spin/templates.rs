//! Variables of a Spin app, and the templates that name them: `{{ name }}`.

use std::collections::BTreeMap;

use super::super::walk::{Fields, Node, Notes, Value, quoted};

/// The app's variables: their default, or none where the value is a secret.
pub(super) struct Variables(BTreeMap<String, Option<String>>);

/// What a template stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A text that is known now.
    Text(String),
    /// The secret of this name, read when it is asked for.
    Secret(String),
}

impl Variables {
    pub(super) fn read(notes: &Notes, mut fields: Fields<'_>) -> Self {
        let path = fields.path.clone();
        let one = |(name, node): (String, Node)| {
            let default = variable(Fields::of(notes, &format!("{path}.{name}"), node));
            (name, default)
        };
        Self(fields.take_all().into_iter().map(one).collect())
    }

    /// What a text with templates stands for.
    pub(super) fn expand(&self, text: &str) -> Result<Meaning, String> {
        if let Some(name) = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"))
            && let Some(None) = self.0.get(name.trim())
        {
            return Ok(Meaning::Secret(name.trim().to_owned()));
        }
        let (mut whole, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after
                .split_once("}}")
                .ok_or_else(|| format!("found {}, expected `}}}}` after `{{{{`", quoted(text)))?;
            whole.push_str(before);
            whole.push_str(self.default_of(name.trim())?);
            rest = after;
        }
        whole.push_str(rest);
        Ok(Meaning::Text(whole))
    }

    /// What a text stands for where no secret can stand.
    pub(super) fn expand_text(&self, text: &str) -> Result<String, String> {
        match self.expand(text)? {
            Meaning::Text(text) => Ok(text),
            Meaning::Secret(name) => Err(mixed(&name)),
        }
    }

    fn default_of(&self, name: &str) -> Result<&str, String> {
        match self.0.get(name) {
            Some(Some(default)) => Ok(default),
            Some(None) => Err(mixed(name)),
            None => {
                let known: Vec<String> = self.0.keys().map(|name| format!("`{name}`")).collect();
                let known = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                Err(format!(
                    "found the variable {}, the app has {known}",
                    quoted(name)
                ))
            }
        }
    }
}

fn mixed(name: &str) -> String {
    format!(
        "found the required variable `{name}` where its value must be known, expected it alone in a component's \
         variable, or a `default`"
    )
}

/// The default of a variable; none where it is required.
fn variable(mut fields: Fields<'_>) -> Option<String> {
    let default = fields.text("default");
    let truth = |value: &Value| match value {
        Value::Boolean(truth) => Some(*truth),
        _ => None,
    };
    let required = fields
        .value("required", "`true` or `false`", truth)
        .unwrap_or(false);
    fields.value("secret", "`true` or `false`", truth);
    fields.take("description");
    if required == default.is_some() {
        fields.note("expected either a `default` or `required = true`");
    }
    fields.finish();
    default
}
