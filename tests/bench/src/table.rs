//! The table that a benchmark run ends in.

use std::fmt;

/// One figure, beside what it is to be held against.
#[derive(Debug)]
struct Row {
    what: String,
    ours: String,
    beside: String,
    ratio: String,
    aim: String,
}

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a figure beside a limit it is to stay under, in milliseconds.
    pub fn under(&mut self, what: &str, milliseconds: f64, limit: f64, more: &str) {
        let ours = format!("{}{more}", duration(milliseconds));
        let aim = format!("under {}: {}", duration(limit), verdict(milliseconds < limit));
        self.push(
            what,
            ours,
            String::new(),
            format!("{:.2}", milliseconds / limit),
            aim,
        );
    }

    /// Adds a rate beside a limit it is to pass.
    pub fn over(&mut self, what: &str, rate: f64, limit: f64, unit: &str) {
        let aim = format!("over {} {unit}: {}", whole(limit), verdict(rate > limit));
        self.push(
            what,
            format!("{} {unit}", whole(rate)),
            String::new(),
            format!("{:.2}", rate / limit),
            aim,
        );
    }

    /// Adds a number beside the largest that it is to be.
    pub fn at_most(&mut self, what: &str, number: f64, most: f64) {
        let aim = format!("at most {most}: {}", verdict(number <= most));
        // Of none at all nothing is a part.
        let ratio = match most > 0.0 {
            true => format!("{:.2}", number / most),
            false => String::new(),
        };
        self.push(what, format!("{number:.3}"), String::new(), ratio, aim);
    }

    /// Adds a rate beside a peer's, of which it is to be at least `times`.
    pub fn beside(&mut self, what: &str, ours: (f64, String), peer: (f64, String), times: f64) {
        let ratio = ours.0 / peer.0;
        let aim = format!("at least {times} times: {}", verdict(ratio >= times));
        self.push(what, ours.1, peer.1, format!("{ratio:.2}"), aim);
    }

    /// Adds a figure without an aim.
    pub fn plain(&mut self, what: &str, ours: String, beside: String) {
        self.push(what, ours, beside, String::new(), String::new());
    }

    fn push(&mut self, what: &str, ours: String, beside: String, ratio: String, aim: String) {
        eprintln!("    {what}: {ours}  {beside}");
        self.rows.push(Row {
            what: what.to_owned(),
            ours,
            beside,
            ratio,
            aim,
        });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["measured", "Tidegate", "beside", "ratio", "aim"].map(str::to_owned);
        let rows = self
            .rows
            .iter()
            .map(|row| [&row.what, &row.ours, &row.beside, &row.ratio, &row.aim].map(|cell| cell.to_owned()));
        let lines: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        for (number, line) in lines.iter().enumerate() {
            let cells = line
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "| {} |", cells.collect::<Vec<_>>().join(" | "))?;
            if number == 0 {
                let rules = widths.map(|width| "-".repeat(width + 2));
                writeln!(f, "|{}|", rules.join("|"))?;
            }
        }
        Ok(())
    }
}

/// Milliseconds as a person reads them.
pub fn duration(milliseconds: f64) -> String {
    match milliseconds {
        _ if milliseconds < 1.0 => format!("{:.0} µs", milliseconds * 1e3),
        _ if milliseconds < 1e3 => format!("{milliseconds:.2} ms"),
        _ => format!("{:.1} s", milliseconds / 1e3),
    }
}

/// A number of things, with thousands apart.
pub fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The value below which a share of all values lies.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len().saturating_sub(1) as f64 * share).round() as usize;
    values.get(place).copied().unwrap_or(f64::NAN)
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
