//! Text for people: aligned columns, colours on a terminal only, durations and times as they are said.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

/// A colour of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Plain,
    Dim,
    Bold,
    Red,
    Green,
    Yellow,
    Blue,
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    colour: Colour,
    right: bool,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            colour: Colour::Plain,
            right: false,
        }
    }

    pub(super) fn colour(self, colour: Colour) -> Self {
        Self { colour, ..self }
    }

    /// Aligned at its end, as numbers are.
    pub(super) fn right(self) -> Self {
        Self { right: true, ..self }
    }
}

/// Prints to the standard output; a reader that went away is no error.
pub(super) fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Prints JSON for programs.
pub(super) fn say_json(value: &Value) -> Result<()> {
    say(&format!("{value}\n"))
}

/// Prints rows with their columns aligned.
pub(super) fn say_rows(rows: &[Vec<Cell>]) -> Result<()> {
    say(&aligned(rows, coloured()))
}

/// Whether the standard output shows colours.
pub(super) fn coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Says why a command failed, in one line unless the reason has more.
pub(super) fn failed(error: &anyhow::Error) -> ExitCode {
    let start = if std::io::stderr().is_terminal() {
        "\x1b[31merror:\x1b[0m"
    } else {
        "error:"
    };
    eprintln!("{start} {error:#}");
    ExitCode::FAILURE
}

/// Says on the standard error output what is worth knowing of a function.
pub(super) fn warn(function: &str, warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: `{function}` {}", tame(warning));
    }
}

pub(super) fn aligned(rows: &[Vec<Cell>], colours: bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widest = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| width(&cell.text))
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let padding = " ".repeat(widths[column].saturating_sub(width(&cell.text)));
            let shown = painted(&cell.text, cell.colour, colours);
            let cell = if cell.right {
                format!("{padding}{shown}")
            } else {
                format!("{shown}{padding}")
            };
            line.push_str(&cell);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Columns that a text takes, near enough: wide characters count twice.
fn width(text: &str) -> usize {
    text.chars()
        .map(|c| {
            if ('\u{1100}'..='\u{115f}').contains(&c) || ('\u{2e80}'..='\u{ffdc}').contains(&c) {
                2
            } else {
                1
            }
        })
        .sum()
}

pub(super) fn painted(text: &str, colour: Colour, colours: bool) -> String {
    let code = match colour {
        Colour::Plain => return text.to_owned(),
        Colour::Dim => 2,
        Colour::Bold => 1,
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Blue => 34,
    };
    if colours && !text.is_empty() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// `done` is green, `dead` is red, what still goes on is yellow.
pub(super) fn colour_of(state: &str) -> Colour {
    match state {
        "done" | "succeeded" => Colour::Green,
        "dead" | "dropped" | "failed" | "error" => Colour::Red,
        "retry" | "warn" | "paused" => Colour::Yellow,
        "running" | "queued" | "joining" | "started" => Colour::Blue,
        _ => Colour::Plain,
    }
}

/// A duration as people say it.
pub(super) fn duration(millis: f64) -> String {
    match millis {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.1} s", ms / 1000.0),
        ms => format!(
            "{:.0} min {:02.0} s",
            (ms / 60_000.0).floor(),
            (ms % 60_000.0) / 1000.0
        ),
    }
}

/// The time of day here, in milliseconds since the Unix epoch.
pub(super) fn clock(millis: u64) -> String {
    local(millis, "%H:%M:%S%.3f")
}

/// Date and time here.
pub(super) fn date(millis: u64) -> String {
    local(millis, "%Y-%m-%d %H:%M:%S")
}

fn local(millis: u64, format: &str) -> String {
    let utc = chrono::DateTime::from_timestamp_millis(millis as i64).unwrap_or_default();
    utc.with_timezone(&chrono::Local).format(format).to_string()
}

/// The text of a field, empty where there is none.
pub(super) fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A function with its version, where that is known: `ingest@3`.
pub(super) fn function_of(value: &Value) -> String {
    let name = field(value, "function");
    match value["version"].as_u64() {
        Some(version) => format!("{name}@{version}"),
        None => name.to_owned(),
    }
}

/// A text from elsewhere on one line, without what could steer a terminal.
pub(super) fn tame(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A text cut to so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_colours_do_not_count() {
        let rows = [
            vec![
                Cell::new("a").colour(Colour::Red),
                Cell::new("1").right(),
                Cell::new("x"),
            ],
            vec![Cell::new("long"), Cell::new("100").right(), Cell::new("y")],
        ];
        assert_eq!(aligned(&rows, false), "a       1  x\nlong  100  y\n");
        assert_eq!(
            aligned(&rows, true),
            "\x1b[31ma\x1b[0m       1  x\nlong  100  y\n"
        );
    }

    #[test]
    fn durations_are_said_as_people_do() {
        let said = [0.4, 12.0, 1500.0, 61_000.0].map(duration);
        assert_eq!(said, ["0.4 ms", "12 ms", "1.5 s", "1 min 01 s"]);
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(tame("a\x1b[2Jb\n"), "a [2Jb ");
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
